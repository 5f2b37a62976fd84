package windows

import "time"

// Call is a kind of call of an account, such as "put_part".
type Call struct{ Account, Call string }

// Hold is whether one kind of call of an account is to wait.
type Hold struct {
	Failures int       // in a row, without an answer between
	Down     time.Time // since when the platform counts as down; zero while it answers
	Until    time.Time // no call before; zero for none
	Why      string    // what the platform said last; no secret
	Asked    int       // calls made since it went down, to see whether it is back
	Asking   bool      // one is under way, and Until is when it is given up
	Up       time.Time // when the last outage ended; zero if there was none
}

// Tuning of a hold.
const (
	// TripAfter is how many failures in a row mean that the platform is down: far
	// fewer than would fail an upload.
	TripAfter = 3
	// Holds grow from firstHold to longestHold, with jitter of half their length.
	firstHold   = time.Second
	longestHold = time.Minute
	// askPatience is after how long a call that asked counts as lost with its
	// caller: above the time after which workers give up on a call.
	askPatience = 2 * time.Minute
	// LongestRetryAfter bounds what a platform may ask for.
	LongestRetryAfter = time.Hour
	// Patience is for how long an outage excuses what fails in it. Beyond, tries
	// count again, and what cannot be sent fails.
	Patience = 24 * time.Hour
)

// Failed is a call that brought no answer of use.
type Failed struct {
	At         time.Time
	Times      int           // calls that failed together, at least 1
	RetryAfter time.Duration // what the platform asked for, 0 if nothing
	Why        string        // for a person; no secret
	Jitter     float64       // from 0 to 1, random
}

// After returns the hold after a failure of kind transient, throttled or
// unknown outcome: anything else is an answer.
func (h Hold) After(f Failed) Hold {
	h.Failures += max(f.Times, 1)
	held := f.At.Before(h.Until)
	if h.Asking {
		// Until was the patience for this answer.
		h.Asking, h.Until, held = false, time.Time{}, false
	}
	if f.RetryAfter > 0 {
		h.until(f.At.Add(min(f.RetryAfter, LongestRetryAfter)), f.Why)
	}
	switch {
	case h.Down.IsZero() && h.Failures < TripAfter:
		return h
	case h.Down.IsZero():
		h.Down, h.Asked = f.At, 0
	case held:
		return h // sent before the hold began
	}
	h.until(f.At.Add(holdFor(h.Asked, f.Jitter)), f.Why)
	return h
}

func (h *Hold) until(t time.Time, why string) {
	h.Why = why
	if t.After(h.Until) {
		h.Until = t
	}
}

// holdFor grows with the number of calls that have asked.
func holdFor(asked int, jitter float64) time.Duration {
	d := min(firstHold<<min(asked, 10), longestHold)
	return d/2 + time.Duration(jitter*float64(d/2))
}

// Answered returns the hold after a call that was answered: whatever was said,
// the platform is there. What it asked for with Retry-After stays.
func (h Hold) Answered(at time.Time) Hold {
	up, until, why := h.Up, h.Until, h.Why
	if !h.Down.IsZero() {
		return Hold{Up: at}
	}
	if !at.Before(until) {
		until, why = time.Time{}, ""
	}
	return Hold{Up: up, Until: until, Why: why}
}

// Ask says whether a call may be made now. While the platform is down, one in
// each hold may: the hold returned is then to be kept, and whoever asks next
// waits for what becomes of it.
func (h Hold) Ask(at time.Time) (Hold, bool) {
	if at.Before(h.Until) {
		return h, false
	}
	if h.Down.IsZero() {
		return h, true
	}
	h.Asked++
	h.Asking, h.Until = true, at.Add(askPatience)
	return h, true
}

// Excuses reports whether what fails now says nothing of the upload that it
// was for.
func (h Hold) Excuses(at time.Time) bool {
	return !h.Down.IsZero() && at.Sub(h.Down) < Patience
}

// Open reports whether calls need not ask.
func (h Hold) Open(at time.Time) bool { return h.Down.IsZero() && !at.Before(h.Until) }

// Held reports whether no call may be made at all.
func (h Hold) Held(at time.Time) bool { return at.Before(h.Until) }
