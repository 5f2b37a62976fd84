package transfer

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"mediaferry/internal/hashing"
)

func TestStreamedReadsItsPartAndNoMore(t *testing.T) {
	t.Parallel()
	data := randomBytes(5000)
	sum, err := hashing.NewHash(hashing.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	var moved atomic.Int64
	src := bytes.NewReader(data)
	for offset := 0; offset < len(data); offset += 1000 {
		b := newStreamed(src, 1000, &sums{part: sum, partKind: hashing.SHA1}, &moved)
		if b.Len() != 1000 || b.Bytes() != nil {
			t.Fatalf("length %d, bytes %v", b.Len(), b.Bytes())
		}
		if _, err := io.CopyN(io.Discard, b, 0); err != nil {
			t.Fatal(err)
		}
		if !b.Digest().IsZero() || b.consumed() {
			t.Error("the digest is known before the bytes are read")
		}
		if err := iotest.TestReader(b, data[offset:offset+1000]); err != nil {
			t.Fatal(err)
		}
		want, err := hashing.Sum(hashing.SHA1, data[offset:offset+1000])
		if err != nil {
			t.Fatal(err)
		}
		if b.Digest() != want || !b.consumed() || b.failed() != nil {
			t.Errorf("digest %v, consumed %t, failed %v", b.Digest(), b.consumed(), b.failed())
		}
	}
	if moved.Load() != 5000 {
		t.Errorf("%d bytes are counted", moved.Load())
	}
}

// A part that staging cut short must not look to the provider like a whole one.
func TestStreamedDoesNotEndEarly(t *testing.T) {
	t.Parallel()
	var moved atomic.Int64
	b := newStreamed(bytes.NewReader(make([]byte, 10)), 11, new(sums), &moved)
	if _, err := io.Copy(io.Discard, b); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading ends with %v, want an unexpected EOF", err)
	}
	if b.consumed() || !errors.Is(b.failed(), io.ErrUnexpectedEOF) || !b.Digest().IsZero() {
		t.Errorf("consumed %t, failed %v, digest %v", b.consumed(), b.failed(), b.Digest())
	}
}

func TestHeld(t *testing.T) {
	t.Parallel()
	data := randomBytes(1000)
	var pulse atomic.Int64
	b := &held{data: data, pulse: &pulse}
	if err := iotest.TestReader(b, data); err != nil {
		t.Fatal(err)
	}
	if !b.consumed() || pulse.Load() != 1000 {
		t.Errorf("consumed %t, %d bytes counted", b.consumed(), pulse.Load())
	}
	if b = (&held{data: data, pulse: &pulse}); b.consumed() || !bytes.Equal(b.Bytes(), data) || !b.consumed() {
		t.Error("a part is consumed when its memory is given away, and not before")
	}
}
