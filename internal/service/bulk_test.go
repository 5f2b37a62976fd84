package service_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/client"
	"mediaferry/internal/api/wire"
)

// Where a platform has one asset of a name, a line that is there twice under its
// key is still known, and not another one of the name.
func TestALineTwiceIsKnown(t *testing.T) {
	t.Parallel()
	unique := limits()
	unique.UniqueNames = true
	b := setup(t, unique)
	b.put(t, "film.mp4", mib)
	b.dispatcher(t)
	got := b.bulk(t, "text/csv", "account,bucket,key,idempotency_key\nacc,staging,film.mp4,k\nacc,staging,film.mp4,k\nacc,staging,film.mp4,other\n")
	if got.Submitted != 1 || got.Known != 1 || len(got.Rejected) != 1 || got.Rejected[0].Line != 4 || got.Rejected[0].Field != "name" {
		t.Errorf("%+v", got)
	}
}

// bulk posts lines and returns the answer.
func (b *bundle) bulk(t *testing.T, kind, body string) wire.BulkResult {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v1/uploads/bulk", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out wire.BulkResult
	if err := json.Unmarshal(text, &out); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", res.StatusCode, text)
	}
	return out
}

// Of many lines the good ones are uploads like any other, each of the others is
// told with its number and field, and a repetition is known by its keys.
func TestBulkSubmission(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "a/film.mp4", mib)
	b.put(t, "a/other.mp4", mib)
	b.dispatcher(t)
	b.worker(t, "w1")
	body := `{"account":"acc","source":{"bucket":"staging","key":"a/film.mp4"},"labels":{"show":"7"},"idempotency_key":"k1"}
{"account":"acc","source":{"bucket":"staging","key":"a/gone.mp4"}}
{"account":"nobody","source":{"bucket":"staging","key":"a/film.mp4"}}

{"account":"acc","source":{"bucket":"staging","key":"a/film.mp4","etag":"other"}}
{"account":"acc",
{"account":"acc","source":{"bucket":"staging","key":"a/other.mp4"},"idempotency_key":"k1"}
`
	got := b.bulk(t, "application/x-ndjson", body)
	var places []string
	for _, r := range got.Rejected {
		places = append(places, fmt.Sprintf("%d %s", r.Line, r.Field))
		if r.Field == "idempotency_key" && !strings.Contains(r.Error, "use another key") {
			t.Errorf("line %d does not say what to do: %s", r.Line, r.Error)
		}
	}
	want := []string{"2 source.key", "3 account", "5 source.etag", "6 ", "7 idempotency_key"}
	if diff := cmp.Diff(want, places); diff != "" || got.Submitted != 1 || got.Known != 0 {
		t.Errorf("%d submitted, %d known, rejected (-want +got):\n%s\n%+v", got.Submitted, got.Known, diff, got.Rejected)
	}
	page, err := b.api.List(t.Context(), client.Filter{Batch: got.Batch})
	if err != nil || len(page.Uploads) != 1 || page.Uploads[0].Labels["show"] != "7" {
		t.Fatalf("the batch is %+v, %v", page, err)
	}
	b.mustComplete(t, page.Uploads[0].ID, data)

	again := b.bulk(t, "text/csv; charset=utf-8", "account,bucket,key,label.show,idempotency_key,size\nacc,staging,a/film.mp4,7,k1,\nacc,staging,a/film.mp4,7,,x\nacc,staging\n")
	if again.Submitted != 0 || again.Known != 1 || again.Batch != "" || len(again.Rejected) != 2 || again.Rejected[0].Line != 3 || again.Rejected[0].Field != "size" || again.Rejected[1].Line != 4 {
		t.Errorf("again: %+v", again)
	}
}

// Many lines are one transaction; make bench-submit asks for a hundred thousand.
func TestBulkSubmissionOfMany(t *testing.T) {
	t.Parallel()
	lines := 1000
	if text := os.Getenv("BULK_LINES"); text != "" {
		var err error
		if lines, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	b := setup(t, limits())
	b.dispatcher(t)
	if _, err := b.api.PauseAccount(t.Context(), "acc", client.Note{}); err != nil {
		t.Fatal(err)
	}
	var body strings.Builder
	for i := range lines {
		_, _ = fmt.Fprintf(&body, `{"account":"acc","source":{"bucket":"staging","key":"many/%06d.mp4","etag":"%032x"},"size":1000000,"labels":{"n":"%d"},"idempotency_key":"k%d"}`+"\n", i, i, i, i)
	}
	begun := time.Now()
	got := b.bulk(t, "application/x-ndjson", body.String())
	took := time.Since(begun).Seconds()
	if lines == 100_000 {
		figure("figure submit_100k_seconds %.2f s", took)
	}
	if got.Submitted != lines || len(got.Rejected) != 0 {
		t.Errorf("%d submitted, rejected %+v", got.Submitted, got.Rejected)
	}
	if n := b.query(t)("SELECT count(DISTINCT labels)::text FROM uploads WHERE state = 'queued'"); n != strconv.Itoa(lines) {
		t.Errorf("%s uploads are queued, want %d", n, lines)
	}
	if got = b.bulk(t, "application/x-ndjson", body.String()); got.Submitted != 0 || got.Known != lines {
		t.Errorf("again: %d submitted, %d known", got.Submitted, got.Known)
	}
}
