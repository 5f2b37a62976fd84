// Package digestpass_test measures a worker's digest pass where it happens: over
// objects in staging, read by way of the S3 gateway.
package digestpass_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/staging"
	"mediaferry/internal/transfer"
	"mediaferry/internal/uploads"
)

const (
	mib    = 1 << 20
	bucket = "staging"
	pool   = "default"
)

// The flags have values for a quick run of all tests; the Makefile has those of
// the figures.
const (
	flagSize   = "size"
	flagRounds = "rounds"
)

func TestMain(m *testing.M) {
	flag.Int(flagSize, 8, "MiB of the object")
	flag.Int(flagRounds, 1, "how often each is measured")
	flag.Parse()
	devtest.Main(m)
}

func intFlag(t *testing.T, name string) int {
	t.Helper()
	n, ok := flag.Lookup(name).Value.(flag.Getter).Get().(int)
	if !ok || n <= 0 {
		t.Fatalf("flag %s is %v, want a number above 0", name, flag.Lookup(name).Value)
	}
	return n
}

// desk is the dispatcher of one digest job.
type desk struct {
	assignment parts.Assignment
	sums       []hashing.Digest // of the last pass
}

func (d *desk) AskAssignment(context.Context, parts.Job, bool) (parts.Assignment, error) {
	return d.assignment, nil
}

func (d *desk) Report(_ context.Context, r parts.Report) error {
	if r.Digested != nil && r.Digested.Checkpoint == nil {
		d.sums = r.Digested.Sums
	}
	return nil
}

func (d *desk) Progress(transfer.Progress) {}

// world is an object in staging and a worker that reads it from there.
type world struct {
	data   []byte
	object uploads.Object
	store  *staging.Store
	desk   *desk
	worker *transfer.Worker
}

func open(t *testing.T, size int) *world {
	t.Helper()
	w := &world{data: make([]byte, size), desk: new(desk)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(w.data) // never fails
	var err error
	if w.store, err = staging.New(devtest.S3(t, bucket).Config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	if w.object, err = w.store.Put(t.Context(), bucket, "film.mp4", "video/mp4", bytes.NewReader(w.data), int64(size)); err != nil {
		t.Fatal(err)
	}
	w.worker = transfer.New(transfer.Config{ID: "w1", Slots: 1}, zap.NewNop(), w.desk, w.store, w.desk, w.desk,
		map[string]providers.Provider{"fake": providertest.NewFake(providers.Limits{})})
	return w
}

// pass does one digest job.
func (w *world) pass(ctx context.Context, kind hashing.Kind) (hashing.Digest, error) {
	id, err := uploads.NewID()
	if err != nil {
		return hashing.Digest{}, err
	}
	w.desk.sums = nil
	w.desk.assignment = parts.Assignment{Provider: "fake", Source: w.object, Kinds: []hashing.Kind{kind}}
	s := w.worker.Handle(ctx, parts.Job{Upload: id, Account: "a", Pool: pool}, 1, func() {})
	if s.Verdict != parts.Done || len(w.desk.sums) != 1 {
		return hashing.Digest{}, fmt.Errorf("the job came to %+v, with digests %v", s, w.desk.sums)
	}
	return w.desk.sums[0], nil
}

// read takes in the object as a pass does, and does nothing with it.
func (w *world) read(ctx context.Context) error {
	src, err := w.store.Open(ctx, w.object, 0, w.object.Size)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{src}, make([]byte, 256<<10))
	return errors.Join(err, src.Close())
}

// TestDigestPass compares the rate of a pass with that of the hash alone, and both
// digests. The hash alone is measured in time of the processor, a pass by the
// clock, so other work on the machine counts against the pass; hence the best of
// all rounds. A hash that is faster than staging waits for it: the rate of reading
// says how fast that is.
func TestDigestPass(t *testing.T) {
	t.Parallel()
	size, rounds := intFlag(t, flagSize)*mib, intFlag(t, flagRounds)
	w := open(t, size)
	rate := func(took time.Duration) float64 { return float64(size) / 1e6 / took.Seconds() }
	if err := w.read(t.Context()); err != nil { // into the page cache
		t.Fatal(err)
	}
	var read float64
	for _, kind := range []hashing.Kind{
		hashing.MD5, hashing.SHA1, hashing.SHA256, hashing.SMH, hashing.CRC64ECMA, hashing.CRC32C, hashing.CRC64NVME,
	} {
		var alone, pass float64
		for range rounds {
			used := cpuTime(t)
			want, err := hashing.Sum(kind, w.data)
			first := cpuTime(t) - used
			if err != nil {
				t.Fatal(err)
			}
			started := time.Now()
			got, err := w.pass(t.Context(), kind)
			second := time.Since(started)
			if err != nil || got != want {
				t.Fatalf("%s: the pass comes to %s, %v; want %s", kind, got, err, want)
			}
			started = time.Now()
			if err := w.read(t.Context()); err != nil {
				t.Fatal(err)
			}
			read = max(read, rate(time.Since(started)))
			alone, pass = max(alone, rate(first)), max(pass, rate(second))
		}
		figure("figure digest_alone_%s %.0f MB/s", kind, alone)
		figure("figure digest_pass_%s %.0f MB/s", kind, pass)
		figure("figure digest_pass_vs_core_pct_%s %.1f %%", kind, 100*pass/alone)
	}
	figure("figure digest_pass_read %.0f MB/s", read)
}

// cpuTime is what the process has used so far.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// figure prints a line that is kept.
func figure(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) // nobody is left to tell
}
