package dispatch

import (
	"context"
	"fmt"
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
	// PublishEvent puts an event on its stream; id makes a repetition harmless.
	PublishEvent(ctx context.Context, tenant, typ, id string, payload []byte) error
}

const eventBatch = 200

// relayEvents publishes what the outbox holds. Events are removed once they
// are on the stream, so a crash publishes some of them again under the same id.
func (d *Dispatcher) relayEvents(ctx context.Context) error {
	for {
		n, err := d.store.TakeEvents(ctx, eventBatch, func(events []uploads.Event) error {
			for _, e := range events {
				if err := d.queue.PublishEvent(ctx, e.Tenant, e.Type, fmt.Sprintf("outbox-%d", e.Number), e.Payload); err != nil {
					return err
				}
			}
			return nil
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
	mu       sync.Mutex
	digested map[uploads.ID]int64
	workers  map[string]uploads.WorkerStatus
	flowing  flowing
	moved    map[movedRun]movedBytes
	pruned   time.Time
}

// movedRun is one run in a worker's hand.
type movedRun struct {
	upload uploads.ID
	first  int
}

// movedBytes is how far it has come, and when it last came further.
type movedBytes struct {
	bytes int64
	at    time.Time
}

// movedKept is how long what moved is remembered.
const movedKept = time.Minute

func newLive() *live {
	return &live{
		digested: make(map[uploads.ID]int64), workers: make(map[string]uploads.WorkerStatus),
		flowing: flowing{hands: make(map[handKey]uploads.PartHand)}, moved: make(map[movedRun]movedBytes),
	}
}

func (l *live) fill(u *uploads.Upload) {
	if u.State != uploads.Digesting {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u.DigestedBytes = l.digested[u.ID]
}

func (l *live) forget(id uploads.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.digested, id)
}

// NoteDigested keeps how far a digest pass has come, for those who watch.
func (d *Dispatcher) NoteDigested(id uploads.ID, bytes int64) {
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	d.live.digested[id] = bytes
}

// NoteMoved keeps when a worker last moved bytes of a run, which begins with part
// first. bytes are those of the delivery so far.
func (d *Dispatcher) NoteMoved(id uploads.ID, first int, bytes int64) {
	l, now := d.live, time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.pruned) > movedKept {
		l.pruned = now
		maps.DeleteFunc(l.moved, func(_ movedRun, m movedBytes) bool { return now.Sub(m.at) > movedKept })
	}
	run := movedRun{id, first}
	if before := l.moved[run]; bytes > before.bytes {
		l.moved[run] = movedBytes{bytes, now}
	} else if bytes < before.bytes { // delivered again
		l.moved[run] = movedBytes{bytes, before.at}
	}
}

// movedAt is when bytes of the upload were last seen to move.
func (l *live) movedAt(id uploads.ID) (at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for run, m := range l.moved {
		if run.upload == id && m.at.After(at) {
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
