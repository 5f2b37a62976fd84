package upstreams

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Calls that only a Meter tells apart. Those that COS has as well go by COS's
// names.
const (
	S3CreateMultipartUpload = "CreateMultipartUpload"
	s3Other                 = "other"
)

// AddFaults puts faults into force. Faults that damage bytes or lists have no
// effect here.
func (m *Meter) AddFaults(faults ...Fault) { m.local.AddFaults(faults...) }

// s3Action names the call.
func s3Action(method string, query url.Values) string {
	upload := query.Has("uploadId")
	switch {
	case method == http.MethodPost && query.Has("uploads"):
		return S3CreateMultipartUpload
	case method == http.MethodPost && upload:
		return COSComplete
	case method == http.MethodPut && upload:
		return COSUploadPart
	case method == http.MethodPut:
		return COSPutObject
	case method == http.MethodDelete && upload:
		return COSAbort
	case method == http.MethodGet && upload:
		return COSListParts
	case method == http.MethodHead:
		return COSHeadObject
	}
	return s3Other
}

// serveCall passes the call on, or does as a fault says, and logs it.
func (m *Meter) serveCall(w http.ResponseWriter, r *http.Request) {
	c := Call{At: time.Now(), Method: r.Method, Action: s3Action(r.Method, r.URL.Query()), File: strings.TrimPrefix(r.URL.Path, "/")}
	c.Part, _ = strconv.Atoi(r.URL.Query().Get("partNumber"))
	f := m.faults.hit(c.Action, "", c.File)
	if !f.delay(r.Context(), &c) {
		m.calls.add(c)
		return
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{slowed(r.Context(), r.Body, f.BytesPerSecond), r.Body}
	if !f.fails() {
		said := &unsaid{ResponseWriter: w}
		m.proxy.ServeHTTP(said, r)
		c.Outcome = "ok"
		if said.status >= http.StatusBadRequest {
			c.Outcome = strconv.Itoa(said.status)
		}
		m.calls.add(c)
		return
	}
	if f.Apply {
		m.proxy.ServeHTTP(&unsaid{header: make(http.Header)}, r)
	}
	f.drain(r.Body, maxDrain)
	c.Outcome = f.outcome("")
	m.calls.add(c)
	m.fail(w, r, f)
}

// fail answers as the fault says.
func (m *Meter) fail(w http.ResponseWriter, r *http.Request, f Fault) {
	switch {
	case !f.Reset && f.ErrorCode != "":
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(max(f.Status, http.StatusBadRequest))
		_ = xml.NewEncoder(w).Encode(&cosRefusal{Code: f.ErrorCode, Message: asked(r)}) // the client may be gone
	default:
		f.answered(w)
	}
}

// unsaid notes the status of an answer. Without a writer it keeps the whole
// answer from the caller.
type unsaid struct {
	http.ResponseWriter // nil to say nothing

	header http.Header
	status int
}

func (u *unsaid) Header() http.Header {
	if u.ResponseWriter == nil {
		return u.header
	}
	return u.ResponseWriter.Header()
}

func (u *unsaid) WriteHeader(status int) {
	u.status = status
	if u.ResponseWriter != nil {
		u.ResponseWriter.WriteHeader(status)
	}
}

func (u *unsaid) Write(p []byte) (int, error) {
	if u.ResponseWriter == nil {
		return len(p), nil
	}
	return u.ResponseWriter.Write(p) //nolint:wrapcheck // the proxy's own
}

// Unwrap lets the proxy flush.
func (u *unsaid) Unwrap() http.ResponseWriter { return u.ResponseWriter }
