package service

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"mediaferry/internal/build"
	"mediaferry/internal/config"
	"mediaferry/internal/jobs"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/telemetry"
	"mediaferry/internal/transfer"
)

const heartbeatEvery = 2 * time.Second

// RunWorker runs the data process until ctx ends: then it takes no new jobs,
// finishes the parts in hand within the grace period of the configuration, hands
// the rest of their runs back at once, and returns. It waits for NATS and
// staging in any order.
func RunWorker(ctx context.Context, cfg config.Worker, known map[string]providers.Provider, log *zap.Logger) (err error) {
	log = log.With(zap.String("worker", cfg.ID))
	warn(cfg.Warnings, log)
	tracer, err := openTracer(ctx, cfg.Tracing, "mediaferry-worker", cfg.ID, log)
	if err != nil {
		return err
	}
	defer closeTracer(ctx, tracer, log)
	if fit := slotsWithin(cfg.Slots, openFiles()); fit < cfg.Slots {
		log.Warn("fewer slots than configured, for want of open files; raise the limit (ulimit -n) or lower slots",
			zap.Int("slots", fit), zap.Int("configured", cfg.Slots), zap.Int("files_needed", filesFor(cfg.Slots)))
		cfg.Slots = fit
	}
	watch := telemetry.NewWorker(tracer)
	stopMetrics, err := serveMetrics(ctx, cfg.Metrics.Listen, watch.Registry, log.Named("metrics"))
	if err != nil {
		return err
	}
	defer stopMetrics()
	var reached atomic.Pointer[jobs.Conn] // once what a worker needs is there
	stopHealth, err := serveHealth(ctx, cfg.Health.Listen, log.Named("health"), func(asked context.Context) error {
		conn := reached.Load()
		switch {
		case ctx.Err() != nil:
			return errStopping
		case conn == nil:
			return errStarting
		}
		return conn.Ready(asked)
	})
	if err != nil {
		return err
	}
	defer stopHealth()
	bucket, err := reachStaging(ctx, cfg.Staging, log)
	if err != nil {
		return err
	}
	defer bucket.Close()
	conn, err := connect(ctx, cfg.NATS, "mediaferry-worker-"+cfg.ID, "worker", 0, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(ctx, conn)) }()

	w := transfer.New(transfer.Config{ID: cfg.ID, Slots: cfg.Slots, StallTimeout: cfg.StallTimeout}, log,
		assigner{conn: conn, worker: cfg.ID}, watch.Source(bucket), watch.Reporter(conn), progress{conn: conn}, watch.Providers(known))
	watch.Ask(w.Stats)
	stop, err := conn.SubscribeCancels(w.Cancel)
	if err != nil {
		return err
	}
	defer stop()
	runner := &jobs.Runner{
		Conn: conn, Pool: cfg.Pool, Slots: cfg.Slots, Handle: watch.Handle(w.Handle),
		StopGrace: max(cfg.StopGrace, time.Nanosecond), // none is not the runner's default
		Worker:    cfg.ID, Log: log.Named("runner"),
	}
	reached.Store(conn)
	log.Info("worker is ready", zap.String("pool", cfg.Pool), zap.Int("slots", cfg.Slots))

	defer context.AfterFunc(ctx, w.Stop)()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return runner.Run(ctx) })
	g.Go(func() error {
		beat(ctx, conn, func() jobs.Worker {
			return jobs.Worker{
				ID: cfg.ID, Pool: cfg.Pool, Slots: cfg.Slots, Busy: runner.Busy(), BytesMoved: w.Stats().SentBytes, Version: build.Version(),
			}
		})
		return nil
	})
	return g.Wait()
}

// beat publishes a heartbeat of what the worker is every heartbeatEvery, until
// ctx ends. One that is lost is replaced by the next.
func beat(ctx context.Context, conn *jobs.Conn, worker func() jobs.Worker) {
	started := time.Now()
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		w := worker()
		w.Started, w.At = started, time.Now()
		_ = conn.PublishHeartbeat(w)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// assigner is jobs.Conn as transfer wants it.
type assigner struct {
	conn   *jobs.Conn
	worker string
}

func (a assigner) AskAssignment(ctx context.Context, job parts.Job, redelivered bool) (parts.Assignment, error) {
	out, err := a.conn.AskAssignment(ctx, jobs.AssignmentRequest{
		Upload: job.Upload, Account: job.Account, Epoch: job.Epoch, Run: job.Run, Digest: job.IsDigest(),
		Redelivered: redelivered, Worker: a.worker,
	})
	if errors.Is(err, jobs.ErrStale) {
		return out, transfer.ErrStale
	}
	return out, err
}

// progress is jobs.Conn as transfer wants it.
type progress struct{ conn *jobs.Conn }

func (p progress) Progress(t transfer.Progress) {
	// Core NATS: whoever does not listen now misses it, and nothing depends on it.
	_ = p.conn.PublishLive(jobs.Live{
		Upload: t.Job.Upload, Account: t.Job.Account, Worker: t.Worker, Stage: string(t.Stage), Run: t.Job.Run,
		Bytes: t.Bytes, Total: t.Total, At: time.Now(),
	})
}
