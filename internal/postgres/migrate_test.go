package postgres_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/postgres"
)

// downTo takes back every change above a number.
func downTo(t *testing.T, dsn string, number int64) {
	t.Helper()
	list, err := postgres.Migrations(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range slices.Backward(list) {
		if m.Number <= number || !m.Applied {
			continue
		}
		if _, err := postgres.MigrateDown(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	}
}

// What was submitted by SQL and is not taken up yet outlives a step back.
func TestASubmissionIsNotTakenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.login(t, "pipeline")
	id := submitSQL(t, conn, "'acc', 'staging', 'k', idempotency_key => 'once'")
	downTo(t, b.dsn, 12)
	if again := submitSQL(t, conn, "'acc', 'staging', 'k', idempotency_key => 'once'"); again != id {
		t.Errorf("by the function of before it is %s, not %s", again, id)
	}
	if _, err := postgres.MigrateDown(t.Context(), b.dsn); err == nil || !strings.Contains(err.Error(), "1 submissions by SQL are not taken up yet") {
		t.Errorf("taken back: %v", err)
	}
	if state := stateSQL(t, conn, id); state != "submitted" {
		t.Fatalf("the submission is %q", state)
	}
	b.exec(t, `DELETE FROM submissions`)
	downTo(t, b.dsn, 11)
}

// A backup reads the uploads while a new version starts: its change of the table
// waits, and the dispatchers that run go on.
func TestAMigrationHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	downTo(t, b.dsn, 15) // 16 changes the uploads
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), b.dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	backup, other := connect(), connect()
	tx, err := backup.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE uploads IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	type result struct {
		names []string
		err   error
	}
	migrated := make(chan result, 1)
	go func() {
		names, err := postgres.MigrateUp(t.Context(), b.dsn)
		migrated <- result{names, err}
	}()
	for waits := false; !waits; {
		if err := other.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks
			WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND relation = 'uploads'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted)`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := other.Exec(ctx, `SELECT id FROM uploads LIMIT 1`); err != nil {
		t.Fatalf("others wait behind the change: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-migrated; got.err != nil || len(got.names) == 0 {
		t.Errorf("after the backup: %v, %v; want the change applied", got.names, got.err)
	}
}
