package hashing

import (
	"crypto/md5"  //nolint:gosec // platforms check MD5; it is no security boundary here
	"crypto/sha1" //nolint:gosec // platforms identify media by SHA-1
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"

	"github.com/minio/crc64nvme"
)

// NewHash returns a fresh hash of the kind, or errors.ErrUnsupported if the kind
// is unknown.
func NewHash(k Kind) (hash.Hash, error) {
	switch k {
	case MD5:
		return md5.New(), nil //nolint:gosec // see the import
	case SHA1:
		return sha1.New(), nil //nolint:gosec // see the import
	case SHA256:
		return sha256.New(), nil
	case CRC32C:
		return crc32.New(crc32.MakeTable(crc32.Castagnoli)), nil
	case CRC64NVME:
		return crc64nvme.New(), nil
	case CRC64ECMA:
		return crc64.New(crc64.MakeTable(crc64.ECMA)), nil
	case SMH:
		return newChain(), nil
	default:
		return nil, fmt.Errorf("hash of kind %q: %w", k, errors.ErrUnsupported)
	}
}

// Sum hashes data that is held in memory.
func Sum(k Kind, data []byte) (Digest, error) {
	h, err := NewHash(k)
	if err != nil {
		return Digest{}, err
	}
	_, _ = h.Write(data) // a hash never returns an error
	return New(k, h.Sum(nil)), nil
}

// Pass hashes a whole object, read once from start to end, under one or more
// kinds. It can be cut short and resumed from a Checkpoint by another process.
// It is for one goroutine.
type Pass struct {
	kinds  []Kind
	hashes []hash.Hash
	offset int64
}

// Checkpoint is how far a Pass has come: every byte before Offset has been hashed
// into States. It holds no content of the object.
type Checkpoint struct {
	Offset int64           `json:"offset"` // bytes
	States map[Kind][]byte `json:"states"` // marshalled state of each hash
}

// NewPass starts at byte 0, or at from.Offset if from is not nil. A checkpoint
// that lacks one of the kinds, or that this build cannot read, is an error; the
// caller then starts from byte 0.
func NewPass(kinds []Kind, from *Checkpoint) (*Pass, error) {
	p := &Pass{kinds: kinds}
	for _, k := range kinds {
		h, err := NewHash(k)
		if err != nil {
			return nil, err
		}
		if from != nil {
			u, ok := h.(encoding.BinaryUnmarshaler)
			if !ok {
				return nil, fmt.Errorf("checkpoint of %s: %w", k, errors.ErrUnsupported)
			}
			if err := u.UnmarshalBinary(from.States[k]); err != nil {
				return nil, fmt.Errorf("checkpoint of %s: %w", k, err)
			}
		}
		p.hashes = append(p.hashes, h)
	}
	if from != nil {
		p.offset = from.Offset
	}
	return p, nil
}

// Write hashes the next bytes of the object, once for each kind.
func (p *Pass) Write(b []byte) (int, error) {
	for _, h := range p.hashes {
		_, _ = h.Write(b) // a hash never returns an error
	}
	p.offset += int64(len(b))
	return len(b), nil
}

// Offset returns how many bytes of the object have been hashed.
func (p *Pass) Offset() int64 { return p.offset }

// Checkpoint returns a copy of the pass's present state.
func (p *Pass) Checkpoint() (Checkpoint, error) {
	c := Checkpoint{Offset: p.offset, States: make(map[Kind][]byte, len(p.kinds))}
	for i, k := range p.kinds {
		m, ok := p.hashes[i].(encoding.BinaryMarshaler)
		if !ok {
			return Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", k, errors.ErrUnsupported)
		}
		state, err := m.MarshalBinary()
		if err != nil {
			return Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", k, err)
		}
		c.States[k] = state
	}
	return c, nil
}

// Digests returns the sums of the bytes written so far, in the order of the kinds.
func (p *Pass) Digests() []Digest {
	out := make([]Digest, len(p.kinds))
	for i, k := range p.kinds {
		out[i] = New(k, p.hashes[i].Sum(nil))
	}
	return out
}
