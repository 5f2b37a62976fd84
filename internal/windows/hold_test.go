package windows_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"mediaferry/internal/windows"
)

// A call a millisecond for as long as it is allowed, against a platform that is
// down for an hour: the first failures trip the hold, and after that a call
// goes out about once a minute. When the platform answers, all is open at once.
func TestAnHourOfOutageCostsBoundedCalls(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var h windows.Hold
		calls := 0
		var last time.Time
		longest := time.Duration(0)
		for now := epoch; now.Before(epoch.Add(time.Hour)); now = now.Add(50 * time.Millisecond) {
			var may bool
			if h, may = h.Ask(now); !may {
				continue
			}
			calls++
			if !last.IsZero() {
				longest = max(longest, now.Sub(last))
			}
			last = now
			h = h.After(windows.Failed{At: now, Times: 1, Why: "refused", Jitter: rapid.Float64Range(0, 1).Draw(t, "jitter")})
		}
		if calls < 60 || calls > 140 {
			t.Fatalf("%d calls in an hour of outage", calls)
		}
		if longest > time.Minute+time.Second {
			t.Fatalf("no call for %s: whoever is back waits that long", longest)
		}
		back := h.Answered(epoch.Add(time.Hour))
		if !back.Open(epoch.Add(time.Hour)) || !back.Up.Equal(epoch.Add(time.Hour)) || back.Failures != 0 {
			t.Fatalf("after an answer: %+v", back)
		}
	})
}

func TestOneCallAtATimeAsksWhileThePlatformHangs(t *testing.T) {
	t.Parallel()
	h := windows.Hold{}.After(windows.Failed{At: epoch, Times: windows.TripAfter, Why: "stalled", Jitter: 1})
	at := epoch.Add(time.Second)
	h, may := h.Ask(at)
	if !may {
		t.Fatalf("held beyond a second: %+v", h)
	}
	for at := at; at.Before(epoch.Add(time.Minute)); at = at.Add(time.Second) {
		if _, may := h.Ask(at); may {
			t.Fatal("a second call while one is under way")
		}
	}
	// Its caller has died: the next may after a while.
	if _, may := h.Ask(epoch.Add(3 * time.Minute)); !may {
		t.Error("no call after one that was lost")
	}
}

func TestABrokenUploadAmongOthersHoldsNobody(t *testing.T) {
	t.Parallel()
	var h windows.Hold
	for i := range 100 {
		at := epoch.Add(time.Duration(i) * time.Second)
		h = h.After(windows.Failed{At: at, Times: windows.TripAfter - 1})
		if !h.Open(at) {
			t.Fatalf("held after %d failures with answers between", i)
		}
		h = h.Answered(at)
	}
}

// What the platform asks for is kept, whether it is down or not, and an answer
// to a call that was sent before does not lift it.
func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	h := windows.Hold{}.After(windows.Failed{At: epoch, Times: 1, RetryAfter: 30 * time.Second, Why: "throttled"})
	h = h.Answered(epoch.Add(time.Second))
	if _, may := h.Ask(epoch.Add(29 * time.Second)); may {
		t.Error("called before the time that the platform asked for")
	}
	if _, may := h.Ask(epoch.Add(30 * time.Second)); !may {
		t.Error("held for longer than the platform asked for")
	}
	h = h.Answered(epoch.Add(31 * time.Second))
	if h != (windows.Hold{}) {
		t.Errorf("left over: %+v", h)
	}
	if got := (windows.Hold{}).After(windows.Failed{At: epoch, RetryAfter: 100 * time.Hour}).Until; got.After(epoch.Add(time.Hour)) {
		t.Errorf("held until %s", got)
	}
}

// Failures of calls that were sent before the hold began neither prolong it nor
// count as the answer to a call that asks.
func TestStragglersDoNotProlongAHold(t *testing.T) {
	t.Parallel()
	h := windows.Hold{}.After(windows.Failed{At: epoch, Times: 8, Why: "refused", Jitter: 1})
	until := h.Until
	for range 100 {
		h = h.After(windows.Failed{At: epoch.Add(time.Millisecond), Times: 1, Why: "refused", Jitter: 1})
	}
	if h.Until != until {
		t.Errorf("held until %s, then %s", until, h.Until)
	}
}
