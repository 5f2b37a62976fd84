package apitest

import (
	"context"
	"time"

	"mediaferry/internal/uploads"
)

// Follow brings what is sent on Moves.
func (p port) Follow(context.Context, uploads.FollowFilter, int64) (
	next func(ctx context.Context, wait time.Duration) ([]uploads.StateChange, int64, error), leave func(), err error,
) {
	return func(ctx context.Context, wait time.Duration) ([]uploads.StateChange, int64, error) {
		select {
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		case c := <-p.uc.Moves:
			return []uploads.StateChange{c}, c.Number, nil
		case <-time.After(wait):
			return nil, 0, nil
		}
	}, func() {}, p.uc.failure()
}
