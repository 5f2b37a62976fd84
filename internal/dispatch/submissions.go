package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/hashing"
	"mediaferry/internal/uploads"
)

// Submissions by SQL. mediaferry.submit leaves a row in the transaction of its
// caller; here it is taken up: the checks that need staging and the provider are
// made, and then one transaction makes the upload and deletes the row. A
// dispatcher that dies before leaves a lease that lapses, after it an upload, and
// never both or neither. What is wrong is kept as a failed upload with its event,
// since nobody waits for an answer.

type submissionStore interface {
	ClaimSubmissions(ctx context.Context, most int, lease time.Duration) (uploads.Lease, []uploads.ClaimedSubmission, error)
	AcceptSubmissions(ctx context.Context, lease uploads.Lease, list []uploads.TakenSubmission) (accepted map[uploads.ID]bool, taken []uploads.ID, err error)
	RefuseSubmissions(ctx context.Context, lease uploads.Lease, list []uploads.RefusedSubmission) error
	PostponeSubmissions(ctx context.Context, lease uploads.Lease, ids []uploads.ID, delay time.Duration, tries int) error
	ListenSubmissions(ctx context.Context, wake func()) error
}

const (
	submissionBatch = 500 // of one claim
	// submissionPoll is for submissions whose notification was not heard.
	submissionPoll = 5 * time.Second
	// Bounds of the pause before a submission is tried again of which staging
	// cannot be asked.
	submissionAgain  = time.Second
	submissionLatest = time.Minute
	listenAgain      = 5 * time.Second
	// elsewhereAgain is the pause before one is tried again whose account a
	// dispatcher does not have.
	elsewhereAgain = 5 * time.Second
)

// listenSubmissions has submissions taken up as soon as they are committed.
func (d *Dispatcher) listenSubmissions(ctx context.Context) {
	for failures := 1; ; failures++ {
		err := d.store.ListenSubmissions(ctx, func() { failures = 0; d.submissions.wake() })
		if ctx.Err() != nil {
			return
		}
		if failures == 1 {
			d.log.Warn("submissions by SQL are looked for now and then, and not heard of", zap.Duration("every", submissionPoll), zap.Error(err))
		}
		if !pause(ctx, nil, backoff.Delay(failures+1, listenAgain, submissionLatest)) {
			return
		}
	}
}

// takeSubmissions takes up what is due, batch by batch.
func (d *Dispatcher) takeSubmissions(ctx context.Context) error {
	if err := d.queue.closed(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		lease, claimed, err := d.store.ClaimSubmissions(ctx, submissionBatch, d.cfg.Lease)
		if err != nil || len(claimed) == 0 {
			return err
		}
		if err := d.takeUp(ctx, lease, claimed); err != nil {
			// For another dispatcher, or this one, at once; if even that fails, when the lease is over.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			ids := make([]uploads.ID, len(claimed))
			for i, c := range claimed {
				ids[i] = c.ID
			}
			return errors.Join(err, d.store.PostponeSubmissions(ctx, lease, ids, 0, 0))
		}
		if len(claimed) < submissionBatch {
			return nil
		}
	}
	return nil
}

// takeUp decides on each of the submissions that are claimed. One of which
// staging cannot be asked now holds up no other.
func (d *Dispatcher) takeUp(ctx context.Context, lease uploads.Lease, claimed []uploads.ClaimedSubmission) error {
	t := takingUp{d: d, claimed: claimed, waiting: map[int][]uploads.ID{}}
	items := t.check()
	objects, failed := d.lookUpEach(ctx, items)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, it := range items {
		t.decide(ctx, it, objects, failed)
	}
	return t.record(ctx, lease)
}

// takingUp is what becomes of submissions that are claimed together.
type takingUp struct {
	d       *Dispatcher
	claimed []uploads.ClaimedSubmission

	good    []uploads.TakenSubmission
	bad     []uploads.RefusedSubmission
	waiting map[int][]uploads.ID // until staging can be asked, by their tries
	reason  error                // why the last of these waits

	elsewhere []uploads.ID // whose account another dispatcher may have
	unknown   error        // what of the last of these
}

// check refuses what can be told to be wrong without staging, and returns the
// others, numbered by their place in claimed.
func (t *takingUp) check() []uploads.BulkItem {
	items := make([]uploads.BulkItem, 0, len(t.claimed))
	for i, c := range t.claimed {
		s := c.Submission
		var err error
		if s.Digests, err = digestsOf(c.Digests); err != nil {
			t.refuse(c, uploads.CauseInvalid, err)
			continue
		}
		account, err := t.d.checkSubmission(&s)
		if uploads.OnlyUnknownAccount(err) && c.Age < uploads.SettingsSpread {
			t.elsewhere, t.unknown = append(t.elsewhere, c.ID), err
			continue
		}
		if err != nil {
			cause := uploads.CauseInvalid
			if account.Name == "" || account.Tenant != s.Tenant {
				cause = uploads.CauseUnknownAccount
			}
			t.refuse(c, cause, err)
			continue
		}
		items = append(items, uploads.BulkItem{Number: i, Submission: s, IntakeItem: uploads.IntakeItem{RequestHash: s.Hash()}})
	}
	return items
}

// decide says of one submission what becomes of it, by what staging holds and
// which places could not be asked about.
func (t *takingUp) decide(ctx context.Context, it uploads.BulkItem, objects map[place]uploads.Object, failed map[place]error) {
	c, s := t.claimed[it.Number], it.Submission
	at := place{s.Source.Bucket, s.Source.Key}
	if err := failed[at]; err != nil {
		t.wait(c, err)
		return
	}
	account := t.d.accounts[s.Account]
	problem := found(&s, objects)
	if problem == nil {
		problem = errors.Join(t.d.checkObject(account, s), t.d.checkAttachments(ctx, account, s))
	}
	_, there := objects[at]
	_, unavailable := errors.AsType[*uploads.UnavailableError](problem)
	switch {
	case unavailable:
		t.wait(c, problem)
		return
	case problem != nil && !there:
		t.refuse(c, uploads.CauseSourceMissing, problem)
		return
	case problem != nil:
		t.refuse(c, uploads.CauseInvalid, problem)
		return
	}
	taken := uploads.TakenSubmission{
		IntakeItem: uploads.IntakeItem{ID: c.ID, RequestHash: it.RequestHash, Source: s.Source, Name: s.Name},
		Account:    account.Name, Provider: account.Provider, Pool: account.Pool, KnownBy: string(t.d.providers[account.Provider].Limits().KnownBy),
	}
	for _, sum := range s.Digests {
		taken.Digests = append(taken.Digests, sum.String())
	}
	t.good = append(t.good, taken)
}

func (t *takingUp) refuse(c uploads.ClaimedSubmission, cause uploads.Cause, why error) {
	account := t.d.accounts[c.Submission.Account]
	if account.Tenant != c.Submission.Tenant {
		account = Account{}
	}
	s := c.Submission
	_ = s.Validate() // fills in the name
	t.bad = append(t.bad, uploads.RefusedSubmission{
		ID: c.ID, Provider: account.Provider, Pool: account.Pool, Name: s.Name,
		Failure: uploads.Failure{Cause: cause, Message: flat(why)},
	})
}

func (t *takingUp) wait(c uploads.ClaimedSubmission, err error) {
	t.waiting[c.Tries] = append(t.waiting[c.Tries], c.ID)
	t.reason = err
}

// record commits what was decided. After an error some of it may be durable, and
// the rest is claimed again.
func (t *takingUp) record(ctx context.Context, lease uploads.Lease) error {
	d := t.d
	if len(t.good) > 0 {
		_, taken, err := d.store.AcceptSubmissions(ctx, lease, t.good)
		if err != nil {
			return err
		}
		d.opens.wake()
		for _, c := range t.claimed {
			if slices.Contains(taken, c.ID) {
				t.refuse(c, uploads.CauseInvalid, &uploads.FieldError{
					Field: "idempotency_key", Detail: uploads.ErrKeyTaken.Error() + "; use another key, or submit the same content",
				})
			}
		}
	}
	if len(t.bad) > 0 {
		if err := d.store.RefuseSubmissions(ctx, lease, t.bad); err != nil {
			return err
		}
		d.events.wake()
		d.log.Info("submissions by SQL are refused", zap.Int("submissions", len(t.bad)), zap.Stringer("first", t.bad[0].ID),
			zap.String("reason", t.bad[0].Failure.Message))
	}
	if len(t.elsewhere) > 0 {
		d.log.Info("submissions by SQL are left to a dispatcher that has their account", zap.Int("submissions", len(t.elsewhere)),
			zap.Duration("refused_after", uploads.SettingsSpread), zap.NamedError("reason", t.unknown))
		if err := d.store.PostponeSubmissions(ctx, lease, t.elsewhere, elsewhereAgain, 0); err != nil {
			return err
		}
	}
	for tries, ids := range t.waiting {
		d.log.Warn("submissions by SQL wait", zap.Int("submissions", len(ids)), zap.Error(t.reason))
		if err := d.store.PostponeSubmissions(ctx, lease, ids, backoff.Delay(tries+1, submissionAgain, submissionLatest), 1); err != nil {
			return err
		}
	}
	return nil
}

// lookUpEach is lookUp where one bucket that does not answer is not the fault of
// the objects of others: what could not be asked for is in failed.
func (d *Dispatcher) lookUpEach(ctx context.Context, items []uploads.BulkItem) (objects map[place]uploads.Object, failed map[place]error) {
	objects, failed = map[place]uploads.Object{}, map[place]error{}
	byBucket := map[string][]uploads.BulkItem{}
	for _, it := range items {
		byBucket[it.Submission.Source.Bucket] = append(byBucket[it.Submission.Source.Bucket], it)
	}
	for _, of := range byBucket {
		found, err := d.lookUp(ctx, of)
		maps.Copy(objects, found)
		if err == nil {
			continue
		}
		unanswered := 0
		for _, it := range of {
			at := place{it.Submission.Source.Bucket, it.Submission.Source.Key}
			if unanswered == unansweredMost {
				failed[at] = err
				continue
			}
			o, err := d.staging.Stat(ctx, at.bucket, at.key)
			if err == nil {
				objects[at] = o
				continue
			}
			err = sourceError(uploads.Object{Bucket: at.bucket, Key: at.key}, err)
			if _, away := errors.AsType[*uploads.UnavailableError](err); away {
				failed[at] = err
				unanswered++
			}
		}
	}
	return objects, failed
}

// unansweredMost is how many objects of a bucket are asked for in vain before the
// others of a batch are postponed too.
const unansweredMost = 3

func digestsOf(texts []string) ([]hashing.Digest, error) {
	var digests []hashing.Digest
	for i, text := range texts {
		sum, err := hashing.Parse(text)
		if err != nil {
			return nil, &uploads.FieldError{
				Field: fmt.Sprintf("digests[%d]", i), Detail: err.Error() + "; give for example sha256 and 64 hex digits",
			}
		}
		digests = append(digests, sum)
	}
	return digests, nil
}

// flat is a join of errors on one line.
func flat(err error) string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err.Error()
	}
	text := ""
	for _, e := range joined.Unwrap() {
		if text != "" {
			text += "; "
		}
		text += flat(e)
	}
	return text
}
