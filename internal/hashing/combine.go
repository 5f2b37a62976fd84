package hashing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"math/bits"
)

// nvmePolynomial is CRC-64/NVME's, reflected; crc64nvme does not export it.
const nvmePolynomial = 0x9a6c9329ac4bc9b5

// Combines reports whether the digest of a whole can be computed from those of its
// pieces, by Combine.
func (k Kind) Combines() bool { return k == CRC32C || k == CRC64NVME || k == CRC64ECMA }

// Combine returns the digest of a's bytes followed by b's, without needing
// either; b has lengthOfB bytes. It works for CRCs, whose sums are linear, and
// fails with errors.ErrUnsupported for other kinds. It fails with ErrBadDigest if
// a or b is not a sum of the kind, or lengthOfB is negative. Combine the digests
// of pieces from the left: the order of the bytes matters.
func Combine(kind Kind, a, b Digest, lengthOfB int64) (Digest, error) {
	var polynomial uint64
	switch kind {
	case CRC32C:
		polynomial = crc32.Castagnoli
	case CRC64NVME:
		polynomial = nvmePolynomial
	case CRC64ECMA:
		polynomial = crc64.ECMA
	case MD5, SHA1, SHA256, SMH:
		return Digest{}, fmt.Errorf("combine digests of kind %s: %w", kind, errors.ErrUnsupported)
	default:
		return Digest{}, fmt.Errorf("combine digests of kind %q: %w", kind, errors.ErrUnsupported)
	}
	left, right := a.Bytes(), b.Bytes()
	if a.Kind != kind || b.Kind != kind || len(left) != kind.Size() || len(right) != kind.Size() || lengthOfB < 0 {
		return Digest{}, fmt.Errorf("%w: combine %q with %q of %d bytes", ErrBadDigest, a, b, lengthOfB)
	}

	// The ones that a CRC starts from cancel out against those that it ends with,
	// so the sum of a‖b is a·x^(8·|b|) + b.
	field := field{polynomial: polynomial, one: 1 << (8*kind.Size() - 1)}
	sum := field.times(number(left), field.shift(uint64(lengthOfB))) ^ number(right)
	raw := binary.BigEndian.AppendUint64(nil, sum)
	return New(kind, raw[8-kind.Size():]), nil
}

// number reads a sum of at most 8 bytes, the most significant first.
func number(sum []byte) uint64 {
	var n uint64
	for _, b := range sum {
		n = n<<8 | uint64(b)
	}
	return n
}

// field is arithmetic on polynomials over GF(2) modulo a CRC's, all of them
// reflected: the most significant of the CRC's bits is the coefficient of x⁰.
type field struct {
	polynomial uint64
	one        uint64
}

// times multiplies a by b.
func (f field) times(a, b uint64) uint64 {
	var product uint64
	for bit := f.one; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		if b&1 == 0 {
			b >>= 1
		} else {
			b = b>>1 ^ f.polynomial
		}
	}
	return product
}

// shift returns x^(8·n), by squaring.
func (f field) shift(n uint64) uint64 {
	power, square := f.one, f.one>>8
	for range bits.Len64(n) {
		if n&1 != 0 {
			power = f.times(power, square)
		}
		square = f.times(square, square)
		n >>= 1
	}
	return power
}
