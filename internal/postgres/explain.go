package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/uploads"
)

// Circumstances returns what the record has to explain an upload by; the
// upload itself, its account, its workers and the queue are left to the caller.
func (s *Store) Circumstances(ctx context.Context, tenant string, id uploads.ID) (uploads.Circumstances, error) {
	r, err := s.q.Circumstances(ctx, s.pool, id, tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return uploads.Circumstances{}, fmt.Errorf("%w: %s", uploads.ErrNotFound, id)
	}
	if err != nil {
		return uploads.Circumstances{}, unavailable("read circumstances", err)
	}
	c := uploads.Circumstances{
		Now: r.At, Pool: r.Pool, Reason: r.Reason, StepAt: r.StepAt, StepInHand: r.StepInHand, InDoubt: r.InDoubt, IntentOpen: r.IntentOpen,
		SessionExpires: value(r.SessionExpires), FeedAfter: r.FeedAfter, Unfed: r.Unfed, InFlight: r.InFlight,
		RecentBytes: r.RecentBytes, Ahead: int(r.Ahead),
	}
	if r.LastKind != "" {
		c.Last = &uploads.LastTry{Kind: r.LastKind, Code: r.LastCode, Message: r.LastMessage, Part: int(r.LastPart), At: r.LastAt}
	}
	return c, nil
}
