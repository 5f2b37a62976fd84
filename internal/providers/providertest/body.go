package providertest

import (
	"bytes"
	"hash"
	"io"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
)

// Body is a providers.Body over bytes in memory. It is for one PutPart.
type Body struct {
	reader *bytes.Reader
	data   []byte // what Bytes returns; nil where the body streams
	sum    hash.Hash
	digest hashing.Digest
	forged bool
}

var _ providers.Body = (*Body)(nil)

// NewBody returns data as the body of a part under the limits: with Bytes and
// Digest known from the start where they say DigestFirst, else streamed. It
// panics if the limits name an unknown digest.
func NewBody(limits providers.Limits, data []byte) *Body {
	b := &Body{reader: bytes.NewReader(data)}
	holds := limits.DigestFirst || int64(len(data)) <= limits.HoldUpTo
	if limits.PartDigest == "" {
		if holds {
			b.data = data
		}
		return b
	}
	sum, err := hashing.NewHash(limits.PartDigest)
	if err != nil {
		panic(err)
	}
	b.sum = sum
	b.digest = hashing.Digest{Kind: limits.PartDigest}
	if holds {
		b.data = data
		_, _ = sum.Write(data) // a hash never returns an error
		b.digest = hashing.New(limits.PartDigest, sum.Sum(nil))
	}
	return b
}

// Forge makes the body claim the digest of other bytes, as if bits had flipped
// between the digest and the platform. It returns the body.
func (b *Body) Forge(digest hashing.Digest) *Body {
	b.digest, b.forged = digest, true
	return b
}

// Read reads the next bytes of the part.
func (b *Body) Read(p []byte) (int, error) {
	n, err := b.reader.Read(p)
	if b.sum != nil && b.data == nil {
		_, _ = b.sum.Write(p[:n]) // a hash never returns an error
		if err == io.EOF && !b.forged {
			b.digest = hashing.New(b.digest.Kind, b.sum.Sum(nil))
		}
	}
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// Len returns the number of bytes that Read delivers in all.
func (b *Body) Len() int64 { return b.reader.Size() }

// Bytes returns the whole part where the limits say DigestFirst, else nil.
func (b *Body) Bytes() []byte { return b.data }

// Digest returns the digest, zero while it is not known.
func (b *Body) Digest() hashing.Digest {
	if b.digest.Sum == "" || (b.data == nil && b.reader.Len() > 0) {
		return hashing.Digest{}
	}
	return b.digest
}
