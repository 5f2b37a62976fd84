// Package devtest gives tests real servers: a Postgres database, a NATS server
// and an S3 server, stopped when the test or the test process ends.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { devtest.Main(m) }
package devtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"mediaferry/internal/devstack"
)

// Environment variables that choose the servers; without them they are our own.
const (
	// PostgresEnv has the address of a Postgres server. Its user must be allowed
	// to create databases.
	PostgresEnv = "MEDIAFERRY_TEST_POSTGRES_DSN"
	// S3Env and NATSEnv have the command of a program that runs a server, with its
	// arguments: see devstack.S3Options and devstack.NATSConfig. Each test still
	// has a server of its own.
	S3Env   = "MEDIAFERRY_TEST_S3"
	NATSEnv = "MEDIAFERRY_TEST_NATS"
)

const patience = 3 * time.Minute // for the start and the end of servers

// Main runs the tests of a package, stops what they share, and fails if a
// goroutine is left. It does not return.
func Main(m *testing.M) {
	devstack.ChildMain()
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// shared is the Postgres server that the tests of this process share.
var shared postgresServer //nolint:gochecknoglobals // TestMain must stop what the first test started

type postgresServer struct {
	mu       sync.Mutex
	dsn      string // "" until started
	template string
	dir      *devstack.Dir
	server   *devstack.Postgres // nil if it is someone else's
	err      error              // of the start; it is not tried again
}

// Postgres returns the address of a database of the test's own, dropped when
// the test ends. It is a copy of one that migrate has been run on once in this
// process; the tests of a package pass the same migrate, which must close its
// connections. nil leaves the database empty.
func Postgres(tb testing.TB, migrate func(ctx context.Context, dsn string) error) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	if err := shared.start(ctx, migrate); err != nil {
		tb.Fatalf("test Postgres: %v", err)
	}
	name := "mf_test_" + strings.ToLower(rand.Text())
	if err := shared.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+shared.template); err != nil {
		tb.Fatalf("test Postgres: %v", err)
	}
	tb.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if err := shared.exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("test Postgres: %v", err)
		}
	})
	return withDatabase(shared.dsn, name)
}

// start starts the server, and makes the template, for the first test that asks.
func (s *postgresServer) start(ctx context.Context, migrate func(context.Context, string) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dsn == "" && s.err == nil {
		s.err = s.launch(ctx, migrate)
	}
	return s.err
}

func (s *postgresServer) launch(ctx context.Context, migrate func(context.Context, string) error) error {
	dsn := os.Getenv(PostgresEnv)
	if dsn == "" {
		dir, err := devstack.TempDir()
		if err != nil {
			return err
		}
		s.dir = dir
		s.server, err = devstack.StartPostgres(ctx, dir.Join("postgres"), devstack.PostgresOptions{Volatile: true})
		if err != nil {
			return err
		}
		dsn = s.server.DSN()
	}
	s.dsn = dsn
	template := "mf_template_" + strings.ToLower(rand.Text())
	if err := s.exec(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	s.template = template
	if migrate == nil {
		return nil
	}
	if err := migrate(ctx, withDatabase(dsn, template)); err != nil {
		return fmt.Errorf("migrate the template: %w", err)
	}
	return nil
}

// exec runs one statement outside of any test's database.
func (s *postgresServer) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// stop takes the template out of a server that stays, and stops our own.
func (s *postgresServer) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.server == nil && s.template != "" {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		errs = append(errs, s.exec(ctx, "DROP DATABASE "+s.template+" WITH (FORCE)"))
	}
	if s.server != nil {
		s.server.Stop()
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}

// withDatabase returns the address of another database on the same server.
func withDatabase(dsn, name string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " dbname=" + name // the other form of an address: words, the last of which wins
	}
	u.Path = "/" + name
	return u.String()
}

// NATS starts a server with JetStream of the test's own, stopped when it ends.
func NATS(tb testing.TB) *devstack.NATS {
	tb.Helper()
	var n *devstack.NATS
	var err error
	if command := strings.Fields(os.Getenv(NATSEnv)); len(command) > 0 {
		n, err = devstack.StartNATSCommand(tb.TempDir(), command)
	} else {
		n, err = devstack.StartNATS(tb.TempDir(), 0)
	}
	if err != nil {
		tb.Fatalf("test NATS: %v", err)
	}
	tb.Cleanup(n.Stop)
	return n
}

// S3 starts a server with the buckets, of the test's own, stopped when it ends.
func S3(tb testing.TB, buckets ...string) *devstack.S3 {
	tb.Helper()
	return S3With(tb, devstack.S3Options{Buckets: buckets})
}

// S3With is S3 with other options.
func S3With(tb testing.TB, opts devstack.S3Options) *devstack.S3 {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	s, err := startS3(ctx, tb.TempDir(), opts)
	if err != nil {
		tb.Fatalf("test S3: %v", err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// StartS3 is S3 for a server that tests share; the caller stops it.
func StartS3(ctx context.Context, dir string, buckets ...string) (*devstack.S3, error) {
	return startS3(ctx, dir, devstack.S3Options{Buckets: buckets})
}

func startS3(ctx context.Context, dir string, opts devstack.S3Options) (*devstack.S3, error) {
	opts.Command = strings.Fields(os.Getenv(S3Env))
	return devstack.StartS3(ctx, dir, opts)
}
