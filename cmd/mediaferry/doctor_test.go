package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"mediaferry/internal/api/apitest"
)

// A dispatcher that has just started has heard of no worker: that is waited for.
func TestDoctorWaitsForWorkers(t *testing.T) {
	t.Parallel()
	uc := useCases()
	next := apitest.Handler(uc)
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/workers" && asked.Add(1) < 3 {
			_, _ = w.Write([]byte(`{"workers":[]}`))
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	var out strings.Builder
	getenv := func(name string) string { return map[string]string{"MEDIAFERRY_API_URL": srv.URL}[name] }
	_ = run(t.Context(), []string{"doctor", "-o", "csv"}, getenv, &out, &out) // of an account the credentials are refused
	if !strings.Contains(out.String(), "\nworkers of pool default,ok,16 slots") || asked.Load() != 3 {
		t.Errorf("after asking %d times:\n%s", asked.Load(), &out)
	}
}
