package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

func TestDigests(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)
	uc := &apitest.UseCases{
		Names:   []string{"main"},
		Objects: []uploads.Object{{Bucket: "inbox", Key: "a/1.mp4", ETag: "e1", Size: 10}},
		Links: []uploads.DigestLink{{
			Epoch: 1, Part: 2, Stage: uploads.StageTransit, Kind: "md5", Expected: "aa", ExpectedFrom: "worker",
			Got: "bb", GotFrom: "platform", Compared: true, Note: "n", At: at,
		}},
	}
	url := apitest.Start(t, uc)
	u := decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads", first))
	got := decode[wire.DigestChain](t, call(t, "GET", url+"/v1/uploads/"+u.ID+"/digests", ""))
	want := wire.DigestChain{Upload: u.ID, Links: []wire.DigestLink{{
		Epoch: 1, Part: 2, Stage: "transit", Kind: "md5", Expected: "aa", ExpectedFrom: "worker",
		Got: "bb", GotFrom: "platform", Compared: true, Note: "n", At: at,
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("chain (-want +got):\n%s", diff)
	}
	for path, want := range map[string]int{
		"/v1/uploads/0197d0f0-0000-7000-8000-000000000000/digests": http.StatusNotFound,
		"/v1/uploads/x/digests": http.StatusUnprocessableEntity,
	} {
		if a := call(t, "GET", url+path, ""); a.status != want {
			t.Errorf("%s: %d, want %d", path, a.status, want)
		}
	}
}
