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
	"crypto/md5" //nolint:gosec // S3 defines ETag and Content-MD5 by it
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/crc64nvme"
	"github.com/minio/minio-go/v7"
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

type upload struct {
	key    string // "bucket/key"
	header http.Header
	parts  map[int]part
}

type part struct {
	size  int64
	etag  string
	crc64 string // base64, as S3 writes it
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

func (s *Server) putObject(w http.ResponseWriter, r *http.Request, name string) error {
	p, err := s.receive(w, r, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.record(name)
	rec.etag, rec.header = p.etag, keptHeader(r.Header)
	rec.stats.Size, rec.stats.CRC64NVME, rec.stats.Parts = p.size, p.crc64, 1
	rec.stats.Completed = time.Now()
	return nil
}

func (s *Server) putPart(w http.ResponseWriter, r *http.Request, name, id, number string) error {
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > 10_000 {
		return badRequest("InvalidArgument", "part number %q", number)
	}
	if _, err := s.uploadOf(name, id); err != nil {
		return err
	}
	p, err := s.receive(w, r, name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.uploads[id]
	if up == nil {
		return notFound("NoSuchUpload", "%s of %s ended meanwhile", id, name)
	}
	up.parts[n] = p
	return nil
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

// receive hashes one body to its end and checks what the client said of it. On
// success the answer's ETag and checksum headers are set.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, name string) (part, error) {
	body := io.Reader(r.Body)
	want := r.ContentLength
	var chunked *chunkedReader
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		n, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil {
			return part{}, badRequest("InvalidRequest", "decoded content length: %v", err)
		}
		want = n
		chunked = newChunkedReader(r.Body)
		body = chunked
	}
	if want < 0 {
		return part{}, &apiError{http.StatusLengthRequired, "MissingContentLength", "a length is needed"}
	}

	sums := newSums(r.Header)
	size, err := s.drain(body, sums, name)
	if err != nil {
		return part{}, fmt.Errorf("receive %s: %w", name, err)
	}
	if size != want {
		return part{}, badRequest("IncompleteBody", "%d of %d bytes", size, want)
	}
	var trailer map[string]string
	if chunked != nil {
		trailer = chunked.trailer
	}
	if err := sums.check(r.Header, trailer); err != nil {
		return part{}, err
	}

	p := part{size: size, etag: sums.etag(size), crc64: encodeSum(sums.crc64)}
	w.Header().Set("ETag", quote(p.etag))
	w.Header().Set(crc64Header, p.crc64)
	s.mu.Lock()
	s.totals.puts++
	s.mu.Unlock()
	return p, nil
}

// drain reads a body to its end and notes when its first and last bytes came.
func (s *Server) drain(body io.Reader, sums *sums, name string) (int64, error) {
	pooled := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(pooled)
	buf := *pooled

	var size int64
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if size == 0 {
				s.firstByte(name)
			}
			sums.write(buf[:n])
			size += int64(n)
		}
		if err == nil {
			continue
		}
		s.mu.Lock()
		s.totals.received += size
		if size > 0 {
			s.record(name).stats.LastByte = time.Now()
		}
		s.mu.Unlock()
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		return size, fmt.Errorf("after %d bytes: %w", size, err)
	}
}

func (s *Server) firstByte(name string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.record(name); rec.stats.FirstByte.IsZero() {
		rec.stats.FirstByte = now
	}
}

// sums are the digests of one body: CRC64-NVME always, for it costs next to
// nothing, and whatever else the client announced.
type sums struct {
	crc64 hash.Hash
	md5   hash.Hash            // nil unless Content-MD5 asks for it: it is slower than the network here
	other map[string]hash.Hash // by header name
}

func newSums(h http.Header) *sums {
	s := &sums{crc64: crc64nvme.New(), other: map[string]hash.Hash{}}
	if h.Get("Content-Md5") != "" {
		s.md5 = md5.New() //nolint:gosec // see the import
	}
	announced := strings.Split(strings.ToLower(h.Get("X-Amz-Trailer")), ",")
	for name := range h {
		announced = append(announced, strings.ToLower(name))
	}
	for _, name := range announced {
		switch strings.TrimSpace(name) {
		case checksumHeader + "crc32":
			s.other[checksumHeader+"crc32"] = crc32.NewIEEE()
		case checksumHeader + "crc32c":
			s.other[checksumHeader+"crc32c"] = crc32.New(crc32.MakeTable(crc32.Castagnoli))
		case crc64Header:
			s.other[crc64Header] = s.crc64
		}
	}
	return s
}

func (s *sums) write(b []byte) {
	_, _ = s.crc64.Write(b) // hashes do not fail
	if s.md5 != nil {
		_, _ = s.md5.Write(b)
	}
	for _, h := range s.other {
		if h != s.crc64 {
			_, _ = h.Write(b)
		}
	}
}

// check compares with what the client sent, in headers or in the trailer. A
// trailer that was announced and did not come is an error too.
func (s *sums) check(header http.Header, trailer map[string]string) error {
	if s.md5 != nil && header.Get("Content-Md5") != encodeSum(s.md5) {
		return badRequest("BadDigest", "Content-MD5 is %s here", encodeSum(s.md5))
	}
	for name, h := range s.other {
		sent := header.Get(name)
		if sent == "" {
			sent = trailer[name]
		}
		if got := encodeSum(h); sent != got {
			return badRequest("BadDigest", "%s is %s here, %q was sent", name, got, sent)
		}
	}
	return nil
}

// etag is the MD5 where it was computed anyway. Otherwise it is made to look
// unlike one, so that no client takes it for one and compares.
func (s *sums) etag(size int64) string {
	if s.md5 != nil {
		return hex.EncodeToString(s.md5.Sum(nil))
	}
	return fmt.Sprintf("%x-%x-crc64nvme", s.crc64.Sum(nil), size)
}

func encodeSum(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

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

func (s *Server) uploadOf(name, id string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.uploads[id]
	if up == nil || up.key != name {
		return nil, notFound("NoSuchUpload", "%s of %s", id, name)
	}
	return up, nil
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request, bucket, key string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	id := "upload-" + strconv.Itoa(s.serial)
	s.uploads[id] = &upload{key: bucket + "/" + key, header: keptHeader(r.Header), parts: map[int]part{}}
	for _, name := range []string{"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type"} {
		if v := r.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	return struct {
		XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string   //nolint:revive // S3's spelling
	}{Bucket: bucket, Key: key, UploadId: id}
}

func (s *Server) abort(w http.ResponseWriter, name, id string) error {
	if _, err := s.uploadOf(name, id); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.uploads, id)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// complete assembles an upload from the parts that the client names, in
// ascending order; parts not named are dropped, as S3 does.
func (s *Server) complete(r *http.Request, bucket, key, id string) (any, error) {
	var named struct {
		Parts []struct {
			PartNumber int
			ETag       string
		} `xml:"Part"`
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxXML))
	if err != nil {
		return nil, fmt.Errorf("read list of parts: %w", err)
	}
	// Some clients frame even this body in aws-chunked.
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		if text, err = io.ReadAll(newChunkedReader(strings.NewReader(string(text)))); err != nil {
			return nil, fmt.Errorf("read list of parts: %w", err)
		}
	}
	if err := xml.Unmarshal(text, &named); err != nil || len(named.Parts) == 0 {
		return nil, badRequest("MalformedXML", "list of parts: %v", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	name := bucket + "/" + key
	up := s.uploads[id]
	if up == nil || up.key != name {
		return nil, notFound("NoSuchUpload", "%s of %s", id, name)
	}
	var size int64
	last := 0
	parts := make([]minio.ObjectPart, 0, len(named.Parts))
	for _, n := range named.Parts {
		p, ok := up.parts[n.PartNumber]
		if !ok || strings.Trim(n.ETag, `"`) != p.etag {
			return nil, badRequest("InvalidPart", "part %d with ETag %s", n.PartNumber, n.ETag)
		}
		if n.PartNumber <= last {
			return nil, badRequest("InvalidPartOrder", "part %d after part %d", n.PartNumber, last)
		}
		last = n.PartNumber
		size += p.size
		parts = append(parts, minio.ObjectPart{PartNumber: n.PartNumber, Size: p.size, ChecksumCRC64NVME: p.crc64})
	}
	whole, err := minio.ChecksumCRC64NVME.FullObjectChecksum(parts)
	if err != nil {
		return nil, fmt.Errorf("combine checksums of %s: %w", name, err)
	}
	crc64 := whole.Encoded()
	if sent := r.Header.Get(crc64Header); sent != "" && sent != crc64 {
		return nil, badRequest("BadDigest", "crc64nvme of %s is %s here, %s was sent", name, crc64, sent)
	}

	etag := fmt.Sprintf("%x-%d", binary.BigEndian.Uint64(whole.Raw()), len(parts))
	rec := s.record(name)
	rec.etag, rec.header = etag, up.header
	rec.stats.Size, rec.stats.CRC64NVME, rec.stats.Parts = size, crc64, len(parts)
	rec.stats.Completed = time.Now()
	delete(s.uploads, id)
	return struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
		ChecksumCRC64NVME string
		ChecksumType      string
	}{Bucket: bucket, Key: key, ETag: quote(etag), ChecksumCRC64NVME: crc64, ChecksumType: "FULL_OBJECT"}, nil
}

func (s *Server) listParts(bucket, key, id string) (any, error) {
	up, err := s.uploadOf(bucket+"/"+key, id)
	if err != nil {
		return nil, err
	}
	type entry struct {
		PartNumber        int
		ETag              string
		Size              int64
		ChecksumCRC64NVME string
	}
	s.mu.Lock()
	entries := make([]entry, 0, len(up.parts))
	for n, p := range up.parts {
		entries = append(entries, entry{n, quote(p.etag), p.size, p.crc64})
	}
	s.mu.Unlock()
	slices.SortFunc(entries, func(a, b entry) int { return a.PartNumber - b.PartNumber })
	return struct {
		XMLName               xml.Name `xml:"ListPartsResult"`
		Bucket, Key, UploadId string   //nolint:revive // S3's spelling
		Part                  []entry
	}{Bucket: bucket, Key: key, UploadId: id, Part: entries}, nil
}

func (s *Server) listUploads(bucket string) any {
	type entry struct {
		Key, UploadId string //nolint:revive // S3's spelling
	}
	var entries []entry
	s.mu.Lock()
	for id, up := range s.uploads {
		if key, ok := strings.CutPrefix(up.key, bucket+"/"); ok {
			entries = append(entries, entry{key, id})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Key+a.UploadId, b.Key+b.UploadId) })
	return struct {
		XMLName xml.Name `xml:"ListMultipartUploadsResult"`
		Bucket  string
		Upload  []entry
	}{Bucket: bucket, Upload: entries}
}

type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	MaxKeys               int
	KeyCount              int
	IsTruncated           bool
	NextMarker            string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listed
	CommonPrefixes        []commonPrefix
}

type listed struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
}

type commonPrefix struct{ Prefix string }

// listObjects answers both versions of the listing: the marker of one is the
// continuation token of the other, a key or a common prefix.
func (s *Server) listObjects(bucket string, query url.Values) (any, error) {
	l := listing{Name: bucket, Prefix: query.Get("prefix"), Delimiter: query.Get("delimiter"), MaxKeys: 1000}
	if v := query.Get("max-keys"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return nil, badRequest("InvalidArgument", "max-keys %q", v)
		}
		l.MaxKeys = min(n, l.MaxKeys)
	}
	encode := func(key string) string { return key }
	if query.Get("encoding-type") == "url" {
		l.EncodingType = "url"
		encode = url.QueryEscape
	}
	after := max(query.Get("marker"), query.Get("start-after"), query.Get("continuation-token"))

	s.mu.Lock()
	defer s.mu.Unlock()
	last := ""
	for _, key := range s.completed(bucket, l.Prefix) {
		entry := key
		common := false
		if i := strings.Index(key[len(l.Prefix):], l.Delimiter); l.Delimiter != "" && i >= 0 {
			entry, common = key[:len(l.Prefix)+i+len(l.Delimiter)], true
		}
		if entry <= after || entry == last {
			continue
		}
		if l.KeyCount == l.MaxKeys {
			l.IsTruncated = true
			l.NextMarker, l.NextContinuationToken = encode(last), last
			break
		}
		last = entry
		l.KeyCount++
		if common {
			l.CommonPrefixes = append(l.CommonPrefixes, commonPrefix{encode(entry)})
			continue
		}
		rec := s.keys[bucket+"/"+key]
		l.Contents = append(l.Contents, listed{
			Key: encode(key), ETag: quote(rec.etag), Size: rec.stats.Size, StorageClass: "STANDARD",
			LastModified: rec.stats.Completed.UTC().Format("2006-01-02T15:04:05.000Z"),
		})
	}
	return l, nil
}

// completed returns the keys of complete objects in order, s.mu held.
func (s *Server) completed(bucket, prefix string) []string {
	var keys []string
	for name, rec := range s.keys {
		key, ok := strings.CutPrefix(name, bucket+"/")
		if ok && strings.HasPrefix(key, prefix) && !rec.stats.Completed.IsZero() {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
