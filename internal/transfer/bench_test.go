package transfer

import (
	"bytes"
	"context"
	"io"
	"testing"

	"go.uber.org/zap"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

// discarding is a platform that reads parts as net/http does, 32 KiB at a time,
// and forgets them.
type discarding struct {
	*providertest.Fake
	buf []byte
}

func (d discarding) PutPart(_ context.Context, _ providers.Session, _ parts.Part, b providers.Body) (parts.Receipt, error) {
	for {
		if _, err := b.Read(d.buf); err == io.EOF { //nolint:errorlint // bodies return it bare
			return parts.Receipt{}, nil
		} else if err != nil {
			return parts.Receipt{}, err
		}
	}
}

type inMemory []byte

func (m inMemory) Open(_ context.Context, _ uploads.Object, offset, length int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[offset : offset+length])), nil
}

type unread struct{}

func (unread) Report(context.Context, parts.Report) error { return nil }
func (unread) Progress(Progress)                          {}

func BenchmarkHandle(b *testing.B) {
	for _, bb := range []struct {
		name  string
		size  int64
		part  int64
		kind  hashing.Kind
		first bool
	}{
		{"parts of 1 KiB", 512 << 10, 1 << 10, hashing.CRC64NVME, false},
		{"held parts of 1 KiB", 512 << 10, 1 << 10, hashing.CRC64NVME, true},
		{"part of 16 MiB", 16 << 20, 16 << 20, hashing.CRC64NVME, false},
		{"part of 16 MiB with MD5", 16 << 20, 16 << 20, hashing.MD5, false},
		{"held parts of 4 MiB", 16 << 20, 4 << 20, hashing.CRC64NVME, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			w := newBenchWorld(b, bb.size, bb.part, bb.kind, bb.first)
			b.SetBytes(bb.size)
			b.ReportAllocs()
			for b.Loop() {
				if s := w.handle(b.Context(), 1); s.Verdict != parts.Done {
					b.Fatalf("comes to %+v", s)
				}
			}
			count := float64(w.plan.Count()) * float64(b.N)
			b.ReportMetric(count/b.Elapsed().Seconds(), "parts/s")
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	const size = 64 << 20
	for _, kind := range []hashing.Kind{hashing.MD5, hashing.SHA1, hashing.SHA256, hashing.CRC32C, hashing.CRC64NVME} {
		b.Run(string(kind), func(b *testing.B) {
			w := newBenchWorld(b, size, size, kind, false)
			w.job = digestJob(w, kind)
			b.SetBytes(size)
			for b.Loop() {
				if s := w.handle(b.Context(), 1); s.Verdict != parts.Done {
					b.Fatalf("comes to %+v", s)
				}
			}
		})
		b.Run(string(kind)+" alone", func(b *testing.B) {
			data := randomBytes(size)
			b.SetBytes(size)
			for b.Loop() {
				if _, err := hashing.Sum(kind, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func newBenchWorld(tb testing.TB, size, part int64, kind hashing.Kind, first bool) *world {
	tb.Helper()
	w := newWorld(tb, worldConfig{size: size, partSize: part, digest: kind, digestFirst: first})
	w.Worker = New(Config{ID: "w1", Slots: 1}, zap.NewNop(), w.desk, inMemory(w.staging.data), unread{}, unread{},
		map[string]providers.Provider{"fake": discarding{w.platform.Fake, make([]byte, 32<<10)}})
	return w
}
