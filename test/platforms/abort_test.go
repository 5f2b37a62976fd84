package platforms_test

import (
	"slices"
	"testing"

	"mediaferry/client"
	"mediaferry/internal/upstreams"
)

// TestALapsedSessionIsDiscarded cancels an upload when the token of its session
// has lapsed: what the platform holds of it is discarded all the same, at once.
func TestALapsedSessionIsDiscarded(t *testing.T) {
	t.Parallel()
	p := startTencentSMH(t, 1)
	from := startSource(t)
	if _, err := from.put(t.Context(), "film.mp4", 33*mib); err != nil {
		t.Fatal(err)
	}
	o := startOurs(t, from, p.accounts)
	p.faults(upstreams.Fault{Action: upstreams.ActionSMHPart, From: 2, BytesPerSecond: mib})
	u, _, err := o.api.Submit(t.Context(), client.Submission{Account: p.accounts[0].Name, Source: client.Source{Bucket: bucket, Key: "film.mp4"}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "part at the platform", func() bool { return received(p) > 0 })
	p.lapse()
	if _, err := o.api.Cancel(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	discarded := func(c upstreams.Call) bool { return c.Action == upstreams.ActionSMHCancel && c.Outcome == "ok" }
	until(t, "session discarded", func() bool { return slices.ContainsFunc(p.calls(), discarded) })
	asked := 0
	for _, c := range p.calls() {
		if c.Action == upstreams.ActionSMHStatus || c.Action == upstreams.ActionSMHCancel {
			asked++
		}
	}
	if asked > 4 { // refused once, and then asked and discarded under a new token
		t.Errorf("it took %d calls: %+v", asked, p.calls())
	}
}
