package service_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"mediaferry/internal/config"
	"mediaferry/internal/service"
)

// answers starts a server that says the status on /readyz, and returns the
// address of every interface with its port.
func answers(t *testing.T, status int, start func(*httptest.Server)) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
	}))
	start(server)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("0.0.0.0", port)
}

func TestAskHealth(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		listen string
		cert   string
		want   string // in the error, "" for none
	}{
		"ready":       {listen: answers(t, http.StatusNoContent, (*httptest.Server).Start)},
		"ready, TLS":  {listen: answers(t, http.StatusNoContent, (*httptest.Server).StartTLS), cert: "api.pem"},
		"not ready":   {listen: answers(t, http.StatusServiceUnavailable, (*httptest.Server).Start), want: "503"},
		"another one": {listen: answers(t, http.StatusOK, (*httptest.Server).Start), want: "200"},
		"nobody":      {listen: "127.0.0.1:1", want: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			errs := []error{service.AskDispatcher(t.Context(), config.Dispatcher{API: config.API{Listen: tt.listen, CertFile: tt.cert}})}
			if tt.cert == "" {
				errs = append(errs, service.AskWorker(t.Context(), config.Worker{Health: config.Health{Listen: tt.listen}}))
			}
			for _, err := range errs {
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			}
		})
	}
	if err := service.AskWorker(t.Context(), config.Worker{}); err == nil || !strings.Contains(err.Error(), "health.listen") {
		t.Errorf("a worker without an address: %v", err)
	}
}
