package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

type stepStore interface {
	AccountLoads(ctx context.Context) (map[string]uploads.AccountLoad, error)
	ClaimQueued(ctx context.Context, accounts, digesting []string, perAccount int, lease time.Duration) ([]uploads.Step, error)
	ClaimSteps(ctx context.Context, most int, accounts []string, lease time.Duration) ([]uploads.Step, error)
	RenewLeases(ctx context.Context, inHand map[uploads.ID]uploads.Lease, lease time.Duration) (kept map[uploads.ID]bool, err error)
	KnownDigests(ctx context.Context, o uploads.Object) ([]hashing.Digest, error)
	MoveToDigesting(ctx context.Context, step uploads.Step) (bool, error)
	MoveToBeginning(ctx context.Context, step uploads.Step) (bool, error)
	RecordOpened(ctx context.Context, opened []parts.Opened) (map[uploads.ID]uploads.State, error)
	RecordFinished(ctx context.Context, finished []parts.Finished) (map[uploads.ID]bool, error)
	RecordAborted(ctx context.Context, step uploads.Step) error
	Receipts(ctx context.Context, ids []uploads.ID) (map[uploads.ID][]parts.Stored, error)
	Postpone(ctx context.Context, step uploads.Step, delay time.Duration, tries int, keepIntent bool, notes ...uploads.Evidence) error
	BeginAgain(ctx context.Context, id uploads.ID, epoch int, lease uploads.Lease, reason string, delay time.Duration) (bool, error)
	Fail(ctx context.Context, id uploads.ID, epoch int, lease uploads.Lease, f uploads.Failure) (bool, error)
	MakePartitions(ctx context.Context, from time.Time, months int) error
	CatchUpNumbers(ctx context.Context) error
}

// Bounds of the control steps.
const (
	claimSize      = 256              // steps claimed together
	maxInHand      = 128              // claimed steps of an account
	callsAtOnce    = 32               // of these, in a call to the platform
	maxOpening     = 256              // uploads of an account that are being opened at once
	claimTimeout   = 10 * time.Second // of the statement alone
	callTimeout    = time.Minute      // begin, probe and abort
	finishTimeout  = 10 * time.Minute // platforms assemble while the caller waits
	maxEpochs      = 20               // sessions of one upload before it fails
	maxStepTries   = 12               // of begin
	maxPartTries   = 8                // of one part, before its upload fails
	maxDeniedTries = 3                // while credentials are refused
	maxRenewals    = 8                // in a row of sessions that are refused all the same
)

// openQueued claims queued uploads of accounts that have room and begins them.
// Sessions are opened only a window ahead, so a backlog stays rows in the
// database and no session lapses while it waits.
func (d *Dispatcher) openQueued(ctx context.Context) error {
	for {
		loads, err := d.store.AccountLoads(ctx)
		if err != nil {
			return err
		}
		pauses, err := d.store.Pauses(ctx)
		if err != nil {
			return err
		}
		full := d.hand.full()
		var roomy []string
		for name, a := range d.accounts {
			if len(a.pausesOf(pauses)) > 0 {
				continue // the claim looks too; this saves it a walk over the backlog
			}
			load := loads[name]
			if hold, now := d.holds.get(name, providers.CallBegin); !hold.Open(now) && load.Opening > 0 {
				continue // those that wait already ask whether it is back
			}
			if load.Opening < maxOpening && load.Outstanding < 2*a.Window && !slices.Contains(full, name) {
				roomy = append(roomy, name)
			}
		}
		if len(roomy) == 0 {
			return nil // woken when there is room
		}
		slices.Sort(roomy)
		var digesting []string
		for name, p := range d.providers {
			if len(p.Limits().ObjectDigests) > 0 {
				digesting = append(digesting, name)
			}
		}
		for _, a := range d.accounts {
			if a.SourcePass && !slices.Contains(digesting, a.Provider) {
				digesting = append(digesting, a.Provider)
			}
		}
		steps, err := claim(ctx, func(ctx context.Context) ([]uploads.Step, error) {
			return d.store.ClaimQueued(ctx, roomy, digesting, maxInHand/2, d.cfg.Lease)
		})
		if err != nil || len(steps) == 0 {
			return err
		}
		if err := d.newest(ctx); err != nil {
			d.unbegun(ctx, steps)
			return err
		}
		for _, step := range steps {
			d.take(ctx, step, func(ctx context.Context) error {
				if step.State == uploads.Queued {
					ready, err := d.gatherDigests(ctx, &step)
					if err != nil || !ready {
						return err
					}
				}
				return d.begin(ctx, step)
			})
		}
	}
}

// roomy returns the accounts of which further steps may be claimed. Those of an
// account that is not configured here are left to a dispatcher that has it: while
// accounts come and go, one that runs with the settings of before is no judge of
// uploads that it does not know the destination of.
func (d *Dispatcher) roomy() []string {
	full := d.hand.full()
	return slices.DeleteFunc(slices.AppendSeq([]string{}, maps.Keys(d.accounts)), func(name string) bool { return slices.Contains(full, name) })
}

// takeSteps claims control steps that are due and takes them.
func (d *Dispatcher) takeSteps(ctx context.Context) error {
	for {
		steps, err := claim(ctx, func(ctx context.Context) ([]uploads.Step, error) {
			return d.store.ClaimSteps(ctx, claimSize, d.roomy(), d.cfg.Lease)
		})
		if err != nil || len(steps) == 0 {
			return err
		}
		claimed := len(steps)
		var finishing []uploads.ID
		for _, s := range steps {
			if s.State == uploads.Finishing {
				finishing = append(finishing, s.ID)
			}
		}
		var receipts map[uploads.ID][]parts.Stored
		if len(finishing) == 0 {
			if err := d.newest(ctx); err != nil {
				d.unbegun(ctx, steps)
				return err
			}
		} else {
			held, err := d.beforeFinish(ctx, steps)
			if err != nil {
				d.unbegun(ctx, steps)
				return err
			}
			steps = slices.DeleteFunc(steps, func(s uploads.Step) bool { return s.State == uploads.Finishing && !held[s.ID] })
			if receipts, err = d.store.Receipts(ctx, finishing); err != nil {
				for _, s := range steps {
					d.giveBack(ctx, s, !s.Intent.IsZero())
				}
				return err
			}
		}
		for _, step := range steps {
			d.take(ctx, step, func(ctx context.Context) error {
				switch {
				case step.AbortDue:
					return d.abort(ctx, step)
				case step.CancelDue && step.Intent.IsZero():
					return d.cancelClaimed(ctx, step)
				case step.State == uploads.Finishing:
					return d.finish(ctx, step, receipts[step.ID])
				default:
					return d.begin(ctx, step)
				}
			})
		}
		if claimed < claimSize {
			return nil // that was all; who makes more due wakes the loop
		}
	}
}

// unbegun gives claimed steps back where a stop came before they were begun. After
// any other error their leases run out, and then a probe comes before a finish.
func (d *Dispatcher) unbegun(ctx context.Context, steps []uploads.Step) {
	if ctx.Err() == nil {
		return
	}
	for _, s := range steps {
		d.giveBack(ctx, s, !s.Intent.IsZero())
	}
}

// take does a claimed step beside the others, callsAtOnce of an account at a
// time: a platform that hangs holds up its own account alone. An error is about
// the record, not the platform; the step's lease runs out and it is claimed again.
// ctx ends with a stop, the context that do is given when the grace is over.
func (d *Dispatcher) take(ctx context.Context, step uploads.Step, do func(context.Context) error) {
	slot := d.hand.add(step)
	d.taking.Go(func() {
		defer func() {
			if d.hand.remove(step) {
				d.opens.wake()
				d.steps.wake()
			}
		}()
		select {
		case slot <- struct{}{}:
			defer func() { <-slot }()
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			d.giveBack(ctx, step, !step.Intent.IsZero()) // not begun
			return
		}
		work, end := d.outlive(ctx)
		defer end()
		work, over := d.cfg.Watcher.Step(work, step)
		err := do(reach.With(work, d.accounts[step.Account].Reach))
		over(err)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			d.giveBack(ctx, step, true)
		default:
			d.log.Warn("step is held up", zap.Stringer("upload", step.ID), zap.String("state", string(step.State)),
				zap.String("account", step.Account), zap.Error(err))
		}
	})
}

// outlive returns a context that goes on for StopGrace after ctx has ended.
func (d *Dispatcher) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cutShort := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		time.AfterFunc(d.cfg.StopGrace, func() { cutShort(errStopping) })
	})
	return work, func() {
		unhook()
		cutShort(nil)
	}
}

// giveBack gives up a step while stopping, for another dispatcher to take at
// once. keepIntent says that finish may have been called.
func (d *Dispatcher) giveBack(ctx context.Context, step uploads.Step, keepIntent bool) {
	if err := d.postpone(ctx, step, 0, 0, keepIntent); err != nil {
		d.log.Warn("a step waits for its lease to run out", zap.Stringer("upload", step.ID), zap.Error(err))
	}
}

// claim runs a statement that claims steps to its end also while stopping: cut
// short, it may have taken effect, and its steps would wait for their leases.
func claim(ctx context.Context, statement func(context.Context) ([]uploads.Step, error)) ([]uploads.Step, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
	defer cancel()
	return statement(ctx)
}

func (d *Dispatcher) renewLeases(ctx context.Context) error {
	inHand := d.hand.leases()
	if len(inHand) == 0 {
		return nil
	}
	asked := time.Now()
	kept, err := d.store.RenewLeases(ctx, inHand, d.cfg.Lease)
	if err != nil {
		return err
	}
	for id := range kept {
		d.hand.renewed(id, inHand[id], asked)
	}
	return nil
}

// gatherDigests finds the digests that the provider needs before it begins. If
// one is not known, a worker is asked for it and the step is over.
func (d *Dispatcher) gatherDigests(ctx context.Context, step *uploads.Step) (ready bool, err error) {
	account, p, err := d.provider(step.Account, step.Provider)
	if err != nil {
		return false, d.fail(ctx, *step, uploads.Failure{Cause: uploads.CauseUnknownAccount, Message: err.Error()})
	}
	needed := p.Limits().ObjectDigests
	if chooser, ok := p.(providers.DigestChooser); ok {
		needed = chooser.NeededDigests(account.Account, d.media(*step, step.Epoch+1, 0))
	}
	known, err := d.store.KnownDigests(ctx, step.Source)
	if err != nil {
		return false, err
	}
	for _, k := range known {
		if !slices.ContainsFunc(step.Digests, func(have hashing.Digest) bool { return have.Kind == k.Kind }) {
			step.Digests = append(step.Digests, k)
			step.PassDigests = append(step.PassDigests, k)
		}
	}
	if account.SourcePass && uploads.ReadDigest(step.Known(), p.Limits().PartDigest, 0).IsZero() {
		needed = append(slices.Clone(needed), hashing.CRC64NVME)
	}
	for _, kind := range needed {
		if (providers.Media{Digests: step.Digests}).Digest(kind).IsZero() {
			took, err := d.store.MoveToDigesting(ctx, *step)
			if err != nil || !took {
				return false, err
			}
			// A crash here leaves an upload in digesting without a job: the sweep
			// publishes it.
			return false, d.publishDigestJob(ctx, uploads.DigestWait{ID: step.ID, Account: step.Account, Pool: step.Pool})
		}
	}
	return d.store.MoveToBeginning(ctx, *step)
}

func (d *Dispatcher) media(step uploads.Step, epoch int, partSize int64) providers.Media {
	return providers.Media{
		Upload: step.ID, Epoch: epoch, Name: step.Name, ContentType: step.ContentType,
		Size: step.Source.Size, PartSize: partSize, Digests: step.Digests, Options: step.Options,
	}
}

// begin opens an upstream session and starts the next epoch. A crash between
// the platform's answer and the commit leaves a session that nobody knows of:
// begin is repeated, and the platform lets the first one lapse or hands it out
// again.
func (d *Dispatcher) begin(ctx context.Context, step uploads.Step) error {
	account, p, err := d.provider(step.Account, step.Provider)
	if err != nil {
		return d.fail(ctx, step, uploads.Failure{Cause: uploads.CauseUnknownAccount, Message: err.Error()})
	}
	if step.Epoch >= maxEpochs {
		return d.fail(ctx, step, uploads.Failure{
			Cause: uploads.CauseSessionLost, Message: fmt.Sprintf("the platform lost %d upstream sessions", step.Epoch),
		})
	}
	plan, err := parts.NewPlan(step.Source.Size, p.Limits().Limits)
	if err != nil {
		return d.fail(ctx, step, uploads.Failure{Cause: uploads.CauseTooLarge, Message: err.Error()})
	}
	if err := d.askBucket(ctx, &step); err != nil {
		return d.beginFailed(ctx, step, err, windows.Hold{})
	}
	media := d.media(step, step.Epoch+1, plan.PartSize)
	if media.Attachments, err = d.attachments(ctx, p, step); err != nil {
		return d.beginFailed(ctx, step, err, windows.Hold{})
	}
	if wait, held, err := d.budget(ctx, step, providers.CallBegin); err != nil || wait > 0 {
		return d.wait(ctx, step, wait, held, false, err)
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	begun, err := p.Begin(callCtx, account.Account, media)
	cancel()
	hold := d.noteCall(ctx, step.Account, providers.CallBegin, err)
	if err != nil {
		return d.beginFailed(ctx, step, err, hold)
	}
	if begun.Asset != nil {
		return d.complete(step, *begun.Asset, true, "the platform has these bytes already",
			[]uploads.DigestLink{uploads.Uncompared(uploads.StagePlatform, "the platform has the media by its digest, no byte was sent")})
	}
	if begun.Found, err = d.trusted(ctx, step, begun.Found); err != nil {
		return err
	}
	if begun.PartSize > 0 {
		plan.PartSize = begun.PartSize
	}
	epoch := step.Epoch + 1
	session, err := json.Marshal(begun.Session)
	if err != nil {
		return fmt.Errorf("encode session of %s: %w", step.ID, err)
	}
	opened := parts.Opened{
		Upload: step.ID, Lease: step.Lease, Epoch: epoch, Plan: plan,
		Session: d.sealer.Seal(session, sessionUse(step.ID, epoch)), Expires: begun.Session.Expires,
		Found: begun.Found, BucketDigest: step.BucketDigest, BucketAsked: step.BucketAsked,
	}
	state, took, err := d.opened.do(opened)
	if err != nil {
		return err
	}
	if !took {
		return d.discard(ctx, opened, p, begun.Session)
	}
	d.log.Info("session opened", zap.Stringer("upload", step.ID), zap.Int("epoch", epoch), zap.String("account", step.Account),
		zap.Int("parts", plan.Count()), zap.Int("found", len(begun.Found)))
	d.wakeFeeder(step.Account)
	d.renewAhead(p, begun.Session.Expires)
	if state == uploads.Finishing {
		d.steps.wake()
	}
	return nil
}

// discard ends a session that was opened for an upload that is cancelled or
// failed by now, or whose lease has passed on. It is kept for the step that
// discards the sessions of uploads that have ended, where that has none yet.
func (d *Dispatcher) discard(ctx context.Context, opened parts.Opened, p providers.Provider, session providers.Session) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	plain, err := json.Marshal(session)
	if err != nil {
		return fmt.Errorf("encode session of %s: %w", opened.Upload, err)
	}
	opened.Epoch-- // that of the upload, which did not take this session
	opened.Session = d.sealer.Seal(plain, sessionUse(opened.Upload, opened.Epoch))
	if kept, err := d.store.RecordOrphan(ctx, opened); err == nil && kept {
		d.steps.wake()
		return nil
	}
	return p.Abort(ctx, session)
}

func (d *Dispatcher) beginFailed(ctx context.Context, step uploads.Step, err error, hold windows.Hold) error {
	if ctx.Err() != nil {
		return d.postpone(ctx, step, 0, 0, false) // a stop is not a failure
	}
	e := providerError(err)
	d.recordStepFailure(ctx, step, e)
	if wait, yes := d.excused(hold); yes {
		return d.wait(ctx, step, wait, providers.CallBegin, false, nil)
	}
	retry := func(cause uploads.Cause, most int, delay time.Duration) error {
		if step.Tries+1 >= most {
			return d.fail(ctx, step, failureOf(cause, e))
		}
		return d.postpone(ctx, step, delay, 1, false)
	}
	grown := backoff.Delay(step.Tries+1, time.Second, time.Minute)
	switch e.Kind {
	case providers.Transient, providers.UnknownOutcome, providers.SessionLost:
		return retry(uploads.CauseAttempts, maxStepTries, grown)
	case providers.Throttled:
		return d.postpone(ctx, step, max(asked(e.RetryAfter), grown), 0, false)
	case providers.Unauthorized:
		denied, err := d.denied(ctx, step)
		if err != nil {
			return err
		}
		if denied {
			return d.fail(ctx, step, failureOf(uploads.CauseUnauthorized, e))
		}
		return d.postpone(ctx, step, grown, 1, false)
	case providers.Mismatch:
		return retry(uploads.CauseMismatch, maxDeniedTries, grown)
	case providers.Rejected:
		return d.fail(ctx, step, failureOf(uploads.CauseRejected, e))
	default:
		return retry(uploads.CauseAttempts, maxStepTries, grown)
	}
}

// denied reports whether a control step, with the try that was recorded just
// now, was refused for its authorisation so often that it is the credentials.
// Tries that failed for other reasons say nothing of them.
func (d *Dispatcher) denied(ctx context.Context, step uploads.Step) (bool, error) {
	if step.Tries+1 < maxDeniedTries {
		return false, nil
	}
	n, err := d.store.FailedSteps(ctx, step.ID, step.Epoch, string(providers.Unauthorized))
	return n >= maxDeniedTries, err
}

// abort discards the upstream session of an upload that has ended.
func (d *Dispatcher) abort(ctx context.Context, step uploads.Step) error {
	session, p, err := d.session(step)
	if err != nil {
		// Nobody can discard it any more; the platform lets it lapse.
		d.log.Warn("session is left to lapse", zap.Stringer("upload", step.ID), zap.Error(err))
		return d.store.RecordAborted(ctx, step)
	}
	if wait, held, err := d.budget(ctx, step, providers.CallAbort); err != nil || wait > 0 {
		return d.wait(ctx, step, wait, held, false, err)
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	wait, err := d.endSession(callCtx, step, p, session)
	if wait > 0 {
		return d.wait(ctx, step, wait, "", false, nil)
	}
	hold := d.noteCall(ctx, step.Account, providers.CallAbort, err)
	if err != nil {
		if ctx.Err() != nil {
			return d.postpone(ctx, step, 0, 0, false) // a stop is not a failure
		}
		if wait, yes := d.excused(hold); yes {
			return d.wait(ctx, step, wait, providers.CallAbort, false, nil)
		}
		if step.Tries+1 >= maxStepTries {
			d.log.Warn("session is left to lapse", zap.Stringer("upload", step.ID), zap.Error(err))
			return d.store.RecordAborted(ctx, step)
		}
		return d.postpone(ctx, step, backoff.Delay(step.Tries+1, time.Second, time.Minute), 1, false)
	}
	return d.store.RecordAborted(ctx, step)
}

// endSession has the platform discard the session, or says how long that has to
// wait. Where the session's authorisation has lapsed meanwhile, and the platform
// renews sessions, it is renewed for this call alone and not recorded: whoever
// tries again after a crash renews it once more.
func (d *Dispatcher) endSession(ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session) (wait time.Duration, err error) {
	renewer, renews := p.(providers.Renewer)
	lapsed := renews && !session.Expires.IsZero() && !time.Now().Before(session.Expires)
	if !lapsed {
		err = p.Abort(ctx, session)
		if !renews || err == nil || providers.KindOf(err) != providers.Unauthorized {
			return 0, err
		}
	}
	if wait, _, err := d.budget(ctx, step, providers.CallBegin); err != nil || wait > 0 {
		return wait, err
	}
	fresh, rerr := renewer.Renew(ctx, d.accounts[step.Account].Account, d.media(step, step.Epoch, step.PartSize), session)
	d.noteCall(ctx, step.Account, providers.CallBegin, rerr)
	switch kind := providers.KindOf(rerr); {
	case rerr == nil:
		return 0, p.Abort(ctx, fresh)
	case kind == providers.SessionLost:
		return 0, nil // there is nothing left of it
	case lapsed && kind == providers.Rejected:
		return 0, p.Abort(ctx, session) // it is not to be renewed
	default:
		return 0, errors.Join(err, fmt.Errorf("renew the session: %w", rerr))
	}
}

// session opens the sealed session of a step.
func (d *Dispatcher) session(step uploads.Step) (providers.Session, providers.Provider, error) {
	_, p, err := d.provider(step.Account, step.Provider)
	if err != nil {
		return providers.Session{}, nil, err
	}
	plain, err := d.sealer.Open(step.Session, sessionUse(step.ID, step.Epoch))
	if err != nil {
		return providers.Session{}, nil, fmt.Errorf("session of %s: %w", step.ID, err)
	}
	var session providers.Session
	if err := json.Unmarshal(plain, &session); err != nil {
		return providers.Session{}, nil, fmt.Errorf("session of %s: %w", step.ID, err)
	}
	return session, p, nil
}

// complete records the asset.
func (d *Dispatcher) complete(step uploads.Step, asset uploads.Asset, instant bool, reason string, links []uploads.DigestLink) error {
	_, took, err := d.done.do(parts.Finished{
		Upload: step.ID, Lease: step.Lease, Asset: asset, Instant: instant, Reason: reason, Links: links,
	})
	if err != nil {
		return err
	}
	if took {
		d.log.Info("completed", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch), zap.String("account", step.Account),
			zap.String("asset", asset.ID), zap.Bool("instant", instant))
		d.events.wake()
		d.opens.wake()
		if p, ok := d.providers[step.Provider]; ok && p.Limits().KnownBy != "" {
			d.steps.wake() // somebody may have waited for it
		}
	}
	return nil
}

func (d *Dispatcher) postpone(ctx context.Context, step uploads.Step, delay time.Duration, tries int, keepIntent bool, notes ...uploads.Evidence) error {
	// Given back even while stopping, so that the next dispatcher need not wait
	// for the lease to run out.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return d.store.Postpone(ctx, step, delay, tries, keepIntent, notes...)
}

// fail moves the upload of a claimed step to failed.
func (d *Dispatcher) fail(ctx context.Context, step uploads.Step, f uploads.Failure) error {
	return d.failUpload(ctx, step.ID, step.Account, step.Epoch, step.Lease, f)
}

// failUpload moves an upload to failed, which marks its jobs for withdrawal.
func (d *Dispatcher) failUpload(ctx context.Context, id uploads.ID, account string, epoch int, lease uploads.Lease, f uploads.Failure) error {
	took, err := d.store.Fail(ctx, id, epoch, lease, f)
	if err != nil || !took {
		return err
	}
	d.log.Error("failed", zap.Stringer("upload", id), zap.Int("epoch", epoch), zap.String("account", account),
		zap.String("cause", string(f.Cause)), zap.String("code", f.Code), zap.String("message", f.Message), zap.Int("part", f.Part), zap.String("stage", string(f.Stage)))
	d.drops.wake()
	d.events.wake()
	d.steps.wake()
	d.opens.wake()
	return nil
}

// drop takes the runs of a lost session off the queue and out of workers'
// hands. A crash before it leaves runs that workers find stale and drop.
func (d *Dispatcher) drop(ctx context.Context, id uploads.ID, account string) error {
	return errors.Join(d.queue.Withdraw(ctx, account, id), d.queue.Cancel(id))
}

func failureOf(cause uploads.Cause, e *providers.Error) uploads.Failure {
	return uploads.Failure{Cause: cause, Code: e.Code, Message: e.Error()}
}

// recordStepFailure keeps a failed control step beside the failed parts. It is
// for reports only, so its own failure is not the step's.
func (d *Dispatcher) recordStepFailure(ctx context.Context, step uploads.Step, e *providers.Error) {
	now := time.Now()
	f := &parts.Failure{Kind: string(e.Kind), Code: e.Code, Message: e.Error(), Started: now, Failed: now}
	if e.Kind == providers.Mismatch && step.State == uploads.Finishing {
		f.Stage = uploads.StagePlatform
	}
	_, err := d.store.RecordReports(ctx, []parts.Report{{Upload: step.ID, Account: step.Account, Epoch: step.Epoch, Failure: f}})
	if err != nil {
		d.log.Warn("failure is not recorded", zap.Stringer("upload", step.ID), zap.Error(err))
	}
}
