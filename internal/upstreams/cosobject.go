package upstreams

import (
	"crypto/md5" //nolint:gosec // the protocol's ETag is an MD5
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"mediaferry/internal/hashing"
)

func (c *COS) putObject(call *cosCall) cosAnswer {
	piece, refusal := c.receive(call)
	if refusal != nil {
		return cosAnswer{refusal: refusal}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(&cosObject{cosPlace: call.cosPlace, pieces: []cosPart{piece}, size: piece.size, etag: piece.md5, crc: piece.crc})
	return cosStored(piece.md5, piece.crc)
}

// store puts an object in place of another one. The caller holds c.mu.
func (c *COS) store(o *cosObject) {
	o.modified = time.Now()
	if old := c.objects[o.cosPlace]; old != nil {
		removeAll(old.pieces)
	}
	c.objects[o.cosPlace] = o
	f := c.file(o.cosPlace)
	f.Size, f.CRC64, f.Stored = o.size, o.crc.Sum, true
}

// receive reads a body, hashes it, and keeps or discards it.
func (c *COS) receive(call *cosCall) (cosPart, *cosRefusal) {
	length := call.r.ContentLength
	switch {
	case length < 0:
		return cosPart{}, cosRefuse("MissingContentLength", "Content-Length is missing")
	case length > cosMaxPut:
		return cosPart{}, cosRefuse("EntityTooLarge", "%d bytes are more than %d", length, int64(cosMaxPut))
	}
	want, err := base64.StdEncoding.DecodeString(call.r.Header.Get("Content-Md5"))
	if err != nil || (len(want) != 0 && len(want) != md5.Size) {
		return cosPart{}, cosRefuse("InvalidDigest", "Content-MD5 is not Base64 of 16 bytes")
	}
	into, path, err := c.create()
	if err != nil {
		return cosPart{}, cosRefuse("InternalError", "%v", err)
	}
	sum, crc := md5.New(), crc64.New(crc64.MakeTable(crc64.ECMA)) //nolint:gosec // see the import
	n, err := c.copyBody(io.MultiWriter(into, sum, crc), flipped(call, call.fault), length)
	if cerr := into.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("keep part: %w", cerr)
	}
	p := cosPart{
		size: n, md5: hex.EncodeToString(sum.Sum(nil)), crc: hashing.New(hashing.CRC64ECMA, crc.Sum(nil)),
		path: path, modified: time.Now(),
	}
	var refusal *cosRefusal
	switch {
	case err != nil:
		refusal = cosRefuse("InternalError", "%v", err)
	case n != length:
		refusal = cosRefuse("IncompleteBody", "%d of %d bytes came", n, length)
	case len(want) > 0 && p.md5 != hex.EncodeToString(want):
		refusal = cosRefuse("BadDigest", "Content-MD5 is not that of the body")
	}
	if refusal != nil {
		removeAll([]cosPart{p})
		return cosPart{}, refusal
	}
	return p, nil
}

// copyBody reads length bytes of the body; fewer are no error.
func (c *COS) copyBody(into io.Writer, body io.Reader, length int64) (int64, error) {
	buffer := c.buffers.Get()
	defer c.buffers.Put(buffer)
	var done int64
	for done < length {
		n, err := body.Read(buffer[:min(int64(len(buffer)), length-done)])
		if _, werr := into.Write(buffer[:n]); werr != nil {
			return done, fmt.Errorf("keep part: %w", werr)
		}
		done += int64(n)
		if err != nil {
			break // what came is what counts
		}
	}
	return done, nil
}

// nowhere takes bytes that are not kept.
type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

// create opens a new file for bytes, or nowhere.
func (c *COS) create() (io.WriteCloser, string, error) {
	if c.config.Dir == "" {
		return nowhere{io.Discard}, "", nil
	}
	c.mu.Lock()
	c.sequence++
	path := filepath.Join(c.config.Dir, fmt.Sprintf("cos-%d", c.sequence))
	c.mu.Unlock()
	f, err := os.Create(path) //nolint:gosec // the name is ours
	if err != nil {
		return nil, "", fmt.Errorf("keep part: %w", err)
	}
	return f, path, nil
}

func removeAll(pieces []cosPart) {
	for _, p := range pieces {
		if p.path != "" {
			_ = os.Remove(p.path) // what stays is in a folder that goes as a whole
		}
	}
}

func (c *COS) getObject(call *cosCall) cosAnswer {
	o := c.object(call.cosPlace)
	if o == nil {
		return cosRefused("NoSuchKey", "there is no object %q", call.key)
	}
	answer := cosStored(o.etag, o.crc)
	answer.header.Set("Content-Length", strconv.FormatInt(o.size, 10))
	if call.Action == COSGetObject {
		if o.pieces[0].path == "" {
			return cosRefused("NoSuchKey", "the bytes were discarded on arrival")
		}
		answer.object = o
	}
	return answer
}

// copyTo writes the object's kept bytes.
func (c *COS) copyTo(w io.Writer, o *cosObject) {
	buffer := c.buffers.Get()
	defer c.buffers.Put(buffer)
	for _, p := range o.pieces {
		f, err := os.Open(p.path)
		if err != nil {
			return // the answer is short of what was announced, which the caller sees
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, buffer)
		_ = f.Close() // it was only read
		if err != nil {
			return
		}
	}
}

// object returns what is stored at the place, nil if nothing is.
func (c *COS) object(p cosPlace) *cosObject {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[p]
}
