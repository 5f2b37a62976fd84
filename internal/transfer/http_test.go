package transfer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/zap"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

// overHTTP is a platform behind a socket: PutPart is one PUT of the body.
type overHTTP struct {
	*providertest.Fake
	client *http.Client
	url    string
}

func (o overHTTP) PutPart(ctx context.Context, _ providers.Session, part parts.Part, b providers.Body) (parts.Receipt, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("%s/%d", o.url, part.Number), b)
	if err != nil {
		return parts.Receipt{}, providers.TransportError("put", providers.Rejected, err)
	}
	req.ContentLength = b.Len()
	resp, err := o.client.Do(req)
	if err != nil {
		return parts.Receipt{}, providers.TransportError("put", providers.Transient, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return parts.Receipt{}, &providers.Error{Kind: providers.Transient, Call: "put", Code: strconv.Itoa(resp.StatusCode)}
	}
	return parts.Receipt{Tag: resp.Header.Get("ETag")}, nil
}

// httpSource reads staging over HTTP, as the real one does.
type httpSource struct {
	client *http.Client
	url    string
}

func (s httpSource) Open(ctx context.Context, _ uploads.Object, offset, length int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// overSockets sets a worker up between two HTTP servers. The platform answers
// the first try of each part whose number is even with 503 before it has read
// the body, which is when net/http goes on reading after the call returned.
func overSockets(t *testing.T, cfg worldConfig) (*world, func() []byte) {
	t.Helper()
	w := newWorld(t, cfg)
	var mu sync.Mutex
	got := make(map[int][]byte)
	refused := make(map[int]bool)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		mu.Lock()
		refuse := n%2 == 0 && !refused[n]
		refused[n] = true
		mu.Unlock()
		if refuse {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		got[n] = data
		mu.Unlock()
		rw.Header().Set("ETag", strconv.Itoa(n))
	}))
	t.Cleanup(server.Close)
	source := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var first, last int64
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		rw.Header().Set("Content-Length", strconv.FormatInt(last+1-first, 10))
		rw.WriteHeader(http.StatusPartialContent)
		_, _ = rw.Write(w.staging.data[first : last+1])
	}))
	t.Cleanup(source.Close)
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	w.Worker = New(Config{ID: "w1", Slots: 2}, zap.NewNop(), w.desk, httpSource{client: client, url: source.URL}, w.desk, w.desk,
		map[string]providers.Provider{"fake": overHTTP{Fake: w.platform.Fake, client: client, url: server.URL}})
	return w, func() (all []byte) {
		mu.Lock()
		defer mu.Unlock()
		for n := 1; n <= w.plan.Count(); n++ {
			all = append(all, got[n]...)
		}
		return all
	}
}

func TestOverSockets(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprintf("held %t", first), func(t *testing.T) {
			t.Parallel()
			w, received := overSockets(t, worldConfig{size: 4<<20 + 3, partSize: 700_000, digest: hashing.MD5, digestFirst: first})
			if s := w.handle(t.Context(), 1); s.Verdict != parts.Done {
				t.Fatalf("comes to %+v", s)
			}
			if !bytes.Equal(received(), w.staging.data) {
				t.Error("the platform has other bytes than staging")
			}
			for n := 1; n <= w.plan.Count(); n++ {
				part, ack := w.plan.Part(n), w.desk.ledger[n]
				sum, err := hashing.Sum(hashing.MD5, w.staging.data[part.Offset:part.Offset+part.Length])
				if err != nil {
					t.Fatal(err)
				}
				if ack.Digest != sum || ack.Receipt.Tag != strconv.Itoa(n) {
					t.Errorf("ack of part %d is %+v", n, ack)
				}
			}
		})
	}
}
