package windows_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"mediaferry/internal/windows"
)

const mib = 1 << 20

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant in all but name

func drawLimits(t *rapid.T) windows.Limits {
	return windows.Limits{Least: 16 * mib, Most: rapid.Int64Range(16, 4096).Draw(t, "most") * mib}
}

// Whatever happens, the window stays within its limits, is cut at most once a
// second, never grows but by the rule, and never while it was not full.
func TestAWindowKeepsToItsRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimits(t)
		w := windows.Window{}.Within(l)
		now, cut := epoch, epoch.Add(-time.Hour)
		for range rapid.IntRange(1, 200).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			o := windows.Observed{
				At: now, Acked: rapid.Int64Range(0, 1<<30).Draw(t, "acked"), Full: rapid.Bool().Draw(t, "full"),
				Congested: rapid.SampledFrom([]string{"", "", "throttled"}).Draw(t, "congested"),
				Down:      rapid.IntRange(0, 9).Draw(t, "down") == 0,
			}
			before := w
			w = w.After(o, l)
			if w.Bytes < l.Least || w.Bytes > l.Most || w.Threshold < l.Least || w.Threshold > l.Most {
				t.Fatalf("window %d, threshold %d, not within %+v", w.Bytes, w.Threshold, l)
			}
			switch {
			case w.Bytes > before.Bytes:
				if o.Down || o.Congested != "" || !o.Full || now.Sub(cut) < time.Second {
					t.Fatalf("grew from %d to %d on %+v", before.Bytes, w.Bytes, o)
				}
				if w.Bytes > max(min(2*before.Bytes, before.Threshold), before.Bytes+l.Least) {
					t.Fatalf("grew from %d to %d with threshold %d", before.Bytes, w.Bytes, before.Threshold)
				}
			case w.Bytes < before.Bytes:
				if !o.Down && (o.Congested == "" || now.Sub(cut) < time.Second || w.Bytes < before.Bytes/2) {
					t.Fatalf("cut from %d to %d on %+v, last cut %s before", before.Bytes, w.Bytes, o, now.Sub(cut))
				}
				if w.CutAt != now || w.CutFor != o.Congested {
					t.Fatalf("cut at %s for %q, recorded %s for %q", now, o.Congested, w.CutAt, w.CutFor)
				}
				cut = now
			}
			if !w.CutAt.IsZero() {
				cut = w.CutAt
			}
		}
	})
}

// path is a platform that carries rate bytes a second, and more than its
// buffer in flight brings a throttling answer.
func run(t *testing.T, w windows.Window, l windows.Limits, from time.Time, seconds int, rate func(window int64) float64, throttles func(window int64) bool) (windows.Window, time.Time) {
	t.Helper()
	for range seconds {
		from = from.Add(time.Second)
		o := windows.Observed{At: from, Acked: int64(rate(w.Bytes)), Full: true}
		if throttles != nil && throttles(w.Bytes) {
			o.Congested = "throttled"
		}
		w = w.After(o, l)
	}
	return w, from
}

// A window whose growth brings goodput comes back to the maximum; one whose
// growth brings nothing stays about where it was.
func TestAWindowGrowsWhileGoodputDoes(t *testing.T) {
	t.Parallel()
	l := windows.Limits{Least: 16 * mib, Most: 512 * mib}
	down := windows.Window{}.Within(l).After(windows.Observed{At: epoch, Down: true, Congested: "no answer"}, l)
	if down.Bytes != l.Least || down.Threshold != 256*mib {
		t.Fatalf("after an outage: window %d, threshold %d", down.Bytes, down.Threshold)
	}
	back, _ := run(t, down, l, epoch, 6, func(window int64) float64 { return float64(window) }, nil)
	if back.Bytes < 256*mib {
		t.Errorf("six seconds after an outage the window is %d, want half of what it was", back.Bytes)
	}
	full, _ := run(t, down, l, epoch, 40, func(window int64) float64 { return float64(window) }, nil)
	if full.Bytes != l.Most {
		t.Errorf("window is %d where each growth brings more, want %d", full.Bytes, l.Most)
	}
	cut := windows.Window{}.Within(l)
	at := epoch
	for range 3 {
		at = at.Add(time.Second)
		cut = cut.After(windows.Observed{At: at, Congested: "throttled"}, l)
	}
	if cut.Bytes != 64*mib {
		t.Fatalf("after three cuts: %d", cut.Bytes)
	}
	flat, _ := run(t, cut, l, at, 30, func(int64) float64 { return 50 * mib }, nil)
	if grown := flat.Bytes - cut.Bytes; grown < 16*mib || grown > 5*16*mib {
		t.Errorf("window grew by %d where growth brings nothing, want a try now and then", grown)
	}
}

// A platform that throttles above a bound is used near that bound, and not
// throttled more often than now and then.
func TestAWindowSettlesBelowWhatIsThrottled(t *testing.T) {
	t.Parallel()
	l := windows.Limits{Least: 16 * mib, Most: 1024 * mib}
	w := windows.Window{}.Within(l)
	var cuts, below int
	at := epoch
	for second := range 600 {
		w, at = run(t, w, l, at, 1, func(window int64) float64 { return float64(min(window, 200*mib)) },
			func(window int64) bool { return window > 200*mib })
		if second > 60 {
			if w.CutAt.Equal(at) {
				cuts++
			}
			if w.Bytes < 90*mib || w.Bytes > 216*mib {
				below++
			}
		}
	}
	if cuts == 0 || cuts > 120 || below > 0 {
		t.Errorf("throttled in %d of 540 seconds; %d seconds away from the bound", cuts, below)
	}
}

func TestManyFailuresOfOneRoundTripCutOnce(t *testing.T) {
	t.Parallel()
	l := windows.Limits{Least: 16 * mib, Most: 256 * mib}
	w := windows.Window{}.Within(l)
	for ms := range 900 {
		w = w.After(windows.Observed{At: epoch.Add(time.Duration(ms) * time.Millisecond), Congested: "throttled"}, l)
	}
	if w.Bytes != 128*mib {
		t.Errorf("window is %d, want one cut", w.Bytes)
	}
}

// Goodput is what was acknowledged, and nothing after a pause.
func TestGoodput(t *testing.T) {
	t.Parallel()
	l := windows.Limits{Least: 16 * mib, Most: 256 * mib}
	w, at := run(t, windows.Window{}.Within(l), l, epoch, 30, func(int64) float64 { return 80 * mib }, nil)
	if got := w.GoodputAt(at); got < 79*mib || got > 81*mib {
		t.Errorf("goodput is %f, want 80 MiB/s", got)
	}
	if got := w.GoodputAt(at.Add(time.Minute)); got != 0 {
		t.Errorf("goodput after a minute of nothing is %f", got)
	}
}
