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
