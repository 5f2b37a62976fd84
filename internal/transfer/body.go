package transfer

import (
	"errors"
	"io"
	"sync/atomic"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
)

// body is a providers.Body that knows what became of it. Each is for one PutPart:
// net/http may read on for a moment after the call has returned, so the state is
// atomic and a body is never used for a second part.
type body interface {
	providers.Body
	// consumed reports whether the provider had every byte.
	consumed() bool
	// failed returns the error that ended the reading of staging, nil if none did.
	failed() error
	// readDigest is the digest of the bytes read, of the kind by which the object is
	// known. It is zero if Digest is of that kind, or if nothing is known.
	readDigest() hashing.Digest
}

var (
	_ body = (*streamed)(nil)
	_ body = (*held)(nil)
)

// streamed passes the next bytes of a staging read on and hashes them as they
// pass. It uses no memory of its own.
type streamed struct {
	src    io.Reader
	length int64
	sums   *sums
	moved  *atomic.Int64

	digest, read hashing.Digest // written before left becomes 0, read only after
	left         atomic.Int64
	err          atomic.Pointer[error]
}

func newStreamed(src io.Reader, length int64, sums *sums, moved *atomic.Int64) *streamed {
	b := &streamed{src: src, length: length, sums: sums, moved: moved}
	b.left.Store(length)
	sums.begin()
	return b
}

// Read reads from staging up to the part's last byte. Once that is delivered, it
// no longer touches the reader or the sums, which then belong to the next part. If
// the part is the whole object and its digest is not the known one, the last bytes
// are withheld, so that the platform never has all of it.
func (b *streamed) Read(p []byte) (int, error) {
	left := b.left.Load()
	switch {
	case left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.src.Read(p)
	if n > 0 {
		b.sums.add(p[:n])
		left -= int64(n)
		if left == 0 {
			var wrong error
			if b.digest, b.read, wrong = b.sums.end(); wrong != nil {
				return 0, b.breakOff(wrong)
			}
		}
		b.moved.Add(int64(n))
		b.left.Store(left)
	}
	switch {
	case left == 0:
		return n, io.EOF
	case err != nil:
		return n, b.breakOff(err)
	default:
		return n, nil
	}
}

// breakOff notes that staging ended or failed within the part. It is apart
// from Read so that only a failing Read puts its error on the heap.
func (b *streamed) breakOff(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.err.Store(&err)
	return err
}

func (b *streamed) Len() int64    { return b.length }
func (b *streamed) Bytes() []byte { return nil }

func (b *streamed) Digest() hashing.Digest {
	if b.left.Load() > 0 {
		return hashing.Digest{}
	}
	return b.digest
}

func (b *streamed) readDigest() hashing.Digest {
	if b.left.Load() > 0 {
		return hashing.Digest{}
	}
	return b.read
}

func (b *streamed) consumed() bool { return b.left.Load() == 0 }

func (b *streamed) failed() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

// held is a part in memory, hashed before it is sent.
type held struct {
	data         []byte
	digest, read hashing.Digest
	pulse        *atomic.Int64

	offset atomic.Int64
	taken  atomic.Bool
}

func (b *held) Read(p []byte) (int, error) {
	offset := b.offset.Load()
	if offset == b.Len() {
		return 0, io.EOF
	}
	n := copy(p, b.data[offset:])
	b.pulse.Add(int64(n))
	b.offset.Store(offset + int64(n))
	return n, nil
}

func (b *held) Len() int64 { return int64(len(b.data)) }

// Bytes gives the whole part away: whether and how fast the provider sends it can
// then not be seen.
func (b *held) Bytes() []byte {
	b.taken.Store(true)
	return b.data
}

func (b *held) Digest() hashing.Digest { return b.digest }

func (b *held) readDigest() hashing.Digest { return b.read }

func (b *held) consumed() bool { return b.taken.Load() || b.offset.Load() == b.Len() }

func (b *held) failed() error { return nil }

// counted counts the bytes of a read as they come, so that a slow read of a
// large piece does not look stalled.
type counted struct {
	io.Reader
	moved *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.moved.Add(int64(n))
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}
