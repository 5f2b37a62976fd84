// Package reach bounds where a platform may send us. Platforms answer with
// addresses to upload to, and whoever can make one answer with an address of
// our own network, or of the cloud's metadata service, would have us carry bytes
// and signed requests there. So an address that a platform names must be public
// and spoken to over TLS, unless the operator configured it or allowed its
// network. What is checked is the address that is dialled, after the name was
// resolved.
package reach

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Reach is what an account allows beside public addresses over TLS. The zero
// value allows no more.
type Reach struct {
	// Hosts are what the operator configured, as host:port: they are dialled
	// wherever they are.
	Hosts []string `json:"hosts,omitempty"`
	// Networks are what the platform may name too, also without TLS.
	Networks []netip.Prefix `json:"networks,omitempty"`
}

// Everywhere allows every address.
func Everywhere() Reach {
	return Reach{Networks: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}}
}

// HostPort returns the host and port that a request for the URL goes to.
func HostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), port)
}

// allowed reports whether the address is in an allowed network.
func (r Reach) allowed(a netip.Addr) bool {
	return slices.ContainsFunc(r.Networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// RefusedError says that an address that a platform named was not dialled. Nothing
// was sent.
type RefusedError struct {
	Host string // as the platform named it, with its port
	Why  string
}

// Error says what to do if the address is meant.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s, which the platform named, is refused: %s; if it is meant, add its network to the account's allow_networks", e.Host, e.Why)
}

type contextKey struct{}

// With returns a context whose requests go through a Guard as r allows.
func With(ctx context.Context, r Reach) context.Context {
	return context.WithValue(ctx, contextKey{}, r)
}

// Guard is a transport that goes as far as the Reach of a request's context
// allows. Connections are shared among requests of one Reach alone.
type Guard struct {
	free *http.Transport // to what the operator configured

	mu      sync.Mutex
	guarded map[string]*http.Transport
}

// NewGuard makes a Guard of transports like base, which it takes over.
func NewGuard(base *http.Transport) *Guard {
	return &Guard{free: base, guarded: map[string]*http.Transport{}}
}

// RoundTrip fails with a *RefusedError where the Reach ends.
func (g *Guard) RoundTrip(req *http.Request) (*http.Response, error) {
	r, _ := req.Context().Value(contextKey{}).(Reach)
	host := HostPort(req.URL)
	transport := g.free
	if !slices.Contains(r.Hosts, host) {
		if why := r.objection(req.URL); why != "" {
			if req.Body != nil {
				_ = req.Body.Close() // as every transport does
			}
			return nil, &RefusedError{Host: host, Why: why}
		}
		transport = g.transport(r, req.URL.Scheme == "https")
	}
	return transport.RoundTrip(req) //nolint:wrapcheck // a transport hands on what it is handed
}

// CloseIdleConnections drops the connections that are kept for further requests.
func (g *Guard) CloseIdleConnections() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free.CloseIdleConnections()
	for _, t := range g.guarded {
		t.CloseIdleConnections()
	}
}

// objection is what can be said before the name is resolved, "" for nothing.
func (r Reach) objection(u *url.URL) string {
	if u.Scheme != "https" && len(r.Networks) == 0 {
		return "it is not https"
	}
	// Also where a proxy resolves names for us.
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return r.objectionTo(a, u.Scheme == "https")
	}
	return ""
}

// objectionTo says what speaks against an address, "" for nothing.
func (r Reach) objectionTo(a netip.Addr, isTLS bool) string {
	a = a.Unmap().WithZone("")
	switch {
	case r.allowed(a):
		return ""
	case !isTLS:
		return fmt.Sprintf("%s is spoken to without TLS", a)
	case !public(a):
		return fmt.Sprintf("%s is not a public address", a)
	default:
		return ""
	}
}

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 15 * time.Second
)

// transport returns the one for the networks of r and the scheme.
func (g *Guard) transport(r Reach, isTLS bool) *http.Transport {
	key := fmt.Sprint(isTLS, r.Networks)
	g.mu.Lock()
	defer g.mu.Unlock()
	if t, ok := g.guarded[key]; ok {
		return t
	}
	t := g.free.Clone()
	free := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	guarded := &net.Dialer{
		Timeout: dialTimeout, KeepAlive: keepAlive,
		Control: func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("address to dial: %w", err)
			}
			if why := r.objectionTo(a.Addr(), isTLS); why != "" {
				return &RefusedError{Host: address, Why: why}
			}
			return nil
		},
	}
	// A proxy that the environment names is the operator's own. It resolves names
	// in our place, so it has to refuse what we would.
	var proxies sync.Map
	if proxy := t.Proxy; proxy != nil {
		t.Proxy = func(req *http.Request) (*url.URL, error) {
			p, err := proxy(req)
			if p != nil {
				proxies.Store(HostPort(p), true)
			}
			return p, err
		}
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if _, ok := proxies.Load(address); ok {
			return free.DialContext(ctx, network, address)
		}
		return guarded.DialContext(ctx, network, address)
	}
	g.guarded[key] = t
	return t
}

// reserved are networks that are not the public internet, beside what netip
// knows of: shared and benchmarking ranges, those that embed another address,
// and metadata services among them.
func reserved() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
		"2002::/16", "fec0::/10",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// public reports whether the address is one of the public internet.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	return !slices.ContainsFunc(reserved(), func(p netip.Prefix) bool { return p.Contains(a) })
}
