package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestDelayGrowsWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tries := rapid.IntRange(-1, 1000).Draw(t, "tries")
		got := Delay(tries, time.Second, time.Minute)
		if got < time.Second/2 || got > time.Minute {
			t.Fatalf("Delay(%d) = %s", tries, got)
		}
		if tries >= 8 && got < 30*time.Second {
			t.Fatalf("Delay(%d) = %s, want it near the most", tries, got)
		}
	})
}

func TestPauseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if !Pause(t.Context(), time.Minute) || time.Since(begun) != time.Minute {
			t.Errorf("a pause of a minute took %s", time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if Pause(ctx, time.Minute) || time.Since(begun) != time.Minute+time.Second {
			t.Errorf("a pause that its context ends after a second went on until %s", time.Since(begun))
		}
	})
}
