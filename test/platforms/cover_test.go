package platforms_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/client"
	"mediaferry/internal/upstreams"
)

// TestCover uploads media of several parts together with a cover, which the
// dispatcher itself reads from staging, and asks the platform for both. Where
// the call that stored the cover said nothing, a new place has been asked for
// since, and what became of the first is no media.
func TestCover(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		api    string
		faults []upstreams.Fault
	}{
		"undisturbed, API v2":            {"v2", nil},
		"undisturbed, API 3.0":           {"3.0", nil},
		"a bit of the cover turned over": {"3.0", []upstreams.Fault{{Action: upstreams.COSPutObject, Times: 1, FlipBit: true}}},
		"the cover's answer was lost":    {"3.0", []upstreams.Fault{{Action: upstreams.COSPutObject, Times: 1, Apply: true, Reset: true}}},
		"the cover went astray":          {"3.0", []upstreams.Fault{{Action: upstreams.COSPutObject, Times: 1, Reset: true, AfterBytes: 1000}}},
		"the commit's answer was lost":   {"3.0", []upstreams.Fault{{Action: upstreams.ActionCommit, Times: 1, Apply: true, Reset: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startTencentCOS(t, 1)
			p.accounts[0].Settings["api"] = tt.api
			p.faults(tt.faults...)
			testCover(t, p)
		})
	}
}

func testCover(t *testing.T, p platform) {
	t.Helper()
	from := startSource(t)
	film, err := from.put(t.Context(), "film.mp4", 17*mib)
	if err != nil {
		t.Fatal(err)
	}
	image, err := from.put(t.Context(), "covers/film.jpg", 300*kib)
	if err != nil {
		t.Fatal(err)
	}
	o := startOurs(t, from, p.accounts)
	u, _, err := o.api.Submit(t.Context(), client.Submission{
		Account: p.accounts[0].Name, Source: client.Source{Bucket: bucket, Key: "film.mp4"}, Options: map[string]string{"cover": "covers/film.jpg"},
	})
	if err != nil {
		t.Fatal(err)
	}
	u, err = o.api.Wait(t.Context(), u.ID, nil)
	if err != nil || u.Asset == nil {
		t.Fatalf("%s, %+v, %v", u.State, u.Failure, err)
	}
	o.stop()

	fetch := fetcher(t)
	type held struct {
		Asset  string
		Digest [sha256.Size]byte
	}
	got := make(map[string]held) // by what it is
	for _, f := range p.files() {
		if f.asset == "" {
			continue // stored and never committed
		}
		what := "media"
		if strings.Contains(f.url, "/cover/") {
			what = "cover"
		}
		if _, twice := got[what]; twice {
			t.Errorf("the platform has more than one %s", what)
		}
		got[what] = held{f.asset, digestOf(t, fetch, f.url)}
	}
	want := map[string]held{"media": {u.Asset.ID, sha256.Sum256(film)}, "cover": {u.Asset.ID, sha256.Sum256(image)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the platform holds (-want +got):\n%s", diff)
	}
	if address := u.Asset.Detail["cover_url"]; digestOf(t, fetch, address) != want["cover"].Digest {
		t.Errorf("cover_url %q does not lead to the cover", address)
	}
}
