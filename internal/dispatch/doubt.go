package dispatch

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

type doubtStore interface {
	Tick(ctx context.Context, seen int64) (mark parts.RecordMark, took bool, err error)
	RecordMark(ctx context.Context) (parts.RecordMark, error)
	HeldSteps(ctx context.Context, steps []uploads.Step) (map[uploads.ID]bool, error)
	Doubt(ctx context.Context, seen int64) (doubted int, took bool, err error)
}

type doubtQueue interface {
	// Told returns the highest tick that the queue was told of the record, 0 for none.
	Told(ctx context.Context, record uuid.UUID) (int64, error)
	// Tell has the queue keep the mark, if it was told of none as high, and returns
	// the highest tick that it was told by someone else before.
	Tell(ctx context.Context, mark parts.RecordMark) (told int64, err error)
}

// A record that was restored from an older backup is right about everything but
// the time since: uploads that it has in mid-way may be finished at the platform.
// So the record counts up before every finishing call, and the queue is told
// each time. Where the queue, or this process, has heard of more than the record
// says, the record has gone back, and every upload on which work is due is in
// doubt: a probe comes before anything else that happens to it.
//
// What the queue was told is a hint, as all that it holds: without it, an
// operator has to say that the record is older (reconcile).

// tellEvery is how often the record counts up while nothing is finished, so that
// a loss is noticed, and said in the log, whatever went on since the backup.
const tellEvery = 10 * time.Second

// AwaitRecord returns when it is known whether the record has gone back in time,
// and if it has, when its uploads are in doubt. Nothing is to be done with the
// record before.
func (d *Dispatcher) AwaitRecord(ctx context.Context) error {
	for failures := 1; ; failures++ {
		err := d.checkRecord(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, untold := errors.AsType[*untoldError](err); untold {
			return nil
		}
		d.log.Warn("waiting to know whether the record is the newest", zap.Error(err))
		pause(ctx, nil, backoff.Delay(failures, 200*time.Millisecond, 5*time.Second))
	}
}

// checkRecord compares the record with what the queue and this process know of
// it, and then counts it up.
func (d *Dispatcher) checkRecord(ctx context.Context) error {
	mark, err := d.store.RecordMark(ctx)
	if err != nil {
		return err
	}
	told, err := d.queue.Told(ctx, mark.Record)
	if err != nil {
		return err
	}
	raise(&d.ticks, told)
	if err := d.tick(ctx); !errors.Is(err, errWentBack) {
		return err
	}
	return d.tick(ctx)
}

// tick counts the record up and tells the queue. If the record turns out to have
// gone back, its uploads are in doubt and the error is errWentBack.
//
// A record that was restored can be counted up, by a process that has not heard
// of what it lost, to a number that the queue was told before. Nobody else is
// ever given that number; and a higher one was in the record before the queue
// was told of it, so it is there now, or the record has gone back.
func (d *Dispatcher) tick(ctx context.Context) error {
	seen := d.ticks.Load()
	mark, took, err := d.store.Tick(ctx, seen)
	if err != nil {
		return err
	}
	if !took {
		return d.wentBack(ctx, seen)
	}
	told, err := d.queue.Tell(ctx, mark)
	if err != nil {
		raise(&d.ticks, mark.Tick)
		return &untoldError{err}
	}
	if told == mark.Tick {
		return d.wentBack(ctx, told+1)
	}
	raise(&d.ticks, max(mark.Tick, told))
	if told < mark.Tick {
		return nil
	}
	if mark, err = d.store.RecordMark(ctx); err != nil || mark.Tick >= told {
		return err
	}
	return d.wentBack(ctx, told)
}

var errWentBack = errors.New("the record has gone back in time")

// untoldError says that the record was counted up and the queue was not told.
type untoldError struct{ err error }

func (e *untoldError) Error() string { return "tell the queue: " + e.err.Error() }
func (e *untoldError) Unwrap() error { return e.err }

// wentBack puts every upload in doubt, unless another process was first.
func (d *Dispatcher) wentBack(ctx context.Context, seen int64) error {
	doubted, took, err := d.store.Doubt(ctx, seen)
	if err != nil {
		return err
	}
	if took {
		d.log.Error("the record has gone back in time, as after a restore from a backup: nothing is begun, fed or finished before the platform has said what it holds; uploads submitted since that backup are not in the record, submit them again under their idempotency keys",
			zap.Int64("seen_tick", seen), zap.Int("uploads_in_doubt", doubted))
		d.probes.wake()
	}
	return errWentBack
}

// beforeFinish is between the claim of finishing steps and their calls: the
// record's count is durable and known to the queue before a call can take effect.
// It returns the steps that may go on. Leases are looked at last: another process
// may have found meanwhile that the record has gone back. A queue that is away, or
// refuses to keep the mark, costs the hint, not the call.
func (d *Dispatcher) beforeFinish(ctx context.Context, steps []uploads.Step) (held map[uploads.ID]bool, err error) {
	err = d.tick(ctx)
	if _, ok := errors.AsType[*untoldError](err); ok && ctx.Err() == nil {
		d.log.Warn("the queue is not told of a finishing call", zap.Error(err))
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return d.store.HeldSteps(ctx, steps)
}

// newest fails if the record is behind what this process knows of it. It is
// between the claim of steps and their calls where these finish nothing.
func (d *Dispatcher) newest(ctx context.Context) error {
	seen := d.ticks.Load()
	mark, err := d.store.RecordMark(ctx)
	if err == nil && mark.Tick < seen {
		err = d.wentBack(ctx, seen)
	}
	return err
}

// raise sets v to at least n.
func raise(v *atomic.Int64, n int64) {
	for {
		have := v.Load()
		if have >= n || v.CompareAndSwap(have, n) {
			return
		}
	}
}
