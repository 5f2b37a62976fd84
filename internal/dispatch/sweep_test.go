package dispatch

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

// fedRecord is the record of one upload that is fed and swept, in memory.
type fedRecord struct {
	Store

	next   parts.Feedable
	recent bool
}

func (r *fedRecord) Feed(ctx context.Context, _ string, _ int, _ time.Duration,
	decide func(parts.FeedPass) ([]parts.Fed, error),
) (map[uploads.ID]bool, error) {
	pass := parts.FeedPass{Window: 256 * mib}
	if r.next.Fed < r.next.Plan.Count() {
		pass.Next = []parts.Feedable{r.next}
	}
	fed, err := decide(pass)
	if err != nil || len(fed) == 0 {
		return nil, err
	}
	r.next.Fed, r.recent = fed[0].Fed, true
	r.next.FeedCount++
	return map[uploads.ID]bool{r.next.Upload: true}, ctx.Err()
}

func (r *fedRecord) Sweepable(_ context.Context, everything bool, _ int) ([]parts.Feedable, error) {
	f := r.next
	f.Recent = r.recent
	if f.Recent && !everything {
		return nil, nil
	}
	return []parts.Feedable{f}, nil
}

func (r *fedRecord) RecordSwept(_ context.Context, f parts.Feedable, _ time.Duration) (bool, error) {
	if f.FeedCount != r.next.FeedCount {
		return false, nil
	}
	if !f.Recent {
		r.next.FeedCount++
		r.recent = true
	}
	return true, nil
}

func (r *fedRecord) InFlight(context.Context, string) (inFlight, window int64, err error) {
	return 0, 256 * mib, nil
}

func (r *fedRecord) AckedParts(context.Context, uploads.ID, int, int, int) ([]int, error) {
	return nil, nil
}

func (r *fedRecord) Digesting(context.Context, int) ([]uploads.DigestWait, error) { return nil, nil }

func (r *fedRecord) StreamMark(_ context.Context, stream string) (parts.StreamMark, error) {
	return parts.StreamMark{Stream: stream, Created: time.Unix(1, 0), LastSeq: 9}, nil
}

func (r *fedRecord) SetStreamMark(context.Context, parts.StreamMark) error { return nil }

func (r *fedRecord) Holds(context.Context) (map[windows.Call]windows.Hold, time.Time, error) {
	return nil, time.Now(), nil
}

// takenOnce is a queue that takes what has one id once, as JetStream does.
type takenOnce struct {
	idle

	before func() error // called once, before the next publication
	ids    map[publishID]bool
	taken  map[int]int // how often a run was taken, by its first part
	marks  []parts.StreamMark
}

type publishID struct {
	first int
	feed  int64
}

func (q *takenOnce) Publish(_ context.Context, jobs []parts.Publication) error {
	if before := q.before; before != nil {
		q.before = nil
		if err := before(); err != nil {
			return err
		}
	}
	for _, j := range jobs {
		id := publishID{j.Job.Run.First, j.Feed}
		if !q.ids[id] {
			q.ids[id] = true
			q.taken[id.first]++
		}
	}
	return nil
}

func (q *takenOnce) Held(context.Context, string, uploads.ID, int) ([]int, error) { return nil, nil }

func (q *takenOnce) PendingAcks(context.Context, string, uploads.ID) (int, error) { return 0, nil }

func (q *takenOnce) Marks(context.Context) ([]parts.StreamMark, error) { return q.marks, nil }

// Another dispatcher swept since and left a later mark: what was noted before
// that is old news, and no sign of a loss.
func TestAnOldMarkIsNoLoss(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		now  []parts.StreamMark
		lost bool
	}{
		"the stream went on":      {now: []parts.StreamMark{{Stream: "JOBS", Created: time.Unix(1, 0), LastSeq: 9}}},
		"the stream is behind":    {now: []parts.StreamMark{{Stream: "JOBS", Created: time.Unix(1, 0), LastSeq: 8}}, lost: true},
		"the stream is a new one": {now: []parts.StreamMark{{Stream: "JOBS", Created: time.Unix(2, 0), LastSeq: 12}}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := New(Config{}, &fedRecord{}, &takenOnce{marks: test.now}, nil, plain{}, nil, nil, zap.NewNop())
			d.marks.Store(&[]parts.StreamMark{{Stream: "JOBS", Created: time.Unix(1, 0), LastSeq: 4}})
			if _, lost, err := d.look(t.Context()); err != nil || lost != test.lost {
				t.Errorf("lost %t, %v; want %t", lost, err, test.lost)
			}
		})
	}
}

// The queue is found lost after a feed was committed and before its jobs are
// published: what the sweeps of two dispatchers and the feeder publish of it is
// on the queue once. When the grace is over, the same is fed again.
func TestASweepBesideTheFeeder(t *testing.T) {
	t.Parallel()
	platform := providertest.NewFake(providers.Limits{
		Limits: parts.Limits{MinPart: 1, MaxPart: 64 * mib, Preferred: mib}, PartDigest: hashing.CRC64NVME,
	})
	record := &fedRecord{next: parts.Feedable{
		Upload: uploads.ID{1}, Account: "acc", Pool: "default", Epoch: 1, Plan: parts.Plan{Size: 40 * mib, PartSize: mib},
	}}
	lost := []parts.StreamMark{{Stream: "JOBS", Created: time.Unix(2, 0)}}
	queue := &takenOnce{ids: map[publishID]bool{}, taken: map[int]int{}, marks: lost}
	account := Account{Account: providers.Account{Name: "acc"}, Provider: "fake", Pool: "default", Window: 256 * mib}
	d := New(Config{}, record, queue, nil, plain{}, map[string]providers.Provider{"fake": platform}, []Account{account}, zap.NewNop())
	d.marks.Store(&lost)
	queue.before = func() error { return errors.Join(d.sweep(t.Context()), d.sweep(t.Context())) }
	if err := d.feed(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	runs := len(queue.taken)
	if runs == 0 {
		t.Fatal("nothing was fed")
	}
	for first, n := range queue.taken {
		if n != 1 {
			t.Errorf("the run from part %d was taken %d times, want once", first, n)
		}
	}

	record.recent = false
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for first, n := range queue.taken {
		if n != 2 {
			t.Errorf("after the grace the run from part %d was taken %d times, want twice", first, n)
		}
	}
}
