package dispatch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"mediaferry/internal/uploads"
)

type eventStore interface {
	TakeEvents(ctx context.Context, most int, publish func([]uploads.Event) error) (n int, err error)
}

type eventQueue interface {
	// PublishEvents puts events on their stream, and returns when it holds all of
	// them. Their numbers make a repetition harmless.
	PublishEvents(ctx context.Context, events []uploads.Event) error
}

const eventBatch = 200

// relayEvents publishes what the outbox holds. Events are removed once they
// are on the stream, so a crash publishes some of them again under the same id.
func (d *Dispatcher) relayEvents(ctx context.Context) error {
	for {
		n, err := d.store.TakeEvents(ctx, eventBatch, func(events []uploads.Event) error {
			return d.queue.PublishEvents(ctx, events)
		})
		if err != nil {
			return err
		}
		if n < eventBatch {
			return nil
		}
	}
}

// live is what workers say of themselves once a second: kept in memory only,
// and never decided by.
type live struct {
	mu      sync.Mutex
	workers map[string]uploads.WorkerStatus
	flowing flowing
	moved   map[runKey]movedBytes
	pruned  time.Time // when moved was last looked through
}

// runKey is one run in a worker's hand, by its first part; 0 for a digest pass.
type runKey struct {
	upload uploads.ID
	first  int
}

// movedBytes is how far it has come, when it last came further, and when it was
// last heard of.
type movedBytes struct {
	bytes     int64
	at, heard time.Time
}

// movedKept is how long is remembered what nobody speaks of any more.
const movedKept = time.Minute

func newLive() *live {
	return &live{
		workers: make(map[string]uploads.WorkerStatus),
		flowing: flowing{hands: make(map[runKey]uploads.PartHand)}, moved: make(map[runKey]movedBytes),
	}
}

func (l *live) fill(u *uploads.Upload) {
	if u.State != uploads.Digesting {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u.DigestedBytes = l.moved[runKey{upload: u.ID}].bytes
}

// NoteMoved keeps how far a worker has come with a run, which begins with part
// first, or with part 0 with a digest pass, and when it last moved bytes of it.
// bytes are those of the delivery so far.
func (d *Dispatcher) NoteMoved(id uploads.ID, first int, bytes int64) {
	l, now := d.live, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.pruned) > movedKept {
		l.pruned = now
		maps.DeleteFunc(l.moved, func(_ runKey, m movedBytes) bool { return now.Sub(m.heard) > movedKept })
	}
	run := runKey{id, first}
	before := l.moved[run]
	after := movedBytes{bytes: bytes, at: before.at, heard: now}
	if bytes > before.bytes { // fewer if it was delivered again
		after.at = now
	}
	l.moved[run] = after
}

// movedAt is when bytes of the upload's parts were last seen to move.
func (l *live) movedAt(id uploads.ID) (at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for run, m := range l.moved {
		if run.upload == id && run.first > 0 && m.at.After(at) {
			at = m.at
		}
	}
	return at
}

const workerSilence = 15 * time.Second // after which a worker is taken for gone

// NoteWorker keeps a worker's heartbeat.
func (d *Dispatcher) NoteWorker(w uploads.WorkerStatus) {
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	// A worker that is new here may have moved the most of it long ago.
	if before, known := d.live.workers[w.ID]; known && w.BytesMoved >= before.BytesMoved {
		d.live.flowing.move(w.SeenAt, w.BytesMoved-before.BytesMoved)
	}
	d.live.workers[w.ID] = w
	for id, other := range d.live.workers {
		if time.Since(other.SeenAt) > workerSilence {
			delete(d.live.workers, id)
		}
	}
}

// Workers returns the workers that were heard of lately.
func (d *Dispatcher) Workers(context.Context) []uploads.WorkerStatus {
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	var out []uploads.WorkerStatus
	for _, w := range d.live.workers {
		if time.Since(w.SeenAt) <= workerSilence {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b uploads.WorkerStatus) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	return out
}
