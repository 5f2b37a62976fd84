package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/api/wire"
)

// A bulk submission may have 64 MiB. While one is being read no other one is, or
// as many callers as like to would each have that much of the dispatcher's memory.
func TestOneBulkSubmissionIsReadAtATime(t *testing.T) {
	t.Parallel()
	_, url := setup(t)
	const line = `{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"}}` + "\n"
	body, send := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/uploads/bulk", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Expect", "100-continue") // nothing is sent before the server reads
	transport := &http.Transport{ExpectContinueTimeout: time.Minute, DisableKeepAlives: true}
	first := make(chan int, 1)
	go func() {
		res, err := transport.RoundTrip(req)
		if err != nil {
			first <- 0
			return
		}
		_ = res.Body.Close()
		first <- res.StatusCode
	}()
	if _, err := io.WriteString(send, line); err != nil {
		t.Fatal(err)
	}

	second := call(t, "POST", url+"/v1/uploads/bulk", strings.Repeat(line, 3), "Content-Type", "application/x-ndjson")
	if p := decode[problem](t, second); second.status != http.StatusServiceUnavailable || second.header.Get("Retry-After") == "" ||
		!strings.Contains(p.Detail, "another bulk submission") {
		t.Errorf("status %d, Retry-After %q: %s", second.status, second.header.Get("Retry-After"), second.body)
	}
	if kind := second.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("the refusal is %s", kind)
	}

	_ = send.Close()
	if status := <-first; status != http.StatusOK {
		t.Fatalf("the first one is answered with %d", status)
	}
	third := call(t, "POST", url+"/v1/uploads/bulk", line, "Content-Type", "application/x-ndjson")
	if got := decode[wire.BulkResult](t, third); third.status != http.StatusOK || got.Submitted != 1 {
		t.Errorf("after it: status %d, %+v", third.status, got)
	}
}
