package dispatch

import (
	"context"
	"maps"
	"math"
	"sync"
	"time"

	"mediaferry/internal/backoff"
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
// within groupDelay of the first, or groupSize of it, is one transaction. A step
// that comes groupIdle after the transaction before waits for nobody. A caller is
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
	groupDelay = 8 * time.Millisecond
	groupIdle  = 40 * time.Millisecond
	groupSize  = 256
)

func newGroup[T, R any](flush func(context.Context, []T) (map[uploads.ID]R, error), id func(T) uploads.ID) *group[T, R] {
	return &group[T, R]{flush: flush, id: id, items: make(chan groupItem[T, R])}
}

// do records one item; took is false if its lease has passed to someone else.
// It heeds no context: what was done upstream is recorded also while stopping,
// since the alternative is a probe, or a session that nobody knows of. run goes
// on until nobody is left to call do.
func (g *group[T, R]) do(value T) (result R, took bool, err error) {
	reply := make(chan groupReply[R], 1)
	g.items <- groupItem[T, R]{value: value, reply: reply}
	r := <-reply
	return r.result, r.took, r.err
}

func (g *group[T, R]) run(ctx context.Context) {
	var last time.Time // when a transaction ended
	for {
		var batch []groupItem[T, R]
		select {
		case <-ctx.Done():
			return
		case it := <-g.items:
			batch = append(batch, it)
		}
		delay := groupDelay
		if time.Since(last) >= groupIdle {
			delay = 0
		}
		timer := time.NewTimer(delay)
	collect:
		for len(batch) < groupSize {
			select {
			case it := <-g.items: // before the time is looked at
				batch = append(batch, it)
				continue
			default:
			}
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
		flushCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		results, err := g.flush(flushCtx, values)
		cancel()
		last = time.Now()
		for _, it := range batch {
			r, took := results[g.id(it.value)]
			it.reply <- groupReply[R]{result: r, took: took, err: err}
		}
	}
}

// hand is the control steps that this process has claimed.
type hand struct {
	mu       sync.Mutex
	held     map[uploads.ID]heldStep
	accounts map[string]*accountHand
	unmade   map[uploads.ID]unmade // renewals that failed lately
}

// unmade is a renewal that failed, so many times in a row.
type unmade struct {
	times int
	until time.Time // the next try
}

// heldStep is a claimed step: its lease, and a time from which that lasts.
type heldStep struct {
	lease uploads.Lease
	from  time.Time
}

// renewRest is how long a session is left alone at most after its renewal failed.
const renewRest = 2 * time.Minute

// accountHand is an account's share of it.
type accountHand struct {
	claimed int
	slots   chan struct{} // one for each call to the platform
}

func newHand() *hand {
	return &hand{
		held: make(map[uploads.ID]heldStep), accounts: make(map[string]*accountHand),
		unmade: make(map[uploads.ID]unmade),
	}
}

// add notes a claimed step and returns the slots of its account.
func (h *hand) add(step uploads.Step) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[step.ID] = heldStep{lease: step.Lease, from: step.ClaimedAt}
	a, ok := h.accounts[step.Account]
	if !ok {
		a = &accountHand{slots: make(chan struct{}, callsAtOnce)}
		h.accounts[step.Account] = a
	}
	a.claimed++
	return a.slots
}

// remove forgets a step, and reports whether its account had been full.
func (h *hand) remove(step uploads.Step) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[step.ID].lease == step.Lease { // else it ran out, and the step was claimed anew
		delete(h.held, step.ID)
	}
	a := h.accounts[step.Account]
	a.claimed--
	return a.claimed == maxInHand/2-1
}

// notRenewed notes that a renewal failed, and returns when to try again: soon,
// since the session may have lapsed, and later each time.
func (h *hand) notRenewed(id uploads.ID) (rest time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(h.unmade, func(_ uploads.ID, u unmade) bool { return now.Sub(u.until) > renewRest })
	u := h.unmade[id]
	u.times++
	rest = backoff.Delay(u.times, time.Second, renewRest)
	u.until = now.Add(rest)
	h.unmade[id] = u
	return rest
}

// rests reports whether a renewal failed so lately that it is not tried yet.
func (h *hand) rests(id uploads.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.unmade[id].until)
}

// wasRenewed forgets the renewals that failed.
func (h *hand) wasRenewed(id uploads.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.unmade, id)
}

// full returns the accounts that have enough in hand for now.
func (h *hand) full() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	full := []string{}
	for name, a := range h.accounts {
		if a.claimed >= maxInHand/2 {
			full = append(full, name)
		}
	}
	return full
}

// leases returns what keeps the steps ours.
func (h *hand) leases() map[uploads.ID]uploads.Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	leases := make(map[uploads.ID]uploads.Lease, len(h.held))
	for id, s := range h.held {
		leases[id] = s.lease
	}
	return leases
}

// renewed notes that a lease lasts from the time on.
func (h *hand) renewed(id uploads.ID, lease uploads.Lease, from time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.held[id]; ok && s.lease == lease && from.After(s.from) {
		h.held[id] = heldStep{lease: lease, from: from}
	}
}

// age returns how long ago the step's lease was surely ours. A step that is not
// in hand any more is as old as can be.
func (h *hand) age(step uploads.Step) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.held[step.ID]
	if !ok || s.lease != step.Lease {
		return math.MaxInt64
	}
	return time.Since(s.from)
}
