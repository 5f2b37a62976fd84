package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/uploads"
)

func bulkItem(t *testing.T, number int, key string) uploads.BulkItem {
	t.Helper()
	it := item(t, "film.mp4", 10)
	it.IdempotencyKey = key
	return uploads.BulkItem{IntakeItem: it, Number: number, Submission: uploads.Submission{Account: "acc"}, Provider: "fake", Pool: "default"}
}

// Many uploads are due by the database's clock, or when they were asked for; and
// whether one key of them is taken or none, the others are there once.
func TestInsertBulk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	later := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	waiting := bulkItem(t, 3, "")
	waiting.Submission.NotBefore = later
	batch, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	there, err := b.InsertBulk(t.Context(), "default", batch, []uploads.BulkItem{bulkItem(t, 1, "k1"), bulkItem(t, 2, "k2"), waiting})
	if err != nil || len(there) != 0 {
		t.Fatalf("InsertBulk = %v, %v; want all of them inserted", there, err)
	}
	other := bulkItem(t, 6, "k2")
	other.RequestHash = []byte("another")
	there, err = b.InsertBulk(t.Context(), "default", batch, []uploads.BulkItem{bulkItem(t, 4, "k4"), bulkItem(t, 5, "k1"), other, bulkItem(t, 7, "k4")})
	want := []uploads.BulkOutcome{{Number: 5, Equal: true}, {Number: 6}, {Number: 7, Equal: true}}
	if diff := cmp.Diff(want, there); err != nil || diff != "" {
		t.Errorf("InsertBulk: %v, there (-want +got):\n%s", err, diff)
	}
	// The third is due when it was asked for, the others when they were submitted.
	due := b.query(t, `SELECT coalesce(idempotency_key, '') || ' ' || (step_at = submitted_at)::text || ' ' || (step_at = $1)::text
		FROM uploads WHERE batch_id = $2 ORDER BY 1`, later, batch)
	if diff := cmp.Diff([]string{" false true", "k1 true false", "k2 true false", "k4 true false"}, due); diff != "" {
		t.Errorf("what is there and due (-want +got):\n%s", diff)
	}
}

// Two callers send the same lines, one from the end: neither is to blame, and
// neither may be told that something went wrong.
func TestInsertBulkInAnyOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for round := range 3 {
		const lines = 3000
		one, other := make([]uploads.BulkItem, lines), make([]uploads.BulkItem, lines)
		for i := range lines {
			key := fmt.Sprintf("%d-%d", round, i)
			one[i], other[lines-1-i] = bulkItem(t, i+1, key), bulkItem(t, lines-i, key)
		}
		type outcome struct {
			known int
			err   error
		}
		outcomes := make(chan outcome, 2)
		for _, items := range [][]uploads.BulkItem{one, other} {
			go func() {
				batch, err := uploads.NewID()
				if err != nil {
					outcomes <- outcome{0, err}
					return
				}
				there, err := b.InsertBulk(t.Context(), "default", batch, items)
				if !slices.IsSortedFunc(there, func(a, b uploads.BulkOutcome) int { return a.Number - b.Number }) {
					err = errors.Join(err, errors.New("those that are there are not told in their order"))
				}
				outcomes <- outcome{len(there), err}
			}()
		}
		known := 0
		for range 2 {
			o := <-outcomes
			if o.err != nil {
				t.Fatalf("round %d: %v", round, o.err)
			}
			known += o.known
		}
		if known != lines {
			t.Errorf("round %d: %d lines of both are known, want %d", round, known, lines)
		}
	}
}
