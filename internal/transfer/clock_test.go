package transfer

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"
)

// The clock of a worker is off. A session that the dispatcher hands out has the
// time left that it has there, and is kept for the runs that follow.
func TestSessionsLapseByTheDispatchersClock(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ahead time.Duration // of the dispatcher's
		said  bool          // the dispatcher says what its clock is
		left  time.Duration // of the session's hour, as the worker sees it
	}{
		"right":                          {said: true, left: time.Hour},
		"ahead":                          {ahead: 3 * time.Hour, said: true, left: time.Hour},
		"behind":                         {ahead: -3 * time.Hour, said: true, left: time.Hour},
		"a dispatcher that says no time": {ahead: 20 * time.Minute, left: 40 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{size: 100, partSize: 10})
				dispatcher := time.Now().Add(-tt.ahead)
				w.session.Expires = dispatcher.Add(time.Hour)
				var err error
				if w.desk.assignment.Session, err = json.Marshal(w.session); err != nil {
					t.Fatal(err)
				}
				if tt.said {
					w.desk.assignment.At = dispatcher
				}
				for range 2 {
					a, err := w.assignments.first(t.Context(), w.job)
					if err != nil {
						t.Fatal(err)
					}
					if left := time.Until(a.session.Expires); left != tt.left {
						t.Errorf("the session has %s left, want %s", left, tt.left)
					}
				}
				if len(w.desk.asks) != 1 {
					t.Errorf("asked %d times, want once: the session has not lapsed", len(w.desk.asks))
				}
			})
		})
	}
}
