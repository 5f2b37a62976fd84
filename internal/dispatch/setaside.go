package dispatch

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"mediaferry/internal/uploads"
)

type setAsideStore interface {
	SetAside(ctx context.Context, m uploads.SetAside) error
	ListSetAside(ctx context.Context, before int64, limit int) ([]uploads.SetAside, error)
	SetAsideMessage(ctx context.Context, number int64) (uploads.SetAside, error)
	DropSetAside(ctx context.Context, number int64) error
}

type setAsideQueue interface {
	// PutBack publishes the message again; on return its stream has it.
	PutBack(ctx context.Context, m uploads.SetAside) error
}

// SetAside keeps a message that nobody can read, or that is refused for good.
// When it returns nil the message is in the record and may be taken off its
// stream; it may be repeated.
func (d *Dispatcher) SetAside(ctx context.Context, m uploads.SetAside) error {
	if err := d.store.SetAside(ctx, m); err != nil {
		return err
	}
	d.log.Error("set a message aside", zap.String("stream", m.Stream), zap.String("subject", m.Subject), zap.Uint64("seq", m.Seq),
		zap.String("reason", m.Reason), zap.String("worker", m.Worker), zap.Int64("bytes", m.Size))
	return nil
}

// ListSetAside lists messages that were set aside, newest first, without their
// payloads; before is the number of the last one of the page before, 0 for none.
func (d *Dispatcher) ListSetAside(ctx context.Context, before int64, limit int) ([]uploads.SetAside, error) {
	return d.store.ListSetAside(ctx, before, limit)
}

// SetAsideMessage returns one of them, or uploads.ErrNoSetAside.
func (d *Dispatcher) SetAsideMessage(ctx context.Context, number int64) (uploads.SetAside, error) {
	return d.store.SetAsideMessage(ctx, number)
}

// DropSetAside forgets one of them, or fails with uploads.ErrNoSetAside.
func (d *Dispatcher) DropSetAside(ctx context.Context, number int64) error {
	return d.store.DropSetAside(ctx, number)
}

// Replay puts a message back on its stream and forgets it then. A crash between
// the two leaves it in both places; what it asks for is done once in any case,
// as with every redelivery.
func (d *Dispatcher) Replay(ctx context.Context, number int64) error {
	m, err := d.store.SetAsideMessage(ctx, number)
	if err != nil {
		return err
	}
	if !m.Whole() {
		return fmt.Errorf("%w: %d", uploads.ErrNotWhole, number)
	}
	if err := d.queue.PutBack(ctx, m); err != nil {
		return err
	}
	return d.store.DropSetAside(ctx, number)
}
