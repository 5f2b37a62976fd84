package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// StateChanges returns up to most of the state changes that the filter selects
// and whose numbers are above after and at most upto, in their order.
func (s *Store) StateChanges(ctx context.Context, f uploads.FollowFilter, after, upto int64, most int) ([]uploads.StateChange, error) {
	states := make([]string, len(f.To))
	for i, st := range f.To {
		states[i] = string(st)
	}
	rows, err := s.q.StateChanges(ctx, s.pool, db.StateChangesParams{
		After: after, Upto: upto, Tenant: f.Tenant, Account: optional(f.Account), UploadID: optional(f.Upload),
		BatchID: optional(f.Batch), States: states, Page: int32(most), //nolint:gosec // a small constant
	})
	if err != nil {
		return nil, unavailable("read state changes", err)
	}
	out := make([]uploads.StateChange, len(rows))
	for i, r := range rows {
		if out[i], err = toStateChange(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func toStateChange(r db.StateChangesRow) (uploads.StateChange, error) {
	c := uploads.StateChange{
		Number: r.ID, Upload: r.UploadID, Tenant: r.Tenant, Account: r.Account, Batch: value(r.BatchID), Name: r.Name, Size: r.Size,
		From: uploads.State(r.FromState), To: uploads.State(r.ToState), Reason: r.Reason, At: r.At,
	}
	var err error
	if c.Labels, err = unmarshalMap(r.Labels); err != nil {
		return c, err
	}
	if len(r.Asset) > 0 {
		c.Asset = new(uploads.Asset)
		if err := json.Unmarshal(r.Asset, c.Asset); err != nil {
			return c, fmt.Errorf("asset of %s: %w", r.UploadID, err)
		}
	}
	if len(r.Failure) > 0 {
		c.Failure = new(uploads.Failure)
		if err := json.Unmarshal(r.Failure, c.Failure); err != nil {
			return c, fmt.Errorf("failure of %s: %w", r.UploadID, err)
		}
	}
	return c, nil
}

// NewStateChanges returns the first numbers above after of the state changes that
// are visible now, ascending. A number between them may still appear, but only
// from a transaction from oldest on and before next.
func (s *Store) NewStateChanges(ctx context.Context, after int64) (numbers []int64, oldest, next int64, err error) {
	row, err := s.q.NewStateChanges(ctx, s.pool, after)
	if err != nil {
		return nil, 0, 0, unavailable("look for state changes", err)
	}
	return row.Numbers, row.Oldest, row.Next, nil
}

// LastStateChange returns the highest number that is seen now, 0 for none.
func (s *Store) LastStateChange(ctx context.Context) (int64, error) {
	n, err := s.q.LastStateChange(ctx, s.pool)
	if err != nil {
		return 0, unavailable("look for the last state change", err)
	}
	return n, nil
}
