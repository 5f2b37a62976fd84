package hashing_test

import (
	"bytes"
	"testing"

	"mediaferry/internal/hashing"
)

// The vectors of the chain: two kinds of data, sizes around the borders of pieces.
func TestSMHVectors(t *testing.T) {
	t.Parallel()
	const beginA, beginP = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360", "631b84027d6b9e52b539c4e8373622d23032dfadc64d60af87339c9037e4f769"
	const oneA, oneP = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
	for _, tt := range []struct {
		data        byte
		size        int
		begin, full string
	}{
		{'A', 1, oneA, oneA},
		{'A', 1048576, beginA, beginA},
		{'A', 1048577, beginA, "e9246281a51e277378c750ad3309960770af8a7e395c190f519b9f8e0a6feba1"},
		{'A', 2621440, beginA, "11a674f2ed940baaf83acbffc8d344f752fd92c9956db5dd1f96b7d1b95d2f0b"},
		{'A', 5242880, beginA, "421155bd420c048d4926a2beae776f97b02a5d0bb2bb5e66532d4b10c5efa868"},
		{'A', 12582912, beginA, "6a5cb83c490fcb75a1b65d8e3f8594a38cd6d28e0e5e9ab2637a9ca8ff811135"},
		{'P', 1, oneP, oneP},
		{'P', 1048576, beginP, beginP},
		{'P', 1048577, beginP, "cc2b26a5813e5a6d853dd2f03a5c679b851d9180e4fd0e90a3e45bccaad60e83"},
		{'P', 2621440, beginP, "483331f3e83bf691c43937e1a06352ac6da956bc63ee50d76a9b29b4d0508d60"},
		{'P', 5242880, beginP, "2db2185ae28e40db62d450eb4c0b7be926458af0b63374ad06e0bde9535e6f51"},
	} {
		data := bytes.Repeat([]byte("a"), tt.size)
		if tt.data == 'P' {
			for i := range data {
				data[i] = byte(i % 251)
			}
		}
		want := "smh:" + tt.begin + tt.full
		got, err := hashing.Sum(hashing.SMH, data)
		if err != nil || got.String() != want {
			t.Errorf("%c × %d sums to %s (%v), want %s", tt.data, tt.size, got, err, want)
		}
		if again := inPieces(t, data); again != got {
			t.Errorf("%c × %d, in pieces and handed over, sums to %s, want %s", tt.data, tt.size, again, got)
		}
	}
}

// inPieces hashes data in pieces that cross the chain's borders, each by a pass
// that takes up the one before.
func inPieces(t *testing.T, data []byte) hashing.Digest {
	t.Helper()
	kinds := []hashing.Kind{hashing.SMH}
	pass, err := hashing.NewPass(kinds, nil)
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(len(data), 700_000)
		if len(data) > 1<<20 && len(data)%3 == 0 {
			n = 1 << 20
		}
		_, _ = pass.Write(data[:n])
		data = data[n:]
		c, err := pass.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if pass, err = hashing.NewPass(kinds, &c); err != nil {
			t.Fatal(err)
		}
	}
	return pass.Digests()[0]
}

// A chain that is written past its end and reset starts anew, and a state from
// elsewhere is refused.
func TestSMHStates(t *testing.T) {
	t.Parallel()
	h, err := hashing.NewHash(hashing.SMH)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = h.Write(make([]byte, 3<<20))
	h.Reset()
	_, _ = h.Write([]byte("a"))
	if got, want := h.Sum([]byte{7}), 1+h.Size(); len(got) != want || got[0] != 7 {
		t.Errorf("the sum is %d bytes, want %d behind what was there", len(got), want)
	}
	sum, err := hashing.Sum(hashing.SMH, []byte("a"))
	if err != nil || !bytes.Equal(h.Sum(nil), sum.Bytes()) {
		t.Errorf("after a reset the sum is %x, want %s (%v)", h.Sum(nil), sum, err)
	}
	pass, err := hashing.NewPass([]hashing.Kind{hashing.SMH}, nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := pass.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	state := good.States[hashing.SMH]
	for name, spoil := range map[string]func(s []byte) []byte{
		"another version": func(s []byte) []byte { s[3]++; return s },
		"no such flag":    func(s []byte) []byte { s[4] = 2; return s },
		"beyond a piece":  func(s []byte) []byte { s[5] = 1; return s },
		"no link":         func(s []byte) []byte { return s[:41] },
		"cut short":       func(s []byte) []byte { return s[:40] },
	} {
		bad := hashing.Checkpoint{States: map[hashing.Kind][]byte{hashing.SMH: spoil(bytes.Clone(state))}}
		if _, err := hashing.NewPass([]hashing.Kind{hashing.SMH}, &bad); err == nil {
			t.Errorf("a state with %s is taken", name)
		}
	}
}
