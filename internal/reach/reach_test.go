package reach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPublic(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1": true, "119.28.0.1": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"169.254.0.23": false, "100.100.100.200": false, "0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00:ec2::254": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: public is %v", text, got)
		}
	}
	// An address that hides in another notation is what it is.
	for _, text := range []string{"::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0"} {
		if why := (Reach{}).objectionTo(netip.MustParseAddr(text), true); why == "" {
			t.Errorf("%s is allowed", text)
		}
	}
}

// servers starts one with TLS and one without, and returns their guard.
func servers(t *testing.T) (guard *Guard, secure, plain *url.URL) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	withTLS, without := httptest.NewTLSServer(handler), httptest.NewServer(handler)
	base := withTLS.Client().Transport.(*http.Transport).Clone()
	guard = NewGuard(base)
	t.Cleanup(func() {
		guard.CloseIdleConnections()
		withTLS.Close()
		without.Close()
	})
	parse := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	return guard, parse(withTLS.URL), parse(without.URL)
}

func get(t *testing.T, g *Guard, r *Reach, address string) error {
	t.Helper()
	ctx := t.Context()
	if r != nil {
		ctx = With(ctx, *r)
	}
	return fetch(ctx, g, address)
}

func fetch(ctx context.Context, g *Guard, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, address, strings.NewReader("body"))
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: g}).Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return res.Body.Close()
}

func TestGuard(t *testing.T) {
	t.Parallel()
	guard, secure, plain := servers(t)
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	other := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	everywhere := Everywhere()
	named := func(u *url.URL) string { return u.Scheme + "://localhost:" + u.Port() }
	for name, tc := range map[string]struct {
		reach   *Reach
		address string
		ok      bool
	}{
		"no reach in the context":           {nil, secure.String(), false},
		"literal":                           {&Reach{}, secure.String(), false},
		"name that resolves to loopback":    {&Reach{}, named(secure), false},
		"without TLS":                       {&Reach{}, plain.String(), false},
		"name without TLS":                  {&Reach{}, named(plain), false},
		"another network is allowed":        {&Reach{Networks: other}, secure.String(), false},
		"another network, without TLS":      {&Reach{Networks: other}, named(plain), false},
		"allowed":                           {&Reach{Networks: loopback}, secure.String(), true},
		"allowed, without TLS":              {&Reach{Networks: loopback}, plain.String(), true},
		"allowed, by name":                  {&Reach{Networks: loopback}, named(plain), true},
		"configured":                        {&Reach{Hosts: []string{HostPort(secure)}}, secure.String(), true},
		"configured, without TLS":           {&Reach{Hosts: []string{HostPort(plain)}}, plain.String(), true},
		"another port than is configured":   {&Reach{Hosts: []string{HostPort(plain)}}, secure.String(), false},
		"everywhere":                        {&everywhere, plain.String(), true},
		"metadata service":                  {&Reach{}, "http://169.254.169.254/latest/meta-data/", false},
		"metadata service over TLS":         {&Reach{}, "https://169.254.169.254/latest/meta-data/", false},
		"loopback as one number, in IPv6":   {&Reach{}, "https://[::ffff:7f00:1]:" + secure.Port(), false},
		"a name of the operator's, shouted": {&Reach{Hosts: []string{"localhost:" + plain.Port()}}, "http://LOCALHOST:" + plain.Port(), true},
	} {
		err := get(t, guard, tc.reach, tc.address)
		_, refused := errors.AsType[*RefusedError](err)
		if tc.ok != (err == nil) || !tc.ok && !refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A connection that one account may have is not lent to another that may not.
func TestConnectionsAreNotLent(t *testing.T) {
	t.Parallel()
	guard, secure, _ := servers(t)
	for range 2 {
		if err := get(t, guard, &Reach{Hosts: []string{HostPort(secure)}}, secure.String()); err != nil {
			t.Fatal(err)
		}
		everywhere := Everywhere()
		if err := get(t, guard, &everywhere, "https://localhost:"+secure.Port()); err == nil {
			t.Log("the certificate is good for localhost too")
		}
		err := get(t, guard, &Reach{}, "https://localhost:"+secure.Port())
		if _, refused := errors.AsType[*RefusedError](err); !refused {
			t.Fatalf("got %v, want it refused", err)
		}
	}
}

// A proxy of the operator's may be anywhere, and what it is asked for is
// checked as far as that goes without resolving names.
func TestProxy(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "for "+r.Host)
	}))
	t.Cleanup(proxy.Close)
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	guard := NewGuard(base)
	t.Cleanup(guard.CloseIdleConnections)
	allowed := &Reach{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	if err := get(t, guard, allowed, "http://upload.example/1"); err != nil {
		t.Errorf("through the proxy: %v", err)
	}
	err := get(t, guard, allowed, "http://192.168.0.1/1")
	if _, refused := errors.AsType[*RefusedError](err); !refused {
		t.Errorf("a private address through the proxy: %v", err)
	}
}
