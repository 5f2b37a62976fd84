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

// A page of a batch is read in the order of its index from where the page before
// ended, under the one plan that is made for all values.
func TestPagesOfABatchAreInTheirIndex(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing is kept
	if _, err := tx.Exec(t.Context(), `PREPARE page(uuid, text, text[], uuid) AS SELECT id, name FROM uploads
		WHERE batch_id = $1 AND tenant = $2 AND (cardinality($3) = 0 OR state::text = ANY($3))
		AND id < coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff') ORDER BY id DESC LIMIT 100`); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), `EXPLAIN EXECUTE page(gen_random_uuid(), 'default', '{failed}', NULL)`)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	if !strings.Contains(text, "Index Cond: ((batch_id = $1) AND (id < COALESCE($4") || strings.Contains(text, "Sort") {
		t.Errorf("a page is read by:\n%s", text)
	}
}
