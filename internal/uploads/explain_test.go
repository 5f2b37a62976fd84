package uploads_test

import (
	"strings"
	"testing"
	"time"

	"mediaferry/internal/uploads"
)

// A time of the end is spoken of where there is one to tell.
func TestMovingWithoutAPaceNamesNone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	c := uploads.Circumstances{
		Upload: uploads.Upload{State: uploads.Uploading, Source: uploads.Object{Size: 300 << 20}, BegunAt: now.Add(-2 * time.Minute)},
		Now:    now, MovedAt: now, Account: &uploads.AccountStatus{Window: 1 << 30},
		Workers: []uploads.WorkerStatus{{Slots: 4, Busy: 1}},
	}
	for _, recent := range []int64{0, 60 << 20} {
		c.RecentBytes = recent
		e := uploads.Explain(c)
		if e.Why != uploads.WhyMoving {
			t.Fatalf("explained as %s: %s", e.Why, e.Summary)
		}
		if paced := strings.Contains(e.Next, "pace"); paced != (recent > 0) || e.NextAt.IsZero() == paced {
			t.Errorf("after %d bytes: %q at %v", recent, e.Next, e.NextAt)
		}
	}
}
