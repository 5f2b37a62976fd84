package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

type ledgerStore interface {
	RecordReports(ctx context.Context, reports []parts.Report) ([]parts.Landed, error)
	RecordDigested(ctx context.Context, id uploads.ID, o uploads.Object, digests []hashing.Digest) (bool, error)
	RecordCheckpoint(ctx context.Context, id uploads.ID, o uploads.Object, c hashing.Checkpoint) error
	Failures(ctx context.Context, id uploads.ID, epoch, part int) (int, error)
	FailedSteps(ctx context.Context, id uploads.ID, epoch int, kind string) (int, error)
	HoldFeeding(ctx context.Context, id uploads.ID, epoch int, delay time.Duration) error
}

// HandleReports brings what workers reported into the record. When it returns
// nil everything is committed and the reports may be forgotten; else the same
// reports are handed in again, which changes nothing that took already.
func (d *Dispatcher) HandleReports(ctx context.Context, reports []parts.Report) error {
	d.noteReports(ctx, reports)
	began := time.Now()
	landed, err := d.store.RecordReports(ctx, reports)
	if err != nil {
		return err
	}
	d.cfg.Watcher.Recorded(reports, landed, began)
	finishing := false
	for _, l := range landed {
		d.wakeFeeder(l.Account)
		finishing = finishing || l.State == uploads.Finishing
	}
	if finishing {
		d.steps.wake()
	}
	if len(landed) > 0 {
		d.opens.wake()
	}
	// A crash from here on loses the judgement of a failure, not the failure:
	// the sweep feeds the run again and it fails again, or does not.
	var errs []error
	for _, r := range reports {
		if r.Failure != nil {
			errs = append(errs, d.judge(ctx, r))
		}
		if r.Digested != nil {
			errs = append(errs, d.digested(ctx, r))
		}
	}
	return errors.Join(errs...)
}

func (d *Dispatcher) digested(ctx context.Context, r parts.Report) error {
	if r.Digested.Checkpoint != nil {
		return d.store.RecordCheckpoint(ctx, r.Upload, r.Digested.Object, *r.Digested.Checkpoint)
	}
	if agrees, err := d.checkPass(ctx, r); err != nil || !agrees {
		return err
	}
	took, err := d.store.RecordDigested(ctx, r.Upload, r.Digested.Object, r.Digested.Sums)
	if err != nil {
		return err
	}
	if took {
		d.steps.wake()
	}
	return nil
}

// judge decides what a failure that a worker handed back means for its upload.
func (d *Dispatcher) judge(ctx context.Context, r parts.Report) error {
	f := r.Failure
	d.log.Warn("part failed", zap.Stringer("upload", r.Upload), zap.Int("epoch", r.Epoch), zap.Int("part", f.Part),
		zap.String("account", r.Account), zap.String("worker", r.Worker), zap.Int("delivery", r.Delivery),
		zap.String("kind", f.Kind), zap.String("stage", string(f.Stage)), zap.String("code", f.Code), zap.String("message", f.Message))
	failed := func(cause uploads.Cause) error {
		return d.failUpload(ctx, r.Upload, r.Account, r.Epoch, uploads.Lease{},
			uploads.Failure{Cause: cause, Code: f.Code, Message: f.Message, Part: f.Part, Stage: f.Stage})
	}
	if hold, _ := d.holds.get(r.Account, providers.CallPut); f.Part > 0 && silent(providers.Kind(f.Kind)) {
		if wait, yes := d.excused(hold); yes {
			// The account is held: it is the platform, not this part.
			return d.putOff(ctx, r.Account, providers.CallPut, func() error { return d.store.HoldFeeding(ctx, r.Upload, r.Epoch, wait) })
		}
	}
	n, err := d.store.Failures(ctx, r.Upload, r.Epoch, f.Part)
	if err != nil {
		return err
	}
	again := func(cause uploads.Cause, most int, delay time.Duration) error {
		if n >= most {
			return failed(cause)
		}
		if err := d.store.HoldFeeding(ctx, r.Upload, r.Epoch, delay); err != nil {
			return err
		}
		time.AfterFunc(delay, d.sweeps.wake)
		return nil
	}
	grown := backoff.Delay(n, time.Second, time.Minute)
	switch f.Kind {
	case parts.SourceMissing:
		return failed(uploads.CauseSourceMissing)
	case parts.SourceChanged:
		return failed(uploads.CauseSourceChanged)
	case parts.SourceDenied:
		return again(uploads.CauseSourceDenied, maxDeniedTries, grown)
	case parts.SourceTransient:
		return again(uploads.CauseAttempts, maxPartTries, grown)
	}
	switch providers.Kind(f.Kind) {
	case providers.Rejected:
		return failed(uploads.CauseRejected)
	case providers.SessionLost:
		return d.beginAgain(ctx, r.Upload, r.Account, r.Epoch, uploads.Lease{}, fmt.Sprintf("%s at part %d", f.Kind, f.Part))
	case providers.Unauthorized:
		return d.refused(ctx, r, grown)
	case providers.Throttled:
		return again(uploads.CauseAttempts, 10*maxPartTries, max(asked(f.RetryAfter), grown))
	case providers.Mismatch:
		if f.Stage == uploads.StageStaging {
			return again(sourceCause(f.Against), maxSourceTries, grown)
		}
		return again(uploads.CauseMismatch, maxPartTries, grown)
	case providers.Transient, providers.UnknownOutcome:
		return again(uploads.CauseAttempts, maxPartTries, grown)
	default:
		return again(uploads.CauseAttempts, maxPartTries, grown)
	}
}

// renewPatience is how long a refused session waits for its renewal before the
// upload begins again.
const renewPatience = 10 * time.Minute

// refused judges a part that was refused for its authorisation. A session lapses
// for all parts in hand at once, and a long upload outlives many, so it is
// sessions that count: where maxDeniedTries of them were refused one after
// another, with nothing acknowledged between, it is the account's credentials
// that are refused. (Where begin makes no call, only parts can tell.) A platform
// that renews sessions took the credentials each time, so it may refuse more of
// them, maxRenewals. Else a fresh session carries fresh authorisation: renewed
// where the platform can, or opened.
func (d *Dispatcher) refused(ctx context.Context, r parts.Report, delay time.Duration) error {
	f := r.Failure
	refusals, waits, present, err := d.store.RefuseSession(ctx, r.Upload, uploads.Uploading, r.Epoch, f.SessionNumber)
	if err != nil {
		return err
	}
	account, known := d.accounts[r.Account]
	_, renews := d.providers[account.Provider].(providers.Renewer)
	renews = renews || !known // a dispatcher that has the account can tell
	most := maxDeniedTries
	if renews {
		most = maxRenewals
	}
	if refusals >= most {
		return d.failUpload(ctx, r.Upload, r.Account, r.Epoch, uploads.Lease{},
			uploads.Failure{Cause: uploads.CauseUnauthorized, Code: f.Code, Message: f.Message, Part: f.Part})
	}
	if present && (!renews || waits > renewPatience) {
		return d.beginAgain(ctx, r.Upload, r.Account, r.Epoch, uploads.Lease{}, fmt.Sprintf("%s at part %d", f.Kind, f.Part))
	}
	// Where it is an earlier session that was refused, and this one is its renewal,
	// the part only has to be sent again.
	if present {
		d.renews.wake()
		if err := d.store.HoldFeeding(ctx, r.Upload, r.Epoch, delay); err != nil {
			return err
		}
	}
	time.AfterFunc(delay, d.sweeps.wake)
	return nil
}
