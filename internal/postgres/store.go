// Package postgres is all of SQL: the ledger and the record of every upload.
//
// What a method has returned without error is committed. A state change is one
// guarded statement whose WHERE names the state, and where one is held the
// lease, that it expects; methods that make one say whether it took. All
// methods are safe for concurrent use, and each runs in a transaction of its
// own.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// Store is a pool of connections and the statements.
type Store struct {
	pool       *pgxpool.Pool
	q          *db.Queries
	reporting  chan struct{} // has one for each report that runs
	statements *statements
}

// Open connects to the database and waits until it answers, with backoff and a
// line for each try, until ctx ends. A DSN that cannot be parsed is an error
// at once. maxConns bounds the pool.
func Open(ctx context.Context, dsn string, maxConns int, log *zap.Logger) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errDSN
	}
	ourSchema(cfg.ConnConfig)
	cfg.MaxConns = int32(maxConns) //nolint:gosec // bounded by the configuration
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	cfg.ConnConfig.DialFunc = dial
	cfg.ConnConfig.RuntimeParams["application_name"] = "mediaferry"
	// Every statement here is a few look-ups by index, whose plan does not depend
	// on the values: planned once on each connection. But a plan that is made
	// while a table is new and empty prefers to scan it, and is kept while the
	// table fills. So no scans; and where a statement goes by primary key, its
	// state is compared as text, which hides it from the small partial indexes.
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	cfg.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
	// No bitmap scans either: an upload is in a partial index for a moment only, and
	// a bitmap scan reads the entries that are dead since the last vacuum again each
	// time. An ordinary index scan marks them dead and passes over them afterwards.
	cfg.ConnConfig.RuntimeParams["enable_bitmapscan"] = "off"
	// A scan that cannot be avoided, as of a table with one row, then looks so
	// costly that Postgres would compile the statement, which takes longer than any
	// statement here runs.
	cfg.ConnConfig.RuntimeParams["jit"] = "off"
	// A connection that leads to a server that takes no changes, as after a
	// failover, is given up: a new one may lead to the server that does.
	fatal := cfg.ConnConfig.OnPgError
	cfg.ConnConfig.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		return e.Code != readOnly && (fatal == nil || fatal(conn, e))
	}
	// The ledger counts under read committed; what a server or a database has by
	// default is for others.
	cfg.ConnConfig.RuntimeParams["default_transaction_isolation"] = "read committed"
	// Who waits for what somebody holds, as by LOCK TABLE, is told so after a while, and
	// does not keep connections from those who need something else.
	if cfg.ConnConfig.RuntimeParams["lock_timeout"] == "" {
		cfg.ConnConfig.RuntimeParams["lock_timeout"] = "20s"
	}
	// A process that stands still in a transaction loses it, and its locks with
	// it, before others have waited long.
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "15s"
	cfg.AfterConnect = registerUUID
	watched := new(statements)
	cfg.ConnConfig.Tracer = watched
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	s := &Store{pool: pool, q: db.New(), reporting: make(chan struct{}, maxReports), statements: watched}
	where := fmt.Sprintf("%s:%d/%s", cfg.ConnConfig.Host, cfg.ConnConfig.Port, cfg.ConnConfig.Database)
	var last string // what it said, while there was time to say it
	for tries := 1; ; tries++ {
		err := s.Ping(ctx)
		if err == nil {
			return s, nil
		}
		if last == "" || ctx.Err() == nil {
			last = causeText(err)
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code[:2] == "28" {
			pool.Close()
			return nil, fmt.Errorf("postgres at %s refuses the credentials of postgres.dsn: %s", where, pgErr.Message)
		}
		wait := backoff.Delay(tries, 400*time.Millisecond, 5*time.Second)
		log.Warn("waiting for postgres at "+where, zap.String("error", last), zap.Duration("next_try", wait))
		if !backoff.Pause(ctx, wait) {
			pool.Close()
			return nil, fmt.Errorf("wait for postgres at %s: %w: %s", where, context.Cause(ctx), last)
		}
	}
}

// errDSN stands for the parser's error, which repeats the DSN with whatever
// password it may hold.
var errDSN = errors.New("postgres.dsn: is not a connection string; give postgres://user:password@host:5432/database")

// ourSchema has the tables looked for in public, unless the DSN says otherwise.
// By default Postgres looks in the schema of the user's name first, and for the
// user mediaferry there is one: it holds the functions for submitters.
func ourSchema(cfg *pgx.ConnConfig) {
	if cfg.RuntimeParams["search_path"] == "" {
		cfg.RuntimeParams["search_path"] = "public"
	}
}

// causeText says what went wrong without the user name and host list that pgx
// puts before it.
func causeText(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// Close ends all connections.
func (s *Store) Close() { s.pool.Close() }

// Ping asks whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return unavailable("ping", err)
	}
	return nil
}

// unavailable wraps err with what was being done, and marks it as an
// *uploads.UnavailableError where the database could not be reached, was going
// down, has no room left or gave up, and as an *uploads.RefusedError where it does
// not take what it was given. Everything else is an answer of the database, or not
// its own.
func unavailable(doing string, err error) error {
	switch code := codeOf(err); {
	case isConnection(err):
		err = &uploads.UnavailableError{What: "postgres", Full: code == diskFull, Err: err}
	case isBusy(err):
		err = &uploads.UnavailableError{What: "postgres", Busy: true, Err: err}
	case strings.HasPrefix(code, "22"), // data exceptions: a NUL, a number out of range
		strings.HasPrefix(code, "23"): // integrity constraints
		err = &uploads.RefusedError{Reason: "postgres refuses it", Err: err}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

const connectTimeout = 5 * time.Second

const (
	diskFull = "53100"
	readOnly = "25006" // a standby, or a server that was told so
)

// codeOf returns the SQLSTATE of an answer of the database, "" for any other error.
func codeOf(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func isConnection(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(e.Code, "08"), // connection exceptions
			strings.HasPrefix(e.Code, "57P"), // shutting down, starting up, cut off
			strings.HasPrefix(e.Code, "53"),  // no connection, memory or disk left
			e.Code == readOnly:
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err)
}

// isBusy reports whether the database would do another time what it has not done
// now: others held what the statement needed, or it took too long, or the number
// of a row is taken, since a sequence is behind (Store.CatchUpNumbers).
func isBusy(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "40001", "40P01", lockNotAvailable, "57014": // serialization, deadlock; cancelled, as by statement_timeout
		return true
	case uniqueViolation:
		return slices.Contains([]string{"part_failures_pkey", "state_changes_pkey", "outbox_pkey", "set_aside_pkey"}, e.ConstraintName)
	default:
		return false
	}
}

// inTx runs f in a transaction: committed if f returns nil, else rolled back.
func (s *Store) inTx(ctx context.Context, doing string, f func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.pool, f)
	if err != nil {
		return unavailable(doing, err)
	}
	return nil
}
