package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// gate stands before one account's platform, or before staging: it records
// when each call began and ended and what it carried, holds it to a pace, and
// misbehaves on request. It knows nothing of any protocol.
type gate struct {
	name string
	next http.Handler
	pace int // bytes a second of each body, either way; 0 for no bound

	mu    sync.Mutex
	draws *rand.Rand
	fault fault         // in force; the zero fault for none
	lag   time.Duration // before a call that carries a part
	calls []gateCall
	hits  map[string]int      // calls hit, by kind of fault
	keys  map[string]struct{} // paths whose answer was falsified
}

// checkerHeader marks the checker's own fetches, which are let through.
const checkerHeader = "Chaos-Checker"

// gateCall is one call as it came to the gate.
type gateCall struct {
	Start, End time.Time
	Method     string
	Path       string
	Identity   string // the same for a call that is made again
	Length     int64  // bytes of body announced
	Received   int64  // bytes of body read
	Status     int    // that the caller was answered; 0 for none
	Fault      string // kind that hit it, "" for none
}

func (c gateCall) ok() bool { return c.Status >= 200 && c.Status < 300 }

// fault is one way in which a gate misbehaves, and how often.
type fault struct {
	kind   string
	chance float64 // of each call
	delay  time.Duration
	reset  bool // of a call that is carried out: the connection breaks off, else the answer is an error
	data   bool // hits only calls that carry a part, or a GET of an object
}

func newGate(name string, seed uint64, pace int, next http.Handler) *gate {
	return &gate{
		name: name, next: next, pace: pace, hits: make(map[string]int), keys: make(map[string]struct{}),
		draws: rand.New(rand.NewPCG(seed, uint64(len(name)))), //nolint:gosec // to be repeatable is the point
	}
}

// newProxy passes on to an S3 server. Host and path stay as they came, so that
// signatures hold.
func newProxy(target string, transport http.RoundTripper) (http.Handler, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
			r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, r.In.URL.RawPath
		},
		Transport:    transport,
		ErrorLog:     log.New(io.Discard, "", 0), // of bodies that break off, which is what we ask for
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ModifyResponse: func(r *http.Response) error {
			if change, ok := r.Request.Context().Value(bodyChange{}).(func(io.ReadCloser, int64) io.ReadCloser); ok && r.Request.Method == http.MethodGet {
				r.Body = change(r.Body, r.ContentLength)
			}
			return nil
		},
	}, nil
}

// bodyChange is the key of a function in a request's context that the body of
// its answer goes through.
type bodyChange struct{}

// set puts the fault into force, in place of the one before.
func (g *gate) set(f fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = f
}

// log returns the calls that have ended so far.
func (g *gate) log() []gateCall {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]gateCall{}, g.calls...)
}

// setLag has every part wait so long before it is carried out.
func (g *gate) setLag(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lag = d
}

func (g *gate) lags(length int64) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if length < 4*kib {
		return 0
	}
	return g.lag
}

func (g *gate) hit(kind string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hits[kind]
}

func (g *gate) falsified(path string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.keys[path]
	return ok
}

// draw says which fault hits the call, if any.
func (g *gate) draw(r *http.Request) fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.fault
	if f.kind == "" || g.draws.Float64() >= f.chance {
		return fault{}
	}
	if f.data && r.ContentLength < 4096 && (r.Method != http.MethodGet || strings.HasSuffix(r.URL.Path, "/") || r.URL.RawQuery != "") {
		return fault{}
	}
	f.reset = g.draws.IntN(2) == 0
	g.hits[f.kind]++
	if f.kind == stagingOther || f.kind == stagingShifted {
		g.keys[r.URL.Path] = struct{}{}
	}
	return f
}

// ServeHTTP records the call and lets a fault have its way.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(checkerHeader) != "" {
		g.next.ServeHTTP(w, r)
		return
	}
	call := gateCall{Start: time.Now(), Method: r.Method, Path: r.URL.Path, Length: max(r.ContentLength, 0), Identity: identityOf(r)}
	body := &counted{ReadCloser: r.Body, r: paced(r.Context(), r.Body, g.pace)}
	r.Body = body
	out := &answer{ResponseWriter: w, ctx: r.Context(), pace: g.pace}
	f := g.draw(r)
	call.Fault = f.kind
	defer func() {
		call.End, call.Received, call.Status = time.Now(), body.n, out.status
		g.mu.Lock()
		g.calls = append(g.calls, call)
		g.mu.Unlock()
	}()
	if lag := g.lags(r.ContentLength); lag > 0 && !wait(r.Context(), lag) {
		return
	}
	g.serve(out, r, f)
}

func (g *gate) serve(w *answer, r *http.Request, f fault) {
	switch f.kind {
	case upstreamDelay:
		select {
		case <-time.After(f.delay):
		case <-r.Context().Done():
			return
		}
	case upstreamReset, stagingReset:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		w.reset()
		return
	case upstream5xx, staging5xx:
		w.refuse(http.StatusServiceUnavailable, 0)
		return
	case upstreamThrottle:
		w.refuse(http.StatusTooManyRequests, 1)
		return
	case upstreamApplied:
		// The platform carries the call out whether the caller waits or not.
		g.next.ServeHTTP(&dropped{header: make(http.Header)}, r)
		if f.reset {
			w.reset()
		} else {
			w.refuse(http.StatusBadGateway, 0)
		}
		return
	case upstreamDamage:
		body, ok := r.Body.(*counted)
		if ok && r.ContentLength > 0 {
			body.flipAt = r.ContentLength / 2
		}
	case stagingSlow:
		w.pace = 512 * kib
	case stagingShort:
		r = withBody(r, func(b io.ReadCloser, n int64) io.ReadCloser { return &cut{ReadCloser: b, left: n / 2} })
	case stagingOther:
		r = withBody(r, func(b io.ReadCloser, n int64) io.ReadCloser {
			return &counted{ReadCloser: b, r: b, flipAt: max(n/2, 1)}
		})
	case stagingShifted:
		r = withBody(r, func(b io.ReadCloser, _ int64) io.ReadCloser { return &shifted{ReadCloser: b} })
	}
	g.next.ServeHTTP(w, r)
}

func withBody(r *http.Request, change func(io.ReadCloser, int64) io.ReadCloser) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), bodyChange{}, change))
}

// identityOf names what a call is about, so that one that is made again has
// the same. What differs from try to try, such as signatures, is left out.
func identityOf(r *http.Request) string {
	query := r.URL.Query()
	var id strings.Builder
	id.WriteString(r.Method + " " + r.URL.Path)
	for _, name := range []string{"Action", "fileSha", "offset", "uploadId", "partNumber"} {
		if v := query.Get(name); v != "" {
			id.WriteString(" " + name + "=" + v)
		}
	}
	for _, name := range []string{"Key", "UploadBatch"} {
		if v := r.Header.Get(name); v != "" {
			id.WriteString(" " + v)
		}
	}
	return id.String()
}

// answer is the response as it goes out.
type answer struct {
	http.ResponseWriter

	ctx    context.Context // lives as long as the request that it answers
	pace   int
	status int
	body   io.Writer
}

// Unwrap lets the platforms take over the connection, to reset it.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.pace == 0 {
		return a.ResponseWriter.Write(p) //nolint:wrapcheck // is a writer itself
	}
	if a.body == nil {
		a.body = &slowWriter{ctx: a.ctx, w: a.ResponseWriter, limiter: rate.NewLimiter(rate.Limit(a.pace), burstOf(a.pace))}
	}
	return a.body.Write(p) //nolint:wrapcheck // is a writer itself
}

func (a *answer) refuse(status, retryAfter int) {
	if retryAfter > 0 {
		a.Header().Set("Retry-After", fmt.Sprint(retryAfter))
	}
	http.Error(a, "asked to fail", status)
}

// reset breaks the connection off so that the caller sees a reset, not an end.
func (a *answer) reset() {
	conn, _, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return // it is gone already
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else the end is orderly
	}
	_ = conn.Close()
}

// dropped is an answer that nobody gets.
type dropped struct{ header http.Header }

func (d *dropped) Header() http.Header         { return d.header }
func (d *dropped) Write(p []byte) (int, error) { return len(p), nil }
func (d *dropped) WriteHeader(int)             {}
