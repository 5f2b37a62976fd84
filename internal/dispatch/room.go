package dispatch

import (
	"context"
	"errors"
	"sync/atomic"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// roomQueue is the queue, and notes whether it has room for what it is given.
// While it has none, intake is closed: what is accepted could not be worked on,
// and the uploads that are there need the room first. Nothing is lost by a full
// queue, since the record has all that is to go on it.
type roomQueue struct {
	Queue

	full atomic.Pointer[uploads.UnavailableError] // of the last that was put on it; nil if it took that
}

// closed returns why no submissions are taken, or nil.
func (q *roomQueue) closed() error {
	if full := q.full.Load(); full != nil {
		return full //nolint:wrapcheck // a problem of our own, kept there
	}
	return nil
}

func (q *roomQueue) note(err error) {
	if err == nil {
		q.full.Store(nil)
	} else if full, ok := errors.AsType[*uploads.UnavailableError](err); ok && full.Full {
		q.full.Store(full)
	}
}

// Publish puts jobs on the queue.
func (q *roomQueue) Publish(ctx context.Context, jobs []parts.Publication) error {
	err := q.Queue.Publish(ctx, jobs)
	q.note(err)
	return err
}

// PublishEvents puts events on their stream.
func (q *roomQueue) PublishEvents(ctx context.Context, events []uploads.Event) error {
	err := q.Queue.PublishEvents(ctx, events)
	q.note(err)
	return err
}

// Tell has the queue keep the mark. It is called every few seconds, and so finds
// that there is room again.
func (q *roomQueue) Tell(ctx context.Context, mark parts.RecordMark) (int64, error) {
	told, err := q.Queue.Tell(ctx, mark)
	q.note(err)
	return told, err
}
