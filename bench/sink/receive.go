package sink

import (
	"crypto/md5" //nolint:gosec // S3 defines ETag and Content-MD5 by it
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/crc64nvme"
)

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
