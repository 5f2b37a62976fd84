package devtest_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/devstack/devtest"
)

func TestMain(m *testing.M) { devtest.Main(m) }

// Each test has a database of its own, and the template is migrated once.
func TestPostgres(t *testing.T) {
	t.Parallel()
	var migrations atomic.Int32
	migrate := func(ctx context.Context, dsn string) error {
		migrations.Add(1)
		return exec(ctx, dsn, "CREATE TABLE things (id int PRIMARY KEY)")
	}
	t.Run("group", func(t *testing.T) {
		t.Parallel()
		for range 8 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				// The same key in each: it would be refused in a database that is shared.
				if err := exec(t.Context(), devtest.Postgres(t, migrate), "INSERT INTO things VALUES (1)"); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		if n := migrations.Load(); n > 1 { // 0 where the test runs again in one process
			t.Errorf("migrated %d times", n)
		}
	})
}

func exec(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
