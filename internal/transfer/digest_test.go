package transfer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
)

// digestJob makes the world's upload want a digest pass under the kinds.
func digestJob(w *world, kinds ...hashing.Kind) parts.Job {
	w.desk.assignment.Kinds = kinds
	return parts.Job{Upload: w.job.Upload, Account: w.job.Account, Pool: w.job.Pool}
}

func newDigestWorld(t *testing.T, size int64) *world {
	t.Helper()
	w := newWorld(t, worldConfig{size: size, partSize: size})
	w.job = digestJob(w, hashing.MD5, hashing.SHA1, hashing.CRC64NVME)
	return w
}

// checkSums checks that the last report has the object's digests.
func (w *world) checkSums(t *testing.T) {
	t.Helper()
	var want []hashing.Digest
	for _, kind := range w.desk.assignment.Kinds {
		sum, err := hashing.Sum(kind, w.staging.data)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, sum)
	}
	got := w.desk.digested()
	if len(got) == 0 {
		t.Fatal("nothing is reported")
	}
	if diff := cmp.Diff(parts.Digested{Sums: want, Object: w.desk.assignment.Source}, got[len(got)-1]); diff != "" {
		t.Errorf("last report (-want +got):\n%s", diff)
	}
}

// resumeFromLast makes the next assignment continue where reports ended, as the
// dispatcher does, and returns that offset.
func (w *world) resumeFromLast() int64 {
	var offset int64
	for _, d := range w.desk.digested() {
		if d.Checkpoint != nil {
			w.desk.assignment.Checkpoint = d.Checkpoint
			offset = d.Checkpoint.Offset
		}
	}
	return offset
}

func TestDigestJob(t *testing.T) {
	t.Parallel()
	const size = 5*digestPiece + 77
	const middle = 3*digestPiece + 5
	tests := []struct {
		name     string
		delivery int
		set      func(w *world, stop func())
		verdict  parts.Verdict
		finished bool
		failure  string
	}{
		{name: "nothing breaks", set: func(*world, func()) {}, finished: true},
		{name: "ask refused", set: func(w *world, _ func()) {
			w.desk.ask = func(int) (bool, error) { return false, errBroken }
		}, verdict: parts.Retry},
		{name: "ask says stale", set: func(w *world, _ func()) {
			w.desk.ask = func(int) (bool, error) { return false, ErrStale }
		}},
		{name: "open fails once", set: func(w *world, _ func()) {
			w.staging.open = func(nth int) error { return only(nth == 1, errBroken) }
		}, finished: true},
		{name: "open fails", set: func(w *world, _ func()) {
			w.staging.open = func(int) error { return errBroken }
		}, verdict: parts.Retry},
		{name: "open finds another object", set: func(w *world, _ func()) {
			w.staging.open = func(int) error { return &stagingError{parts.SourceChanged} }
		}, failure: parts.SourceChanged},
		{name: "read breaks once", set: func(w *world, _ func()) {
			broken := false
			w.staging.read = func(_ context.Context, at int64) error {
				if at < middle || broken {
					return nil
				}
				broken = true
				return errBroken
			}
		}, finished: true},
		{name: "read breaks again and again, but advances", set: func(w *world, _ func()) {
			countdown := 3
			w.staging.read = func(context.Context, int64) error {
				countdown--
				if countdown < 0 {
					countdown = 3
					return errBroken
				}
				return nil
			}
			w.staging.chunk = digestPiece / 2
		}, finished: true},
		{name: "read breaks", set: func(w *world, _ func()) {
			w.staging.read = func(_ context.Context, at int64) error { return only(at >= middle, errBroken) }
		}, verdict: parts.Retry},
		{name: "read breaks at the last delivery", delivery: 3, set: func(w *world, _ func()) {
			w.staging.read = func(_ context.Context, at int64) error { return only(at >= middle, errBroken) }
		}, failure: parts.SourceTransient},
		{name: "stop while reading", set: func(w *world, stop func()) {
			w.staging.read = func(_ context.Context, at int64) error {
				if at >= middle {
					stop()
				}
				return nil
			}
		}, verdict: parts.Release},
		{name: "told to stop while reading", set: func(w *world, _ func()) {
			w.staging.read = func(_ context.Context, at int64) error {
				if at >= middle {
					w.Stop()
				}
				return nil
			}
		}, verdict: parts.Release},
		{name: "cancel while reading", set: func(w *world, _ func()) {
			w.staging.read = func(_ context.Context, at int64) error {
				if at >= middle {
					w.Cancel(w.job.Upload)
				}
				return nil
			}
		}},
		{name: "report refused once", set: func(w *world, _ func()) {
			w.desk.report = func(_ context.Context, nth int) (bool, error) { return nth > 1, only(nth == 1, errBroken) }
		}, finished: true},
		{name: "report refused", set: func(w *world, _ func()) {
			w.desk.report = func(context.Context, int) (bool, error) { return false, errBroken }
		}, verdict: parts.Retry},
		{name: "stop while the sums are reported", set: func(w *world, stop func()) {
			w.desk.report = func(context.Context, int) (bool, error) { stop(); return true, nil }
		}, finished: true},
		{name: "object is shorter", delivery: 3, set: func(w *world, _ func()) {
			w.staging.data = w.staging.data[:middle]
		}, failure: parts.SourceTransient},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newDigestWorld(t, size)
				data := w.staging.data
				ctx, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				tt.set(w, func() { stop(errRunner) })
				s := w.handle(ctx, max(tt.delivery, 1))
				if s.Verdict != tt.verdict {
					t.Errorf("comes to %+v, want verdict %v", s, tt.verdict)
				}
				var failure string
				if f := w.desk.failures(); len(f) > 0 {
					failure = f[0].Kind
				}
				if failure != tt.failure {
					t.Errorf("failure %q, want %q", failure, tt.failure)
				}
				if tt.finished {
					w.checkSums(t)
				}
				w.heal()
				w.staging.data, w.staging.opens = data, nil
				offset := w.resumeFromLast()
				if s := w.handle(t.Context(), 2); s.Verdict != parts.Done {
					t.Errorf("the healed delivery comes to %+v", s)
				}
				w.checkSums(t)
				if diff := cmp.Diff([]int64{offset}, w.staging.opened()); diff != "" {
					t.Errorf("the healed delivery reads from (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What was hashed before a stop is not read again.
func TestStoppedDigestJobReportsWhereItStands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newDigestWorld(t, 8*digestPiece)
		ctx, stop := context.WithCancelCause(t.Context())
		w.staging.read = func(_ context.Context, at int64) error {
			if at == 6*digestPiece {
				stop(errRunner)
			}
			return nil
		}
		w.handle(ctx, 1)
		if offset := w.resumeFromLast(); offset != 6*digestPiece {
			t.Errorf("the last checkpoint is at %d, want %d", offset, 6*digestPiece)
		}
		if got := w.Stats().DigestedBytes; got != 6*digestPiece {
			t.Errorf("stats say %d bytes", got)
		}
	})
}

func TestUselessCheckpointStartsOver(t *testing.T) {
	t.Parallel()
	w := newDigestWorld(t, 1000)
	pass, err := hashing.NewPass(w.desk.assignment.Kinds, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = pass.Write(w.staging.data[:500])
	good, err := pass.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]hashing.Checkpoint{
		"another kind": {Offset: 500, States: map[hashing.Kind][]byte{hashing.MD5: good.States[hashing.MD5]}},
		"garbage": {Offset: 500, States: map[hashing.Kind][]byte{
			hashing.MD5: []byte("x"), hashing.SHA1: nil, hashing.CRC64NVME: nil,
		}},
		"beyond the end": {Offset: 1001, States: good.States},
		"before zero":    {Offset: -1, States: good.States},
	} {
		w.desk.assignment.Checkpoint = &c
		w.staging.opens = nil
		if s := w.handle(t.Context(), 2); s.Verdict != parts.Done {
			t.Errorf("%s: comes to %+v", name, s)
		}
		w.checkSums(t)
		if diff := cmp.Diff([]int64{0}, w.staging.opened()); diff != "" {
			t.Errorf("%s: reads from (-want +got):\n%s", name, diff)
		}
	}
}

// A pass that is complete, or of nothing, reads nothing.
func TestDigestJobWithNothingToRead(t *testing.T) {
	t.Parallel()
	w := newDigestWorld(t, 1000)
	w.staging.read = nil
	w.handle(t.Context(), 1)
	pass, err := hashing.NewPass(w.desk.assignment.Kinds, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = pass.Write(w.staging.data)
	c, err := pass.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	w.desk.assignment.Checkpoint = &c
	w.staging.opens = nil
	w.handle(t.Context(), 2)
	w.checkSums(t)
	if got := w.staging.opened(); len(got) != 0 {
		t.Errorf("read from %v", got)
	}
}

// A checkpoint comes about once a second, and a report that hangs does not hold
// the pass up.
func TestCheckpointsAreReportedOnTheWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newDigestWorld(t, 40*digestPiece)
		w.staging.read = func(_ context.Context, at int64) error {
			if at%digestPiece == 0 {
				time.Sleep(250 * time.Millisecond)
			}
			return nil
		}
		w.desk.report = func(ctx context.Context, nth int) (bool, error) {
			if nth == 4 {
				select {
				case <-time.After(3 * time.Second):
				case <-ctx.Done():
				}
			}
			return true, nil
		}
		begun := time.Now()
		w.handle(t.Context(), 1)
		if took := time.Since(begun); took > 10*time.Second+100*time.Millisecond {
			t.Errorf("the pass took %v, want 10 s", took)
		}
		w.checkSums(t)
		checkpoints := len(w.desk.digested()) - 1
		if checkpoints < 6 || checkpoints > 9 {
			t.Errorf("%d checkpoints in 10 s, of which one took 3 s", checkpoints)
		}
		last := int64(-1)
		for _, d := range w.desk.digested()[:checkpoints] {
			if d.Checkpoint.Offset <= last || d.Sums != nil {
				t.Errorf("checkpoint at %d after %d", d.Checkpoint.Offset, last)
			}
			last = d.Checkpoint.Offset
		}
		if p := w.desk.progress[7]; p.Stage != StageDigesting || p.Total != 40*digestPiece || p.Bytes < 30*digestPiece {
			t.Errorf("progress after 8 s: %+v", p)
		}
	})
}

func TestStalledDigestJobIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newDigestWorld(t, 4*digestPiece)
		w.staging.read = func(ctx context.Context, at int64) error {
			if at >= 2*digestPiece {
				<-ctx.Done()
			}
			return nil
		}
		if s := w.handle(t.Context(), 1); s.Verdict != parts.Retry {
			t.Errorf("comes to %+v", s)
		}
		if offset := w.resumeFromLast(); offset != 2*digestPiece {
			t.Errorf("the last checkpoint is at %d, want %d", offset, 2*digestPiece)
		}
	})
}

// A worker that did not hear that its upload is cancelled does not read the
// object to its end.
func TestADigestPassThatIsNotDueAnyMoreEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newDigestWorld(t, 100*digestPiece)
		var last int64
		w.staging.read = func(ctx context.Context, at int64) error {
			last = at
			if at%digestPiece == 0 {
				time.Sleep(250 * time.Millisecond)
			}
			return ctx.Err()
		}
		w.desk.ask = func(nth int) (bool, error) {
			switch nth {
			case 2:
				return false, errBroken // the dispatcher is away, which says nothing
			case 3:
				return false, ErrStale
			}
			return true, nil
		}
		begun := time.Now()
		if s := w.handle(t.Context(), 1); s.Verdict != parts.Done {
			t.Errorf("comes to %+v, want it done: the dispatcher has taken it off the queue", s)
		}
		if took := time.Since(begun); took < 2*stillDueInterval || took > 3*stillDueInterval {
			t.Errorf("the pass ended after %v, at byte %d; want it at the second look, every %v", took, last, stillDueInterval)
		}
		if len(w.desk.failures()) > 0 {
			t.Errorf("failures %+v, want none", w.desk.failures())
		}
	})
}
