package dispatch

import (
	"context"
	"maps"
	"sync"
	"time"

	"mediaferry/internal/uploads"
)

// signal wakes a loop. Waking it twice before the loop looks is once.
type signal struct{ c chan struct{} }

func newSignal() *signal { return &signal{c: make(chan struct{}, 1)} }

func (s *signal) wake() {
	select {
	case s.c <- struct{}{}:
	default:
	}
}

// group commits the results of many control steps together: what arrives
// within groupDelay, or groupSize of it, is one transaction. A caller is
// answered after the commit.
type group[T, R any] struct {
	flush func(context.Context, []T) (map[uploads.ID]R, error)
	id    func(T) uploads.ID
	items chan groupItem[T, R]
}

type groupItem[T, R any] struct {
	value T
	reply chan<- groupReply[R]
}

type groupReply[R any] struct {
	result R
	took   bool
	err    error
}

const (
	groupDelay = 4 * time.Millisecond
	groupSize  = 256
)

func newGroup[T, R any](flush func(context.Context, []T) (map[uploads.ID]R, error), id func(T) uploads.ID) *group[T, R] {
	return &group[T, R]{flush: flush, id: id, items: make(chan groupItem[T, R])}
}

// do records one item; took is false if its lease has passed to someone else.
func (g *group[T, R]) do(ctx context.Context, value T) (result R, took bool, err error) {
	reply := make(chan groupReply[R], 1)
	select {
	case g.items <- groupItem[T, R]{value: value, reply: reply}:
	case <-ctx.Done():
		return result, false, context.Cause(ctx)
	}
	r := <-reply // run answers everything that it has taken
	return r.result, r.took, r.err
}

func (g *group[T, R]) run(ctx context.Context) {
	for {
		var batch []groupItem[T, R]
		select {
		case <-ctx.Done():
			return
		case it := <-g.items:
			batch = append(batch, it)
		}
		timer := time.NewTimer(groupDelay)
	collect:
		for len(batch) < groupSize {
			select {
			case it := <-g.items:
				batch = append(batch, it)
			case <-timer.C:
				break collect
			}
		}
		timer.Stop()
		values := make([]T, len(batch))
		for i, it := range batch {
			values[i] = it.value
		}
		// What was done upstream is recorded even while stopping: the alternative
		// is a probe, or a session that nobody knows of.
		flushCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		results, err := g.flush(flushCtx, values)
		cancel()
		for _, it := range batch {
			r, took := results[g.id(it.value)]
			it.reply <- groupReply[R]{result: r, took: took, err: err}
		}
	}
}

// leases are the control steps in hand of this process.
type leases struct {
	mu   sync.Mutex
	held map[uploads.ID]uploads.Lease
}

func newLeases() *leases { return &leases{held: make(map[uploads.ID]uploads.Lease)} }

func (l *leases) add(id uploads.ID, lease uploads.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[id] = lease
}

func (l *leases) remove(id uploads.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, id)
}

func (l *leases) all() map[uploads.ID]uploads.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[uploads.ID]uploads.Lease, len(l.held))
	maps.Copy(out, l.held)
	return out
}
