package transfer

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
)

// Bounds of the cache of assignments. While runs of an upload keep coming to this
// worker, it asks once in assignmentLife.
const (
	maxAssignments = 256
	assignmentLife = 3 * time.Minute
)

// errUnusable says that this worker cannot act on an assignment; a worker of
// another version may.
var errUnusable = errors.New("the assignment is of no use")

type assignmentKey struct {
	upload uploads.ID
	epoch  int
}

func keyOf(job parts.Job) assignmentKey { return assignmentKey{job.Upload, job.Epoch} }

// assignment is a parts.Assignment made ready for part jobs.
type assignment struct {
	name     string
	provider providers.Provider
	limits   providers.Limits
	session  providers.Session
	number   int // of the session, for whoever is told that it was refused
	source   uploads.Object
	plan     parts.Plan
	reach    reach.Reach
	known    uploads.KnownDigest // see parts.Assignment.Known
}

// assignments asks for assignments and caches the most recently used ones for the
// following runs of an upload, never past the session's expiry. Slots that need
// the same one at once ask once.
type assignments struct {
	assigner  assigner
	platforms map[string]providers.Provider

	mu      sync.Mutex
	byKey   map[assignmentKey]*list.Element // of *kept
	recent  list.List                       // of *kept, the most recently used first
	flights map[assignmentKey]*flight
	forgets int // counts calls of forget; an answer to an older question is not kept
}

type kept struct {
	key     assignmentKey
	value   *assignment
	expires time.Time
}

// flight is an ask under way. The fields are set before done is closed.
type flight struct {
	done  chan struct{}
	value *assignment
	err   error
	// abandoned: the slot that asked was interrupted, so its error is no answer.
	abandoned bool
}

func newAssignments(a assigner, platforms map[string]providers.Provider) *assignments {
	return &assignments{
		assigner:  a,
		platforms: platforms,
		byKey:     make(map[assignmentKey]*list.Element),
		flights:   make(map[assignmentKey]*flight),
	}
}

// first returns the assignment of a job that is delivered for the first time: the
// cached one, the one that another slot is asking for, or a fresh one.
func (c *assignments) first(ctx context.Context, job parts.Job) (*assignment, error) {
	key := keyOf(job)
	for {
		c.mu.Lock()
		if value := c.lookUp(key); value != nil {
			c.mu.Unlock()
			return value, nil
		}
		f, under := c.flights[key]
		if !under {
			f = &flight{done: make(chan struct{})}
			c.flights[key] = f
		}
		c.mu.Unlock()

		if !under {
			f.value, _, f.err = c.ask(ctx, job, false)
			f.abandoned = f.err != nil && ctx.Err() != nil
			c.mu.Lock()
			delete(c.flights, key)
			c.mu.Unlock()
			close(f.done)
			return f.value, f.err
		}
		select {
		case <-f.done:
			if !f.abandoned {
				return f.value, f.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the assignment of %s: %w", job.Upload, context.Cause(ctx))
		}
	}
}

// ask returns a fresh assignment and the parts of the run that the ledger has.
func (c *assignments) ask(ctx context.Context, job parts.Job, redelivered bool) (*assignment, *parts.Set, error) {
	c.mu.Lock()
	forgets := c.forgets
	c.mu.Unlock()
	a, err := c.assigner.AskAssignment(ctx, job, redelivered)
	if err != nil {
		c.forget(func(k assignmentKey) bool { return k == keyOf(job) })
		return nil, nil, fmt.Errorf("ask for the assignment of %s: %w", job.Upload, err)
	}
	value := &assignment{
		name: a.Provider, source: a.Source, plan: a.Plan, reach: reach.Everywhere(),
		known: uploads.KnownDigest{Digest: a.Known, From: a.KnownFrom}, number: a.SessionNumber,
	}
	if a.Reach != nil {
		value.reach = *a.Reach
	}
	var known bool
	if value.provider, known = c.platforms[a.Provider]; !known {
		return nil, nil, fmt.Errorf("%w: this worker has no provider %q", errUnusable, a.Provider)
	}
	if err := json.Unmarshal(a.Session, &value.session); err != nil {
		// The decoder's error could quote the session.
		return nil, nil, fmt.Errorf("%w: its session cannot be read", errUnusable)
	}
	if expires := &value.session.Expires; !expires.IsZero() && !a.At.IsZero() {
		// Converted to this machine's clock, so that a session which the dispatcher has
		// just handed out never looks lapsed.
		*expires = expires.Add(time.Since(a.At))
	}
	if a.Plan.Size < 1 || a.Plan.PartSize < 1 {
		return nil, nil, fmt.Errorf("%w: it has no plan", errUnusable)
	}
	value.limits = value.provider.Limits()
	acked := new(parts.Set)
	for _, n := range a.Acked {
		if n >= 1 && n <= a.Plan.Count() {
			acked.Add(n)
		}
	}
	c.keep(keyOf(job), value, forgets)
	return value, acked, nil
}

// lookUp returns what is kept under the key, nil if nothing is. The caller
// holds the lock.
func (c *assignments) lookUp(key assignmentKey) *assignment {
	e, ok := c.byKey[key]
	if !ok {
		return nil
	}
	k, ok := e.Value.(*kept)
	if !ok || !time.Now().Before(k.expires) {
		c.drop(e)
		return nil
	}
	c.recent.MoveToFront(e)
	return k.value
}

func (c *assignments) keep(key assignmentKey, value *assignment, forgets int) {
	expires := time.Now().Add(assignmentLife)
	if s := value.session.Expires; !s.IsZero() && s.Before(expires) {
		expires = s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forgets != forgets {
		return // it may be what was to be forgotten
	}
	if e, ok := c.byKey[key]; ok {
		c.drop(e)
	}
	c.byKey[key] = c.recent.PushFront(&kept{key: key, value: value, expires: expires})
	if c.recent.Len() > maxAssignments {
		c.drop(c.recent.Back())
	}
}

// forget drops what is kept under the keys that match.
func (c *assignments) forget(match func(assignmentKey) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgets++
	for key, e := range c.byKey {
		if match(key) {
			c.drop(e)
		}
	}
}

// drop takes an element out. The caller holds the lock.
func (c *assignments) drop(e *list.Element) {
	if k, ok := c.recent.Remove(e).(*kept); ok {
		delete(c.byKey, k.key)
	}
}
