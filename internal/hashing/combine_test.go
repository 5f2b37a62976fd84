package hashing_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"mediaferry/internal/hashing"
)

// However an object is cut up, the digests of its pieces combine to its own.
func TestCombinedPiecesEqualTheWhole(t *testing.T) {
	t.Parallel()
	for _, kind := range []hashing.Kind{hashing.CRC32C, hashing.CRC64NVME, hashing.CRC64ECMA} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				data := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "data")
				combined := sum(t, kind, nil)
				for rest := data; len(rest) > 0; {
					piece := rest[:rapid.IntRange(1, len(rest)).Draw(t, "piece")]
					next, err := hashing.Combine(kind, combined, sum(t, kind, piece), int64(len(piece)))
					if err != nil {
						t.Fatal(err)
					}
					combined, rest = next, rest[len(piece):]
				}
				if want := sum(t, kind, data); combined != want {
					t.Fatalf("pieces combine to %s, the whole is %s", combined, want)
				}
			})
		})
	}
}

// Pieces longer than any that a test can hash: combining must not depend on
// where a run of them is cut, which a wrong power of x would break.
func TestCombineIsAssociative(t *testing.T) {
	t.Parallel()
	for _, kind := range []hashing.Kind{hashing.CRC32C, hashing.CRC64NVME, hashing.CRC64ECMA} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				draw := func(name string) hashing.Digest {
					return hashing.New(kind, rapid.SliceOfN(rapid.Byte(), kind.Size(), kind.Size()).Draw(t, name))
				}
				a, b, c := draw("a"), draw("b"), draw("c")
				lengthB := rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "length of b")
				lengthC := rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "length of c")
				leftFirst := combine(t, kind, combine(t, kind, a, b, lengthB), c, lengthC)
				rightFirst := combine(t, kind, a, combine(t, kind, b, c, lengthC), lengthB+lengthC)
				if leftFirst != rightFirst {
					t.Fatalf("(ab)c is %s, a(bc) is %s", leftFirst, rightFirst)
				}
			})
		})
	}
}

func TestUncombinable(t *testing.T) {
	t.Parallel()
	a, b := sum(t, hashing.CRC64ECMA, []byte("a")), sum(t, hashing.CRC64ECMA, []byte("b"))
	for _, kind := range []hashing.Kind{hashing.MD5, hashing.SHA1, hashing.SHA256, "", "md6"} {
		if _, err := hashing.Combine(kind, a, b, 1); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%q: %v", kind, err)
		}
	}
	for name, tt := range map[string]struct {
		a, b   hashing.Digest
		length int64
	}{
		"another kind":    {sum(t, hashing.CRC64NVME, []byte("a")), b, 1},
		"an unknown left": {hashing.Digest{}, b, 1},
		"a short right":   {a, hashing.Digest{Kind: hashing.CRC64ECMA, Sum: "00"}, 1},
		"no hex":          {hashing.Digest{Kind: hashing.CRC64ECMA, Sum: "zz"}, b, 1},
		"negative":        {a, b, -1},
	} {
		if _, err := hashing.Combine(hashing.CRC64ECMA, tt.a, tt.b, tt.length); !errors.Is(err, hashing.ErrBadDigest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fataler is what both *testing.T and *rapid.T fail by.
type fataler interface{ Fatal(args ...any) }

func sum(t fataler, kind hashing.Kind, data []byte) hashing.Digest {
	d, err := hashing.Sum(kind, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func combine(t fataler, kind hashing.Kind, a, b hashing.Digest, lengthOfB int64) hashing.Digest {
	d, err := hashing.Combine(kind, a, b, lengthOfB)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
