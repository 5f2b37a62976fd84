package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

// finish assembles the parts into the asset, exactly once as far as the
// platform's interface allows (invariant 4).
//
// The claim that brought us here has committed the intent. If there was an
// intent before it, an earlier call may have taken effect, whatever became of
// its caller, and the platform is asked first. A crash at any point below
// leaves the intent set, and so the next holder of the lease probes too. The
// call is made under a lease that is surely ours: a process that stood still
// for longer than its lease lets the one that took over go on alone.
func (d *Dispatcher) finish(ctx context.Context, step uploads.Step, stored []parts.Stored) error {
	session, p, err := d.session(step)
	if err != nil {
		if !step.Intent.IsZero() {
			return d.needsHuman(ctx, step, nil, session, "the platform cannot be asked: "+err.Error(), nil)
		}
		return d.fail(ctx, step, uploads.Failure{Cause: uploads.CauseInternal, Message: err.Error()})
	}
	if !session.Expires.IsZero() && time.Until(session.Expires) < time.Minute {
		if fresh, err := d.renew(ctx, step, p, session, true); err == nil {
			session = fresh
		} // else the call itself tells whether the session has lapsed
	}
	var notes []uploads.Evidence
	if !step.Intent.IsZero() {
		// Before all else: whatever is known of the bytes by now, to discard the
		// session of an asset, or to send it again, would make a second one.
		links, wrong := sourceLinks(step.Known(), p.Limits().PartDigest, stored)
		note, again, err := d.probe(ctx, step, p, session, links, wrong)
		if err != nil || !again {
			return err
		}
		if step.CancelDue {
			return d.cancelClaimed(ctx, step)
		}
		notes = append(notes, note)
	}
	links, agrees, err := d.checkSource(ctx, step, p, session, stored)
	if err != nil || !agrees {
		return err
	}
	if err := covers(stored, step.Source.Size); err != nil {
		return d.fail(ctx, step, uploads.Failure{Cause: uploads.CauseInternal, Message: err.Error()})
	}
	if wait, held, err := d.budget(ctx, step, providers.CallFinish); err != nil || wait > 0 {
		// The call is not made, so what is known of an earlier one stays as it was.
		return d.wait(ctx, step, wait, held, !step.Intent.IsZero(), err, notes...)
	}
	if ours, err := d.leaseIsOurs(ctx, step); err != nil || !ours {
		return err
	}
	called := time.Now()
	callCtx, cancel := context.WithTimeout(ctx, finishTimeout)
	asset, err := p.Finish(callCtx, session, stored)
	cancel()
	hold := d.noteCall(ctx, step.Account, providers.CallFinish, err)
	if err == nil {
		return d.complete(step, asset, false, "finished", append(links, assetLink(asset)))
	}
	return d.finishFailed(ctx, finishing{step: step, provider: p, session: session, links: links, notes: notes, called: called}, hold, err)
}

// finishing is a step of finish at its call.
type finishing struct {
	step     uploads.Step
	provider providers.Provider
	session  providers.Session
	links    []uploads.DigestLink // what is known of the bytes that were read
	notes    []uploads.Evidence   // of a probe before the call
	called   time.Time
}

// finishFailed settles a call that brought no asset. Unless the error says that
// it had no effect, the intent stays, so that a probe comes before the next one.
func (d *Dispatcher) finishFailed(ctx context.Context, f finishing, hold windows.Hold, err error) error {
	step := f.step
	e, ok := errors.AsType[*providers.Error](err)
	if !ok {
		// Not an answer of the platform, so nothing is known of the call.
		e = &providers.Error{Kind: providers.UnknownOutcome, Call: string(providers.CallFinish), Err: err}
	}
	notes := append(f.notes, uploads.Evidence{At: f.called, Call: string(providers.CallFinish), Answer: e.Error()})
	if ctx.Err() != nil {
		// Cut short by a stop: the call may have taken effect.
		return d.postpone(ctx, step, 0, 0, true, notes...)
	}
	d.recordStepFailure(ctx, step, e)
	d.log.Warn("finish did not succeed", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch),
		zap.String("account", step.Account), zap.String("kind", string(e.Kind)), zap.Error(err))
	if wait, yes := d.excused(hold); yes {
		// Transient and throttled say that the call had no effect; else it may have.
		return d.wait(ctx, step, wait, providers.CallFinish, e.Kind == providers.UnknownOutcome, nil, notes...)
	}
	if e.Kind == providers.Mismatch || e.Kind == providers.Rejected {
		// What was compared before stays in the chain.
		if err := d.store.RecordLinks(ctx, step.ID, step.Epoch, f.links); err != nil {
			return err
		}
	}
	grown := backoff.Delay(step.Tries+1, 500*time.Millisecond, time.Minute)
	switch e.Kind {
	case providers.UnknownOutcome:
		return d.postpone(ctx, step, grown, 1, true, notes...)
	case providers.Transient:
		if step.Tries+1 >= maxStepTries {
			return d.fail(ctx, step, failureOf(uploads.CauseAttempts, e))
		}
		return d.postpone(ctx, step, grown, 1, false, notes...)
	case providers.Throttled:
		return d.postpone(ctx, step, max(asked(e.RetryAfter), grown), 0, false, notes...)
	case providers.SessionLost:
		return d.beginAgain(ctx, step.ID, step.Account, step.Epoch, step.Lease, "session lost at finish")
	case providers.Unauthorized:
		denied, lost, err := d.finishRefused(ctx, step, f.provider, f.session)
		if err != nil {
			return err
		}
		if denied {
			return d.fail(ctx, step, failureOf(uploads.CauseUnauthorized, e))
		}
		// The probe tells what became of a lost session.
		return d.postpone(ctx, step, grown, 1, lost, notes...)
	case providers.Mismatch:
		n, err := d.store.MismatchesAt(ctx, step.ID, 0, uploads.StagePlatform)
		if err != nil {
			return err
		}
		if n >= maxPlatformTries || errors.Is(e, providers.ErrWrongAsset) {
			failure := failureOf(uploads.CauseMismatch, e)
			failure.Stage = uploads.StagePlatform
			return d.fail(ctx, step, failure)
		}
		return d.sendAgain(ctx, step, f.provider, f.session, "what the platform put together is not what was sent")
	case providers.Rejected:
		return d.fail(ctx, step, failureOf(uploads.CauseRejected, e))
	default:
		return d.postpone(ctx, step, grown, 1, true, notes...)
	}
}

// finishRefused has the session renewed under which finish was refused, where
// the platform can. As with parts, it is sessions that count: denied says that
// one after another was refused, or that this one could not be renewed for too
// long; lost, that the platform no longer has it.
func (d *Dispatcher) finishRefused(ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session) (denied, lost bool, err error) {
	if _, ok := p.(providers.Renewer); !ok {
		denied, err = d.denied(ctx, step)
		return denied, false, err
	}
	refusals, waits, _, err := d.store.RefuseSession(ctx, step.ID, step.State, step.Epoch, 0)
	if err != nil || refusals >= maxRenewals || waits > renewPatience {
		return err == nil, false, err
	}
	if _, err := d.renew(ctx, step, p, session, true); err != nil {
		d.log.Warn("session is not renewed", zap.Stringer("upload", step.ID), zap.Error(err))
		lost = providers.KindOf(err) == providers.SessionLost
	}
	return false, lost, nil
}

// probe settles what became of an earlier finishing call. again says that no
// asset came of it: the session is still open, so that finish may be called, or
// the upload is cancelled. The links are what is known of the bytes that were
// read, and wrong is the first of them that does not match.
func (d *Dispatcher) probe(
	ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session,
	links []uploads.DigestLink, wrong *uploads.DigestLink,
) (note uploads.Evidence, again bool, err error) {
	account := d.accounts[step.Account]
	if wait, held, err := d.budget(ctx, step, providers.CallProbe); err != nil || wait > 0 {
		return note, false, d.wait(ctx, step, wait, held, true, err)
	}
	note = uploads.Evidence{At: time.Now(), Call: string(providers.CallProbe)}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	outcome, err := p.Probe(callCtx, account.Account, d.media(step, step.Epoch, step.PartSize), session)
	cancel()
	if ctx.Err() != nil {
		return note, false, d.postpone(ctx, step, 0, 0, true)
	}
	hold := d.noteCall(ctx, step.Account, providers.CallProbe, err)
	if wait, yes := d.excused(hold); yes {
		note.Answer = fmt.Sprint(err)
		return note, false, d.wait(ctx, step, wait, providers.CallProbe, true, nil, note)
	}
	if err != nil {
		outcome = providers.Outcome{Holding: providers.HoldsUnknown, Evidence: err.Error()}
	}
	note.Answer = fmt.Sprintf("%s: %s", outcome.Holding, outcome.Evidence)
	d.log.Info("probed", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch), zap.String("account", step.Account),
		zap.String("holding", string(outcome.Holding)), zap.String("evidence", outcome.Evidence))
	switch outcome.Holding {
	case providers.HoldsAsset:
		// Finish found it wrong, and whoever called it did not live to say so.
		n, err := d.store.MismatchesAt(ctx, step.ID, step.Epoch, uploads.StagePlatform)
		if err != nil {
			return note, false, err
		}
		if n > 0 {
			return note, false, d.fail(ctx, step, uploads.Failure{
				Cause: uploads.CauseMismatch, Stage: uploads.StagePlatform,
				Message: fmt.Sprintf("asset %s was made of bytes that are not the object's", outcome.Asset.ID),
			})
		}
		if wrong != nil {
			return note, false, errors.Join(d.store.RecordLinks(ctx, step.ID, step.Epoch, links), d.fail(ctx, step, uploads.Failure{
				Cause: sourceCause(wrong.ExpectedFrom), Stage: uploads.StageStaging,
				Message: fmt.Sprintf("asset %s was made before it was found that %s", outcome.Asset.ID, stagingFailure(*wrong).Message),
			}))
		}
		return note, false, d.complete(step, outcome.Asset, false, "found by a probe after an unknown outcome",
			append(links, uploads.Uncompared(uploads.StagePlatform, "the answer to finish was lost, a probe found the asset")))
	case providers.HoldsSession:
		return note, true, nil
	case providers.HoldsNothing:
		if step.CancelDue {
			return note, true, nil
		}
		return note, false, d.beginAgain(ctx, step.ID, step.Account, step.Epoch, step.Lease, "a probe found neither asset nor session")
	case providers.HoldsUnknown:
	}
	if time.Since(d.askedSince(step)) > d.cfg.FinishPatience {
		return note, false, d.needsHuman(ctx, step, p, session, "whether finish took effect cannot be told: "+outcome.Evidence, []uploads.Evidence{note})
	}
	return note, false, d.postpone(ctx, step, backoff.Delay(step.Tries+1, time.Second, time.Minute), 1, true, note)
}

// needsHuman gives up on telling the outcome of finish. The session and the
// intent stay, so that a retry asks the platform again before it does anything
// else, and with them goes all that is known for the person who looks.
func (d *Dispatcher) needsHuman(ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session, why string, last []uploads.Evidence) error {
	evidence := append(slices.Clone(step.FinishLog), last...)
	called := func(n uploads.Evidence) bool { return n.Call == string(providers.CallFinish) }
	if !slices.ContainsFunc(evidence, called) {
		evidence = slices.Insert(evidence, 0, uploads.Evidence{
			At: step.Intent, Call: string(providers.CallFinish), Answer: "none is on record: the process that was to make the call ended",
		})
	}
	if l, ok := p.(providers.Locator); ok {
		why += "; look for " + l.Locate(session)
	}
	return d.fail(ctx, step, uploads.Failure{Cause: uploads.CauseNeedsHuman, Message: why, Evidence: evidence})
}

// leaseIsOurs reports whether the step's lease is ours for some time to come, and
// renews it where it is not sure.
func (d *Dispatcher) leaseIsOurs(ctx context.Context, step uploads.Step) (bool, error) {
	for age := d.hand.age(step); age >= d.cfg.Lease/2; {
		asked := time.Now()
		kept, err := d.store.RenewLeases(ctx, map[uploads.ID]uploads.Lease{step.ID: step.Lease}, d.cfg.Lease)
		if err != nil {
			return false, err
		}
		if !kept[step.ID] {
			d.log.Warn("lease has passed on", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch), zap.String("account", step.Account))
			return false, nil
		}
		d.hand.renewed(step.ID, step.Lease, asked)
		age = time.Since(asked)
	}
	return true, nil
}

// askedSince is since when a probe could have told the outcome of finish: not
// before the last outage of the platform's answer to probes was over.
func (d *Dispatcher) askedSince(step uploads.Step) time.Time {
	hold, _ := d.holds.get(step.Account, providers.CallProbe)
	if up := hold.Up.Add(-d.holds.ahead()); up.After(step.Intent) {
		return up
	}
	return step.Intent
}

// beginAgain sends an upload whose session is lost back to begin. Runs of the
// old epoch that stay on the queue are dropped as stale.
func (d *Dispatcher) beginAgain(ctx context.Context, id uploads.ID, account string, epoch int, lease uploads.Lease, reason string) error {
	took, err := d.store.BeginAgain(ctx, id, epoch, lease, reason, backoff.Delay(epoch, 200*time.Millisecond, time.Minute))
	if err != nil || !took {
		return err
	}
	d.log.Warn("begins again", zap.Stringer("upload", id), zap.Int("epoch", epoch), zap.String("account", account), zap.String("reason", reason))
	d.steps.wake()
	return d.drop(ctx, id, account)
}

// covers checks that the parts are every byte of size exactly once (invariant 3).
// The ledger's own count says so already; this reads the rows themselves.
func covers(stored []parts.Stored, size int64) error {
	var next int64
	for i, p := range stored {
		if p.Number != i+1 || p.Offset != next {
			return fmt.Errorf("ledger has part %d at byte %d where part %d at byte %d is due", p.Number, p.Offset, i+1, next)
		}
		next += p.Length
	}
	if next != size {
		return fmt.Errorf("ledger covers %d of %d bytes", next, size)
	}
	return nil
}
