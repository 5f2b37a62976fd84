package providertest

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"mediaferry/internal/upstreams"
)

// Serve runs the handler until the test ends. It returns a client with
// connections of its own, and the server's address.
func Serve(t *testing.T, handler http.Handler) (client *http.Client, address string) {
	t.Helper()
	server, err := upstreams.Serve(t.Context(), "", handler)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: Altering(transport)}, server.URL
}

// Fetch returns what is at an address.
func Fetch(t *testing.T, client *http.Client, address string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return data
}

// Fields returns the fields that joined *uploads.FieldError name, in order and
// parted by spaces.
func Fields(err error) string {
	if err == nil {
		return ""
	}
	var names []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		name, _, _ := strings.Cut(line, ": ")
		names = append(names, name)
	}
	return strings.Join(names, " ")
}
