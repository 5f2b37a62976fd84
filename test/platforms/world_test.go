package platforms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/sealing"
	"mediaferry/internal/service"
	"mediaferry/internal/staging"
)

const (
	kib      = 1 << 10
	mib      = 1 << 20
	bucket   = "staging"
	patience = 3 * time.Minute // for a process to start, and the like
)

// source is a staging bucket with random objects in it.
type source struct {
	server *devstack.S3
	store  *staging.Store
	via    string // where dispatcher and worker find it, "" for the server itself
}

func startSource(t *testing.T) source {
	t.Helper()
	s := source{server: devtest.S3(t, bucket)}
	var err error
	if s.store, err = staging.New(s.server.Config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.store.Close)
	return s
}

// put stores an object and returns its bytes. No two keys have the same.
func (s source) put(ctx context.Context, key string, size int) ([]byte, error) {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", key)))).Read(data) // never fails
	_, err := s.store.Put(ctx, bucket, key, "video/mp4", bytes.NewReader(data), int64(size))
	return data, err
}

// ours is all that is ours: a database and a queue, both empty at first, a
// dispatcher and a worker.
type ours struct {
	cfg  config.Dispatcher
	api  *client.Client
	db   *pgx.Conn
	log  *logFile
	stop func() // of dispatcher and worker, as a kill does it: nothing in hand is ended
}

func startOurs(t *testing.T, from source, accounts []config.Account) *ours {
	t.Helper()
	dsn := devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	s3 := from.server.Config()
	if from.via != "" {
		s3.Endpoint = from.via
	}
	cfg := config.Dispatcher{
		NATS: config.NATS{URL: devtest.NATS(t).URL()}, Postgres: config.Postgres{DSN: providers.Secret(dsn), MaxConns: 16},
		Staging: config.Staging{
			Endpoint: s3.Endpoint, Region: "us-east-1", AccessKey: s3.AccessKey.Reveal(), SecretKey: s3.SecretKey, PathStyle: true,
		},
		API: config.API{Listen: "127.0.0.1:0", Auth: config.AuthNone}, SealKey: providers.Secret(sealing.NewKey()),
		SweepInterval: time.Second, Accounts: accounts,
	}
	o := &ours{cfg: cfg, log: new(logFile)}
	o.run(t, true)
	t.Cleanup(func() {
		if t.Failed() {
			o.log.print(t, "\"level\":\"error\"", 20)
		}
	})
	var err error
	if o.db, err = pgx.Connect(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.db.Close(context.WithoutCancel(t.Context())) }) // the database goes with it
	return o
}

// run starts dispatcher and worker, or the dispatcher alone, over what is there.
func (o *ours) run(t *testing.T, worker bool) {
	t.Helper()
	cfg := o.cfg
	ready := make(chan string, 1)
	stopDispatcher := background(t, func(ctx context.Context) error {
		return service.RunDispatcher(ctx, cfg, service.Providers(), o.log.logger(), func(addr string) { ready <- addr })
	})
	stopWorker := func() {}
	if worker {
		stopWorker = o.work(t)
	}
	o.stop = func() { stopWorker(); stopDispatcher() }
	var err error
	select {
	case addr := <-ready:
		if o.api, err = client.New("http://"+addr, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(o.api.Close)
	case <-time.After(patience):
		t.Fatal("the dispatcher is not ready")
	}
}

// work starts a worker.
func (o *ours) work(t *testing.T) (stop func()) {
	t.Helper()
	cfg := o.cfg
	return background(t, func(ctx context.Context) error {
		worker := config.Worker{ID: "w1", Pool: "default", Slots: 8, NATS: cfg.NATS, Staging: cfg.Staging, StopGrace: time.Nanosecond}
		return service.RunWorker(ctx, worker, service.Providers(), o.log.logger())
	})
}

// background runs a process until stop is called, and fails the test if it fails.
func background(t *testing.T, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("process ended: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// until waits for a condition, and fails the test if it does not come in time.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %s: no %s", patience, what)
		}
	}
}

// logFile keeps what the processes log, to be looked into when something is wrong.
type logFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logFile) logger() *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.AddSync(l), zap.InfoLevel))
}

// print logs up to most lines that have the word.
func (l *logFile) print(t *testing.T, word string, most int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, word) {
			if most--; most < 0 {
				return
			}
			t.Log(strings.TrimSpace(line))
		}
	}
}

// figure prints a line that is kept.
func figure(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) // nobody is left to tell
}
