// Package hashing computes the digests that prove which bytes travelled: it
// names the kinds that platforms and submitters use, hashes streams, and keeps
// a long pass resumable through checkpoints. It is pure: no I/O of its own.
package hashing

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Kind names a digest algorithm. The zero Kind means that no digest is asked for.
type Kind string

// The kinds that a platform checks or that we choose ourselves.
const (
	MD5       Kind = "md5"
	SHA1      Kind = "sha1"
	SHA256    Kind = "sha256"
	CRC32C    Kind = "crc32c"
	CRC64NVME Kind = "crc64nvme"
	CRC64ECMA Kind = "crc64ecma" // CRC-64/XZ: reflected, all ones before and after
	SMH       Kind = "smh"       // Tencent SMH's beginningHash followed by its fullHash
)

// Size returns the length of a sum in bytes, 0 for an unknown kind.
func (k Kind) Size() int {
	switch k {
	case CRC32C:
		return 4
	case CRC64NVME, CRC64ECMA:
		return 8
	case MD5:
		return 16
	case SHA1:
		return 20
	case SHA256:
		return 32
	case SMH:
		return 64
	default:
		return 0
	}
}

// ErrBadDigest says that a text is not "<kind>:<hex>" with a known kind and the
// right length.
var ErrBadDigest = errors.New("not a digest of the form kind:hex")

// Digest is a sum and its kind. The zero Digest means unknown.
type Digest struct {
	Kind Kind
	Sum  string // lower-case hex, 2 × Kind.Size() digits
}

// New makes a Digest from the raw bytes of a sum.
func New(k Kind, sum []byte) Digest { return Digest{Kind: k, Sum: hex.EncodeToString(sum)} }

// Parse reads "<kind>:<hex>", in any letter case; the result is lower case.
func Parse(text string) (Digest, error) {
	kind, sum, ok := strings.Cut(strings.ToLower(strings.TrimSpace(text)), ":")
	d := Digest{Kind: Kind(kind), Sum: sum}
	raw, err := hex.DecodeString(sum)
	if !ok || err != nil || d.Kind.Size() == 0 || len(raw) != d.Kind.Size() {
		return Digest{}, fmt.Errorf("%w: %q", ErrBadDigest, text)
	}
	return d, nil
}

// IsZero reports whether the digest is unknown.
func (d Digest) IsZero() bool { return d.Kind == "" }

// String returns "<kind>:<hex>", or "" for the zero Digest.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return string(d.Kind) + ":" + d.Sum
}

// Bytes returns the raw sum, nil for the zero Digest.
func (d Digest) Bytes() []byte {
	raw, err := hex.DecodeString(d.Sum)
	if err != nil {
		return nil
	}
	return raw
}

// MarshalText writes the form that String returns.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form that MarshalText writes; empty text is the zero Digest.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
