package transfer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
)

// Whatever breaks in whichever deliveries, the healed one finishes the run: the
// ledger covers every byte once, the platform has the very bytes, no delivery
// puts a part that the ledger had, and a stop is never counted as a failure.
func TestAnythingMayBreak(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		cfg := worldConfig{
			size:        rapid.Int64Range(1, 300).Draw(rt, "size"),
			partSize:    rapid.Int64Range(1, 40).Draw(rt, "part size"),
			digestFirst: rapid.Bool().Draw(rt, "digest first"),
		}
		chunk := rapid.IntRange(0, 9).Draw(rt, "chunk")
		breakages := rapid.SliceOfN(rapid.Custom(drawBreakage), 0, 5).Draw(rt, "breakages")
		// Draws may not be made in the bubble, nor rt be failed.
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, cfg)
			w.staging.chunk = chunk
			for i, b := range breakages {
				w.breakAndHandle(t, b, i+1)
			}
			w.finishRun(t, len(breakages)+2, false)
		})
		if t.Failed() {
			rt.Fatal("see above")
		}
	})
}

func (w *world) breakAndHandle(t *testing.T, b breakage, delivery int) {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	failures := len(w.desk.failures())
	b.set(w, func() { stop(errRunner) })
	had, before := w.desk.acked(), w.platform.Seen(w.job.Upload).Puts
	s := w.handle(ctx, delivery)
	after := w.platform.Seen(w.job.Upload).Puts
	for _, n := range had {
		if after[n] != before[n] {
			t.Errorf("delivery %d puts part %d, which the ledger had", delivery, n)
		}
	}
	failed := len(w.desk.failures()) > failures
	if ctx.Err() != nil && s.Verdict == parts.Release && failed {
		t.Errorf("a stop is reported as %+v", w.desk.failures())
	}
	if s.Verdict == parts.Done && !failed && len(w.desk.acked()) != w.plan.Count() {
		t.Errorf("done, but the ledger has %v of %d parts", w.desk.acked(), w.plan.Count())
	}
	if s.Verdict == parts.Retry && s.Delay <= 0 {
		t.Errorf("comes to %+v", s)
	}
	w.heal()
}

// breakage is one hook: at the nth time of its step it refuses, takes effect
// and reports an error, or stops the worker; once or from then on.
type breakage struct {
	step              string
	nth               int
	once, apply, stop bool
	kind              providers.Kind
	pace              time.Duration // of the platform, per part
}

func drawBreakage(rt *rapid.T) breakage {
	return breakage{
		step: rapid.SampledFrom([]string{"ask", "open", "read", "put", "after put", "report"}).Draw(rt, "step"),
		nth:  rapid.IntRange(1, 12).Draw(rt, "nth"),
		once: rapid.Bool().Draw(rt, "once"), apply: rapid.Bool().Draw(rt, "apply"), stop: rapid.Bool().Draw(rt, "stop"),
		kind: rapid.SampledFrom([]providers.Kind{
			providers.Transient, providers.Throttled, providers.Mismatch, providers.UnknownOutcome, providers.Rejected,
		}).Draw(rt, "kind"),
		pace: time.Duration(rapid.IntRange(0, 30).Draw(rt, "pace")) * time.Millisecond,
	}
}

func (b breakage) set(w *world, stop func()) {
	n := 0
	next := func() (apply bool, _ error) {
		n++
		switch {
		case n < b.nth || b.once && n > b.nth:
			return true, nil
		case b.stop:
			stop()
			return true, nil
		default:
			return b.apply, &providers.Error{Kind: b.kind, Call: "any"}
		}
	}
	w.platform.afterPut = func(int) error { time.Sleep(b.pace); return nil }
	switch b.step {
	case "ask":
		w.desk.ask = func(int) (bool, error) { return next() }
	case "open":
		w.staging.open = func(int) error { _, err := next(); return err }
	case "read":
		w.staging.read = func(context.Context, int64) error { _, err := next(); return err }
	case "put":
		w.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
			if call != providers.CallPut {
				return true, nil
			}
			return next()
		})
	case "after put":
		w.platform.afterPut = func(int) error { time.Sleep(b.pace); _, err := next(); return err }
	case "report":
		w.desk.report = func(context.Context, int) (bool, error) { return next() }
	}
}
