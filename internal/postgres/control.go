package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/parts"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// Apply does the action to those of the tenant's uploads to which it applies,
// in one transaction, and returns them. What the action makes superfluous on
// the queue is marked for withdrawal with it.
func (s *Store) Apply(ctx context.Context, action uploads.Action, tenant string, ids []uploads.ID, note uploads.Note) ([]uploads.ID, error) {
	var changed []uuid.UUID
	var err error
	switch action {
	case uploads.ActionPause:
		changed, err = s.q.PauseUploads(ctx, s.pool, db.PauseUploadsParams{PausedBy: note.By, Reason: note.Reason, Ids: ids, Tenant: tenant})
	case uploads.ActionResume:
		changed, err = s.q.ResumeUploads(ctx, s.pool, ids, tenant)
	case uploads.ActionCancel:
		changed, err = s.q.CancelUploads(ctx, s.pool, ids, tenant)
	case uploads.ActionRetry:
		changed, err = s.q.RetryUploads(ctx, s.pool, ids, tenant)
	default:
		err = fmt.Errorf("action %q is not known", action)
	}
	if err != nil {
		return nil, unavailable(string(action)+" uploads", err)
	}
	return changed, nil
}

// selection is a filter with what the action asks of an upload.
func selection(action uploads.Action, f uploads.Filter) (db.CountMatchingParams, error) {
	p := db.CountMatchingParams{
		Tenant: f.Tenant, Account: optional(f.Account), BatchID: optional(f.Batch),
		States: []string{}, Causes: []string{}, WithoutCauses: []string{}, Paused: f.Paused,
	}
	var err error
	if _, p.Labels, err = marshalMaps(nil, f.Labels); err != nil {
		return p, err
	}
	for _, st := range f.States {
		p.States = append(p.States, string(st))
	}
	for _, c := range f.Causes {
		p.Causes = append(p.Causes, string(c))
	}
	no, yes := false, true
	switch action {
	case uploads.ActionPause:
		p.Paused = &no
	case uploads.ActionResume:
		p.Paused = &yes
	case uploads.ActionCancel:
		p.CancelDue = &no
	case uploads.ActionRetry:
		p.AbortDue = &no
		if len(f.Causes) == 0 {
			// The asset may be there: one that was looked at is named by its cause or id.
			p.WithoutCauses = []string{string(uploads.CauseNeedsHuman)}
		}
	}
	return p, nil
}

// CountMatching counts the uploads of the filter to which the action applies.
// The filter's states are among those of the action.
func (s *Store) CountMatching(ctx context.Context, action uploads.Action, f uploads.Filter) (int, error) {
	p, err := selection(action, f)
	if err != nil {
		return 0, err
	}
	n, err := s.q.CountMatching(ctx, s.pool, p)
	if err != nil {
		return 0, unavailable("count uploads", err)
	}
	return int(n), nil
}

// Matching returns up to most of the uploads that CountMatching counts, from
// the oldest after the one given.
func (s *Store) Matching(ctx context.Context, action uploads.Action, f uploads.Filter, after uploads.ID, most int) ([]uploads.ID, error) {
	p, err := selection(action, f)
	if err != nil {
		return nil, err
	}
	ids, err := s.q.MatchingUploads(ctx, s.pool, db.MatchingUploadsParams{
		Tenant: p.Tenant, Account: p.Account, BatchID: p.BatchID, States: p.States, Causes: p.Causes,
		WithoutCauses: p.WithoutCauses, Labels: p.Labels, Paused: p.Paused, AbortDue: p.AbortDue, CancelDue: p.CancelDue,
		After: after, Most: int32(most), //nolint:gosec // a small constant
	})
	if err != nil {
		return nil, unavailable("select uploads", err)
	}
	return ids, nil
}

// Pauses returns the pauses of accounts and tenants.
func (s *Store) Pauses(ctx context.Context) ([]uploads.Pause, error) {
	rows, err := s.q.Pauses(ctx, s.pool)
	if err != nil {
		return nil, unavailable("read pauses", err)
	}
	out := make([]uploads.Pause, len(rows))
	for i, r := range rows {
		out[i] = uploads.Pause{
			Scope: uploads.Scope(r.Scope), Name: r.Name, Note: uploads.Note{Reason: r.Reason, By: r.PausedBy}, At: r.PausedAt,
		}
	}
	return out, nil
}

// holding adds the pauses of the upload's account and tenant to its own.
func holding(u *uploads.Upload, pauses []uploads.Pause) {
	if u.State == uploads.Completed || u.State == uploads.Cancelled {
		u.Pauses = nil
		return
	}
	for _, p := range pauses {
		if p.Scope == uploads.ScopeAccount && p.Name == u.Account || p.Scope == uploads.ScopeTenant && p.Name == u.Tenant {
			u.Pauses = append(u.Pauses, p)
		}
	}
}

// Pause pauses an account or a tenant; on return no feeder takes anything of
// its accounts any more. One that is paused stays so, with its first note.
func (s *Store) Pause(ctx context.Context, scope uploads.Scope, name string, accounts []string, note uploads.Note) error {
	return s.inTx(ctx, fmt.Sprintf("pause %s %s", scope, name), func(tx pgx.Tx) error {
		// Behind whoever feeds now: what that one took is marked below, and the
		// next one sees the pause. In the order of the names, as all who take
		// several of these locks do.
		for _, account := range accounts {
			if err := s.q.TakeFeedLock(ctx, tx, account); err != nil {
				return fmt.Errorf("take the lock of account %s: %w", account, err)
			}
		}
		n, err := s.q.InsertPause(ctx, tx, db.InsertPauseParams{Scope: string(scope), Name: name, Reason: note.Reason, PausedBy: note.By})
		if err != nil || n == 0 {
			return err
		}
		return s.q.WithdrawScope(ctx, tx, string(scope), name)
	})
}

// Resume ends the pause of an account or a tenant. Without one it does nothing.
func (s *Store) Resume(ctx context.Context, scope uploads.Scope, name string) error {
	if _, err := s.q.DeletePause(ctx, s.pool, string(scope), name); err != nil {
		return unavailable(fmt.Sprintf("resume %s %s", scope, name), err)
	}
	return nil
}

// WithdrawDue lists up to most uploads whose jobs are to be taken off the queue.
func (s *Store) WithdrawDue(ctx context.Context, most int) ([]uploads.Withdrawal, error) {
	rows, err := s.q.WithdrawDue(ctx, s.pool, int32(most)) //nolint:gosec // a small constant
	if err != nil {
		return nil, unavailable("list withdrawals", err)
	}
	out := make([]uploads.Withdrawal, len(rows))
	for i, r := range rows {
		out[i] = uploads.Withdrawal(r)
	}
	return out, nil
}

// RecordWithdrawn notes that nothing of the uploads is on the queue any more.
// What of them is not acknowledged counts as not fed from then on.
func (s *Store) RecordWithdrawn(ctx context.Context, done []uploads.Withdrawal) error {
	var ids []uuid.UUID
	var counts []int64
	for _, w := range done {
		ids, counts = append(ids, w.ID), append(counts, w.FeedCount)
	}
	if _, err := s.q.RecordWithdrawn(ctx, s.pool, ids, counts); err != nil {
		return unavailable("record withdrawals", err)
	}
	return nil
}

// CancelClaimed ends an upload that was cancelled while finish was under way,
// held under the lease of the step. It reports whether it took.
func (s *Store) CancelClaimed(ctx context.Context, step uploads.Step) (bool, error) {
	n, err := s.q.CancelClaimed(ctx, s.pool, step.ID, &step.Lease)
	if err != nil {
		return false, unavailable("cancel upload", err)
	}
	return n == 1, nil
}

// RecordOrphan keeps the sealed session that was opened for an upload that had
// ended meanwhile, for a step that discards it. It reports whether it took: it
// does not where the upload goes on, or has another session to be discarded.
func (s *Store) RecordOrphan(ctx context.Context, o parts.Opened) (bool, error) {
	n, err := s.q.RecordOrphan(ctx, s.pool, o.Session, o.Upload, int32(o.Epoch)) //nolint:gosec // counts sessions
	if err != nil {
		return false, unavailable("record orphaned session", err)
	}
	return n == 1, nil
}
