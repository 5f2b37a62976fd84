package postgres_test

import (
	"testing"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/windows"
)

// While one call of a platform is not answered, what fails of control steps is
// excused, and what fails of parts, whose own call is, is not.
func TestWhatAnOutageExcuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 100, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	u, err := b.Upload(t.Context(), "default", id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.AdjustHold(t.Context(), u.Account, providers.CallBegin, func(now time.Time, h windows.Hold) windows.Hold {
		h.Down, h.Failures, h.Until = now, 9, now.Add(time.Minute)
		return h
	}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	step := parts.Report{Upload: id, Account: u.Account, Epoch: 1, Failure: &parts.Failure{Kind: "throttled", Code: "503", Started: now, Failed: now}}
	part := step
	part.Worker, part.Failure = "worker-1", &parts.Failure{Part: 3, Kind: "throttled", Code: "503", Started: now, Failed: now}
	if _, err := b.RecordReports(t.Context(), []parts.Report{step, part}); err != nil {
		t.Fatal(err)
	}
	h, err := b.History(t.Context(), "default", id)
	if err != nil || len(h.Tries) != 2 {
		t.Fatalf("history %+v, %v", h, err)
	}
	for _, try := range h.Tries {
		if try.Excused != (try.Part == 0) {
			t.Errorf("the try of part %d is excused: %t", try.Part, try.Excused)
		}
	}
}
