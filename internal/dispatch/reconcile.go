package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
)

type reconcileStore interface {
	ClaimProbes(ctx context.Context, most int, accounts []string, lease time.Duration) ([]uploads.Step, error)
	ClaimProbe(ctx context.Context, tenant string, id uploads.ID, look bool, lease time.Duration) (uploads.Step, bool, error)
	RecordProbedAsset(ctx context.Context, step uploads.Step, asset uploads.Asset, reason string) (bool, error)
	RecordProbed(ctx context.Context, step uploads.Step, adopt []parts.Stored) (bool, error)
}

const (
	reconcilePage   = 100 // uploads of one request
	reconcileAtOnce = 8   // of these
)

// reasonProbed is the reason of the move to completed.
const reasonProbed = "found by a probe: the record was behind"

// takeProbes claims uploads of which a probe is due and takes them.
func (d *Dispatcher) takeProbes(ctx context.Context) error {
	for {
		steps, err := claim(ctx, func(ctx context.Context) ([]uploads.Step, error) {
			return d.store.ClaimProbes(ctx, claimSize, d.roomy(), d.cfg.Lease)
		})
		if err != nil || len(steps) == 0 {
			return err
		}
		for _, step := range steps {
			d.take(ctx, step, func(ctx context.Context) error {
				_, err := d.reconcile(ctx, step, manner{restored: true})
				return err
			})
		}
	}
}

// Reconcile compares the record with the platforms and puts right what differs:
// durable on return. It may be repeated. next is the After of the next page,
// zero on the last. What is wrong with the request is a *uploads.FieldError, and
// an upload that is not there is uploads.ErrNotFound.
func (d *Dispatcher) Reconcile(ctx context.Context, r uploads.Reconciliation) (findings []uploads.Finding, next uploads.ID, err error) {
	selected, err := d.selected(ctx, r)
	if err != nil {
		return nil, uploads.ID{}, err
	}
	findings = make([]uploads.Finding, len(selected))
	errs := make([]error, len(selected))
	places := make(chan struct{}, reconcileAtOnce)
	var running sync.WaitGroup
	for i, u := range selected {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			findings[i], errs[i] = d.reconcileOne(ctx, u, manner{look: r.DryRun, restored: r.Restored})
		})
	}
	running.Wait()
	if len(selected) == reconcilePage {
		next = selected[len(selected)-1].ID
	}
	return findings, next, errors.Join(errs...)
}

func (d *Dispatcher) selected(ctx context.Context, r uploads.Reconciliation) ([]uploads.Upload, error) {
	given := 0
	for _, is := range []bool{r.Upload != uploads.ID{}, r.Account != "", r.All} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, &uploads.FieldError{Field: "upload", Detail: "one of upload, account and all says what is to be compared; give exactly one"}
	case r.Upload != uploads.ID{}:
		u, err := d.store.Upload(ctx, r.Tenant, r.Upload)
		return []uploads.Upload{u}, err
	case r.Account != "" && d.accounts[r.Account].Tenant != r.Tenant:
		return nil, d.unknownAccount(r.Tenant, r.Account)
	}
	return d.store.Uploads(ctx, uploads.Filter{
		Tenant: r.Tenant, Account: r.Account, After: r.After, Limit: reconcilePage,
		States: []uploads.State{uploads.Queued, uploads.Digesting, uploads.Beginning, uploads.Uploading, uploads.Finishing},
	})
}

func (d *Dispatcher) reconcileOne(ctx context.Context, u uploads.Upload, m manner) (uploads.Finding, error) {
	f := uploads.Finding{Upload: u.ID, Account: u.Account, State: u.State, Epoch: u.Epoch, Parts: u.AckedParts, PartCount: u.PartCount}
	if !u.State.Active() {
		f.Action = uploads.RemedyNone
		f.Evidence = fmt.Sprintf("the upload is %s, and no work on it is due", u.State)
		return f, nil
	}
	step, took, err := d.store.ClaimProbe(ctx, u.Tenant, u.ID, m.look, d.cfg.Lease)
	if err != nil {
		return f, err
	}
	if !took {
		f.Action, f.Evidence = uploads.RemedyInHand, "a step of it is in hand, or it has moved on; ask again"
		return f, nil
	}
	d.hand.add(step) // keeps the lease alive
	defer d.hand.remove(step)
	found, err := d.reconcile(ctx, step, m)
	found.PartCount = u.PartCount
	return found, err
}

// manner is how an upload is to be reconciled.
type manner struct {
	look     bool // nothing is changed
	restored bool // the record may be older than what the platform holds
}

// reconcile compares one upload, claimed under its lease, with what the platform
// holds, and puts the record right, or only looks. Finish is not called here,
// and nothing that was finished is begun again: a crash at any point leaves the
// probe due.
func (d *Dispatcher) reconcile(ctx context.Context, step uploads.Step, m manner) (uploads.Finding, error) {
	f := uploads.Finding{Upload: step.ID, Account: step.Account, State: step.State, Epoch: step.Epoch}
	account, p, err := d.provider(step.Account, step.Provider)
	if err != nil {
		return d.unanswered(ctx, step, f, m, true, err.Error())
	}
	ctx = reach.With(ctx, account.Reach)
	if !m.look {
		// Runs in hand would go on under what the record says, and reports on their
		// way to the ledger are worth waiting for.
		if err := d.drop(ctx, step.ID, step.Account); err != nil {
			d.log.Warn("jobs of an upload in doubt are not withdrawn", zap.Stringer("upload", step.ID), zap.Error(err))
		}
	}
	d.awaitLedger(ctx, parts.Job{Upload: step.ID, Account: step.Account})
	// Before the platform is asked: what the ledger has by now, that must have.
	ledger, err := d.ledgerOf(ctx, step)
	if err != nil {
		return f, d.giveUp(ctx, step, m, err)
	}
	f.Parts = len(ledger)
	if wait, held, err := d.budget(ctx, step, providers.CallProbe); err != nil || wait > 0 {
		f.Action, f.Evidence = uploads.RemedyWait, "the account's published rate of probes is used up"
		return f, errors.Join(err, d.putOff(ctx, step.Account, held, func() error { return d.again(ctx, step, m, wait, 0) }))
	}
	out, err := d.askPlatform(ctx, account, p, step)
	if ctx.Err() != nil {
		return f, d.again(ctx, step, m, 0, 0)
	}
	if err != nil {
		e := providerError(err)
		f.Holding = string(providers.HoldsUnknown)
		lasting := e.Kind == providers.Rejected || e.Kind == providers.SessionLost
		if lasting && !hasSession(step) && lacksDigests(p, step) {
			// The platform finds media by their digest, which is yet to be made: begin
			// asks it then, and gets the asset if there is one.
			f.Evidence = "the platform is asked by digest when the upload begins: " + e.Error()
			return d.goOn(ctx, step, f, nil, m)
		}
		return d.unanswered(ctx, step, f, m, lasting, e.Error())
	}
	f.Holding, f.Listed, f.PlatformParts, f.Evidence = string(out.Holding), out.Listed, len(out.Found), out.Evidence
	if !m.look {
		d.log.Info("reconciled", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch), zap.String("account", step.Account),
			zap.String("state", string(step.State)), zap.String("holding", f.Holding), zap.String("evidence", out.Evidence))
	}
	switch out.Holding {
	case providers.HoldsAsset:
		f.Action = uploads.RemedyComplete
		if m.look {
			return f, d.store.ReleaseLease(ctx, step)
		}
		return f, d.completeProbed(ctx, step, out.Asset)
	case providers.HoldsSession:
		return d.compare(ctx, step, f, ledger, out, m)
	case providers.HoldsNothing:
		return d.beginProbed(ctx, step, f, m, "a probe found neither asset nor session")
	case providers.HoldsUnknown:
	}
	return d.unanswered(ctx, step, f, m, true, out.Evidence)
}

func (d *Dispatcher) ledgerOf(ctx context.Context, step uploads.Step) ([]parts.Stored, error) {
	receipts, err := d.store.Receipts(ctx, []uploads.ID{step.ID})
	return receipts[step.ID], err
}

// askPlatform probes under the session that the record knows, and where that is gone
// without an asset, under the one that may have followed it.
func (d *Dispatcher) askPlatform(ctx context.Context, account Account, p providers.Provider, step uploads.Step) (providers.Outcome, error) {
	probe := func(epoch int, session providers.Session) (providers.Outcome, error) {
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return p.Probe(callCtx, account.Account, d.media(step, epoch, step.PartSize), session)
	}
	if !hasSession(step) {
		return probe(step.Epoch+1, providers.Session{})
	}
	session, _, err := d.session(step)
	if err != nil {
		return providers.Outcome{}, &providers.Error{Kind: providers.SessionLost, Call: string(providers.CallProbe), Err: err}
	}
	out, err := probe(step.Epoch, session)
	if err != nil || out.Holding != providers.HoldsNothing {
		return out, err
	}
	after, err := probe(step.Epoch+1, providers.Session{})
	if err == nil && after.Holding == providers.HoldsAsset {
		return after, nil
	}
	return out, nil // the platform was clear about the session that we know
}

func hasSession(step uploads.Step) bool { return len(step.Session) > 0 && step.Epoch > 0 }

// lacksDigests reports whether a digest that the provider tells media by is not known.
func lacksDigests(p providers.Provider, step uploads.Step) bool {
	for _, kind := range p.Limits().ObjectDigests {
		if (providers.Media{Digests: step.Digests}).Digest(kind).IsZero() {
			return true
		}
	}
	return false
}

// compare takes a session that is open: parts that the platform has enter the
// ledger, and a part that only the ledger has means that the session is not the
// one that it was.
func (d *Dispatcher) compare(ctx context.Context, step uploads.Step, f uploads.Finding, ledger []parts.Stored, out providers.Outcome, m manner) (uploads.Finding, error) {
	if !inSession(step.State) || !out.Listed {
		return d.goOn(ctx, step, f, nil, m)
	}
	lost, adopt := differences(ledger, out.Found, parts.Plan{Size: step.Source.Size, PartSize: step.PartSize})
	if len(lost) > 0 {
		return d.beginProbed(ctx, step, f, m, fmt.Sprintf("the platform lacks part %d, and %d in all, that the ledger has", lost[0], len(lost)))
	}
	return d.goOn(ctx, step, f, adopt, m)
}

func inSession(s uploads.State) bool { return s == uploads.Uploading || s == uploads.Finishing }

// differences returns the parts that the ledger has and the platform does not,
// and those that are the other way round. A part of another length, or whose
// digest is known on both sides and differs, is another part.
func differences(ledger, found []parts.Stored, plan parts.Plan) (lost []int, adopt []parts.Stored) {
	there := make(map[int]parts.Stored, len(found))
	for _, p := range found {
		there[p.Number] = p
	}
	for _, p := range ledger {
		up, ok := there[p.Number]
		if !ok || up.Part != p.Part || differ(up.Digest, p.Digest) {
			lost = append(lost, p.Number)
		}
		delete(there, p.Number)
	}
	for _, p := range found {
		if _, ok := there[p.Number]; ok && p.Number >= 1 && p.Number <= plan.Count() && p.Part == plan.Part(p.Number) {
			adopt = append(adopt, p)
		}
	}
	return lost, adopt
}

func differ(a, b hashing.Digest) bool { return a.Kind == b.Kind && !a.IsZero() && a != b }

// goOn lets the upload go on where the record has it.
func (d *Dispatcher) goOn(ctx context.Context, step uploads.Step, f uploads.Finding, adopt []parts.Stored, m manner) (uploads.Finding, error) {
	f.Action = uploads.RemedyGoOn
	if len(adopt) > 0 {
		f.Action = uploads.RemedyAdopt
	}
	if m.look {
		return f, d.store.ReleaseLease(ctx, step)
	}
	if step.CancelDue {
		f.Action = uploads.RemedyCancel
		return f, d.cancelClaimed(ctx, step)
	}
	took, err := d.store.RecordProbed(ctx, step, adopt)
	if err != nil || !took {
		return f, err
	}
	d.opens.wake()
	d.steps.wake()
	d.sweeps.wake()
	d.wakeFeeder(step.Account)
	return f, nil
}

// beginProbed opens a new epoch for an upload whose session the platform does
// not have any more. One that has none in the record goes on as it is.
func (d *Dispatcher) beginProbed(ctx context.Context, step uploads.Step, f uploads.Finding, m manner, reason string) (uploads.Finding, error) {
	if !inSession(step.State) {
		return d.goOn(ctx, step, f, nil, m)
	}
	f.Action = uploads.RemedyBeginAgain
	if m.look {
		return f, d.store.ReleaseLease(ctx, step)
	}
	if step.CancelDue {
		f.Action = uploads.RemedyCancel
		return f, d.cancelClaimed(ctx, step)
	}
	return f, d.beginAgain(ctx, step.ID, step.Account, step.Epoch, step.Lease, reason)
}

func (d *Dispatcher) completeProbed(ctx context.Context, step uploads.Step, asset uploads.Asset) error {
	took, err := d.store.RecordProbedAsset(context.WithoutCancel(ctx), step, asset, reasonProbed)
	if err != nil || !took {
		return err
	}
	d.log.Info("completed", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch), zap.String("account", step.Account),
		zap.String("asset", asset.ID), zap.String("reason", reasonProbed))
	d.events.wake()
	d.opens.wake()
	return nil
}

// unanswered takes an answer that settles nothing. A platform that could tell
// later is asked again and again; one that cannot tell, until the patience is
// over, and then a human is needed: to go on could make a second asset.
func (d *Dispatcher) unanswered(ctx context.Context, step uploads.Step, f uploads.Finding, m manner, lasting bool, evidence string) (uploads.Finding, error) {
	f.Holding, f.Evidence = string(providers.HoldsUnknown), evidence
	f.Action = uploads.RemedyWait
	if lasting && !hasSession(step) && !m.restored {
		f.Evidence = "the record says that it was never begun; the platform cannot tell: " + evidence
		return d.goOn(ctx, step, f, nil, m)
	}
	over := lasting && (!hasSession(step) || (!step.Intent.IsZero() && time.Since(step.Intent) > d.cfg.FinishPatience))
	if over {
		f.Action = uploads.RemedyNeedsHuman
	}
	if !over || m.look {
		return f, d.again(ctx, step, m, backoff.Delay(step.Tries+1, time.Second, time.Minute), 1)
	}
	return f, d.fail(ctx, step, uploads.Failure{
		Cause:   uploads.CauseNeedsHuman,
		Message: "the record was restored or is in doubt, and the platform cannot tell whether the upload is finished there: " + evidence,
	})
}

// again leaves the probe due after a delay, or everything as it was.
func (d *Dispatcher) again(ctx context.Context, step uploads.Step, m manner, delay time.Duration, tries int) error {
	if m.look {
		return d.store.ReleaseLease(context.WithoutCancel(ctx), step)
	}
	return d.postpone(ctx, step, delay, tries, true)
}

// giveUp gives the lease back over an error of the record.
func (d *Dispatcher) giveUp(ctx context.Context, step uploads.Step, m manner, err error) error {
	return errors.Join(err, d.again(ctx, step, m, time.Second, 0))
}
