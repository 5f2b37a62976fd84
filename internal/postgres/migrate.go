package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib" // goose speaks database/sql
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"mediaferry/migrations"
)

// MigrationStatus is one numbered change and whether it is applied.
type MigrationStatus struct {
	Number  int64
	Name    string
	Applied bool
}

// A change of a table waits for whoever reads it, a backup for example, and all
// who come after it wait behind it. So it waits for a moment only, and tries again
// later.
const (
	lockWait  = time.Second
	lockAgain = 4 * time.Second
	lockTries = 30
)

// MigrateUp applies what is missing, under a lock, so that any number of
// processes may call it at once. It returns the names of what it applied. A table
// that others hold for minutes is an error, and what was applied before stays.
func MigrateUp(ctx context.Context, dsn string) ([]string, error) {
	var names []string
	err := withGoose(dsn, func(p *goose.Provider, _ *sql.DB) error {
		for tries := 1; ; tries++ {
			results, err := p.Up(ctx)
			if partial, ok := errors.AsType[*goose.PartialError](err); ok {
				results = partial.Applied
			}
			for _, r := range results {
				names = append(names, r.Source.Path)
			}
			if codeOf(err) != lockNotAvailable {
				return err //nolint:wrapcheck // wrapped by withGoose
			}
			if tries == lockTries {
				return fmt.Errorf("%w; a transaction holds the table, such as that of a backup: wait for its end, or end it", err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for a table: %w", context.Cause(ctx))
			case <-time.After(lockAgain):
			}
		}
	})
	return names, err
}

// MigrateDown takes back the newest change; data in what it drops is lost.
func MigrateDown(ctx context.Context, dsn string) (string, error) {
	var name string
	err := withGoose(dsn, func(p *goose.Provider, _ *sql.DB) error {
		r, err := p.Down(ctx)
		if r != nil {
			name = r.Source.Path
		}
		return err //nolint:wrapcheck // wrapped by withGoose
	})
	return name, err
}

// Migrations lists every change in order. It changes nothing: goose would make its
// own table where that is missing.
func Migrations(ctx context.Context, dsn string) ([]MigrationStatus, error) {
	var out []MigrationStatus
	err := withGoose(dsn, func(p *goose.Provider, conn *sql.DB) error {
		var begun bool
		if err := conn.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, goose.DefaultTablename).Scan(&begun); err != nil {
			return err //nolint:wrapcheck // wrapped by withGoose
		}
		if !begun {
			for _, s := range p.ListSources() {
				out = append(out, MigrationStatus{Number: s.Version, Name: s.Path})
			}
			return nil
		}
		status, err := p.Status(ctx)
		for _, s := range status {
			out = append(out, MigrationStatus{
				Number: s.Source.Version, Name: s.Source.Path, Applied: s.State == goose.StateApplied,
			})
		}
		return err //nolint:wrapcheck // wrapped by withGoose
	})
	return out, err
}

func withGoose(dsn string, f func(*goose.Provider, *sql.DB) error) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return errDSN
	}
	ourSchema(cfg)
	cfg.RuntimeParams["lock_timeout"] = strconv.FormatInt(lockWait.Milliseconds(), 10)
	conn := stdlib.OpenDB(*cfg)
	defer conn.Close() //nolint:errcheck // nothing is pending on it
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.FS, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := f(p, conn); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
