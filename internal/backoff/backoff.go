// Package backoff says how long to wait before what failed is tried again, and
// waits. It is pure but for chance.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Delay doubles from first with each try, from 1, up to most, less up to half of
// it by chance, so that many that failed together do not come back together.
func Delay(tries int, first, most time.Duration) time.Duration {
	d := first << min(max(tries-1, 0), 20)
	if d > most || d <= 0 {
		d = most
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter needs no secrecy
}

// Pause waits, and reports whether ctx goes on. It returns at once where ctx has
// ended.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err() == nil
}
