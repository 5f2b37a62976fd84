package upstreams

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Meter is a reverse proxy in front of an S3 server. It counts the bytes of
// bodies by object key, which shows bytes that are sent twice, and misbehaves on
// request. It streams, and passes host and path on unchanged, so signatures hold.
type Meter struct {
	local

	proxy          *httputil.ReverseProxy
	bytesPerSecond int

	mu    sync.Mutex
	files map[string]*MeterFile // by bucket/key
}

// MeterFile is what was received for one object.
type MeterFile struct {
	Key           string `json:"key"`            // bucket/key
	BytesReceived int64  `json:"bytes_received"` // payload of PUT bodies, repeats and broken ones included
	Puts          int    `json:"puts"`           // PUT requests: parts, or the object in one
	Completes     int    `json:"completes"`      // CompleteMultipartUpload requests
}

// NewMeter returns a proxy to target, the server's URL. A positive
// bytesPerSecond bounds each request's body.
func NewMeter(target string, transport http.RoundTripper, bytesPerSecond int) (*Meter, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("meter: %w", err)
	}
	return &Meter{
		proxy: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(u)
				r.Out.Host = r.In.Host // it is signed
				// The path must reach the server as it was signed, escapes included.
				r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, r.In.URL.RawPath
			},
			Transport:  transport,
			BufferPool: newBuffers(),
			// The caller sees it when the server breaks off, perhaps because it
			// does not want to read a body that it refuses.
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
		},
		bytesPerSecond: bytesPerSecond,
		files:          make(map[string]*MeterFile),
	}, nil
}

// Files returns what was received, by key.
func (m *Meter) Files() []MeterFile {
	m.mu.Lock()
	defer m.mu.Unlock()
	files := make([]MeterFile, 0, len(m.files))
	for _, key := range slices.Sorted(maps.Keys(m.files)) {
		files = append(files, *m.files[key])
	}
	return files
}

// ServeHTTP counts and passes on, and answers /_local.
func (m *Meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.serveLocal(w, r, func() any { return m.Files() }) {
		return
	}
	key := strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case r.Method == http.MethodPut && strings.Contains(key, "/"):
		body := &metered{ReadCloser: r.Body, left: r.ContentLength, meter: m, key: key}
		// A chunked body announces its payload; its framing is not counted.
		if n, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64); err == nil {
			body.left = n
		}
		body.r = slowed(r.Context(), r.Body, m.bytesPerSecond)
		m.count(key, MeterFile{Puts: 1})
		r.Body = body
	case r.Method == http.MethodPost && r.URL.Query().Has("uploadId"):
		m.count(key, MeterFile{Completes: 1})
	}
	m.serveCall(w, r)
}

func (m *Meter) count(key string, more MeterFile) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[key]
	if f == nil {
		f = &MeterFile{Key: key}
		m.files[key] = f
	}
	f.BytesReceived += more.BytesReceived
	f.Puts += more.Puts
	f.Completes += more.Completes
}

// metered counts what is read of a body, up to its announced payload.
type metered struct {
	io.ReadCloser
	r     io.Reader
	left  int64 // bytes of payload not yet counted
	meter *Meter
	key   string
}

func (b *metered) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	counted := min(int64(n), b.left)
	if counted > 0 {
		b.left -= counted
		b.meter.count(b.key, MeterFile{BytesReceived: counted})
	}
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// buffers keep the proxy's copying free of garbage.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{pool: sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}}
}

// Get returns a buffer.
func (b *buffers) Get() []byte {
	buf, _ := b.pool.Get().(*[]byte)
	return *buf
}

// Put takes it back.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }
