package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"mediaferry/internal/uploads"
)

// What workers say is remembered while they say it and a minute longer, however
// many uploads they spoke of, and a run that stands still is not taken for one
// that moves when it is heard of again.
func TestWhatWorkersSayIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &Dispatcher{live: newLive()}
		stuck := uploads.ID{0xff}
		began := time.Now()
		for n := range 1000 {
			d.NoteMoved(uploads.ID{byte(n), byte(n >> 8)}, 0, int64(n+1))
			d.NoteMoved(stuck, 3, 5)
			time.Sleep(time.Second)
		}
		if at := d.live.movedAt(stuck); !at.Equal(began) {
			t.Errorf("the run that stands still moved at %s, want %s", at, began)
		}
		if n := len(d.live.moved); n > 200 {
			t.Errorf("%d runs are remembered, and one in a second was spoken of", n)
		}
		u := uploads.Upload{ID: uploads.ID{byte(999 & 0xff), byte(999 >> 8)}, State: uploads.Digesting}
		if d.live.fill(&u); u.DigestedBytes != 1000 {
			t.Errorf("the last digest pass has come to %d bytes, want 1000", u.DigestedBytes)
		}
	})
}
