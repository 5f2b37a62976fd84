package upstreams

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// oneCall returns a client for one call. Whoever shares one loses calls in hand when
// another test closes its idle connections.
func oneCall() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

func fetch(t *testing.T, method, address string, body io.Reader) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := oneCall().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, data
}

// TestLocalAddresses scripts a fault over HTTP and reads what came of it.
func TestLocalAddresses(t *testing.T) {
	t.Parallel()
	const sha = "a9993e364706816aba3e25717850c26c9cd0d89d"
	_, client := startVOD(t, VODConfig{})
	if status, body := fetch(t, http.MethodPost, client.url+"/_local/faults", strings.NewReader(`{"action":"InitUploadEx","times":1,"code":-10004,"can_retry":1}`)); status != http.StatusNoContent {
		t.Fatalf("status %d: %s", status, body)
	}
	if status, _ := fetch(t, http.MethodPost, client.url+"/_local/faults", strings.NewReader(`{"nth":1}`)); status != http.StatusBadRequest {
		t.Errorf("an unknown field was answered with %d", status)
	}
	open := func() vodAnswer {
		answer, _ := client.do(t, http.MethodGet, "/v2/index.php", "signature", sha, url.Values{"Action": {ActionInit}, "fileSha": {sha}, "fileSize": {"3"}, "dataSize": {"524288"}}, nil)
		return answer
	}
	if a := open(); a.Code != codeWrite || a.CanRetry != 1 {
		t.Errorf("the fault answered %+v", a)
	}
	if a := open(); a.Code != 0 {
		t.Errorf("after the fault: %+v", a)
	}
	var calls []Call
	_, body := fetch(t, http.MethodGet, client.url+"/_local/calls", nil)
	if err := json.Unmarshal(body, &calls); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 2 || calls[0].Outcome != "fault, applied: false" || calls[1].Outcome != "ok" || calls[1].Account != dummyID || calls[1].File != sha {
		t.Errorf("calls %+v", calls)
	}
	var files []VODFile
	_, body = fetch(t, http.MethodGet, client.url+"/_local/files", nil)
	if err := json.Unmarshal(body, &files); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]VODFile{{FileSHA: sha, Account: dummyID, Size: 3}}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestDelayedCallEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	vod, client := startVOD(t, VODConfig{})
	vod.AddFaults(Fault{DelayMS: time.Hour.Milliseconds()})
	hurried := &http.Client{Timeout: 50 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, client.url+"/v2/index.php", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := hurried.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("a delayed call was answered")
	}
}

// TestMeter passes a signed-looking request through: host, path and body must
// arrive as they were sent, and only the payload counts.
func TestMeter(t *testing.T) {
	t.Parallel()
	type seen struct{ Host, URI, Body string }
	got := make(chan seen, 2)
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is read is compared
		got <- seen{r.Host, r.RequestURI, string(body)}
	}))
	t.Cleanup(backend.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	meter, err := NewMeter(backend.URL, transport, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	server, err := Serve(t.Context(), "", meter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	payload := bytes.Repeat([]byte("x"), 30_000)
	start := time.Now()
	fetch(t, http.MethodPut, server.URL+"/b/a%2Fb%20c?partNumber=1&uploadId=u", bytes.NewReader(payload))
	// 5,000 bytes may go at once, the rest takes a quarter of a second.
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("30,000 bytes at 100,000 a second took %s", took)
	}
	want := seen{strings.TrimPrefix(server.URL, "http://"), "/b/a%2Fb%20c?partNumber=1&uploadId=u", string(payload)}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Errorf("the request (-want +got):\n%s", diff)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/b/framed", strings.NewReader("5\r\nhello\r\n0\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Decoded-Content-Length", "5")
	resp, err := oneCall().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if diff := cmp.Diff([]MeterFile{{Key: "b/a/b c", BytesReceived: 30_000, Puts: 1}, {Key: "b/framed", BytesReceived: 5, Puts: 1}}, meter.Files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// A fault with a chance hits about that share of the calls, the same ones each
// time, and leaves those that it misses to the next fault.
func TestChance(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (hits string) {
		var l faultList
		l.add(Fault{Chance: 0.2, Seed: seed, Reset: true}, Fault{Action: "b", Status: 500})
		for i := range 1000 {
			action := "a"
			if i%2 == 1 {
				action = "b"
			}
			switch f := l.hit(action, "", ""); {
			case f.Reset:
				hits += "r"
			case f.Status != 0:
				hits += "s"
			default:
				hits += "-"
			}
		}
		return hits
	}
	first := draw(1)
	if n := strings.Count(first, "r"); n < 150 || n > 250 {
		t.Errorf("%d of 1000 calls were hit, want about 200", n)
	}
	if n := strings.Count(first, "s"); n < 350 || n > 450 {
		t.Errorf("%d calls were left to the next fault, want about 400", n)
	}
	if first != draw(1) {
		t.Error("the same seed hits other calls")
	}
	if first == draw(2) {
		t.Error("another seed hits the same calls")
	}
}
