package api_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"mediaferry/internal/api"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup serves one account and three staging objects.
func setup(t *testing.T) (*apitest.UseCases, string) {
	t.Helper()
	uc := &apitest.UseCases{
		Names: []string{"main"},
		Objects: []uploads.Object{
			{Bucket: "inbox", Key: "a/1.mp4", ETag: "e1", Size: 10},
			{Bucket: "inbox", Key: "a/2.mp4", ETag: "e2", Size: 20},
			{Bucket: "inbox", Key: "b/bad\x01.mp4", ETag: "e3", Size: 30},
		},
	}
	return uc, apitest.Start(t, uc)
}

type answer struct {
	status int
	header http.Header
	body   string
}

// problem is the part of a problem document that callers decide by.
type problem struct {
	Status int
	Detail string
	Errors []struct{ Message, Location string }
}

// oneCall returns a client for one call. Whoever shares one loses calls in hand when
// another test's server closes idle connections.
func oneCall() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

func call(t *testing.T, method, url, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := oneCall().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(text)}
}

func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("status %d, %v in %s", a.status, err, a.body)
	}
	return v
}

const first = `{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"},"labels":{"show":"7"},"idempotency_key":"k1"}`

func TestSubmitIsRepeatableByKey(t *testing.T) {
	t.Parallel()
	_, url := setup(t)
	created := call(t, "POST", url+"/v1/uploads", first)
	if created.status != http.StatusCreated {
		t.Fatalf("first: %d %s", created.status, created.body)
	}
	again := call(t, "POST", url+"/v1/uploads", first)
	if again.status != http.StatusOK || again.body != created.body {
		t.Errorf("again: %d %s\nwant 200 %s", again.status, again.body, created.body)
	}
	other := call(t, "POST", url+"/v1/uploads", strings.Replace(first, "1.mp4", "2.mp4", 1))
	if other.status != http.StatusConflict {
		t.Errorf("other content under the key: %d %s", other.status, other.body)
	}

	u := decode[wire.Upload](t, created)
	want := wire.Upload{
		ID: u.ID, Tenant: "default", Account: "main", Provider: "s3", IdempotencyKey: "k1",
		Source: wire.Object{Bucket: "inbox", Key: "a/1.mp4", ETag: "e1", Size: 10}, Name: "1.mp4",
		Labels: map[string]string{"show": "7"}, State: "queued", SubmittedAt: u.SubmittedAt,
	}
	if diff := cmp.Diff(want, u); diff != "" {
		t.Errorf("upload (-want +got):\n%s", diff)
	}
	if strings.Contains(created.body, "0001-01-01") {
		t.Errorf("a milestone that was not reached is in %s", created.body)
	}
	shown := call(t, "GET", url+"/v1/uploads/"+u.ID, "")
	if diff := cmp.Diff(u, decode[wire.Upload](t, shown)); diff != "" {
		t.Errorf("shown (-submitted +shown):\n%s", diff)
	}
}

// Everything that is wrong is told at once, each with its place.
func TestInvalidSubmission(t *testing.T) {
	t.Parallel()
	_, url := setup(t)
	a := call(t, "POST", url+"/v1/uploads",
		`{"account":"","source":{"bucket":"","key":"x"},"priority":999}`)
	got := decode[problem](t, a)
	if a.status != http.StatusUnprocessableEntity || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, type %s", a.status, a.header.Get("Content-Type"))
	}
	var places []string
	for _, e := range got.Errors {
		places = append(places, e.Location)
	}
	want := []string{"body.account", "body.source.bucket", "body.priority"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("places (-want +got):\n%s\n%s", diff, a.body)
	}
	for body, place := range map[string]string{
		`{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"},"lables":{}}`:         "body.lables",
		`{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4","etag":"e0"}}`:         "body.source.etag",
		`{"account":"nope","source":{"bucket":"inbox","key":"a/1.mp4"}}`:                     "body.account",
		`{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"},"digests":["md5:x"]}`: "body.digests[0]",
	} {
		a := call(t, "POST", url+"/v1/uploads", body)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"location":"`+place+`"`) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := call(t, "POST", url+"/v1/uploads", first, "X-Mediaferry-Tenant", "a b"); a.status != http.StatusUnprocessableEntity ||
		!strings.Contains(a.body, "header.X-Mediaferry-Tenant") {
		t.Errorf("bad tenant: %d %s", a.status, a.body)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	t.Parallel()
	uc, url := setup(t)
	secret := errors.New("password=hunter2")
	for _, tc := range []struct {
		err    error
		status int
		retry  string
	}{
		{uploads.ErrUnsettled, 503, "5"},
		{&uploads.UnavailableError{What: "staging", Err: secret}, 503, "5"},
		{uploads.ErrNotFound, 404, ""},
		{secret, 500, ""},
	} {
		uc.Fail(tc.err)
		a := call(t, "POST", url+"/v1/uploads", first)
		if a.status != tc.status || a.header.Get("Retry-After") != tc.retry {
			t.Errorf("%v: status %d, Retry-After %q", tc.err, a.status, a.header.Get("Retry-After"))
		}
		if strings.Contains(a.body, "hunter2") {
			t.Errorf("the cause is told: %s", a.body)
		}
	}
	if a := call(t, "GET", url+"/readyz", ""); a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "hunter2") {
		t.Errorf("readyz while failing: %d %s", a.status, a.body)
	}
	if a := call(t, "GET", url+"/livez", ""); a.status != http.StatusNoContent {
		t.Errorf("livez: %d", a.status)
	}
	uc.Fail(nil)
	if a := call(t, "GET", url+"/readyz", ""); a.status != http.StatusNoContent {
		t.Errorf("readyz: %d", a.status)
	}
	if a := call(t, "POST", url+"/v1/uploads", `{"name":"`+strings.Repeat("x", 1<<20)+`"}`); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 1 MiB: %d", a.status)
	}
	if a := call(t, "GET", url+"/v1/uploads/nope", ""); a.status != http.StatusUnprocessableEntity {
		t.Errorf("not an id: %d", a.status)
	}
}

func TestPrefixListAndCancel(t *testing.T) {
	t.Parallel()
	_, url := setup(t)
	a := call(t, "POST", url+"/v1/uploads/prefix", `{"account":"main","bucket":"inbox","prefix":""}`)
	res := decode[wire.PrefixResult](t, a)
	if res.Submitted != 2 || len(res.Rejected) != 1 || res.Rejected[0].Key != "b/bad\x01.mp4" || res.Rejected[0].Error == "" {
		t.Fatalf("prefix: %d %s", a.status, a.body)
	}
	page := decode[wire.UploadList](t, call(t, "GET", url+"/v1/uploads?limit=1&batch="+res.Batch, ""))
	if len(page.Uploads) != 1 || page.Uploads[0].Name != "2.mp4" || page.Next == "" {
		t.Fatalf("first page: %+v", page)
	}
	rest := decode[wire.UploadList](t, call(t, "GET", url+"/v1/uploads?after="+page.Next, ""))
	if len(rest.Uploads) != 1 || rest.Uploads[0].Name != "1.mp4" || rest.Next != "" {
		t.Fatalf("second page: %+v", rest)
	}

	id := rest.Uploads[0].ID
	if a := call(t, "POST", url+"/v1/uploads/"+id+"/cancel", "", "X-Mediaferry-Tenant", "other"); a.status != http.StatusNotFound {
		t.Errorf("cancel by another tenant: %d", a.status)
	}
	u := decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads/"+id+"/cancel", ""))
	if u.State != "cancelled" || u.FinishedAt.IsZero() {
		t.Errorf("cancelled: %+v", u)
	}
	only := decode[wire.UploadList](t, call(t, "GET", url+"/v1/uploads?state=cancelled,failed&account=main", ""))
	if len(only.Uploads) != 1 || only.Uploads[0].ID != id {
		t.Errorf("cancelled only: %+v", only)
	}
	for _, query := range []string{"state=done", "limit=0", "limit=1001", "batch=x", "colour=red"} {
		if a := call(t, "GET", url+"/v1/uploads?"+query, ""); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", query, a.status)
		}
	}
}

func TestFinalUploadIsNotCancelled(t *testing.T) {
	t.Parallel()
	uc, url := setup(t)
	u := decode[wire.Upload](t, call(t, "POST", url+"/v1/uploads", first))
	for id := range uc.IDs() {
		uc.Change(id, func(u *uploads.Upload) {
			u.State, u.Asset = uploads.Completed, &uploads.Asset{ID: "v1", URL: "http://there/v1"}
			u.Failure = &uploads.Failure{Cause: uploads.CauseMismatch, Message: "m", Part: 3, Stage: uploads.StageTransit}
		})
	}
	if a := call(t, "POST", url+"/v1/uploads/"+u.ID+"/cancel", ""); a.status != http.StatusConflict {
		t.Errorf("cancel of a completed upload: %d %s", a.status, a.body)
	}
	got := decode[wire.Upload](t, call(t, "GET", url+"/v1/uploads/"+u.ID, ""))
	if diff := cmp.Diff(&wire.Asset{ID: "v1", URL: "http://there/v1"}, got.Asset); diff != "" {
		t.Errorf("asset (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&wire.Failure{Cause: "mismatch", Message: "m", Part: 3, Stage: "transit"}, got.Failure); diff != "" {
		t.Errorf("failure (-want +got):\n%s", diff)
	}
}

func TestWorkersAndAccounts(t *testing.T) {
	t.Parallel()
	seen := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	uc := &apitest.UseCases{
		Names:   []string{"main"},
		Workers: []uploads.WorkerStatus{{ID: "w1", Pool: "default", Slots: 16, Busy: 2, BytesMoved: 9, SeenAt: seen}},
	}
	url := apitest.Start(t, uc)
	workers := decode[wire.WorkerList](t, call(t, "GET", url+"/v1/workers", ""))
	if diff := cmp.Diff([]wire.Worker{{ID: "w1", Pool: "default", Slots: 16, Busy: 2, BytesMoved: 9, SeenAt: seen}}, workers.Workers); diff != "" {
		t.Errorf("workers (-want +got):\n%s", diff)
	}
	accounts := decode[wire.AccountList](t, call(t, "GET", url+"/v1/accounts", ""))
	if diff := cmp.Diff([]wire.Account{{Name: "main", Provider: "s3", Pool: "default", Window: 256 << 20, MaxWindow: 256 << 20}}, accounts.Accounts); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	others := call(t, "GET", url+"/v1/accounts", "", "X-Mediaferry-Tenant", "other")
	if strings.TrimSpace(others.body) != `{"accounts":[]}` {
		t.Errorf("another tenant's accounts: %s", others.body)
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	text, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for path, method := range map[string]string{
		"/v1/uploads": "post", "/v1/uploads/prefix": "post", "/v1/uploads/{id}": "get",
		"/v1/uploads/{id}/cancel": "post", "/v1/workers": "get", "/v1/accounts": "get",
	} {
		if _, ok := doc.Paths[path][method]; !ok {
			t.Errorf("%s %s is not described", method, path)
		}
	}
	if again, err := api.OpenAPI(); err != nil || string(again) != string(text) {
		t.Errorf("the description differs from call to call (%v)", err)
	}
}
