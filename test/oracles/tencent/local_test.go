package tencent

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"mediaferry/internal/upstreams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The vendor's published dummy pair.
const (
	secretID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	secretKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
)

// local carries every request to a local server, under the host it was meant for.
type local struct {
	address string
	under   *http.Transport
}

func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.URL.Scheme, r.URL.Host = "http", l.address
	return l.under.RoundTrip(r)
}

// serve starts a local server and returns the way to it.
func serve(t *testing.T, handler http.Handler) local {
	t.Helper()
	server, err := upstreams.Serve(t.Context(), "", handler)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	l := local{address: u.Host, under: &http.Transport{}}
	t.Cleanup(func() {
		l.under.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// file writes a file of random bytes.
func file(t *testing.T, name string, size int) (path string, data []byte) {
	t.Helper()
	data = make([]byte, size)
	_, _ = rand.Read(data) // never fails
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, data
}

// fetch returns what a GET answers.
func fetch(t *testing.T, l local, address string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := l.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", address, resp.StatusCode, err)
	}
	return data
}

// count returns how many calls of the action a server has seen.
func count(calls []upstreams.Call, action string) int {
	n := 0
	for _, c := range calls {
		if c.Action == action {
			n++
		}
	}
	return n
}
