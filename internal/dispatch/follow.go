package dispatch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"mediaferry/internal/uploads"
)

type followStore interface {
	StateChanges(ctx context.Context, f uploads.FollowFilter, after, upto int64, most int) ([]uploads.StateChange, error)
	NewStateChanges(ctx context.Context, after int64) (numbers []int64, oldest, next int64, err error)
	LastStateChange(ctx context.Context) (int64, error)
}

const (
	followEvery = 250 * time.Millisecond
	followPage  = 500    // state changes that a follower is given at once
	followSpan  = 10_000 // numbers that one statement looks through
)

// following is how far the record's state changes are settled, while anybody
// follows them. Numbers are given before their transaction commits, so a lower
// one may show after a higher one; one is settled when no lower one can show any
// more. So whoever has seen all up to a settled number misses none by asking for
// those after it, here or of another dispatcher.
type following struct {
	wake *signal

	mu       sync.Mutex
	count    int           // followers
	known    bool          // settled means something
	settled  int64         // every number up to here
	changed  chan struct{} // closed when known or settled changes
	barred   bool
	barrier  int64 // the highest number that was seen when
	nextThen int64 // this was the transaction to come: those before it settle the barrier by ending
}

func newFollowing() *following { return &following{wake: newSignal(), changed: make(chan struct{})} }

func (f *following) join() (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count == 1 {
		f.known, f.barred = false, false // what was known when the last one left is old
	}
	f.wake.wake()
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.count--
	})
}

// at returns how far it is settled, and what is closed when that changes.
func (f *following) at() (settled int64, known bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settled, f.known, f.changed
}

// settle looks how far the state changes are settled, if anybody wants to know.
func (d *Dispatcher) settle(ctx context.Context) error {
	f := d.follows
	f.mu.Lock()
	count, known, settled := f.count, f.known, f.settled
	f.mu.Unlock()
	if count == 0 {
		return nil
	}
	if !known {
		var err error
		if settled, err = d.store.LastStateChange(ctx); err != nil {
			return err
		}
	}
	numbers, oldest, next, err := d.store.NewStateChanges(ctx, settled)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known != f.known {
		return nil // the followers changed; the next look is theirs
	}
	f.advance(settled, numbers, oldest, next)
	return nil
}

// advance takes note of the numbers after settled that are seen, and of the
// transactions that may still bring others between them. mu is held.
func (f *following) advance(settled int64, numbers []int64, oldest, next int64) {
	highest, began := settled, !f.known
	if len(numbers) > 0 {
		highest = numbers[len(numbers)-1]
	}
	if !f.known {
		// Where it begins is not settled itself before this.
		if !f.barred {
			f.barred, f.barrier, f.nextThen = true, highest, next
		}
		if oldest < f.nextThen {
			return
		}
		f.known, f.barred, settled = true, false, f.barrier
	}
	if f.barred && oldest >= f.nextThen {
		settled, f.barred = max(settled, f.barrier), false
	}
	for _, n := range numbers {
		if n == settled+1 {
			settled = n
		}
	}
	if highest > settled && !f.barred {
		if oldest >= next { // no transaction is under way
			settled = highest
		} else {
			f.barred, f.barrier, f.nextThen = true, highest, next
		}
	}
	if !began && settled == f.settled {
		return
	}
	f.settled = settled
	close(f.changed)
	f.changed = make(chan struct{})
}

// Follow begins to follow the state changes that the filter selects, after the
// number given, or from now on where it is negative. It returns when the
// beginning is known. A number that the record does not have, since it was
// restored from before, is taken for now.
//
// next returns the changes to come, in order and each once, and the number from
// which to follow on after them; after wait at most, and then perhaps none. It
// holds a page of them at a time. leave is to be called at the end.
func (d *Dispatcher) Follow(ctx context.Context, filter uploads.FollowFilter, after int64) (
	next func(ctx context.Context, wait time.Duration) ([]uploads.StateChange, int64, error), leave func(), err error,
) {
	f := d.follows
	leave = f.join()
	defer func() {
		if err != nil {
			leave()
		}
	}()
	settled, known, changed := f.at()
	for !known {
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%w: %w", uploads.ErrUnsettled, context.Cause(ctx))
		case <-changed:
		}
		settled, known, changed = f.at()
	}
	if after > settled {
		last, err := d.store.LastStateChange(ctx)
		if err != nil {
			return nil, nil, err
		}
		if after > last {
			after = settled
		}
	}
	if after < 0 {
		after = settled
	}
	return func(ctx context.Context, wait time.Duration) ([]uploads.StateChange, int64, error) {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		for {
			settled, known, changed := f.at()
			for known && after < settled {
				upto := min(settled, after+followSpan)
				page, err := d.store.StateChanges(ctx, filter, after, upto, followPage)
				if err != nil {
					return nil, after, err
				}
				if after = upto; len(page) == followPage {
					after = page[len(page)-1].Number
				}
				if len(page) > 0 {
					return page, after, nil
				}
			}
			select {
			case <-ctx.Done():
				return nil, after, fmt.Errorf("follow state changes: %w", context.Cause(ctx))
			case <-timer.C:
				return nil, after, nil
			case <-changed:
			}
		}
	}, leave, nil
}
