package dispatch_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

// A worker that was cut off does not hear that its upload is cancelled. It ends
// the run that it has in hand, and nothing comes of that: not in the ledger, not
// at the platform, whose session is discarded. Delivered again, the run is
// stale, so there is no other.
func TestACancelThatAWorkerDoesNotHearOf(t *testing.T) {
	t.Parallel()
	h := partsInHand(t, false)
	job := h.queue.all()[0]
	answer := h.p.Assign(t.Context(), []dispatch.Ask{{Job: job}})[0]
	var session providers.Session
	if err := errors.Join(answer.Err, json.Unmarshal(answer.Assignment.Session, &session)); err != nil {
		t.Fatal(err)
	}
	put := func(n int) error {
		part := answer.Assignment.Plan.Part(n)
		content := contentOf(answer.Assignment.Source.Key)[part.Offset : part.Offset+part.Length]
		receipt, err := h.platform.PutPart(t.Context(), session, part, providertest.NewBody(h.limits, content))
		report := parts.Report{Upload: h.id, Account: accountName, Epoch: 1, Worker: "w", Delivery: 1}
		if err != nil {
			report.Failure = &parts.Failure{Part: n, Kind: string(providers.KindOf(err)), Message: err.Error(), Started: time.Now(), Failed: time.Now()}
		} else {
			report.Acks = []parts.Ack{{Part: n, Offset: part.Offset, Length: part.Length, Receipt: receipt, Started: time.Now(), Finished: time.Now()}}
		}
		return errors.Join(err, h.p.HandleReports(t.Context(), []parts.Report{report}))
	}
	if _, err := h.p.Change(t.Context(), uploads.ActionCancel, "default", h.id, uploads.Note{}); err != nil {
		t.Fatal(err)
	}
	if err := put(1); err != nil { // the session is still open
		t.Fatal(err)
	}
	if err := errors.Join(h.p.WithdrawPass(t.Context()), h.pass(t.Context()), h.p.StepsPass(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := put(2); providers.KindOf(err) != providers.SessionLost {
		t.Errorf("put in a session that was discarded: %v, want it lost", err)
	}
	if got := h.p.Assign(t.Context(), []dispatch.Ask{{Job: job, Redelivered: true}})[0]; !errors.Is(got.Err, dispatch.ErrStale) {
		t.Errorf("assigned once more: %v, want stale", got.Err)
	}
	if left := h.queue.all(); slices.ContainsFunc(left, func(j parts.Job) bool { return j.Upload == h.id }) {
		t.Errorf("on the queue: %+v, want nothing of it", left)
	}
	u := h.mustBe(t, h.id, uploads.Cancelled)
	acked, err := h.store.AckedParts(t.Context(), h.id, 1, 1, 6)
	if err != nil || len(acked) != 0 || u.AckedBytes != 0 {
		t.Errorf("ledger has parts %v, %d bytes, %v; want none", acked, u.AckedBytes, err)
	}
	if seen := h.platform.Seen(h.id); seen.Aborts != 1 || len(seen.Assets) != 0 {
		t.Errorf("%d aborts, assets %+v; want the session discarded once, and no asset", seen.Aborts, seen.Assets)
	}
}
