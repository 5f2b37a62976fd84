// Package sink is an S3-compatible server that hashes what it receives and
// throws it away: the destination of the benchmark. It keeps the size, ETag,
// checksum and times of each object, so that a run can prove that every byte
// arrived in its place, and writes nothing to disk, whose speed would otherwise
// be what is measured.
//
// It checks no signature and answers every bucket name. It checks what a mover
// could get wrong: lengths, Content-MD5, checksums in headers and in trailers,
// the order and ETags of parts, and the full-object CRC64-NVME.
package sink

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	bufferSize = 256 << 10
	maxXML     = 2 << 20 // 10,000 parts of a CompleteMultipartUpload take about half of it

	checksumHeader = "x-amz-checksum-"
	crc64Header    = checksumHeader + "crc64nvme"
	metaHeader     = "X-Amz-Meta-"
)

// Server is the sink. Its methods may be called from any goroutine.
type Server struct {
	buffers sync.Pool

	mu      sync.Mutex // guards all below
	keys    map[string]*record
	uploads map[string]*upload
	serial  int // of upload ids
	totals  totals
}

type totals struct {
	received int64
	puts     int
}

// record is what is known of one "bucket/key", from its first byte on.
type record struct {
	stats  KeyStats
	etag   string
	header http.Header // Content-Type and user metadata, echoed by HEAD
}

// Stats is what arrived since the last reset.
type Stats struct {
	Objects  int                 `json:"objects"`  // complete ones
	Bytes    int64               `json:"bytes"`    // their sizes
	Received int64               `json:"received"` // payload bytes of every PUT, repeated and abandoned ones included
	Puts     int                 `json:"puts"`     // accepted PUTs of objects and parts
	Keys     map[string]KeyStats `json:"keys"`     // by "bucket/key", incomplete ones included
}

// KeyStats is what arrived under one key. Completed is zero until the object is
// there; Size and CRC64NVME are valid from then on.
type KeyStats struct {
	Size      int64     `json:"size"`
	CRC64NVME string    `json:"crc64nvme"` // of the whole object, base64
	Parts     int       `json:"parts"`     // 1 for a single PUT
	FirstByte time.Time `json:"first_byte"`
	LastByte  time.Time `json:"last_byte"` // of the PUT that ended last
	Completed time.Time `json:"completed,omitzero"`
}

// New returns an empty sink.
func New() *Server {
	s := &Server{buffers: sync.Pool{New: func() any {
		b := make([]byte, bufferSize)
		return &b
	}}}
	s.Reset()
	return s
}

// Reset forgets everything. A PUT in flight is counted by the time it ends.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = map[string]*record{}
	s.uploads = map[string]*upload{}
	s.totals = totals{}
}

// Stats returns a copy of the counters and of every key's.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Received: s.totals.received, Puts: s.totals.puts, Keys: make(map[string]KeyStats, len(s.keys))}
	for name, r := range s.keys {
		st.Keys[name] = r.stats
		if !r.stats.Completed.IsZero() {
			st.Objects++
			st.Bytes += r.stats.Size
		}
	}
	return st
}

// apiError is an answer in S3's error format.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func (e *apiError) body() any {
	return struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: e.code, Message: e.message}
}

func badRequest(code, format string, args ...any) error {
	return &apiError{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

func notFound(code, format string, args ...any) error {
	return &apiError{http.StatusNotFound, code, fmt.Sprintf(format, args...)}
}

func notImplemented(r *http.Request) error {
	return &apiError{http.StatusNotImplemented, "NotImplemented", r.Method + " " + r.URL.RequestURI()}
}

// ServeHTTP speaks S3, and beside it GET /_stats and POST /_reset.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /_stats":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Stats()) // a reader that went away is its own affair
		return
	case "POST /_reset":
		s.Reset()
		return
	}

	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	var answer any
	var err error
	switch {
	case bucket == "":
		answer = struct {
			XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		}{}
	case key == "":
		answer, err = s.serveBucket(r, bucket)
	default:
		answer, err = s.serveObject(w, r, bucket, key)
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	if answer != nil {
		writeXML(w, http.StatusOK, answer)
	}
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	api, ok := errors.AsType[*apiError](err)
	if !ok {
		api = &apiError{http.StatusBadRequest, "IncompleteBody", err.Error()}
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(api.status)
		return
	}
	writeXML(w, api.status, api.body())
}

func writeXML(w http.ResponseWriter, status int, body any) {
	text, err := xml.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), text...)) //nolint:gosec // XML to programs; one that went away knows it
}

func (s *Server) serveBucket(r *http.Request, bucket string) (any, error) {
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodHead, r.Method == http.MethodPut:
		return nil, nil
	case r.Method != http.MethodGet:
		return nil, notImplemented(r)
	case query.Has("location"):
		return struct {
			XMLName xml.Name `xml:"LocationConstraint"`
		}{}, nil
	case query.Has("versioning"):
		return struct {
			XMLName xml.Name `xml:"VersioningConfiguration"`
		}{}, nil
	case query.Has("object-lock"):
		return nil, notFound("ObjectLockConfigurationNotFoundError", "%s has none", bucket)
	case query.Has("policy"):
		return nil, notFound("NoSuchBucketPolicy", "%s has none", bucket)
	case query.Has("uploads"):
		return s.listUploads(bucket), nil
	case query.Has("list-type") || !hasSubresource(query):
		return s.listObjects(bucket, query)
	default:
		return nil, notImplemented(r)
	}
}

// hasSubresource tells a bucket's configuration from a version 1 listing, whose
// parameters are known.
func hasSubresource(query url.Values) bool {
	for name := range query {
		switch name {
		case "prefix", "delimiter", "marker", "max-keys", "encoding-type", "x-id":
		default:
			return true
		}
	}
	return false
}

func (s *Server) serveObject(w http.ResponseWriter, r *http.Request, bucket, key string) (any, error) {
	name := bucket + "/" + key
	query := r.URL.Query()
	id := query.Get("uploadId")
	switch {
	case r.Header.Get("X-Amz-Copy-Source") != "":
		return nil, notImplemented(r)
	case r.Method == http.MethodPut && id != "":
		return nil, s.putPart(w, r, name, id, query.Get("partNumber"))
	case r.Method == http.MethodPut && onlyXID(query):
		return nil, s.putObject(w, r, name)
	case r.Method == http.MethodPost && query.Has("uploads"):
		return s.begin(w, r, bucket, key), nil
	case r.Method == http.MethodPost && id != "":
		return s.complete(r, bucket, key, id)
	case r.Method == http.MethodDelete && id != "":
		return nil, s.abort(w, name, id)
	case r.Method == http.MethodDelete && onlyXID(query):
		s.mu.Lock()
		delete(s.keys, name)
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
		return nil, nil
	case r.Method == http.MethodGet && id != "":
		return s.listParts(bucket, key, id)
	case r.Method == http.MethodHead:
		return nil, s.head(w, name)
	default:
		return nil, notImplemented(r)
	}
}

// onlyXID: the AWS SDKs name the operation in x-id; anything else in the query
// asks for something other than the object.
func onlyXID(query url.Values) bool {
	return len(query) == 0 || len(query) == 1 && query.Has("x-id")
}

// record returns the entry of a key, s.mu held.
func (s *Server) record(name string) *record {
	rec := s.keys[name]
	if rec == nil {
		rec = &record{}
		s.keys[name] = rec
	}
	return rec
}

func keptHeader(h http.Header) http.Header {
	kept := http.Header{}
	for name, values := range h {
		if name == "Content-Type" || strings.HasPrefix(name, metaHeader) {
			kept[name] = values
		}
	}
	return kept
}

func quote(etag string) string { return `"` + etag + `"` }

func (s *Server) head(w http.ResponseWriter, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.keys[name]
	if rec == nil || rec.stats.Completed.IsZero() {
		return notFound("NoSuchKey", "%s", name)
	}
	maps.Copy(w.Header(), rec.header)
	w.Header().Set("ETag", quote(rec.etag))
	w.Header().Set("Last-Modified", rec.stats.Completed.UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Length", strconv.FormatInt(rec.stats.Size, 10))
	return nil
}
