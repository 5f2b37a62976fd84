package transfer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
)

const (
	watchInterval = 100 * time.Millisecond // also the least time between two calls of alive
	liveInterval  = time.Second

	reportTimeout = 10 * time.Second // for one report to be confirmed
	// reportGrace is how long a stop waits for acks of finished parts, so that
	// their bytes are not sent again.
	reportGrace = 5 * time.Second

	retryPause = 200 * time.Millisecond // before the one retry within a delivery
)

// errStalled is the cause of an attempt that moved no byte for StallTimeout, or
// hardly any for much longer.
var errStalled = errors.New("stalled")

// Bytes that trickle keep a job from being stalled, and for ever: within
// trickleTimeouts stall timeouts a job moves leastRate on the average.
const (
	trickleTimeouts = 10
	leastRate       = 1 << 10 // bytes per second
)

// hand is one job in hand.
type hand struct {
	*Worker
	job      parts.Job
	delivery int
	alive    func()
	cancel   context.CancelCauseFunc
	slot     *slot
	taken    int64  // counts the worker's jobs; set when the job is registered
	platform string // known once there is an assignment
	left     bool   // parts of the run are left to another worker

	stage atomic.Value // Stage
	total atomic.Int64 // bytes to read
	read  atomic.Int64 // bytes read from staging; set back when some must be read again
	pulse atomic.Int64 // other signs of life: held bytes taken, steps done
	moved atomic.Int64 // when the last sign of life was seen, in ns since 1970; 0 before it is watched
}

// leave reports whether the worker is stopping, so that no further part is begun.
func (h *hand) leave() bool {
	if h.stopping.Load() {
		h.left = true
	}
	return h.left
}

func (h *hand) enter(s Stage) {
	h.stage.Store(s)
	h.pulse.Add(1)
}

func (h *hand) stageNow() Stage {
	s, _ := h.stage.Load().(Stage)
	return s
}

// signs changes whenever something moves.
func (h *hand) signs() int64 { return h.read.Load() + h.pulse.Load() }

// crowding divides the stall timeout: a job gives way after a third of it.
const crowding = 3

// crowds reports whether a job that does not move should give way early: every
// slot is taken, and another job of its account has stood still for longer. So a
// platform that hangs does not keep all slots from other accounts for the whole
// timeout; one of its jobs waits on.
func (h *hand) crowds() bool {
	if len(h.slots) > 0 {
		return false
	}
	moved := h.moved.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	for other := range h.inHand {
		if other == h || other.job.Account != h.job.Account || other.stageNow() != StageSending {
			continue
		}
		// Of jobs that stopped at the same moment, the first that was taken stays.
		if at := other.moved.Load(); at != 0 && (at < moved || at == moved && other.taken < h.taken) {
			return true
		}
	}
	return false
}

// watch shows progress, calls alive while bytes move, and ends the work with
// errStalled when none do. It does not watch the wait for reports, which have
// their own timeout. It goes on until work is done or end is called; end waits for
// a look that is under way. A timer takes the looks, not a goroutine: most jobs of
// small objects are done before the first one.
func (h *hand) watch(work context.Context, stop context.CancelCauseFunc) (end func()) {
	began := time.Now()
	h.moved.Store(began.UnixNano())
	w := &watch{h: h, done: work.Err, stop: stop, seen: h.signs(), moved: began, shown: began, since: began, had: h.signs()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(watchInterval, w.look)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
		w.timer.Stop()
	}
}

// watch is the state of watching one job in hand.
type watch struct {
	h    *hand
	done func() error // not nil once the work is done
	stop context.CancelCauseFunc

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	ended bool
	seen  int64     // signs at the last look
	moved time.Time // when they last changed
	shown time.Time // when progress was shown
	since time.Time // from when the bytes are counted that trickle
	had   int64     // signs at that time
}

// trickles reports whether hardly a byte moved for so long that it will not end.
func (w *watch) trickles(now time.Time, stage Stage) bool {
	counted := now.Sub(w.since)
	if stage == StageReporting || counted < trickleTimeouts*w.h.stallTimeout {
		return false
	}
	slow := w.seen-w.had < int64(counted/time.Second)*leastRate
	w.since, w.had = now, w.seen
	return slow
}

func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || w.done() != nil {
		return
	}
	h, now, stage := w.h, time.Now(), w.h.stageNow()
	if n := h.signs(); n != w.seen {
		w.seen, w.moved = n, now
		h.moved.Store(now.UnixNano())
		h.alive()
	} else if stage == StageReporting {
		w.moved = now
	} else if still := now.Sub(w.moved); still >= h.stallTimeout ||
		stage == StageSending && still >= h.stallTimeout/crowding && h.crowds() {
		w.stop(fmt.Errorf("%w: no byte moved for %s while %s", errStalled, still.Truncate(time.Second), stage))
	}
	if since := w.since; w.trickles(now, stage) {
		w.stop(fmt.Errorf("%w: less than %d bytes a second moved for %s while %s", errStalled, leastRate, now.Sub(since).Truncate(time.Second), stage))
	}
	if now.Sub(w.shown) >= liveInterval {
		w.shown = now
		h.live.Progress(Progress{
			Job: h.job, Worker: h.id, Delivery: h.delivery, Stage: stage,
			Bytes: h.read.Load(), Total: h.total.Load(),
		})
	}
	w.timer.Reset(watchInterval)
}

// report sends one report and waits for its confirmation, with one retry.
func (h *hand) report(ctx context.Context, acks []parts.Ack, failure *parts.Failure, digested *parts.Digested) error {
	r := h.reportOf()
	r.Acks, r.Failure, r.Digested = acks, failure, digested
	return h.deliver(ctx, r)
}

// noteMended reports a try whose digests did not agree, before the part is sent
// once more. If the report fails, the try is missing from the record and the part
// is sent all the same.
func (h *hand) noteMended(ctx context.Context, f *parts.Failure) {
	if f.Stage == "" {
		return
	}
	h.enter(StageReporting)
	defer h.enter(StageSending)
	r := h.reportOf()
	r.Mended = []parts.Failure{*f}
	if err := h.deliver(ctx, r); err != nil && ctx.Err() == nil {
		h.logger().Warn("mismatch is not recorded", zap.String("stage", string(f.Stage)), zap.Error(err))
	}
}

func (h *hand) reportOf() parts.Report {
	return parts.Report{
		Upload: h.job.Upload, Account: h.job.Account, Epoch: h.job.Epoch, Worker: h.id, Delivery: h.delivery,
	}
}

// deliver sends a report and waits for its confirmation, with one retry.
func (h *hand) deliver(ctx context.Context, r parts.Report) error {
	try := func() error {
		ctx, cancel := context.WithTimeout(ctx, reportTimeout)
		defer cancel()
		return h.reporter.Report(ctx, r)
	}
	err := try()
	if err != nil && backoff.Pause(ctx, jitter(retryPause)) {
		err = try()
	}
	if err != nil {
		return fmt.Errorf("report on %s: %w", h.job.Upload, err)
	}
	return nil
}

// handBack settles a job whose work failed, after the parts that did arrive were
// reported. If another delivery may help, it asks for one; else it reports the
// failure to the dispatcher, which owns any longer delay.
func (h *hand) handBack(ctx context.Context, f *parts.Failure) parts.Settlement {
	c := courseOf(f)
	if c.forget {
		h.assignments.forget(func(k assignmentKey) bool { return k == keyOf(h.job) })
	}
	h.logger().Info("attempt failed", zap.Int("part", f.Part), zap.String("kind", f.Kind), zap.String("stage", string(f.Stage)),
		zap.String("code", f.Code), zap.String("message", f.Message))
	if c.redeliver && h.delivery < maxDeliveries {
		return again(h.delivery)
	}
	if err := h.report(ctx, nil, f, nil); err != nil {
		return h.unreported(ctx, err)
	}
	return parts.Settlement{Verdict: parts.Done}
}

// unreported settles a job that has a report which was not confirmed.
func (h *hand) unreported(ctx context.Context, err error) parts.Settlement {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	h.logger().Warn("report is not confirmed", zap.Error(err))
	return again(h.delivery)
}

// unassigned settles a job for which there is no assignment.
func (h *hand) unassigned(ctx context.Context, err error) parts.Settlement {
	switch {
	case errors.Is(err, ErrStale):
		return parts.Settlement{Verdict: parts.Done}
	case errors.Is(err, errUnusable):
		return h.handBack(ctx, unfit(providers.Transient, h.job.Run.First, err))
	case ctx.Err() != nil:
		return interrupted(ctx)
	default:
		// The dispatcher does not answer, so there is nobody to report a failure to;
		// the queue keeps the job for as long as it takes.
		h.logger().Warn("no assignment", zap.Error(err))
		return again(h.delivery)
	}
}

func (h *hand) logger() *zap.Logger {
	return h.log.With(zap.Stringer("upload", h.job.Upload), zap.Int("epoch", h.job.Epoch),
		zap.String("account", h.job.Account), zap.String("provider", h.platform),
		zap.Int("delivery", h.delivery))
}

// interrupted settles a job whose context is cancelled.
func interrupted(ctx context.Context) parts.Settlement {
	if errors.Is(context.Cause(ctx), ErrCancelled) {
		return parts.Settlement{Verdict: parts.Done}
	}
	return parts.Settlement{Verdict: parts.Release}
}

// again asks for another delivery after 1 s, 4 s, then 16 s.
func again(delivery int) parts.Settlement {
	delay := time.Second << (2 * (min(delivery, maxDeliveries) - 1))
	return parts.Settlement{Verdict: parts.Retry, Delay: jitter(delay)}
}

// jitter returns d give or take a quarter, so that jobs that failed together
// do not come back together.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2) //nolint:gosec // spreads load, guards nothing
}

// outlive returns a context for reports of finished work, which ends reportGrace
// after ctx. That holds after a cancellation too, since a paused upload goes on
// later.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		time.AfterFunc(reportGrace, func() { cancel(context.Cause(ctx)) })
	})
	return out, func() {
		unhook()
		cancel(nil)
	}
}
