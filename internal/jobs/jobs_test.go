package jobs

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// natsServer is a real server that can be stopped, stripped of its store, and
// started again on the same port.
type natsServer struct {
	t    testing.TB
	dir  string
	port int
	srv  *server.Server
}

func newServer(tb testing.TB) *natsServer {
	tb.Helper()
	s := &natsServer{t: tb, dir: tb.TempDir(), port: server.RANDOM_PORT}
	s.start()
	tb.Cleanup(s.stop)
	return s
}

func (s *natsServer) start() {
	s.t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: s.port, JetStream: true, StoreDir: s.dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		s.t.Fatal("the server does not start")
	}
	s.srv, s.port = srv, srv.Addr().(*net.TCPAddr).Port
}

func (s *natsServer) stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// wipe restarts the server with an empty store.
func (s *natsServer) wipe() {
	s.t.Helper()
	s.stop()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

func (s *natsServer) url() string { return "nats://127.0.0.1:" + strconv.Itoa(s.port) }

// connect returns a connection of its own, as another process would have it.
func (s *natsServer) connect(cfg Config) *Conn {
	s.t.Helper()
	cfg.URL = s.url()
	c, err := Connect(s.t.Context(), cfg, zap.NewNop())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = c.Close(ctx) // its server may be gone
	})
	return c
}

// setup returns a connection to a server of its own with streams and the pool
// "main".
func setup(tb testing.TB, cfg Config) (*Conn, *natsServer) {
	tb.Helper()
	s := newServer(tb)
	c := s.connect(cfg)
	ensure(tb, c)
	return c, s
}

func ensure(tb testing.TB, c *Conn) {
	tb.Helper()
	if err := c.EnsureStreams(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if err := c.EnsurePool(tb.Context(), "main"); err != nil {
		tb.Fatal(err)
	}
}

func newID(tb testing.TB) uploads.ID {
	tb.Helper()
	id, err := uploads.NewID()
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func partJob(upload uploads.ID, first int) parts.Job {
	return parts.Job{Upload: upload, Account: "acme", Pool: "main", Epoch: 1, Run: parts.Run{First: first, Count: 2}}
}

func publish(tb testing.TB, c *Conn, jobs ...parts.Job) {
	tb.Helper()
	var msgs []parts.Publication
	for _, job := range jobs {
		msgs = append(msgs, parts.Publication{Job: job, Feed: 1})
	}
	if err := c.PublishJobs(tb.Context(), msgs); err != nil {
		tb.Fatal(err)
	}
}

// inHand is a delivery that waits in a handler for the test to settle it.
type inHand struct {
	ctx      context.Context // what the handler was given
	job      parts.Job
	delivery int
	alive    func()
	settle   chan parts.Settlement
}

// running is a runner whose deliveries the test settles.
type running struct {
	*Runner
	t     testing.TB
	jobs  chan inHand
	stop  context.CancelFunc
	ended chan error
}

// run starts the runner; it is stopped at the end of the test at the latest.
func run(tb testing.TB, r *Runner) *running {
	tb.Helper()
	run := &running{Runner: r, t: tb, jobs: make(chan inHand), ended: make(chan error, 1)}
	if r.Pool == "" {
		r.Pool = "main"
	}
	if r.Log == nil {
		r.Log = zap.NewNop()
	}
	if r.StopGrace == 0 {
		r.StopGrace = time.Millisecond
	}
	if r.Handle == nil {
		r.Handle = func(ctx context.Context, job parts.Job, delivery int, alive func()) parts.Settlement {
			h := inHand{ctx: ctx, job: job, delivery: delivery, alive: alive, settle: make(chan parts.Settlement, 1)}
			select {
			case run.jobs <- h:
			case <-ctx.Done():
				return parts.Settlement{Verdict: parts.Release}
			}
			select {
			case s := <-h.settle:
				return s
			case <-ctx.Done():
				return parts.Settlement{Verdict: parts.Release}
			}
		}
	}
	ctx, stop := context.WithCancel(tb.Context())
	run.stop = stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		run.ended <- r.Run(ctx)
	}()
	tb.Cleanup(func() {
		stop()
		<-done
	})
	return run
}

func (r *running) next() inHand {
	r.t.Helper()
	return receive(r.t, r.jobs, "a job")
}

func receive[T any](tb testing.TB, from <-chan T, what string) T {
	tb.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		tb.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// eventually waits until the condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			tb.Fatalf("not so in time: %s", what)
		}
		backoff.Pause(tb.Context(), 5*time.Millisecond)
	}
}

// messages returns how many messages a stream holds.
func messages(tb testing.TB, c *Conn, stream string) int {
	tb.Helper()
	s, err := c.js.Stream(tb.Context(), stream)
	if err != nil {
		tb.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// watch returns a logger and what it has logged.
func watch() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

func TestConnectWaitsForTheServer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // finds a free port
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	log, logs := watch()
	url := "nats://ferry:hunter2@127.0.0.1:" + strconv.Itoa(port)
	type result struct {
		c   *Conn
		err error
	}
	connected := make(chan result, 1)
	go func() {
		c, err := Connect(t.Context(), Config{URL: url}, log)
		connected <- result{c, err}
	}()
	waiting := "waiting for nats at nats://127.0.0.1:" + strconv.Itoa(port)
	eventually(t, "two tries are logged", func() bool { return logs.FilterMessage(waiting).Len() >= 2 })
	s := &natsServer{t: t, dir: t.TempDir(), port: port}
	s.start()
	t.Cleanup(s.stop)
	got := receive(t, connected, "the connection")
	if got.err != nil {
		t.Fatal(got.err)
	}
	if err := got.c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := got.c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, entry := range logs.All() {
		for _, text := range append([]string{entry.Message}, texts(entry)...) {
			if strings.Contains(text, "hunter2") || strings.Contains(text, "ferry") {
				t.Errorf("credentials in the log: %s", text)
			}
		}
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	_, err := Connect(ctx, Config{URL: "nats://u:hunter2@127.0.0.1:1"}, zap.NewNop())
	if !errors.Is(err, why) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want the cause and no password", err)
	}
	_, err = Connect(t.Context(), Config{URL: "nats://u:hunter2@127.0.0.1:port"}, zap.NewNop())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestCloseSendsWhatWasPublished(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{})
	other := s.connect(Config{})
	heard := make(chan uploads.ID, 100)
	stop, err := c.SubscribeCancels(func(id uploads.ID) { heard <- id })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for range 100 {
		if err := other.PublishCancel(newID(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		receive(t, heard, "a signal")
	}
	unavailable := &uploads.UnavailableError{}
	if err := other.Ready(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("Ready after Close: got %v, want an UnavailableError", err)
	}
}

func texts(entry observer.LoggedEntry) []string {
	var all []string
	for _, value := range entry.ContextMap() {
		if s, ok := value.(string); ok {
			all = append(all, s)
		}
	}
	return all
}
