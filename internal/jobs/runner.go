package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
)

// ErrStopping is the cause of a job's cancelled context when the worker stops
// and its grace period is over. Work cut short by it is settled with
// parts.Release: no attempt is counted (invariant 10).
var ErrStopping = errors.New("the worker is stopping")

const (
	defaultStopGrace  = 20 * time.Second
	defaultAliveGrace = 30 * time.Second

	minRetryDelay = 100 * time.Millisecond // a delay of nothing would be a Release
	panicDelay    = 10 * time.Second
)

// Runner takes jobs of one pool off the queue and has them handled, one per
// slot. The fields are set before Run and not changed after.
type Runner struct {
	Conn  *Conn
	Pool  string
	Slots int // at least 1

	// Handle does a job and says how the delivery is to be settled. delivery
	// counts from 1. alive is called whenever bytes have moved, by any
	// goroutine; it costs next to nothing. The context ends with cause
	// ErrStopping once the worker has stopped and StopGrace is over.
	Handle func(ctx context.Context, job parts.Job, delivery int, alive func()) parts.Settlement

	// StopGrace is how long jobs in hand may go on after a stop; 0 means 20
	// seconds.
	StopGrace time.Duration
	// AliveGrace is how long a job is kept from other workers without a call of
	// alive: platforms may take their time to answer after the last byte. 0
	// means 30 seconds.
	AliveGrace time.Duration

	// Worker names the worker where a message is set aside.
	Worker string

	Log *zap.Logger

	busy  atomic.Int32
	state condition // of the pool's consumer, as all slots see it
}

// Busy returns how many slots have a job in hand.
func (r *Runner) Busy() int { return int(r.busy.Load()) }

// Run works until ctx ends, which means stop: no new work is taken, jobs in
// hand go on for StopGrace and are then cancelled with ErrStopping. It returns
// when every slot has settled its job, with an error only if it could not have
// worked at all or the connection was closed under it.
func (r *Runner) Run(ctx context.Context) error {
	if err := checkTokens(r.Pool); err != nil {
		return err
	}
	r.state.log = r.Log
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx)) // outlives the stop by the grace period
	defer cancel(nil)
	ended := make(chan struct{})
	var graceful sync.WaitGroup
	graceful.Go(func() {
		select {
		case <-ctx.Done():
		case <-ended:
			return
		}
		grace := time.NewTimer(orDefault(r.StopGrace, defaultStopGrace))
		defer grace.Stop()
		select {
		case <-grace.C:
			cancel(ErrStopping)
		case <-ended:
		}
	})

	errs := make([]error, r.Slots)
	var slots sync.WaitGroup
	for i := range r.Slots {
		slots.Go(func() { errs[i] = r.slot(ctx, work) })
	}
	slots.Wait()
	close(ended)
	graceful.Wait()
	return errors.Join(errs...)
}

// slot takes one job at a time until stop ends.
func (r *Runner) slot(stop, work context.Context) error {
	p := puller{conn: r.Conn, stream: streamJobs, consumer: r.Pool}
	defer p.close()
	var ackWait time.Duration // 0 while the consumer is yet to be found
	for failures := 0; stop.Err() == nil; {
		if ackWait == 0 {
			ackWait = r.findConsumer(stop)
			continue
		}
		msg, err := p.pull(stop)
		switch {
		case errors.Is(err, nats.ErrConnectionClosed):
			return err
		case err != nil:
			r.Log.Debug("no job", zap.Error(err))
			ackWait = 0
			if failures > 0 { // the first failure is looked into at once
				backoff.Pause(stop, delay(failures))
			}
			failures++
		case msg != nil:
			failures = 0
			r.deliver(work, msg, ackWait)
		default:
			failures = 0
		}
	}
	return nil
}

// findConsumer returns the AckWait of the pool's consumer. It creates a consumer
// that is missing, and while it can not, since NATS or the stream is away, it
// tries again until stop ends, and then returns 0. The stream is the
// dispatchers' to create.
func (r *Runner) findConsumer(stop context.Context) time.Duration {
	for failures := 0; ; failures++ {
		consumer, err := r.Conn.ensureConsumer(stop, streamJobs, r.Conn.poolConsumer(r.Pool), false)
		if err == nil {
			r.state.over("jobs can be had again")
			return consumer.CachedInfo().Config.AckWait
		}
		if stop.Err() != nil {
			return 0
		}
		r.state.is("waiting for stream "+streamJobs+" to serve pool "+r.Pool, err)
		backoff.Pause(stop, delay(failures))
	}
}

// deliver has one message handled and settles it.
func (r *Runner) deliver(ctx context.Context, msg *nats.Msg, ackWait time.Duration) {
	r.busy.Add(1)
	defer r.busy.Add(-1)
	job, delivery, err := decodeJob(msg)
	if err != nil {
		r.setAside(ctx, msg, err)
		return
	}
	log := r.Log.With(zap.Stringer("upload", job.Upload), zap.String("account", job.Account), zap.Int("epoch", job.Epoch),
		zap.Int("part", job.Run.First), zap.Int("parts", job.Run.Count), zap.Int("delivery", delivery))
	started := time.Now()

	var lastAlive atomic.Int64 // since started
	alive := func() { lastAlive.Store(int64(time.Since(started))) }
	// A timer and no goroutine: most jobs are done before it is due.
	var keeping sync.Mutex
	var handled bool // guarded by keeping, and so is the timer
	var keeper *time.Timer
	every := max(ackWait/3, time.Millisecond)
	keep := func() {
		keeping.Lock()
		defer keeping.Unlock()
		if handled {
			return
		}
		// A job that is stuck is left to run out of AckWait: another worker
		// gets it, while this one's watchdog ends the attempt here.
		if time.Since(started)-time.Duration(lastAlive.Load()) <= orDefault(r.AliveGrace, defaultAliveGrace) {
			if err := r.Conn.inProgress(msg); err != nil {
				log.Debug("job not kept", zap.Error(err))
			}
		}
		keeper.Reset(every)
	}
	keeping.Lock()
	keeper = time.AfterFunc(every, keep)
	keeping.Unlock()
	settlement := r.handle(ctx, job, delivery, alive, log)
	keeping.Lock() // an InProgress after the settlement would be a lie
	handled = true
	keeper.Stop()
	keeping.Unlock()

	log = log.With(zap.Duration("took", time.Since(started)))
	switch settlement.Verdict {
	case parts.Done:
		err = r.Conn.ack(msg)
		log.Debug("job done")
	case parts.Retry:
		wait := max(settlement.Delay, minRetryDelay)
		err = r.Conn.retry(msg, wait)
		log.Info("job will be tried again", zap.Duration("in", wait))
	case parts.Release:
		r.Conn.release(msg)
		log.Info("job released")
	}
	if err != nil {
		log.Debug("job not settled", zap.Error(err))
	}
}

// setAside hands a message that is no job to the dispatchers, and takes it off the
// queue when they will have it.
func (r *Runner) setAside(ctx context.Context, msg *nats.Msg, reason error) {
	log := r.Log.With(zap.String("subject", msg.Subject), zap.NamedError("reason", reason))
	err := r.Conn.reportAside(ctx, r.Pool, r.Worker, msg, reason.Error())
	if err != nil {
		log.Warn("a message that is no job is not handed on yet", zap.Duration("again_in", asideAgainIn), zap.Error(err))
		err = r.Conn.retry(msg, asideAgainIn)
	} else {
		log.Error("set aside a message that is no job")
		err = r.Conn.terminate(msg, "set aside")
	}
	if err != nil {
		log.Debug("message not settled", zap.Error(err))
	}
}

// handle calls Handle and turns a panic into a Retry: one job must not take
// down those in the other slots.
func (r *Runner) handle(ctx context.Context, job parts.Job, delivery int, alive func(), log *zap.Logger) (s parts.Settlement) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("handling a job panicked", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			s = parts.Settlement{Verdict: parts.Retry, Delay: panicDelay}
		}
	}()
	return r.Handle(ctx, job, delivery, alive)
}

// decodeJob returns the job and the number of its delivery. Held and Withdraw
// go by subjects, so a job whose subject is another's is none.
func decodeJob(msg *nats.Msg) (parts.Job, int, error) {
	var job parts.Job
	if err := json.Unmarshal(msg.Data, &job); err != nil {
		return parts.Job{}, 0, fmt.Errorf("decode job: %w", err)
	}
	subject, err := jobSubject(job)
	if err != nil {
		return parts.Job{}, 0, err
	}
	if subject != msg.Subject {
		return parts.Job{}, 0, errors.New("the job is not what its subject says")
	}
	meta, err := msg.Metadata()
	if err != nil {
		return parts.Job{}, 0, fmt.Errorf("read the delivery of a job: %w", err)
	}
	job.Trace = msg.Header.Get(headerTrace)
	return job, int(meta.NumDelivered), nil //nolint:gosec // a small count
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
