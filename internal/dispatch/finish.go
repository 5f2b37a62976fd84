package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// finish assembles the parts into the asset, exactly once as far as the
// platform's interface allows (invariant 4).
//
// The claim that brought us here has committed the intent. If there was an
// intent before it, an earlier call may have taken effect, whatever became of
// its caller, and the platform is asked first. A crash at any point below
// leaves the intent set, and so the next holder of the lease probes too.
func (d *Dispatcher) finish(ctx context.Context, step uploads.Step, stored []parts.Stored) error {
	session, p, err := d.session(step)
	if err != nil {
		return d.fail(ctx, step, uploads.Failure{Cause: uploads.CauseInternal, Message: err.Error()})
	}
	if !session.Expires.IsZero() && time.Until(session.Expires) < time.Minute {
		if fresh, err := d.renew(ctx, step, p, session, true); err == nil {
			session = fresh
		} // else the call itself tells whether the session has lapsed
	}
	links, agrees, err := d.checkSource(ctx, step, p, session, stored)
	if err != nil || !agrees {
		return err
	}
	if !step.Intent.IsZero() {
		again, err := d.probe(ctx, step, p, session, links)
		if err != nil || !again {
			return err
		}
		if step.CancelDue {
			return d.cancelClaimed(ctx, step)
		}
	}
	if err := covers(stored, step.Source.Size); err != nil {
		return d.fail(ctx, step, uploads.Failure{Cause: uploads.CauseInternal, Message: err.Error()})
	}
	if wait, err := d.budget(ctx, step, providers.CallFinish); err != nil || wait > 0 {
		// The call is not made, so what is known of an earlier one stays as it was.
		return d.wait(ctx, step, wait, !step.Intent.IsZero(), err)
	}
	callCtx, cancel := context.WithTimeout(ctx, finishTimeout)
	asset, err := p.Finish(callCtx, session, stored)
	cancel()
	hold := d.noteCall(ctx, step.Account, providers.CallFinish, err)
	if err == nil {
		return d.complete(step, asset, false, "finished", append(links, assetLink(asset)))
	}
	if ctx.Err() != nil {
		// Cut short by a stop: the call may have taken effect.
		return d.postpone(ctx, step, 0, 0, true)
	}
	e := providerError(err)
	d.recordStepFailure(ctx, step, e)
	d.log.Warn("finish did not succeed", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch),
		zap.String("account", step.Account), zap.String("kind", string(e.Kind)), zap.Error(err))
	if wait, yes := d.excused(hold); yes {
		// Transient and throttled say that the call had no effect; else it may have.
		return d.wait(ctx, step, wait, e.Kind == providers.UnknownOutcome, nil)
	}
	if e.Kind == providers.Mismatch || e.Kind == providers.Rejected {
		// What was compared before stays in the chain.
		if err := d.store.RecordLinks(ctx, step.ID, step.Epoch, links); err != nil {
			return err
		}
	}
	grown := backoff(step.Tries+1, 500*time.Millisecond, time.Minute)
	switch e.Kind {
	case providers.UnknownOutcome:
		return d.postpone(ctx, step, grown, 1, true)
	case providers.Transient:
		if step.Tries+1 >= maxStepTries {
			return d.fail(ctx, step, failureOf(uploads.CauseAttempts, e))
		}
		return d.postpone(ctx, step, grown, 1, false)
	case providers.Throttled:
		return d.postpone(ctx, step, max(e.RetryAfter, grown), 0, false)
	case providers.SessionLost:
		return d.beginAgain(ctx, step.ID, step.Account, step.Epoch, step.Lease, "session lost at finish")
	case providers.Unauthorized:
		if _, ok := p.(providers.Renewer); ok {
			if _, err := d.renew(ctx, step, p, session, true); err != nil {
				d.log.Warn("session is not renewed", zap.Stringer("upload", step.ID), zap.Error(err))
			}
		}
		if step.Tries+1 >= maxDeniedTries {
			return d.fail(ctx, step, failureOf(uploads.CauseUnauthorized, e))
		}
		return d.postpone(ctx, step, grown, 1, false)
	case providers.Mismatch:
		n, err := d.store.MismatchesAt(ctx, step.ID, 0, uploads.StagePlatform)
		if err != nil {
			return err
		}
		if n >= maxPlatformTries || errors.Is(e, providers.ErrWrongAsset) {
			f := failureOf(uploads.CauseMismatch, e)
			f.Stage = uploads.StagePlatform
			return d.fail(ctx, step, f)
		}
		return d.sendAgain(ctx, step, p, session, "what the platform put together is not what was sent")
	case providers.Rejected:
		return d.fail(ctx, step, failureOf(uploads.CauseRejected, e))
	default:
		return d.postpone(ctx, step, grown, 1, true)
	}
}

// probe settles what became of an earlier finishing call. again says that no
// asset came of it: the session is still open, so that finish may be called, or
// the upload is cancelled.
func (d *Dispatcher) probe(
	ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session, links []uploads.DigestLink,
) (again bool, err error) {
	account := d.accounts[step.Account]
	if wait, err := d.budget(ctx, step, providers.CallProbe); err != nil || wait > 0 {
		return false, d.wait(ctx, step, wait, true, err)
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	outcome, err := p.Probe(callCtx, account.Account, d.media(step, step.Epoch, step.PartSize), session)
	cancel()
	if ctx.Err() != nil {
		return false, d.postpone(ctx, step, 0, 0, true)
	}
	hold := d.noteCall(ctx, step.Account, providers.CallProbe, err)
	if wait, yes := d.excused(hold); yes {
		return false, d.wait(ctx, step, wait, true, nil)
	}
	if err != nil {
		outcome = providers.Outcome{Holding: providers.HoldsUnknown, Evidence: err.Error()}
	}
	d.log.Info("probed", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch), zap.String("account", step.Account),
		zap.String("holding", string(outcome.Holding)), zap.String("evidence", outcome.Evidence))
	switch outcome.Holding {
	case providers.HoldsAsset:
		// Finish found it wrong, and whoever called it did not live to say so.
		n, err := d.store.MismatchesAt(ctx, step.ID, step.Epoch, uploads.StagePlatform)
		if err != nil {
			return false, err
		}
		if n > 0 {
			return false, d.fail(ctx, step, uploads.Failure{
				Cause: uploads.CauseMismatch, Stage: uploads.StagePlatform,
				Message: fmt.Sprintf("asset %s was made of bytes that are not the object's", outcome.Asset.ID),
			})
		}
		return false, d.complete(step, outcome.Asset, false, "found by a probe after an unknown outcome",
			append(links, uploads.Uncompared(uploads.StagePlatform, "the answer to finish was lost, a probe found the asset")))
	case providers.HoldsSession:
		return true, nil
	case providers.HoldsNothing:
		if step.CancelDue {
			return true, nil
		}
		return false, d.beginAgain(ctx, step.ID, step.Account, step.Epoch, step.Lease, "a probe found neither asset nor session")
	case providers.HoldsUnknown:
	}
	if time.Since(d.askedSince(step)) > d.cfg.FinishPatience {
		return false, d.fail(ctx, step, uploads.Failure{
			Cause: uploads.CauseNeedsHuman,
			Message: fmt.Sprintf("finish was called at %s and its outcome cannot be told: %s",
				step.Intent.UTC().Format(time.RFC3339), outcome.Evidence),
		})
	}
	return false, d.postpone(ctx, step, backoff(step.Tries+1, time.Second, time.Minute), 1, true)
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
	took, err := d.store.BeginAgain(ctx, id, epoch, lease, reason, backoff(epoch, 200*time.Millisecond, time.Minute))
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
