package upstreams

import (
	"crypto/md5" //nolint:gosec // the protocol's ETags are MD5
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/hashing"
)

// uploadInfo hands out headers for parts, valid for InfoLife from now on. The
// caller holds the lock.
func (s *SMH) uploadInfo(c *smhCall, t *smhTask) map[string]any {
	s.issued++
	now := time.Now()
	expires := now.Add(s.config.InfoLife)
	token := "local-token-" + strconv.FormatUint(s.issued, 10)
	times := fmt.Sprintf("%d;%d", now.Unix(), expires.Unix())
	headers := map[string]any{
		"Content-Type":         "application/octet-stream",
		"Authorization":        s.authorize(t, token, times),
		"x-cos-security-token": token,
	}
	if t.speed > 0 {
		headers["x-cos-traffic-limit"] = 8 * t.speed // a number, in bits
	}
	return map[string]any{
		"domain": c.r.Host, "path": t.object, "uploadId": t.uploadID, "headers": headers,
		"confirmKey": t.confirmKey, "expiration": isoTime(expires), "availableDomainNum": 1,
	}
}

// authorize signs one upload's parts. Callers treat the signature as opaque, so
// it covers whatever this server wants to be sure of.
func (s *SMH) authorize(t *smhTask, token, times string) string {
	mac := macOf(s.key, []byte(strings.Join([]string{t.object, t.uploadID, token, times}, "\n")))
	return "q-sign-algorithm=sha1&q-ak=local&q-sign-time=" + times + "&q-key-time=" + times +
		"&q-header-list=&q-url-param-list=&q-signature=" + hex.EncodeToString(mac)
}

// checkHeaders checks that a part came with the headers that were handed out for
// its upload, complete and unchanged. The caller holds the lock.
func (s *SMH) checkHeaders(c *smhCall, t *smhTask) smhAnswer {
	h := c.r.Header
	authorization, token := h.Get("Authorization"), h.Get("X-Cos-Security-Token")
	times, _, _ := strings.Cut(strings.TrimPrefix(authorization, "q-sign-algorithm=sha1&q-ak=local&q-sign-time="), "&")
	_, until, _ := strings.Cut(times, ";")
	// Both numbers are our own if the signature is right, and it is judged first.
	end, _ := strconv.ParseInt(until, 10, 64)
	number, _ := strconv.ParseUint(strings.TrimPrefix(token, "local-token-"), 10, 64)
	limit, kind := h.Get("X-Cos-Traffic-Limit"), h.Get("Content-Type")
	switch {
	case authorization != s.authorize(t, token, times):
		return smhRefuse("AccessDenied", "the headers are not those of this upload")
	case time.Now().Unix() >= end || number < t.oldest:
		return smhRefuse("AccessDenied", "Request has expired")
	case t.speed > 0 && limit != strconv.Itoa(8*t.speed):
		return smhRefuse("AccessDenied", "x-cos-traffic-limit is %q", limit)
	case s.config.Strict && kind != "application/octet-stream":
		return smhRefuse("AccessDenied", "Content-Type is %q", kind)
	}
	return smhAnswer{}
}

// part takes one part.
func (s *SMH) part(c *smhCall) smhAnswer {
	number, err := strconv.Atoi(c.query.Get("partNumber"))
	length := c.r.ContentLength
	t := c.task
	s.mu.Lock()
	var refused smhAnswer
	switch {
	case t == nil || t.object != c.r.URL.Path:
		refused = smhRefuse("NoSuchUpload", "there is no such upload")
	default:
		refused = s.checkHeaders(c, t)
	}
	s.sequence++
	sequence := s.sequence
	s.mu.Unlock()
	switch {
	case refused.code != "":
		return refused
	case err != nil || number < 1 || number > smhMaxParts:
		return smhRefuse("InvalidArgument", "partNumber %q is not from 1 to %d", c.query.Get("partNumber"), smhMaxParts)
	case length < 0:
		return smhRefuse("MissingContentLength", "there is no Content-Length")
	case length > smhMaxPart:
		return smhRefuse("EntityTooLarge", "a part of %d bytes", length)
	}
	p := smhPart{at: time.Now()}
	if s.config.Dir != "" {
		p.path = filepath.Join(s.config.Dir, fmt.Sprintf("%s-%d-%d", t.uploadID, number, sequence))
	}
	if err := p.receive(flipped(c, c.fault), length); err != nil {
		p.remove()
		return smhRefuse("IncompleteBody", "%v", err)
	}
	if want := c.r.Header.Get("Content-Md5"); want != "" {
		raw, err := base64.StdEncoding.DecodeString(want)
		if err != nil || hex.EncodeToString(raw) != p.md5 {
			p.remove()
			return smhRefuse("BadDigest", "Content-MD5 is not that of the body")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.state != smhOpen {
		p.remove()
		return smhRefuse("NoSuchUpload", "the upload is complete or was aborted")
	}
	if old, ok := t.parts[number]; ok {
		old.remove()
	}
	t.parts[number] = p
	return smhAnswer{status: http.StatusOK, header: map[string]string{
		"ETag": strconv.Quote(p.md5), "X-Cos-Hash-Crc64ecma": smhCRC(p.crc),
	}}
}

// receive reads a body of length bytes into the part's file and hashes it.
func (p *smhPart) receive(c io.Reader, length int64) error {
	crc, err := hashing.NewHash(hashing.CRC64ECMA)
	if err != nil {
		return fmt.Errorf("receive part: %w", err)
	}
	sum := md5.New() //nolint:gosec // see the import
	into := []io.Writer{sum, crc}
	var file *os.File
	if p.path != "" {
		if file, err = os.OpenFile(p.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return fmt.Errorf("receive part: %w", err)
		}
		into = append(into, file)
	}
	p.length, err = io.Copy(io.MultiWriter(into...), c)
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	if err == nil && p.length != length {
		err = fmt.Errorf("the body has %d bytes of %d", p.length, length)
	}
	if err != nil {
		return fmt.Errorf("receive part: %w", err)
	}
	p.md5, p.crc = hex.EncodeToString(sum.Sum(nil)), hashing.New(hashing.CRC64ECMA, crc.Sum(nil))
	return nil
}

func (p smhPart) remove() {
	if p.path != "" {
		_ = os.Remove(p.path) // it may not have been made
	}
}

// drop ends an unfinished task. The caller holds the lock.
func (t *smhTask) drop() {
	if t.state != smhOpen {
		return
	}
	t.state = smhGone
	for _, p := range t.parts {
		p.remove()
	}
	t.parts = nil
}

// assemble puts the parts together. Only the announced size tells how many there
// should be. The caller holds the lock.
func (t *smhTask) assemble(minPart int64) (*smhContent, smhAnswer) {
	content := &smhContent{library: t.library, object: t.object, hashes: t.claimed}
	crc := hashing.New(hashing.CRC64ECMA, make([]byte, hashing.CRC64ECMA.Size()))
	sums := md5.New() //nolint:gosec // see the import
	for n := 1; n <= len(t.parts); n++ {
		p, ok := t.parts[n]
		if !ok {
			return nil, smhRefuse("MultipartUploadIncomplete", "part %d is missing", n)
		}
		if p.length < minPart && n < len(t.parts) {
			return nil, smhRefuse("MultipartUploadPartTooSmall", "part %d has %d bytes", n, p.length)
		}
		var err error
		if crc, err = hashing.Combine(hashing.CRC64ECMA, crc, p.crc, p.length); err != nil {
			return nil, smhRefuse("InternalServerError", "%v", err)
		}
		raw, _ := hex.DecodeString(p.md5) // it was encoded here
		_, _ = sums.Write(raw)            // a hash never returns an error
		content.size += p.length
		content.parts = append(content.parts, p)
	}
	if len(t.parts) == 0 || (t.size >= 0 && content.size != t.size) {
		return nil, smhRefuse("MultipartUploadIncomplete", "%d parts with %d bytes are there, %d bytes were announced", len(t.parts), content.size, t.size)
	}
	content.crc = crc
	content.etag = fmt.Sprintf("%q", fmt.Sprintf("%x-%d", sums.Sum(nil), len(t.parts)))
	return content, smhAnswer{}
}

// damage inverts a bit of the first part and returns the CRC-64 of the damaged
// bytes.
func damage(content *smhContent, bit int64) (hashing.Digest, error) {
	if err := flipStored(content.parts[0].path, bit); err != nil {
		return hashing.Digest{}, err
	}
	crc, err := hashing.NewHash(hashing.CRC64ECMA)
	if err == nil {
		err = content.copyTo(crc)
	}
	if err != nil {
		return hashing.Digest{}, fmt.Errorf("read what was damaged: %w", err)
	}
	return hashing.New(hashing.CRC64ECMA, crc.Sum(nil)), nil
}

// match reports whether the content's beginning has the one hash and the whole
// content the other. An empty hash does not match, but whole needs no beginning.
// The content's own hashes are computed when they are first asked for.
func (c *smhContent) match(beginning, full string) (begins, whole bool) {
	c.hashing.Do(func() {
		h, err := hashing.NewHash(hashing.SMH)
		if err == nil && c.parts[0].path != "" {
			err = c.copyTo(h)
			c.hashes = hex.EncodeToString(h.Sum(nil))
		}
		if err != nil {
			c.hashes = "" // the bytes cannot be read, so nothing is like them
		}
	})
	if len(c.hashes) != 2*hashing.SMH.Size() {
		return false, false
	}
	own, ownFull := c.hashes[:len(c.hashes)/2], c.hashes[len(c.hashes)/2:]
	begins = beginning != "" && strings.EqualFold(beginning, own)
	return begins, full != "" && strings.EqualFold(full, ownFull) && (begins || beginning == "")
}

// copyTo writes the content's bytes.
func (c *smhContent) copyTo(w io.Writer) error {
	for _, p := range c.parts {
		f, err := os.Open(p.path)
		if err != nil {
			return fmt.Errorf("read part: %w", err)
		}
		_, err = io.Copy(w, f)
		_ = f.Close() // it was only read
		if err != nil {
			return fmt.Errorf("read part: %w", err)
		}
	}
	return nil
}

// serveObject answers GET of a finished file's bytes, and reports whether
// there is such a file.
func (s *SMH) serveObject(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	content := s.contents[r.URL.Path]
	s.mu.Unlock()
	switch {
	case content == nil:
		return false
	case slices.ContainsFunc(content.parts, func(p smhPart) bool { return p.path == "" }):
		http.Error(w, "the bytes were discarded on arrival", http.StatusGone)
		return true
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(content.size, 10))
	w.Header().Set("X-Cos-Hash-Crc64ecma", smhCRC(content.crc))
	_ = content.copyTo(w) // the client may be gone
	return true
}
