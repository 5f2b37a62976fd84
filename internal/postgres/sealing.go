package postgres

import (
	"context"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// SealedOtherwise returns up to most sealed sessions that do not begin with
// prefix, of uploads whose id is above after, in the order of their ids.
func (s *Store) SealedOtherwise(ctx context.Context, prefix []byte, after uploads.ID, most int) ([]parts.Sealed, error) {
	rows, err := s.q.SealedOtherwise(ctx, s.pool, prefix, after, int32(most)) //nolint:gosec // a small constant
	if err != nil {
		return nil, unavailable("find sessions by their key", err)
	}
	out := make([]parts.Sealed, len(rows))
	for i, r := range rows {
		out[i] = parts.Sealed{Upload: r.ID, Epoch: int(r.Epoch), Session: r.Session}
	}
	return out, nil
}

// Reseal replaces the sealed session was by another, durable on return, and
// reports whether the upload still had that one.
func (s *Store) Reseal(ctx context.Context, id uploads.ID, was, session []byte) (bool, error) {
	n, err := s.q.Reseal(ctx, s.pool, session, id, was)
	if err != nil {
		return false, unavailable("seal a session anew", err)
	}
	return n == 1, nil
}
