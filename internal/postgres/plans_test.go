package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A table of one row is scanned, whatever that seems to cost, and nothing is
// compiled for it.
func TestNothingIsCompiled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rows, err := b.Pool().Query(t.Context(), `EXPLAIN ANALYZE SELECT tick FROM record_marks`)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(plan, "\n"); strings.Contains(text, "JIT") {
		t.Errorf("the statement is compiled:\n%s", text)
	}
}

// Due steps are read by an index scan, which passes over entries that it once
// found gone; a bitmap reads them all again.
func TestNothingIsReadByBitmap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rows, err := b.Pool().Query(t.Context(), `EXPLAIN SELECT id FROM uploads
		WHERE (state IN ('beginning', 'finishing') OR abort_due) AND NOT waits AND step_at <= now() ORDER BY step_at`)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(plan, "\n"); strings.Contains(text, "Bitmap") || !strings.Contains(text, "Index Scan") {
		t.Errorf("due steps are read by:\n%s", text)
	}
}
