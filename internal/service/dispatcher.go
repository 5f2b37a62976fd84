package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"mediaferry/internal/api"
	"mediaferry/internal/backoff"
	"mediaferry/internal/config"
	"mediaferry/internal/dispatch"
	"mediaferry/internal/jobs"
	"mediaferry/internal/notifications"
	"mediaferry/internal/parts"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/sealing"
	"mediaferry/internal/telemetry"
	"mediaferry/internal/uploads"
	"mediaferry/internal/webhooks"
)

// RunDispatcher runs the control process until ctx ends. It waits for Postgres,
// NATS and staging in any order, brings the database up to date, and calls
// ready with the address of the API once it takes submissions.
func RunDispatcher(ctx context.Context, cfg config.Dispatcher, known map[string]providers.Provider, log *zap.Logger, ready func(addr string)) (err error) {
	warn(cfg.Warnings, log)
	tracer, err := openTracer(ctx, cfg.Tracing, "mediaferry-dispatcher", instance(), log)
	if err != nil {
		return err
	}
	defer closeTracer(ctx, tracer, log)
	watch := telemetry.NewDispatcher(providersOf(cfg.Accounts), tracer)
	stopMetrics, err := serveMetrics(ctx, cfg.Metrics.Listen, watch.Registry, log.Named("metrics"))
	if err != nil {
		return err
	}
	defer stopMetrics()
	sealer, err := sealing.New(cfg.SealKey.Reveal(), cfg.OldSealKeyTexts()...)
	if err != nil {
		return fmt.Errorf("seal_key: %w", err)
	}
	log.Info("upstream sessions are sealed", zap.String("key_id", sealer.KeyID()))
	presign, err := presignOf(cfg)
	if err != nil {
		return err
	}
	store, err := postgres.Open(ctx, cfg.Postgres.DSN.Reveal(), cfg.Postgres.MaxConns, log)
	if err != nil {
		return err
	}
	defer store.Close()
	store.Watch(watch.Statement)
	if _, err := postgres.MigrateUp(ctx, cfg.Postgres.DSN.Reveal()); err != nil {
		return err
	}
	bucket, err := reachStaging(ctx, cfg.Staging, log)
	if err != nil {
		return err
	}
	defer bucket.Close()
	conn, err := connect(ctx, cfg.NATS, "mediaferry-dispatcher", "dispatcher", cfg.StreamReplicas, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(ctx, conn)) }()
	guard := guardedTransport()
	defer guard.CloseIdleConnections()

	d := dispatcher{
		cfg: cfg, log: log, watch: watch, store: store, conn: conn,
		dispatch: dispatch.New(dispatch.Config{SweepInterval: cfg.SweepInterval, StopGrace: cfg.StopGrace, Watcher: watch, Presign: presign},
			watch.Store(store), watch.Queue(queue{conn}), bucket, sealer, watch.Providers(known), accountsOf(cfg.Accounts), log),
		hooks: webhooks.New(endpointsOf(cfg.Webhooks), store, guard, log),
	}
	return d.run(ctx, ready)
}

// dispatcher is the control process once it reaches what it needs.
type dispatcher struct {
	cfg      config.Dispatcher
	log      *zap.Logger
	watch    *telemetry.Dispatcher
	store    *postgres.Store
	conn     *jobs.Conn
	dispatch *dispatch.Dispatcher
	hooks    *webhooks.Webhooks
}

// run makes record and queue ready for what is configured, and then does all
// that a dispatcher does until ctx ends.
func (d *dispatcher) run(ctx context.Context, ready func(addr string)) error {
	d.watch.Ask(telemetry.Sources{
		Accounts: d.dispatch.Accounts, Standing: d.store.Standing, Workers: d.dispatch.Workers, Connections: d.store.Connections,
		Streams: func(ctx context.Context) ([]telemetry.Stream, error) { return depths(ctx, d.conn) },
	})
	if err := d.hooks.Announce(ctx); err != nil {
		return err
	}
	if err := d.store.SetWindowLimits(ctx, windowsOf(d.cfg.Accounts)); err != nil {
		return err
	}
	stop, err := listen(d.conn, d.dispatch)
	if err != nil {
		return err
	}
	defer stop()
	// Before anybody is told that we are ready: what is published to a stream that
	// is not there is gone.
	if err := awaitStreams(ctx, d.conn, d.log); err != nil {
		return err
	}
	if err := d.dispatch.AwaitRecord(ctx); err != nil {
		return err
	}
	listener, err := listenAPI(ctx, d.cfg.API, d.log)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.dispatch.Run(ctx) })
	g.Go(func() error { d.hooks.Run(ctx); return nil })
	d.consume(ctx, g)
	d.serve(ctx, g, listener)
	d.log.Info("dispatcher is ready", zap.Stringer("api", listener.Addr()), zap.Int("accounts", len(d.cfg.Accounts)))
	if ready != nil {
		ready(listener.Addr().String())
	}
	return g.Wait()
}

// consume has the group keep the streams, and take what comes over NATS, until
// ctx ends.
func (d *dispatcher) consume(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { d.conn.Maintain(ctx, poolsOf(d.cfg.Accounts), d.dispatch.NoteMarks); return nil })
	g.Go(func() error { return d.conn.ConsumeReports(ctx, d.dispatch.HandleReports, d.dispatch.SetAside) })
	g.Go(func() error {
		return d.conn.ServeAssignments(ctx, func(ctx context.Context, requests []jobs.AssignmentRequest) []jobs.Answer {
			return assign(ctx, d.dispatch, requests)
		})
	})
	g.Go(func() error {
		return d.conn.ConsumeSubmissions(ctx, func(ctx context.Context, tenant, id string, at time.Time, payload []byte) ([]byte, error) {
			reply, err := api.SubmitMessage(ctx, d.dispatch, tenant, id, at, payload)
			if reply != nil {
				d.log.Info("submission by NATS", zap.String("tenant", tenant), zap.ByteString("reply", reply))
			}
			return reply, err
		}, d.dispatch.SetAside)
	})
	if rules := rulesOf(d.cfg); len(rules) > 0 {
		// Without rules messages are left for dispatchers that have some.
		n := notifications.New(rules, d.dispatch, d.watch.Notification, d.log)
		g.Go(func() error { return d.conn.ConsumeNotifications(ctx, n.Take, d.dispatch.SetAside) })
	}
}

// serve has the group answer the API until ctx ends: then requests in hand are
// answered, for StopGrace at most, and new ones are refused at once.
func (d *dispatcher) serve(ctx context.Context, g *errgroup.Group, listener net.Listener) {
	guarding := api.Guarding{Tokens: d.store, Open: d.cfg.API.Auth == config.AuthNone}
	server := api.NewServer(useCases{d.dispatch, d.hooks}, guarding, func(asked context.Context) error {
		if ctx.Err() != nil {
			return errStopping
		}
		return errors.Join(d.store.Ping(asked), d.conn.Ready(asked))
	}, d.log)
	g.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the API: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.StopGrace)
		defer cancel()
		if err := server.Shutdown(stopCtx); err != nil {
			return fmt.Errorf("stop the API: %w", err)
		}
		return nil
	})
}

// accountsOf is the configured accounts as dispatch takes them.
func accountsOf(configured []config.Account) []dispatch.Account {
	accounts := make([]dispatch.Account, len(configured))
	for i, a := range configured {
		accounts[i] = dispatch.Account{
			Account: a.ProviderAccount(), Tenant: a.Tenant, Provider: a.Provider, Pool: a.Pool, Window: int64(a.Window),
			Reach:      reachOf(a),
			SourcePass: a.SourceCheck == "pass",
		}
	}
	return accounts
}

// poolsOf returns the pools that serve the accounts, each once, and the default
// one in any case.
func poolsOf(accounts []config.Account) []string {
	pools := []string{"default"}
	for _, a := range accounts {
		if !slices.Contains(pools, a.Pool) {
			pools = append(pools, a.Pool)
		}
	}
	return pools
}

// providersOf returns the provider of each account, by the account's name.
func providersOf(accounts []config.Account) map[string]string {
	by := make(map[string]string, len(accounts))
	for _, a := range accounts {
		by[a.Name] = a.Provider
	}
	return by
}

// windowsOf returns the largest window of each account in bytes, by the
// account's name.
func windowsOf(accounts []config.Account) map[string]int64 {
	by := make(map[string]int64, len(accounts))
	for _, a := range accounts {
		by[a.Name] = int64(a.Window)
	}
	return by
}

// depths is what the streams hold, as telemetry wants it.
func depths(ctx context.Context, conn *jobs.Conn) ([]telemetry.Stream, error) {
	held, err := conn.Depths(ctx)
	streams := make([]telemetry.Stream, len(held))
	for i, h := range held {
		streams[i] = telemetry.Stream{Name: h.Stream, Messages: h.Messages, Bytes: h.Bytes}
	}
	return streams, err
}

// instance tells this process from others of its kind.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "dispatcher" // the process id still tells those of this host apart
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// warn logs what is unwise in the settings.
func warn(warnings []string, log *zap.Logger) {
	for _, w := range warnings {
		log.Warn("settings: " + w)
	}
}

// awaitStreams returns when the streams are there, with a line for each try.
func awaitStreams(ctx context.Context, conn *jobs.Conn, log *zap.Logger) error {
	for {
		err := conn.EnsureStreams(ctx)
		if err == nil {
			return nil
		}
		log.Warn("waiting for the streams of nats", zap.Error(err), zap.Duration("next_try", time.Second))
		if !backoff.Pause(ctx, time.Second) {
			return fmt.Errorf("wait for the streams of nats: %w", context.Cause(ctx))
		}
	}
}

// assign puts workers' requests to dispatch and its answers to jobs.
func assign(ctx context.Context, d *dispatch.Dispatcher, requests []jobs.AssignmentRequest) []jobs.Answer {
	asks := make([]dispatch.Ask, len(requests))
	for i, r := range requests {
		asks[i] = dispatch.Ask{
			Job: parts.Job{Upload: r.Upload, Account: r.Account, Epoch: r.Epoch, Run: r.Run}, Redelivered: r.Redelivered,
		}
	}
	answers := make([]jobs.Answer, len(asks))
	for i, a := range d.Assign(ctx, asks) {
		answers[i] = jobs.Answer(a)
		if errors.Is(a.Err, dispatch.ErrStale) {
			answers[i].Err = jobs.ErrStale
		}
	}
	return answers
}

// listen takes what workers say of themselves.
func listen(conn *jobs.Conn, d *dispatch.Dispatcher) (stop func(), err error) {
	stopHeartbeats, err := conn.SubscribeHeartbeats(func(w jobs.Worker) {
		d.NoteWorker(uploads.WorkerStatus{ID: w.ID, Pool: w.Pool, Slots: w.Slots, Busy: w.Busy, BytesMoved: w.BytesMoved, Version: w.Version, SeenAt: time.Now()})
	})
	if err != nil {
		return nil, err
	}
	stopLive, err := conn.SubscribeLive(uploads.ID{}, func(l jobs.Live) {
		d.NoteMoved(l.Upload, l.Run.First, l.Bytes)
		if l.Run.Count == 0 {
			return // a digest pass has no parts to show
		}
		d.NoteHand(l.Upload, uploads.PartHand{
			First: l.Run.First, Count: l.Run.Count, Worker: l.Worker, Stage: l.Stage, Bytes: l.Bytes, Total: l.Total, At: time.Now(),
		})
	})
	if err != nil {
		stopHeartbeats()
		return nil, err
	}
	return func() { stopHeartbeats(); stopLive() }, nil
}

// queue is jobs.Conn as dispatch wants it.
type queue struct{ *jobs.Conn }

var _ dispatch.Queue = queue{}

func (q queue) Publish(ctx context.Context, publications []parts.Publication) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return q.PublishJobs(ctx, publications)
}

func (q queue) Cancel(id uploads.ID) error { return q.PublishCancel(id) }
