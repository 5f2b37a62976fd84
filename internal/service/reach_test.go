package service_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/providers"
	"mediaferry/internal/service"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// A platform that sends the worker to an address of our own network is not
// followed there, unless the account allows it.
func TestAPlatformNamesAPrivateAddress(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		allow []string
		state uploads.State
	}{
		"refused":                    {nil, uploads.Failed},
		"another network is allowed": {[]string{"10.0.0.0/8"}, uploads.Failed},
		"allowed":                    {[]string{"127.0.0.0/8", "::1/128"}, uploads.Completed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, limits())
			smh := upstreams.NewSMH(upstreams.SMHConfig{Libraries: map[string]string{"smh1": "secret"}, Dir: t.TempDir()})
			inside, err := upstreams.Serve(t.Context(), "", smh)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := inside.Close(); err != nil {
					t.Error(err)
				}
			})
			target, err := url.Parse(inside.URL)
			if err != nil {
				t.Fatal(err)
			}
			// What is configured is the front alone; the platform behind it names
			// itself, by a name that must be resolved first.
			named := "localhost:" + target.Port()
			front := httptest.NewServer(&httputil.ReverseProxy{
				Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = named },
				Transport: &http.Transport{DisableKeepAlives: true},
			})
			t.Cleanup(front.Close)
			b.cfg.Accounts = []config.Account{{
				Name: "acc", Tenant: "default", Provider: "tencentsmh", Pool: "default", Window: 64 * mib, AllowNetworks: tc.allow,
				Settings: map[string]string{"endpoint": front.URL, "library_id": "smh1"},
				Secrets:  map[string]providers.Secret{"library_secret": "secret"},
			}}
			ready := make(chan string, 1)
			background(t, func(ctx context.Context) error {
				return service.RunDispatcher(ctx, b.cfg, service.Providers(), zaptest.NewLogger(t), func(addr string) { ready <- addr })
			})
			if b.api, err = client.New("http://"+<-ready, "default"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.api.Close)
			worker := config.Worker{ID: "w1", Pool: "default", Slots: 4, NATS: b.cfg.NATS, Staging: b.cfg.Staging}
			background(t, func(ctx context.Context) error {
				return service.RunWorker(ctx, worker, service.Providers(), zaptest.NewLogger(t).Named("worker"))
			})
			b.put(t, "film.mp4", 3*mib)
			u := b.wait(t, b.submit(t, "film.mp4").ID)
			var received int64
			for _, f := range smh.Files() {
				received += f.BytesReceived
			}
			if u.State != string(tc.state) {
				t.Fatalf("%s with %+v, want %s", u.State, u.Failure, tc.state)
			}
			if tc.state == uploads.Failed && (u.Failure.Code != "address_refused" || !strings.Contains(u.Failure.Message, "allow_networks") || received > 0) {
				t.Errorf("failed with %+v after %d bytes", u.Failure, received)
			}
		})
	}
}
