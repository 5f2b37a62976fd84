package dispatch

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"mediaferry/internal/uploads"
)

// pictured is the record and the queue of one upload.
type pictured struct {
	Store
	Queue

	upload uploads.Upload
	fed    int
	ledger []uploads.PartRange
	held   []int
	away   error // of the queue
}

func (p *pictured) Upload(context.Context, string, uploads.ID) (uploads.Upload, error) {
	return p.upload, nil
}
func (p *pictured) FedParts(context.Context, uploads.ID) (int, error) { return p.fed, nil }
func (p *pictured) Ledger(context.Context, uploads.ID, int) ([]uploads.PartRange, []uploads.PartTries, error) {
	return p.ledger, nil, nil
}

func (p *pictured) Held(context.Context, string, uploads.ID, int) ([]int, error) {
	return p.held, p.away
}

func TestPartMap(t *testing.T) {
	t.Parallel()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	p := &pictured{
		upload: uploads.Upload{
			ID: id, State: uploads.Uploading, Epoch: 1, PartSize: 8 * mib, PartCount: 12, Source: uploads.Object{Size: 12 * 8 * mib},
		},
		fed:    8,
		ledger: []uploads.PartRange{{First: 1, Count: 1, State: uploads.PartFound}, {First: 3, Count: 1, State: uploads.PartAcked}},
		held:   []int{3, 5}, // runs of two parts
	}
	d := New(Config{}, p, p, nil, nil, nil, nil, zap.NewNop())
	d.NoteHand(id, uploads.PartHand{First: 3, Count: 2, Worker: "w", At: time.Now()})
	d.NoteHand(id, uploads.PartHand{First: 7, Count: 2, Worker: "gone", At: time.Now().Add(-time.Minute)})

	check := func(want ...uploads.PartRange) {
		t.Helper()
		m, err := d.PartMap(t.Context(), "default", id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, m.Ranges); diff != "" {
			t.Errorf("ranges (-want +got)\n%s", diff)
		}
	}
	check(
		uploads.PartRange{First: 1, Count: 1, State: uploads.PartFound},
		uploads.PartRange{First: 2, Count: 1, State: uploads.PartOnWay},
		uploads.PartRange{First: 3, Count: 1, State: uploads.PartAcked},
		uploads.PartRange{First: 4, Count: 1, State: uploads.PartInHand},
		uploads.PartRange{First: 5, Count: 2, State: uploads.PartQueued},
		uploads.PartRange{First: 7, Count: 2, State: uploads.PartOnWay},
		uploads.PartRange{First: 9, Count: 4, State: uploads.PartNotFed},
	)
	p.held, p.away = nil, errors.New("no responders")
	check(
		uploads.PartRange{First: 1, Count: 1, State: uploads.PartFound},
		uploads.PartRange{First: 2, Count: 1, State: uploads.PartUnknown},
		uploads.PartRange{First: 3, Count: 1, State: uploads.PartAcked},
		uploads.PartRange{First: 4, Count: 1, State: uploads.PartInHand},
		uploads.PartRange{First: 5, Count: 4, State: uploads.PartUnknown},
		uploads.PartRange{First: 9, Count: 4, State: uploads.PartNotFed},
	)
	p.upload.State = uploads.Failed // what had been fed is nowhere now
	check(
		uploads.PartRange{First: 1, Count: 1, State: uploads.PartFound},
		uploads.PartRange{First: 2, Count: 1, State: uploads.PartNotFed},
		uploads.PartRange{First: 3, Count: 1, State: uploads.PartAcked},
		uploads.PartRange{First: 4, Count: 9, State: uploads.PartNotFed},
	)
}

// What was moved is the growth between the heartbeats of each worker, in steps
// of time, of which an hour is kept.
func TestMovedIsWhatHeartbeatsSay(t *testing.T) {
	t.Parallel()
	p := &pictured{}
	d := New(Config{}, p, p, nil, nil, nil, nil, zap.NewNop())
	at := time.Now().Truncate(movedStep)
	beat := func(worker string, after time.Duration, moved int64) {
		d.NoteWorker(uploads.WorkerStatus{ID: worker, BytesMoved: moved, SeenAt: at.Add(after)})
	}
	beat("a", 0, 5000) // moved before anybody listened
	beat("a", time.Second, 5100)
	beat("b", time.Second, 70)
	beat("b", 2*time.Second, 80)
	beat("a", 3*time.Second, 20) // started again under its name
	beat("a", 11*time.Second, 27)
	want := []uploads.Moved{{At: at, Bytes: 110}, {At: at.Add(movedStep), Bytes: 7}}
	if diff := cmp.Diff(want, d.live.flowing.moved); diff != "" {
		t.Errorf("moved (-want +got)\n%s", diff)
	}
	for i := range 2 * movedSteps {
		d.live.flowing.move(at.Add(time.Duration(i)*movedStep), 1)
	}
	if n := len(d.live.flowing.moved); n != movedSteps {
		t.Errorf("%d steps are kept, want %d", n, movedSteps)
	}
}
