package uploads

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Why is what an upload waits for, in one word. The values are stable. A failed
// upload has the Cause of its failure in this place.
type Why string

// What an upload that has not ended may wait for.
const (
	WhyCompleted     Why = "completed"         // nothing: it has its asset
	WhyCancelled     Why = "cancelled"         // nothing: it was cancelled
	WhyPaused        Why = "paused"            // a resume
	WhyCancelling    Why = "cancelling"        // what became of a finishing call, before it is cancelled
	WhyInDoubt       Why = "in_doubt"          // a probe: the record has gone back in time
	WhySameBytes     Why = "same_bytes"        // another upload that brings the same bytes
	WhyNotBefore     Why = "not_before"        // the time that its submitter named
	WhyNoAccount     Why = "unknown_account"   // its account is not configured here
	WhyQueueDown     Why = "queue_unreachable" // NATS
	WhyQueuePaused   Why = "queue_paused"      // somebody paused the consumer of its pool at NATS
	WhySealed        Why = "session_sealed"    // its session is sealed under a key that is not given here
	WhyPlatformDown  Why = "platform_down"     // the platform does not answer
	WhyThrottled     Why = "throttled"         // the platform asked for fewer calls
	WhyRateBudget    Why = "rate_budget"       // the published rate of a call is spent
	WhyUnauthorized  Why = "unauthorized"      // the platform refuses the account's credentials
	WhyNoWorker      Why = "no_worker"         // no worker of its pool is heard of
	WhyWorkersBusy   Why = "workers_busy"      // all slots of its pool are taken
	WhyWindowFull    Why = "window_full"       // the account has as many bytes in flight as it may
	WhySessionLapsed Why = "session_lapsed"    // a new upstream session, after the last was lost
	WhyStaging       Why = "staging"           // staging cannot be read
	WhyRetrying      Why = "retrying"          // the next try, after one that failed
	WhyUnknown       Why = "outcome_unknown"   // a probe: nobody knows what became of a finishing call
	WhyTurn          Why = "queued"            // its turn among the uploads of the account
	WhyMoving        Why = "moving"            // nothing: bytes move, or a step is in hand
	WhyInHand        Why = "in_hand"           // jobs are queued or in hand, and no byte was seen to move lately
)

// Explanation says why an upload is where it is.
type Explanation struct {
	Upload   ID
	State    State
	Why      Why
	Summary  string    // a sentence for a person; holds no secret
	WaitsFor string    // who or what has to act; "" for nobody
	Next     string    // what happens next; "" where nothing does by itself
	NextAt   time.Time // when, zero where that is not known
	Facts    []string  // what this was told by
}

// LastTry is the newest failed try of an upload in its present epoch.
type LastTry struct {
	Kind    string
	Code    string
	Message string
	Part    int // 0 for a control step
	At      time.Time
}

// Circumstances are what an explanation is made from, all of one moment.
type Circumstances struct {
	Upload         Upload
	Now            time.Time
	Pool           string
	Reason         string // of the last move
	StepAt         time.Time
	StepInHand     bool
	InDoubt        bool
	IntentOpen     bool      // a finishing call was intended and has no definite answer
	SessionExpires time.Time // zero if it does not
	FeedAfter      time.Time
	Unfed          bool  // parts were never handed to the queue
	InFlight       int64 // bytes handed to the queue and not acknowledged
	RecentBytes    int64 // acknowledged in the last minute
	Ahead          int   // queued uploads of the account that go first
	Last           *LastTry

	Account *AccountStatus // nil if it is not configured
	// RateWaits are calls whose published rate is spent, and for how long.
	RateWaits map[string]time.Duration
	Workers   []WorkerStatus // of the pool
	MovedAt   time.Time      // when bytes were last seen to move; zero if they were not
	QueueDown bool           // NATS did not answer
	OnQueue   int            // jobs queued or in hand; of no meaning with QueueDown
	// QueuePaused is until when workers of the pool are given no jobs, zero if they are.
	QueuePaused time.Time
	// Sealed says that no key that is given here opens the upstream session.
	Sealed bool
}

const (
	movedLately = 15 * time.Second // bytes seen to move within it still move
	triedLately = 2 * time.Minute  // a failed try older than that explains nothing
)

// The calls that a state waits for, as providers name them.
const (
	callBegin  = "begin"
	callPut    = "put_part"
	callFinish = "finish"
	callProbe  = "probe"
)

// Explain names the one cause that holds an upload: of several, that which
// would still hold it if the others were gone, a person's doing before all.
func Explain(c Circumstances) Explanation {
	u := c.Upload
	e := Explanation{Upload: u.ID, State: u.State, Facts: c.facts()}
	for _, look := range []func(Circumstances, *Explanation) bool{
		ended, heldByPeople, inDoubt, heldByCall, inQueue, opening, onTheWay, finishing,
	} {
		if look(c, &e) {
			return e
		}
	}
	e.set(WhyMoving, "A step of it is due or in hand.", "", "The dispatcher goes on.", time.Time{})
	return e
}

func (e *Explanation) set(why Why, summary, waitsFor, next string, at time.Time) bool {
	e.Why, e.Summary, e.WaitsFor, e.Next, e.NextAt = why, summary, waitsFor, next, at
	return true
}

func ended(c Circumstances, e *Explanation) bool {
	switch f := c.Upload.Failure; {
	case c.Upload.State == Completed:
		return e.set(WhyCompleted, "The upload is completed.", "", "", time.Time{})
	case c.Upload.State == Cancelled:
		return e.set(WhyCancelled, "The upload was cancelled.", "", "", time.Time{})
	case c.Upload.State == Failed && f != nil && f.Cause == CauseNeedsHuman:
		return e.set(Why(f.Cause), "The outcome of the finishing call cannot be told: "+sentence(f.Message),
			"a person: look at the platform whether the asset is there, with the evidence that show prints", "Nothing, until it is retried; a retry probes first.", time.Time{})
	case c.Upload.State == Failed && f != nil:
		return e.set(Why(f.Cause), "The upload failed: "+sentence(f.Message), "a person: "+remedy(f.Cause), "Nothing, until it is retried.", time.Time{})
	}
	return false
}

// remedy is what a person does about a failure.
func remedy(cause Cause) string {
	switch cause {
	case CauseSourceChanged:
		return "submit the object that is in staging now, as a new upload"
	case CauseSourceMissing:
		return "put the object back, then retry; or submit another one"
	case CauseSourceDenied:
		return "grant read access to the object, then retry"
	case CauseUnauthorized:
		return "mend the account's credentials, then retry"
	case CauseUnknownAccount:
		return "configure the account again, then retry"
	case CauseRejected, CauseTooLarge:
		return "submit what the platform takes, or to another account"
	case CauseInvalid:
		return "mend what is wrong with the submission, then submit it again"
	case CauseMismatch, CauseDigestMismatch:
		return "look at the digests of the upload, mend the object, then submit it"
	case CauseAttempts, CauseSessionLost, CauseNeedsHuman, CauseInternal:
		return "see what failed, then retry"
	default:
		return "see what failed, then retry"
	}
}

func heldByPeople(c Circumstances, e *Explanation) bool {
	u := c.Upload
	switch {
	case u.CancelDue:
		return e.set(WhyCancelling, "It was cancelled while a finishing call may have taken effect.", "the platform's answer to a probe",
			"The platform is asked what became of the call.", c.StepAt)
	case len(u.Pauses) > 0:
		p := u.Pauses[0]
		text := "It is paused by its " + string(p.Scope)
		if p.Scope != ScopeUpload {
			text += " " + p.Name
		}
		if p.Reason != "" {
			text += ": " + p.Reason
		}
		return e.set(WhyPaused, text+".", "a person: resume the "+string(p.Scope), "Nothing, until it is resumed.", time.Time{})
	case c.Account == nil:
		return e.set(WhyNoAccount, fmt.Sprintf("Account %s of %s is not configured at this dispatcher.", u.Account, u.Provider),
			"a person: configure the account", "It waits; a dispatcher that has the account takes its next step.", time.Time{})
	case u.WaitsFor != ID{}:
		return e.set(WhySameBytes, fmt.Sprintf("Upload %s brings the same bytes to the account and goes first.", u.WaitsFor),
			"upload "+u.WaitsFor.String(), "It begins when that one has ended.", time.Time{})
	case u.NotBefore.After(c.Now) && u.Epoch == 0:
		return e.set(WhyNotBefore, "Its submitter asked for nothing to be sent before a time.", "that time", "It is begun.", u.NotBefore)
	}
	return false
}

func inDoubt(c Circumstances, e *Explanation) bool {
	if !c.InDoubt {
		return false
	}
	return e.set(WhyInDoubt, "The record has gone back in time, as after a restore, so the platform is asked what it holds.", "the platform's answer to a probe",
		"The platform is asked again.", c.StepAt)
}

// call is the call to the platform that the upload's state waits for.
func (c Circumstances) call() string {
	switch c.Upload.State {
	case Queued, Beginning:
		return callBegin
	case Uploading:
		return callPut
	case Finishing:
		if c.IntentOpen {
			return callProbe
		}
		return callFinish
	case Digesting, Completed, Failed, Cancelled:
		return ""
	default:
		return ""
	}
}

// heldByCall looks at what keeps an account's calls of one kind from being made.
func heldByCall(c Circumstances, e *Explanation) bool {
	call := c.call()
	if call == callPut && c.QueueDown {
		return false // inQueue says so: what was known of the platform is of before
	}
	for _, h := range c.Account.Held {
		if h.Call != call {
			continue
		}
		at := h.Until
		if at.Before(c.Now) {
			at = time.Time{}
		}
		switch {
		case strings.HasPrefix(h.Why, "throttled"):
			return e.set(WhyThrottled, "The platform throttles the account: "+h.Why+".", "the platform", "One "+call+" call is made to see.", at)
		case !h.Down.IsZero():
			return e.set(WhyPlatformDown, fmt.Sprintf("The platform has not answered %s since %s: %s.", call, stamp(h.Down), h.Why), "the platform",
				"One call at a time asks whether it is back.", at)
		default:
			return e.set(WhyThrottled, "The platform asked for a pause: "+h.Why+".", "the platform", "The call is made.", at)
		}
	}
	return false
}

func inQueue(c Circumstances, e *Explanation) bool {
	state := c.Upload.State
	switch {
	case state != Digesting && state != Uploading:
		return false
	case c.QueueDown:
		return e.set(WhyQueueDown, "NATS does not answer, so no job can be handed to a worker and no acknowledgement comes back.", "NATS",
			"The dispatcher tries again all the time; what was sent is not sent again.", time.Time{})
	case c.Sealed:
		return e.set(WhySealed, "Its upstream session is sealed under a key that this dispatcher was not given.",
			"a person: give the key in old_seal_keys, or, if it is lost, cancel the upload and submit it again", "", time.Time{})
	case c.QueuePaused.After(c.Now):
		return e.set(WhyQueuePaused, fmt.Sprintf("At NATS the consumer %s of the stream JOBS is paused until %s, by somebody: workers are given no jobs.", c.Pool, stamp(c.QueuePaused)),
			"a person: resume it, with: nats consumer resume JOBS "+c.Pool, "Workers are given jobs again.", c.QueuePaused)
	case state == Digesting && len(c.Workers) == 0:
		return c.noWorker(e)
	case state == Digesting:
		if c.retrying(e, c.FeedAfter) {
			return true
		}
		return e.set(WhyMoving, fmt.Sprintf("A worker of pool %s reads the object for the digest that the platform needs; %d bytes of %d are done.",
			c.Pool, c.Upload.DigestedBytes, c.Upload.Source.Size), "", "It begins when the digest is known.", time.Time{})
	}
	return false
}

func (c Circumstances) noWorker(e *Explanation) bool {
	return e.set(WhyNoWorker, fmt.Sprintf("No worker of pool %s is heard of.", c.Pool), "a person: start a worker of the pool",
		"Its jobs are taken as soon as a worker is there.", time.Time{})
}

// retrying tells what a failed try says, if it is the newest that happened.
func (c Circumstances) retrying(e *Explanation, next time.Time) bool {
	t := c.Last
	if t == nil || c.Now.Sub(t.At) > triedLately && !next.After(c.Now) || c.Upload.LastAckAt.After(t.At) {
		return false
	}
	what := "The last try"
	if t.Part > 0 {
		what += fmt.Sprintf(" of part %d", t.Part)
	}
	said := t.Message
	if t.Code != "" {
		said = t.Code + ": " + said
	}
	if !next.After(c.Now) {
		next = time.Time{}
	}
	const again = "It is tried again."
	switch {
	case t.Kind == "unauthorized":
		return e.set(WhyUnauthorized, "The platform refuses the account's credentials ("+said+").", "a person: mend the account's credentials",
			"It is tried a few times more, then it fails.", next)
	case t.Kind == "throttled":
		return e.set(WhyThrottled, "The platform throttles the account ("+said+").", "the platform", again, next)
	case t.Kind == "session_lost":
		return e.set(WhySessionLapsed, "The upstream session was lost ("+said+").", "the platform, for a new session", "A new session is opened.", next)
	case t.Kind == "unknown_outcome" && c.Upload.State == Finishing:
		return e.set(WhyUnknown, "Nobody knows what became of the finishing call ("+said+").", "the platform's answer to a probe",
			"The platform is asked; finish is not called before it has answered.", next)
	case strings.HasPrefix(t.Kind, "source_"):
		return e.set(WhyStaging, what+" could not read staging ("+said+").", "staging", again, next)
	}
	return e.set(WhyRetrying, what+" failed with "+t.Kind+" ("+said+").", "the next try", again, next)
}

// opening is queued and beginning: a session is to be opened.
func opening(c Circumstances, e *Explanation) bool {
	u := c.Upload
	if u.State != Queued && u.State != Beginning {
		return false
	}
	if !c.StepInHand {
		if c.retrying(e, c.StepAt) {
			return true
		}
		if wait, spent := c.RateWaits[callBegin]; spent && c.StepAt.After(c.Now) {
			return c.rateSpent(e, callBegin, wait, c.StepAt)
		}
	}
	switch {
	case u.Epoch > 0:
		return e.set(WhySessionLapsed, "The last upstream session is of no use any more ("+c.Reason+"), and a new one is being opened.",
			"the platform, for a new session", "The parts are sent in the new session.", later(c.StepAt, c.Now))
	case u.State == Queued && !c.StepInHand && c.Account.InFlight >= c.Account.Window:
		return c.windowFull(e)
	case u.State == Queued && !c.StepInHand && c.Ahead > 0:
		return e.set(WhyTurn, fmt.Sprintf("%d queued uploads of account %s go first.", c.Ahead, u.Account), "its turn",
			"It is begun when the account has room.", time.Time{})
	}
	return e.set(WhyMoving, "Its upstream session is being opened.", "", "Parts are sent once it is open.", later(c.StepAt, c.Now))
}

func later(at, now time.Time) time.Time {
	if at.After(now) {
		return at
	}
	return time.Time{}
}

func (c Circumstances) rateSpent(e *Explanation, call string, wait time.Duration, at time.Time) bool {
	text := "The published rate of " + call + " calls of account " + c.Upload.Account + " is spent"
	if i := slices.IndexFunc(c.Account.Rates, func(r CallRate) bool { return r.Call == call }); i >= 0 {
		text += fmt.Sprintf(": %d in %s", c.Account.Rates[i].Count, c.Account.Rates[i].Per)
	}
	if at.IsZero() {
		at = c.Now.Add(wait)
	}
	return e.set(WhyRateBudget, text+".", "the rate", "The call is made.", at)
}

func (c Circumstances) windowFull(e *Explanation) bool {
	return e.set(WhyWindowFull, fmt.Sprintf("Account %s has %d bytes in flight of the %d that it may have.", c.Upload.Account, c.Account.InFlight, c.Account.Window),
		"other uploads of the account", "Its parts are sent as the others' are acknowledged.", time.Time{})
}

// onTheWay is uploading.
func onTheWay(c Circumstances, e *Explanation) bool {
	if c.Upload.State != Uploading {
		return false
	}
	busy, slots := 0, 0
	for _, w := range c.Workers {
		busy, slots = busy+w.Busy, slots+w.Slots
	}
	moves := c.RecentBytes > 0 && c.Now.Sub(c.Upload.LastAckAt) < movedLately || !c.MovedAt.IsZero() && c.Now.Sub(c.MovedAt) < movedLately
	switch wait, spent := c.RateWaits[callPut]; {
	case len(c.Workers) == 0:
		return c.noWorker(e)
	case !moves && !c.SessionExpires.IsZero() && c.SessionExpires.Before(c.Now):
		return e.set(WhySessionLapsed, "The upstream session lapsed at "+stamp(c.SessionExpires)+".", "the platform, for a new session",
			"The session is renewed, or a new one is opened.", time.Time{})
	case c.retrying(e, c.FeedAfter):
		return true
	case moves:
		return c.moving(e)
	case spent && c.InFlight == 0 && c.Unfed:
		return c.rateSpent(e, callPut, wait, time.Time{})
	case c.InFlight == 0 && c.Account.InFlight >= c.Account.Window:
		return c.windowFull(e)
	case c.OnQueue > 0 && busy >= slots && slots > 0:
		return e.set(WhyWorkersBusy, fmt.Sprintf("All %d slots of pool %s are taken, and no byte of this upload was seen to move lately.", slots, c.Pool), "a free slot",
			"Its jobs are taken in their turn.", time.Time{})
	}
	return e.set(WhyInHand, fmt.Sprintf("%d jobs are queued or in hand with %d bytes, and none was seen to move lately.", c.OnQueue, c.InFlight),
		"the workers", "What is neither acknowledged nor on the queue is sent again.", later(c.FeedAfter, c.Now))
}

func (c Circumstances) moving(e *Explanation) bool {
	since := min(time.Minute, max(c.Now.Sub(c.Upload.BegunAt), time.Second))
	left := c.Upload.Source.Size - c.Upload.AckedBytes
	text, next := "Bytes move, and no part was acknowledged in the last minute.", fmt.Sprintf("The remaining %d bytes are acknowledged and the upload is finished", left)
	var at time.Time
	if perSecond := float64(c.RecentBytes) / since.Seconds(); perSecond > 0 {
		text = fmt.Sprintf("Bytes move: %.0f a second over the last %.0f seconds.", perSecond, since.Seconds())
		at = c.Now.Add(time.Duration(min(float64(left)/perSecond, 30*24*3600) * float64(time.Second)))
		next += ", at this pace"
	}
	return e.set(WhyMoving, text, "", next+".", at)
}

// finishing is the finishing call and the probes after it.
func finishing(c Circumstances, e *Explanation) bool {
	if c.Upload.State != Finishing {
		return false
	}
	if !c.StepInHand {
		if c.retrying(e, c.StepAt) {
			return true
		}
		if wait, spent := c.RateWaits[c.call()]; spent && c.StepAt.After(c.Now) {
			return c.rateSpent(e, c.call(), wait, c.StepAt)
		}
	}
	return e.set(WhyMoving, "Every byte is acknowledged, and the platform puts the parts together.", "", "The asset is recorded.", later(c.StepAt, c.Now))
}

// facts are what was looked at, for who wants to judge the explanation.
func (c Circumstances) facts() []string {
	u := c.Upload
	facts := []string{fmt.Sprintf("state %s, epoch %d, %d of %d bytes acknowledged, %d in flight", u.State, u.Epoch, u.AckedBytes, u.Source.Size, c.InFlight)}
	if !u.LastAckAt.IsZero() {
		facts = append(facts, "last acknowledgement "+stamp(u.LastAckAt))
	}
	if c.Last != nil {
		facts = append(facts, fmt.Sprintf("last failed try %s: %s %s", stamp(c.Last.At), c.Last.Kind, c.Last.Message))
	}
	if u.State == Uploading || u.State == Digesting {
		busy, slots := 0, 0
		for _, w := range c.Workers {
			busy, slots = busy+w.Busy, slots+w.Slots
		}
		facts = append(facts, fmt.Sprintf("pool %s: %d workers heard of, %d of %d slots busy", c.Pool, len(c.Workers), busy, slots))
		if c.QueueDown {
			facts = append(facts, "NATS does not answer")
		} else {
			facts = append(facts, fmt.Sprintf("%d jobs queued or in hand", c.OnQueue))
		}
	}
	if c.Account != nil {
		facts = append(facts, fmt.Sprintf("account %s: %d of %d bytes in flight", u.Account, c.Account.InFlight, c.Account.Window))
	}
	return facts
}

// sentence ends what somebody else said with one full stop.
func sentence(text string) string { return strings.TrimRight(text, ". ") + "." }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
