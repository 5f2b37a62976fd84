package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// What the pages show of an upload that has parts in the ledger, found and
// sent, and tries that failed.
func TestPictureOfAnUpload(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 100, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize, parts.Stored{Part: plan.Part(3)}, parts.Stored{Part: plan.Part(4)})
	now := time.Now()
	r := report(id, 1, plan, 1, 2, 6)
	for i := range 3 {
		r.Mended = append(r.Mended, parts.Failure{
			Part: 6 + i/2, Kind: "throttled", Code: "Slow", Message: "later", Started: now, Failed: now.Add(time.Duration(i) * time.Second),
		})
	}
	if _, err := b.RecordReports(t.Context(), []parts.Report{r}); err != nil {
		t.Fatal(err)
	}

	ranges, failed, err := b.Ledger(t.Context(), id, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uploads.PartRange{
		{First: 1, Count: 2, State: uploads.PartAcked}, {First: 3, Count: 2, State: uploads.PartFound}, {First: 6, Count: 1, State: uploads.PartAcked},
	}, ranges); diff != "" {
		t.Errorf("ledger (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]uploads.PartTries{{Part: 6, Tries: 2}, {Part: 7, Tries: 1}}, failed); diff != "" {
		t.Errorf("failed tries (-want +got)\n%s", diff)
	}
	if ranges, _, err := b.Ledger(t.Context(), id, 2); err != nil || len(ranges) != 0 {
		t.Errorf("of another epoch: %v, %v", ranges, err)
	}
	if fed, err := b.FedParts(t.Context(), id); err != nil || fed != 0 {
		t.Errorf("FedParts = %d, %v", fed, err)
	}

	h, err := b.History(t.Context(), "default", id)
	if err != nil || h.Count != 3 || len(h.Tries) != 3 || h.Tries[0].Part != 7 || h.Tries[0].Code != "Slow" {
		t.Fatalf("history %+v, %v", h, err)
	}
	if first, last := h.Moves[0], h.Moves[len(h.Moves)-1]; first.From != "" || first.To != uploads.Queued || last.To != uploads.Uploading {
		t.Errorf("moves %+v", h.Moves)
	}
	if _, err := b.History(t.Context(), "another", id); !errors.Is(err, uploads.ErrNotFound) {
		t.Errorf("of another tenant: %v", err)
	}

	f, err := b.FailuresByCause(t.Context(), "default", now.Add(-time.Hour))
	if err != nil || len(f.Tries) != 1 || f.Tries[0].Count != 3 || f.Tries[0].Uploads != 1 || f.Tries[0].Kind != "throttled" {
		t.Errorf("failures %+v, %v", f, err)
	}
	if f, err := b.FailuresByCause(t.Context(), "another", now.Add(-time.Hour)); err != nil || len(f.Tries)+len(f.Uploads) != 0 {
		t.Errorf("of another tenant %+v, %v", f, err)
	}
}

// Counts and groups are of the tenant, and of what was submitted since.
func TestCountsAndGroupsOfFailedUploads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	before := time.Now().Add(-time.Second)
	var ids []uploads.ID
	for _, key := range []string{"1", "2", "3"} {
		ids = append(ids, b.open(t, key, 20, 10))
	}
	for i, cause := range []string{"rejected", "rejected", "mismatch"} {
		b.query(t, `UPDATE uploads SET state = 'failed', finished_at = now() + $2 * interval '1 second',
			failure = jsonb_build_object('cause', $3::text, 'message', 'no: ' || name) WHERE id = $1 RETURNING name`, ids[i], i, cause)
	}
	states, err := b.CountStates(t.Context(), "default", before)
	if diff := cmp.Diff(map[uploads.State]int{uploads.Failed: 3}, states); err != nil || diff != "" {
		t.Errorf("CountStates: %v (-want +got)\n%s", err, diff)
	}
	if states, err := b.CountStates(t.Context(), "default", time.Now().Add(time.Minute)); err != nil || len(states) != 0 {
		t.Errorf("of later: %v, %v", states, err)
	}
	f, err := b.FailuresByCause(t.Context(), "default", before)
	if err != nil || len(f.Uploads) != 2 {
		t.Fatalf("failures %+v, %v", f, err)
	}
	if g := f.Uploads[0]; g.Cause != uploads.CauseRejected || g.Count != 2 || g.Example != ids[1] || g.Message != "no: 2" {
		t.Errorf("the largest group is %+v", g)
	}

	// A search is for the characters themselves.
	for search, want := range map[string]int{"2": 1, "%": 0, "_": 0, "\\": 0} {
		if got, err := b.Uploads(t.Context(), uploads.Filter{Tenant: "default", Search: search}); err != nil || len(got) != want {
			t.Errorf("search for %q: %d, %v; want %d", search, len(got), err, want)
		}
	}
}
