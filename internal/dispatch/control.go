package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

type controlStore interface {
	Apply(ctx context.Context, action uploads.Action, tenant string, ids []uploads.ID, note uploads.Note) ([]uploads.ID, error)
	CountMatching(ctx context.Context, action uploads.Action, f uploads.Filter) (int, error)
	Matching(ctx context.Context, action uploads.Action, f uploads.Filter, after uploads.ID, most int) ([]uploads.ID, error)
	Pauses(ctx context.Context) ([]uploads.Pause, error)
	Pause(ctx context.Context, scope uploads.Scope, name string, accounts []string, note uploads.Note) error
	Resume(ctx context.Context, scope uploads.Scope, name string) error
	WithdrawDue(ctx context.Context, most int) ([]uploads.Withdrawal, error)
	RecordWithdrawn(ctx context.Context, done []uploads.Withdrawal) error
	CancelClaimed(ctx context.Context, step uploads.Step) (bool, error)
	RecordOrphan(ctx context.Context, o parts.Opened) (bool, error)
}

const (
	controlBatch  = 500 // uploads that one transaction of an action changes
	withdrawBatch = 64  // uploads whose withdrawal is recorded together
	firstChanged  = 10  // uploads that an answer names
)

// Change does the action to one upload: durable on return. Its jobs are taken
// off the queue and out of workers' hands right after, and its upstream session
// is discarded after a cancellation, also by another dispatcher if this one
// dies. It may be repeated. Where the upload's state does not allow it, the error
// is uploads.ErrFinal, ErrEnded, ErrNotFailed or ErrRefused.
func (d *Dispatcher) Change(ctx context.Context, action uploads.Action, tenant string, id uploads.ID, note uploads.Note) (uploads.Upload, error) {
	if err := note.Validate(); err != nil {
		return uploads.Upload{}, err
	}
	changed, err := d.store.Apply(ctx, action, tenant, []uploads.ID{id}, note)
	if err != nil {
		return uploads.Upload{}, err
	}
	if len(changed) > 0 {
		d.log.Info(string(action), zap.Stringer("upload", id), zap.String("reason", note.Reason), zap.String("by", note.By))
		d.wakeAfterChange()
	}
	u, err := d.Upload(ctx, tenant, id)
	if err != nil || len(changed) > 0 {
		return u, err
	}
	switch {
	case action == uploads.ActionCancel && u.State != uploads.Cancelled:
		return uploads.Upload{}, fmt.Errorf("%w: %s is %s", uploads.ErrFinal, id, u.State)
	case action == uploads.ActionPause && !u.State.Active():
		return uploads.Upload{}, fmt.Errorf("%w: %s is %s", uploads.ErrEnded, id, u.State)
	case action == uploads.ActionRetry && u.State == uploads.Failed && u.Source.Size == 0:
		return uploads.Upload{}, fmt.Errorf("%w: %s", uploads.ErrRefused, id)
	case action == uploads.ActionRetry:
		return uploads.Upload{}, fmt.Errorf("%w: %s is %s", uploads.ErrNotFailed, id, u.State)
	}
	return u, nil
}

// ChangeMatching does the action to every upload of the filter to which it
// applies, batch by batch: what was changed before an error stays so, and the
// call may be repeated. An upload that another caller is quicker with is not
// counted as changed. A dry run changes nothing. Failed uploads that need a human
// are retried only where the filter names that cause.
func (d *Dispatcher) ChangeMatching(ctx context.Context, action uploads.Action, f uploads.Filter, note uploads.Note, dryRun bool) (uploads.Changed, error) {
	var result uploads.Changed
	if err := note.Validate(); err != nil {
		return result, err
	}
	states := slices.DeleteFunc(action.States(), func(s uploads.State) bool { return len(f.States) > 0 && !slices.Contains(f.States, s) })
	if len(states) == 0 {
		return result, nil // it applies to none of the states that were asked for
	}
	f.States = states
	var err error
	if result.Matched, err = d.store.CountMatching(ctx, action, f); err != nil {
		return result, err
	}
	if dryRun {
		result.First, err = d.store.Matching(ctx, action, f, uploads.ID{}, firstChanged)
		return result, err
	}
	for after := (uploads.ID{}); ; {
		ids, err := d.store.Matching(ctx, action, f, after, controlBatch)
		if err != nil || len(ids) == 0 {
			return result, err
		}
		changed, err := d.store.Apply(ctx, action, f.Tenant, ids, note)
		if err != nil {
			return result, err
		}
		slices.SortFunc(changed, func(a, b uploads.ID) int { return slices.Compare(a[:], b[:]) })
		result.Changed += len(changed)
		result.First = append(result.First, changed[:min(len(changed), firstChanged-len(result.First))]...)
		d.wakeAfterChange()
		d.log.Info(string(action)+" by filter", zap.String("tenant", f.Tenant), zap.Int("uploads", len(changed)),
			zap.String("reason", note.Reason), zap.String("by", note.By))
		after = ids[len(ids)-1]
	}
}

// wakeAfterChange lets everybody look who may have something to do now.
func (d *Dispatcher) wakeAfterChange() {
	for _, s := range []*signal{d.drops, d.steps, d.events, d.opens, d.sweeps} {
		s.wake()
	}
	for _, f := range d.feeders {
		f.wake()
	}
}

// PauseAccount pauses an account of the tenant, ResumeAccount ends that. Both
// may be repeated; an account that the tenant does not have is uploads.ErrNoAccount.
func (d *Dispatcher) PauseAccount(ctx context.Context, tenant, name string, note uploads.Note) (uploads.AccountStatus, error) {
	return d.accountAfter(ctx, tenant, name, func() error {
		return d.pause(ctx, uploads.ScopeAccount, name, []string{name}, note)
	})
}

// ResumeAccount ends the pause of an account; its tenant's is left.
func (d *Dispatcher) ResumeAccount(ctx context.Context, tenant, name string) (uploads.AccountStatus, error) {
	return d.accountAfter(ctx, tenant, name, func() error { return d.resume(ctx, uploads.ScopeAccount, name) })
}

// accountOf returns the tenant's account of that name, or uploads.ErrNoAccount.
func (d *Dispatcher) accountOf(tenant, name string) (Account, error) {
	account, ok := d.accounts[name]
	if !ok || account.Tenant != tenant {
		return Account{}, fmt.Errorf("%w: tenant %q has %s", uploads.ErrNoAccount, tenant, d.accountNames(tenant))
	}
	return account, nil
}

func (d *Dispatcher) accountAfter(ctx context.Context, tenant, name string, do func() error) (uploads.AccountStatus, error) {
	if _, err := d.accountOf(tenant, name); err != nil {
		return uploads.AccountStatus{}, err
	}
	if err := do(); err != nil {
		return uploads.AccountStatus{}, err
	}
	all, err := d.Accounts(ctx)
	if err != nil {
		return uploads.AccountStatus{}, err
	}
	return all[slices.IndexFunc(all, func(a uploads.AccountStatus) bool { return a.Name == name })], nil
}

// PauseTenant pauses all accounts of a tenant. It returns what is paused of the
// tenant itself; one without accounts is uploads.ErrNoTenant.
func (d *Dispatcher) PauseTenant(ctx context.Context, name string, note uploads.Note) (uploads.TenantStatus, error) {
	accounts := d.accountsOf(name)
	if len(accounts) == 0 {
		return uploads.TenantStatus{}, uploads.ErrNoTenant
	}
	if err := d.pause(ctx, uploads.ScopeTenant, name, accounts, note); err != nil {
		return uploads.TenantStatus{}, err
	}
	return d.tenant(ctx, name)
}

// ResumeTenant ends the pause of a tenant; pauses of its accounts are left.
func (d *Dispatcher) ResumeTenant(ctx context.Context, name string) (uploads.TenantStatus, error) {
	if len(d.accountsOf(name)) == 0 {
		return uploads.TenantStatus{}, uploads.ErrNoTenant
	}
	if err := d.resume(ctx, uploads.ScopeTenant, name); err != nil {
		return uploads.TenantStatus{}, err
	}
	return d.tenant(ctx, name)
}

func (d *Dispatcher) tenant(ctx context.Context, name string) (uploads.TenantStatus, error) {
	pauses, err := d.store.Pauses(ctx)
	status := uploads.TenantStatus{Name: name, Accounts: d.accountsOf(name)}
	for _, p := range pauses {
		if p.Scope == uploads.ScopeTenant && p.Name == name {
			status.Pause = &p
		}
	}
	return status, err
}

// accountsOf returns the names of a tenant's accounts, sorted.
func (d *Dispatcher) accountsOf(tenant string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(d.accounts)), func(name string) bool { return d.accounts[name].Tenant != tenant })
}

func (d *Dispatcher) pause(ctx context.Context, scope uploads.Scope, name string, accounts []string, note uploads.Note) error {
	if err := note.Validate(); err != nil {
		return err
	}
	if err := d.store.Pause(ctx, scope, name, accounts, note); err != nil {
		return err
	}
	d.log.Info("paused", zap.String(string(scope), name), zap.String("reason", note.Reason), zap.String("by", note.By))
	d.wakeAfterChange()
	return nil
}

func (d *Dispatcher) resume(ctx context.Context, scope uploads.Scope, name string) error {
	if err := d.store.Resume(ctx, scope, name); err != nil {
		return err
	}
	d.log.Info("resumed", zap.String(string(scope), name))
	d.wakeAfterChange()
	return nil
}

// pausesOf returns those of the pauses that hold the account.
func (a Account) pausesOf(pauses []uploads.Pause) []uploads.Pause {
	var out []uploads.Pause
	for _, p := range pauses {
		if p.Scope == uploads.ScopeAccount && p.Name == a.Name || p.Scope == uploads.ScopeTenant && p.Name == a.Tenant {
			out = append(out, p)
		}
	}
	return out
}

// withdraw takes the jobs of paused, cancelled and failed uploads off the queue
// and out of workers' hands. The moves that make it necessary are committed
// before, and it is noted as done after: a crash between has it done again,
// which changes nothing. A worker that is delivered a job meanwhile is told
// that it is stale.
func (d *Dispatcher) withdraw(ctx context.Context) error {
	for {
		due, err := d.store.WithdrawDue(ctx, withdrawBatch)
		if err != nil || len(due) == 0 {
			return err
		}
		var done []uploads.Withdrawal
		var errs []error
		for _, w := range due {
			// In this order: what is cancelled first could be delivered again.
			err := d.queue.Withdraw(ctx, w.Account, w.ID)
			if err == nil {
				err = d.queue.Cancel(w.ID)
			}
			if err != nil {
				errs = append(errs, err)
				break // the queue is away
			}
			done = append(done, w)
		}
		if len(done) > 0 {
			errs = append(errs, d.store.RecordWithdrawn(ctx, done))
			d.opens.wake()
			for _, w := range done {
				d.wakeFeeder(w.Account) // its window has room again
			}
		}
		if err := errors.Join(errs...); err != nil || len(due) < withdrawBatch {
			return err
		}
	}
}

// cancelClaimed ends an upload of which no finishing call is open any more.
func (d *Dispatcher) cancelClaimed(ctx context.Context, step uploads.Step) error {
	took, err := d.store.CancelClaimed(ctx, step)
	if err != nil || !took {
		return err
	}
	d.log.Info("cancelled", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch), zap.String("account", step.Account))
	d.wakeAfterChange()
	return nil
}
