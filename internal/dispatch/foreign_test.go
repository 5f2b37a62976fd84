package dispatch_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// What the queue is told of the record is a hint: one that refuses it, for whatever
// reason, holds up neither the start nor a finish.
func TestAQueueThatRefusesTheMarkHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w, p, id := finishing(t, dispatch.Config{})
	w.queue.deaf = errors.New("message size exceeds maximum allowed")
	if err := p.AwaitRecord(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.StepsPass(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mustBe(t, id, uploads.Completed)
}

// A job that somebody else put on the queue, of parts that its upload does not
// have, is dropped: as one that may be done another time it would come for ever.
func TestAJobOfPartsThatAreNotThereIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.empty(t.Context(), plain()); err != nil {
		t.Fatal(err)
	}
	p := w.start(t, dispatch.Config{})
	id, err := w.submit(t.Context(), p, "a-20")
	if err = errors.Join(err, p.OpenPass(t.Context())); err != nil {
		t.Fatal(err)
	}
	u := w.mustBe(t, id, uploads.Uploading)
	for _, run := range []parts.Run{
		{First: u.PartCount + 1, Count: 1},
		{First: 1, Count: u.PartCount + 1},
		{First: math.MaxInt, Count: 2},
		{First: 0, Count: 1},
		{First: 1, Count: 0},
		{First: -1, Count: 3},
		{First: 1_000_000_000_000, Count: 1},
	} {
		ask := dispatch.Ask{Job: parts.Job{Upload: id, Account: accountName, Pool: "default", Epoch: u.Epoch, Run: run}, Redelivered: true}
		if a := p.Assign(t.Context(), []dispatch.Ask{ask}); !errors.Is(a[0].Err, dispatch.ErrStale) {
			t.Errorf("parts %d, %d of them: %v, want it stale", run.First, run.Count, a[0].Err)
		}
	}
	ours := dispatch.Ask{Job: parts.Job{Upload: id, Account: accountName, Pool: "default", Epoch: u.Epoch, Run: parts.Run{First: 1, Count: 1}}}
	if a := p.Assign(t.Context(), []dispatch.Ask{ours}); a[0].Err != nil || a[0].Assignment.At.After(time.Now()) {
		t.Errorf("a run of its own: %v", a[0].Err)
	}
}
