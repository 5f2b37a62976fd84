package upstreams

import (
	"crypto/md5"  //nolint:gosec // the protocol checks MD5
	"crypto/sha1" //nolint:gosec // the protocol hashes files by SHA-1
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sort"
	"sync"
)

// wcsPiece is the unit of a file's hash, in bytes.
const wcsPiece = 4 << 20

// pieces are the SHA-1s of the 4 MiB pieces of a byte stream.
type pieces struct {
	done   []byte // sums of full pieces, one after another
	open   hash.Hash
	length int64 // bytes in open
}

// clone returns an independent copy.
func (p *pieces) clone() *pieces {
	c := &pieces{done: slices.Clone(p.done), length: p.length}
	if cloner, ok := p.open.(hash.Cloner); ok {
		c.open, _ = cloner.Clone() // SHA-1's does not fail
	}
	return c
}

func (p *pieces) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if p.open == nil {
			p.open = sha1.New() //nolint:gosec // see the import
		}
		part := b[:min(int64(len(b)), wcsPiece-p.length)]
		_, _ = p.open.Write(part) // a hash never returns an error
		p.length += int64(len(part))
		b = b[len(part):]
		if p.length == wcsPiece {
			p.done, p.open, p.length = p.open.Sum(p.done), nil, 0
		}
	}
	return n, nil
}

// sums returns the sums of all pieces, the last of which may be short.
func (p *pieces) sums() []byte {
	if p.open == nil {
		return p.done
	}
	return p.open.Sum(slices.Clone(p.done))
}

// etagOf returns the platform's hash of a file from its pieces' sums. A file of
// 4 MiB is one piece; an empty one has the sum of no bytes.
func etagOf(sums []byte) string {
	if len(sums) == 0 {
		none := sha1.Sum(nil) //nolint:gosec // see the import
		sums = none[:]
	}
	if len(sums) == sha1.Size {
		return base64.URLEncoding.EncodeToString(append([]byte{0x16}, sums...))
	}
	tree := sha1.Sum(sums) //nolint:gosec // see the import
	return base64.URLEncoding.EncodeToString(append([]byte{0x96}, tree[:]...))
}

// segment is where some bytes of a file lie.
type segment struct {
	path   string // "" where they were discarded
	at     int64  // in the file at path
	length int64
}

// segments are a file's bytes, in order. They read as one.
type segments struct {
	list []segment
	ends []int64 // offset of the end of each, ascending
}

// join appends more, and merges what lies side by side.
func join(list []segment, more ...segment) []segment {
	list = slices.Clone(list)
	for _, s := range more {
		if last := len(list) - 1; last >= 0 && list[last].path == s.path && list[last].at+list[last].length == s.at {
			list[last].length += s.length
			continue
		}
		list = append(list, s)
	}
	return list
}

func newSegments(list []segment) *segments {
	s := &segments{list: list}
	var end int64
	for _, one := range list {
		end += one.length
		s.ends = append(s.ends, end)
	}
	return s
}

func (s *segments) size() int64 {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// ReadAt reads from the segments that the range crosses.
func (s *segments) ReadAt(p []byte, offset int64) (int, error) {
	var read int
	for read < len(p) && offset < s.size() {
		i := sort.Search(len(s.ends), func(i int) bool { return s.ends[i] > offset })
		one := s.list[i]
		left := s.ends[i] - offset
		part := p[read:min(int64(len(p)), int64(read)+left)]
		if err := readPart(one.path, part, one.at+one.length-left); err != nil {
			return read, err
		}
		read += len(part)
		offset += int64(len(part))
	}
	if read < len(p) {
		return read, io.EOF
	}
	return read, nil
}

func readPart(path string, p []byte, at int64) error {
	f, err := os.Open(path) //nolint:gosec // the path is made of hex digits
	if err != nil {
		return fmt.Errorf("read media: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	if _, err := f.ReadAt(p, at); err != nil {
		return fmt.Errorf("read media: %w", err)
	}
	return nil
}

// kept is what came of a body: its digests and where it lies.
type kept struct {
	segment

	md5 string // hex
	crc uint32 // IEEE
}

// keeper takes bodies in, through small buffers.
type keeper struct{ buffers sync.Pool }

func newKeeper() *keeper {
	return &keeper{buffers: sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}}
}

// errTooLong is a body with more than it may have.
var errTooLong = errors.New("the body is too long")

// keep reads r to its end, hashes it into sums, and writes it to path from at
// on; an empty path discards it. More than most bytes are errTooLong.
func (k *keeper) keep(r io.Reader, most int64, path string, at int64, sums *pieces) (kept, error) {
	var f *os.File
	if path != "" {
		var err error
		if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil { //nolint:gosec // the path is made of hex digits
			return kept{}, fmt.Errorf("keep body: %w", err)
		}
		defer func() { _ = f.Close() }() // nothing is buffered here; what is not there is noticed on reading
	}
	buffer, _ := k.buffers.Get().(*[]byte)
	defer k.buffers.Put(buffer)
	got := kept{segment: segment{path: path, at: at}}
	sum := md5.New() //nolint:gosec // see the import
	for {
		n, err := r.Read(*buffer)
		b := (*buffer)[:n]
		if got.length+int64(n) > most {
			return kept{}, errTooLong
		}
		_, _ = sum.Write(b) // a hash never returns an error
		_, _ = sums.Write(b)
		got.crc = crc32.Update(got.crc, crc32.IEEETable, b)
		if f != nil && n > 0 {
			if _, err := f.WriteAt(b, at+got.length); err != nil {
				return kept{}, fmt.Errorf("keep body: %w", err)
			}
		}
		got.length += int64(n)
		if errors.Is(err, io.EOF) {
			got.md5 = hex.EncodeToString(sum.Sum(nil))
			return got, nil
		}
		if err != nil {
			return kept{}, fmt.Errorf("read body: %w", err)
		}
	}
}
