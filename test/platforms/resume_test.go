package platforms_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"mediaferry/client"
	"mediaferry/internal/upstreams"
)

// TestResume kills an upload at about 60 % and throws away all that is ours,
// the database with its ledger included. What is submitted then is a stranger's
// upload of the same object; only what the platform lacks may be sent.
func TestResume(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		start func(t *testing.T, accounts int) platform
		part  string // the call that sends one
	}{
		"tencentugc": {startTencentUGC, upstreams.ActionPart},
		"tencentvod": {startTencentVOD, upstreams.ActionServerPart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testResume(t, tt.start(t, 1), tt.part)
		})
	}
	// The others cannot find what they hold by anything that outlives our record.
	for _, p := range []struct{ name, reason string }{
		{"tencentcos", "every ApplyUpload hands out a place of its own, and with storage_path the place is named by our upload's id"},
		{"cdnetworks", "the platform lists no blocks, and each upload gets a video of its own"},
		{"tencentsmh", "each start is a task of its own, to which only the key leads that it was answered with"},
		{"s3", "each CreateMultipartUpload opens an upload of its own, and the bucket is not searched for others"},
	} {
		figure("no figure resume_sent_pct_%s: %s", p.name, p.reason)
	}
}

func testResume(t *testing.T, p platform, partCall string) {
	t.Helper()
	size := int64(intFlag(t, flagSize)) * mib
	from := startSource(t)
	data, err := from.put(t.Context(), "film.mp4", int(size))
	if err != nil {
		t.Fatal(err)
	}
	submission := client.Submission{Account: p.accounts[0].Name, Source: client.Source{Bucket: bucket, Key: "film.mp4"}}

	first := startOurs(t, from, p.accounts)
	// Slow enough to be stopped at a point of our choice.
	p.faults(upstreams.Fault{Action: partCall, DelayMS: 60})
	if _, _, err := first.api.Submit(t.Context(), submission); err != nil {
		t.Fatal(err)
	}
	until(t, "60 % at the platform", func() bool { return received(p) >= size*6/10 })
	first.stop()
	p.clear()
	killed := time.Now()
	var held int64 // bytes of parts that the platform has
	for _, c := range p.calls() {
		if c.Action == partCall && c.Outcome == "ok" {
			held += c.Received
		}
	}
	if held >= size {
		t.Fatalf("the platform has %d of %d bytes: nothing was killed", held, size)
	}

	second := startOurs(t, from, p.accounts)
	u, _, err := second.api.Submit(t.Context(), submission)
	if err != nil {
		t.Fatal(err)
	}
	u, err = second.api.Wait(t.Context(), u.ID, nil)
	if err != nil || u.Asset == nil {
		t.Fatalf("%s, %+v, %v", u.State, u.Failure, err)
	}
	// By when a call began: the platform may still have been counting the bytes
	// of one that was cut short.
	var sent int64
	for _, c := range p.calls() {
		if c.Action == partCall && c.At.After(killed) {
			sent += c.Received
		}
	}
	if sent == 0 || sent > size-held {
		t.Errorf("%d bytes were sent of an object of %d, of which %d were there", sent, size, held)
	}
	if got := digestOf(t, fetcher(t), u.Asset.URL); got != sha256.Sum256(data) {
		t.Error("the asset's bytes are not the object's")
	}
	figure("figure resume_held_pct_%s %.2f %%", p.name, 100*float64(held)/float64(size))
	figure("figure resume_sent_pct_%s %.2f %%", p.name, 100*float64(sent)/float64(size))
}

// received is the bytes of all bodies so far.
func received(p platform) (sum int64) {
	for _, f := range p.files() {
		sum += f.received
	}
	return sum
}
