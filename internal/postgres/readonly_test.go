package postgres_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zaptest"

	"mediaferry/internal/postgres"
	"mediaferry/internal/uploads"
)

// A database that takes no changes, as after a failover, is one that is away.
// Connections to it are given up, so that the next ones may lead to the server
// that takes changes.
func TestADatabaseThatIsReadOnlyIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(t.Context()) })
	set := func(to string) {
		t.Helper()
		sql := `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = ` + to + `', current_database()); END $$`
		_, err := admin.Exec(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
	}
	set("on")
	store, err := postgres.Open(t.Context(), b.dsn, 1, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	for _, doing := range []func() error{
		func() error { _, err := store.Insert(t.Context(), intake(item(t, "a", 10))); return err },
		func() error { _, err := store.ClaimSteps(t.Context(), 10, nil, 0); return err },
	} {
		err := doing()
		if away, ok := errors.AsType[*uploads.UnavailableError](err); !ok || away.What != "postgres" {
			t.Errorf("%v, want that postgres is away", err)
		}
	}
	set("off")
	if _, err := store.Insert(t.Context(), intake(item(t, "a", 10))); err != nil {
		t.Errorf("when it takes changes again: %v", err)
	}
}
