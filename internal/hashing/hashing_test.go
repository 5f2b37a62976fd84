package hashing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mediaferry/internal/hashing"
)

func kinds() []hashing.Kind {
	return []hashing.Kind{hashing.MD5, hashing.SHA1, hashing.SHA256, hashing.CRC32C, hashing.CRC64NVME, hashing.CRC64ECMA, hashing.SMH}
}

// The check values of the published algorithms.
func TestKnownVectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ data, want string }{
		{"123456789", "md5:25f9e794323b453885f5181f1b624d0b"},
		{"123456789", "sha1:f7c3bc1d808e04732adf679965ccc34ca7ae3441"},
		{"123456789", "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"},
		{"123456789", "crc32c:e3069283"},
		{"123456789", "crc64nvme:ae8b14860a799888"},
		{"123456789", "crc64ecma:995dc9bbdf1939fa"},
		{"abc", "crc64ecma:2cd8094a1a277627"},
		{"ObjectContent", "crc64ecma:283f162dfe7e6111"},
		{"", "md5:d41d8cd98f00b204e9800998ecf8427e"},
		{"", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709"},
		{"", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"", "crc32c:00000000"},
		{"", "crc64nvme:0000000000000000"},
		{"", "crc64ecma:0000000000000000"},
	} {
		kind, _, _ := strings.Cut(tt.want, ":")
		got, err := hashing.Sum(hashing.Kind(kind), []byte(tt.data))
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != tt.want {
			t.Errorf("%q sums to %s, want %s", tt.data, got, tt.want)
		}
		if len(got.Bytes()) != got.Kind.Size() {
			t.Errorf("%s has %d bytes", got, len(got.Bytes()))
		}
	}
}

func TestUnknownKind(t *testing.T) {
	t.Parallel()
	if _, err := hashing.Sum("md6", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Sum: %v", err)
	}
	if _, err := hashing.NewPass([]hashing.Kind{hashing.MD5, ""}, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("NewPass: %v", err)
	}
	if n := hashing.Kind("md6").Size(); n != 0 {
		t.Errorf("size %d", n)
	}
}

// However a pass is cut up and handed from process to process, its sums are
// those of one go.
func TestResumedPassEqualsOnePass(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "data")
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(kinds()), 1, 5, rapid.ID).Draw(t, "kinds")
		pass, err := hashing.NewPass(some, nil)
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := rapid.IntRange(0, len(rest)).Draw(t, "piece")
			_, _ = pass.Write(rest[:n])
			rest = rest[n:]
			if rapid.Bool().Draw(t, "hand over") {
				pass = handOver(t, pass, some)
			}
			if pass.Offset() != int64(len(data)-len(rest)) {
				t.Fatalf("offset %d after %d bytes", pass.Offset(), len(data)-len(rest))
			}
			if n == 0 {
				_, _ = pass.Write(rest)
				rest = nil
			}
		}
		var want []hashing.Digest
		for _, k := range some {
			sum, err := hashing.Sum(k, data)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, sum)
		}
		if diff := cmp.Diff(want, pass.Digests()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// handOver takes the pass up from a checkpoint that went over the wire.
func handOver(t *rapid.T, pass *hashing.Pass, kinds []hashing.Kind) *hashing.Pass {
	c, err := pass.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var read hashing.Checkpoint
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	next, err := hashing.NewPass(kinds, &read)
	if err != nil {
		t.Fatal(err)
	}
	// The checkpoint is a copy: the old pass goes its own way.
	_, _ = pass.Write([]byte("not of the object"))
	return next
}

func TestUselessCheckpoints(t *testing.T) {
	t.Parallel()
	pass, err := hashing.NewPass([]hashing.Kind{hashing.MD5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := pass.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds() {
		for name, c := range map[string]hashing.Checkpoint{
			"no states": {Offset: 3},
			"garbage":   {Offset: 3, States: map[hashing.Kind][]byte{k: []byte("garbage")}},
			"cut short": {Offset: 3, States: map[hashing.Kind][]byte{k: good.States[hashing.MD5][:9]}},
		} {
			if _, err := hashing.NewPass([]hashing.Kind{k}, &c); err == nil {
				t.Errorf("%s takes a checkpoint with %s", k, name)
			}
		}
	}
	if _, err := hashing.NewPass([]hashing.Kind{hashing.MD5, hashing.SHA1}, &good); err == nil {
		t.Error("a checkpoint that lacks a kind is taken")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	want := hashing.Digest{Kind: hashing.CRC32C, Sum: "00c0ffee"}
	for _, text := range []string{"crc32c:00c0ffee", " CRC32C:00C0FFEE\n"} {
		if got, err := hashing.Parse(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", ":", "crc32c", "crc32c:", "crc32c:00c0ffe", "crc32c:00c0ffee00", "crc32c:00c0ffeg",
		"crc32c: 00c0ffee", "md6:00", ":00c0ffee", "crc32c:00c0ffee:", "md5:00c0ffee",
	} {
		if got, err := hashing.Parse(text); !errors.Is(err, hashing.ErrBadDigest) || got != (hashing.Digest{}) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

func TestDigestInJSON(t *testing.T) {
	t.Parallel()
	type box struct {
		Digest hashing.Digest `json:"digest"`
		Other  hashing.Digest `json:"other,omitzero"`
	}
	in := box{Digest: hashing.New(hashing.CRC32C, []byte{0, 0xc0, 0xff, 0xee})}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != `{"digest":"crc32c:00c0ffee"}` {
		t.Errorf("written as %s", text)
	}
	out := box{Other: in.Digest}
	if err := json.Unmarshal([]byte(`{"digest":"crc32c:00c0ffee","other":""}`), &out); err != nil || out != in {
		t.Errorf("read as %+v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"digest":"crc32c:zz"}`), &out); !errors.Is(err, hashing.ErrBadDigest) || out != in {
		t.Errorf("a bad digest is read as %+v, %v", out, err)
	}
	if zero := (hashing.Digest{}); !zero.IsZero() || zero.String() != "" || len(zero.Bytes()) != 0 {
		t.Errorf("the zero digest is %q", zero)
	}
	if bad := (hashing.Digest{Kind: hashing.MD5, Sum: "zz"}); bad.Bytes() != nil {
		t.Error("a sum that is not hex has bytes")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"md5:d41d8cd98f00b204e9800998ecf8427e", "CRC32C:00C0FFEE", "sha1:", "x", ":"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := hashing.Parse(text)
		if err != nil {
			if d != (hashing.Digest{}) || !errors.Is(err, hashing.ErrBadDigest) {
				t.Fatalf("%q is %v with %v", text, d, err)
			}
			return
		}
		again, err := hashing.Parse(d.String())
		if err != nil || again != d {
			t.Fatalf("%q is %v, which reads back as %v, %v", text, d, again, err)
		}
		if len(d.Bytes()) != d.Kind.Size() || !bytes.Equal(hashing.New(d.Kind, d.Bytes()).Bytes(), d.Bytes()) {
			t.Fatalf("%v has bytes %x", d, d.Bytes())
		}
	})
}
