package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zaptest"

	"mediaferry/internal/parts"
	"mediaferry/internal/postgres"
	"mediaferry/internal/uploads"
)

// operator is somebody else's connection to the database.
func (b *bundle) operator(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// alter sets a default of the database, and opens a store that meets it.
func (b *bundle) alter(t *testing.T, setting string) *postgres.Store {
	t.Helper()
	execute(t, b.operator(t), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET `+setting+`', current_database()); END $$`)
	store, err := postgres.Open(t.Context(), b.dsn, 4, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// Under another isolation than read committed, acks of one upload that come
// together would be refused as not serializable.
func TestTheIsolationOfADatabaseIsNotOurs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.alter(t, "default_transaction_isolation = serializable")
	plan := parts.Plan{Size: 64, PartSize: 1}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	var recorders sync.WaitGroup
	for worker := range 4 {
		recorders.Go(func() {
			for part := worker + 1; part <= plan.Count(); part += 4 {
				if _, err := store.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, part)}); err != nil {
					t.Errorf("part %d: %v", part, err)
				}
			}
		})
	}
	recorders.Wait()
	if u := b.upload(t, id); u.State != uploads.Finishing {
		t.Errorf("upload is %s with %d parts, want it finishing", u.State, u.AckedParts)
	}
}

// A table that somebody holds, or a statement that may not take as long, is no
// fault of the caller's, and not of this process either.
func TestADatabaseThatGivesUpIsBusy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, store := range map[string]*postgres.Store{
		"a lock": b.Store, "a statement": b.alter(t, "statement_timeout = ''50ms''"),
	} {
		held, err := b.operator(t).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := held.Exec(t.Context(), `LOCK TABLE uploads`); err != nil {
			t.Fatal(err)
		}
		_, err = store.Insert(t.Context(), intake(item(t, "film.mp4", 10)))
		if away, ok := errors.AsType[*uploads.UnavailableError](err); !ok || !away.Busy || away.What != "postgres" {
			t.Errorf("%s: %v, want that postgres is busy", name, err)
		}
		if err := held.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Insert(t.Context(), intake(item(t, "film.mp4", 10))); err != nil {
			t.Errorf("%s: after it was given free: %v", name, err)
		}
	}
}

// While somebody reads the ledger, as a backup does for hours, a month that is to be
// made does not make acknowledgements wait behind it.
func TestAMonthHoldsUpNoAcks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.MakePartitions(t.Context(), time.Now(), 1); err != nil {
		t.Fatal(err)
	}
	plan := parts.Plan{Size: 10, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	backup, err := b.operator(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Exec(t.Context(), `SELECT count(*) FROM part_acks`); err != nil {
		t.Fatal(err)
	}
	making := make(chan error, 1)
	go func() { making <- b.MakePartitions(t.Context(), time.Now().AddDate(1, 0, 0), 3) }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := b.RecordReports(ctx, []parts.Report{report(id, 1, plan, 1)}); err != nil {
		t.Errorf("an ack beside it: %v", err)
	}
	select {
	case err := <-making:
		if away, ok := errors.AsType[*uploads.UnavailableError](err); !ok || !away.Busy {
			t.Errorf("%v, want that it is busy", err)
		}
	case <-ctx.Done():
		t.Error("it waits for the end of the backup")
	}
	if err := backup.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.MakePartitions(t.Context(), time.Now().AddDate(1, 0, 0), 3); err != nil {
		t.Errorf("after the backup: %v", err)
	}
}

// Acks that came before their month was made, as when a clock jumped, move there
// with it; without that the month could not be made.
func TestAMonthIsMadeOfWhatCameBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 10, PartSize: 5}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 1)}); err != nil {
		t.Fatal(err)
	}
	partitions := func() []string {
		return b.query(t, `SELECT part || ' in ' || tableoid::regclass::text FROM part_acks ORDER BY part`)
	}
	if diff := cmp.Diff([]string{"1 in part_acks_default"}, partitions()); diff != "" {
		t.Fatalf("before (-want +got)\n%s", diff)
	}
	if err := b.MakePartitions(t.Context(), time.Now(), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 1, 2)}); err != nil {
		t.Fatal(err)
	}
	month := "part_acks_" + time.Now().UTC().Format("200601")
	if diff := cmp.Diff([]string{"1 in " + month, "2 in " + month}, partitions()); diff != "" {
		t.Errorf("after (-want +got)\n%s", diff)
	}
	if u := b.upload(t, id); u.State != uploads.Finishing {
		t.Errorf("upload is %s, want it finishing", u.State)
	}
}

// A copy of the record by logical replication has its rows and not its sequences.
func TestSequencesThatAreBehind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.submit(t, "one.mp4", 10)
	b.submit(t, "two.mp4", 10)
	execute(t, b.operator(t), `ALTER SEQUENCE state_changes_id_seq RESTART`)
	_, err := b.Insert(t.Context(), intake(item(t, "three.mp4", 10)))
	if away, ok := errors.AsType[*uploads.UnavailableError](err); !ok || !away.Busy {
		t.Errorf("%v, want that it is not refused for good", err)
	}
	for range 2 { // it may be repeated
		if err := b.CatchUpNumbers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.submit(t, "four.mp4", 10)
	if diff := cmp.Diff([]string{"1", "2", "3"}, b.query(t, `SELECT id::text FROM state_changes ORDER BY id`)); diff != "" {
		t.Errorf("numbers (-want +got)\n%s", diff)
	}
}
