package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

func TestKindsDecide(t *testing.T) {
	t.Parallel()
	type want struct {
		verdict parts.Verdict
		puts    int // of part 4
		failure string
		asks    int // after a second job of the same upload: 2 if the first forgot the assignment
	}
	for kind, w := range map[providers.Kind][2]want{ // at the first and at the third delivery
		providers.Transient:      {{parts.Retry, 2, "", 1}, {parts.Done, 2, "transient", 1}},
		providers.UnknownOutcome: {{parts.Retry, 2, "", 1}, {parts.Done, 2, "unknown_outcome", 1}},
		providers.Mismatch:       {{parts.Done, 2, "mismatch", 1}, {parts.Done, 2, "mismatch", 1}},
		providers.Throttled:      {{parts.Done, 1, "throttled", 1}, {parts.Done, 1, "throttled", 1}},
		providers.Rejected:       {{parts.Done, 1, "rejected", 1}, {parts.Done, 1, "rejected", 1}},
		providers.Unauthorized:   {{parts.Done, 1, "unauthorized", 2}, {parts.Done, 1, "unauthorized", 2}},
		providers.SessionLost:    {{parts.Done, 1, "session_lost", 2}, {parts.Done, 1, "session_lost", 2}},
		"of another build":       {{parts.Done, 1, "of another build", 1}, {parts.Done, 1, "of another build", 1}},
	} {
		for i, delivery := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", kind, delivery), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					world := newWorld(t, worldConfig{size: 64, partSize: 8})
					world.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
						if call != providers.CallPut || nth < 4 {
							return true, nil
						}
						return false, &providers.Error{
							Kind: kind, Call: "PutIt", Code: "E42", Message: "no luck", RetryAfter: 7 * time.Second,
						}
					})
					s := world.handle(t.Context(), delivery)
					got := want{verdict: s.Verdict, puts: world.platform.Seen(world.job.Upload).Puts[4]}
					for _, f := range world.desk.failures() {
						got.failure = f.Kind
						if f.Part != 4 || f.Code != "E42" || f.RetryAfter != 7*time.Second ||
							!strings.Contains(f.Message, "no luck") || f.Started.IsZero() || f.Failed.IsZero() {
							t.Errorf("the failure says %+v", f)
						}
					}
					if diff := cmp.Diff([]int{1, 2, 3}, world.desk.acked()); diff != "" {
						t.Errorf("acked (-want +got):\n%s", diff)
					}
					if n := len(world.desk.reports); n > 0 && world.desk.reports[0].Failure != nil {
						t.Error("the failure is reported before the acks")
					}
					world.heal()
					world.handle(t.Context(), 1)
					got.asks = len(world.desk.asks)
					if diff := cmp.Diff(w[i], got, cmp.AllowUnexported(want{})); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				})
			})
		}
	}
}

func TestRetryDelaysGrow(t *testing.T) {
	t.Parallel()
	for delivery, about := range map[int]time.Duration{1: time.Second, 2: 4 * time.Second, 9: 16 * time.Second} {
		var least, most time.Duration = time.Hour, 0
		for range 200 {
			s := again(delivery)
			if s.Verdict != parts.Retry {
				t.Fatalf("verdict %v", s.Verdict)
			}
			least, most = min(least, s.Delay), max(most, s.Delay)
		}
		if least < about*3/4 || most > about*5/4 || least == most {
			t.Errorf("delivery %d is delayed by %v to %v, want about %v with jitter", delivery, least, most, about)
		}
	}
}

func TestRetryWithinDeliveryWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 8, partSize: 8})
		w.staging.open = func(nth int) error { return only(nth == 1, errBroken) }
		begun := time.Now()
		w.handle(t.Context(), 1)
		if took := time.Since(begun); took < retryPause*3/4 || took > retryPause*5/4+batchDelay {
			t.Errorf("the retry came after %v, want about %v", took, retryPause)
		}
	})
}

// The parts before and after the one that the ledger has are read with one GET
// each, and nothing of it in between.
func TestRedeliveryReadsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{size: 64, partSize: 8})
	first := w.job
	first.Run = parts.Run{First: 3, Count: 2}
	w.Handle(t.Context(), first, 1, func() {})
	w.staging.opens = nil
	w.finishRun(t, 2, false)
	if diff := cmp.Diff([]int64{0, 32}, w.staging.opened()); diff != "" {
		t.Errorf("reads start at (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]bool{false, true}, w.desk.asks); diff != "" {
		t.Errorf("asks, redelivered (-want +got):\n%s", diff)
	}
}

func TestFailedPartIsReadAgainFromItsStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8})
		w.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
			return true, only(call == providers.CallPut && nth == 6, errBroken)
		})
		w.handle(t.Context(), 1)
		if diff := cmp.Diff([]int64{0, 40}, w.staging.opened()); diff != "" {
			t.Errorf("reads start at (-want +got):\n%s", diff)
		}
		if got := w.Stats(); got.SentBytes != 64 || got.SentParts != 8 {
			t.Errorf("stats %+v, want 8 parts and 64 bytes", got)
		}
	})
}

// lazy is a platform that confirms parts without reading all of them.
type lazy struct {
	*providertest.Fake
	leave int64
}

func (l lazy) PutPart(_ context.Context, _ providers.Session, part parts.Part, b providers.Body) (parts.Receipt, error) {
	_, err := io.CopyN(io.Discard, b, part.Length-l.leave)
	return parts.Receipt{Tag: "fine"}, err
}

func TestPartIsNotAckedUnlessAllOfItWasSent(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		for _, leave := range []int64{0, 1, 8} {
			t.Run(fmt.Sprintf("held %t, %d left", first, leave), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, worldConfig{size: 16, partSize: 8, digestFirst: first})
					w.assignments.platforms["fake"] = lazy{Fake: w.platform.Fake, leave: leave}
					w.handle(t.Context(), 1)
					if leave == 0 {
						if got := w.desk.acked(); len(got) != 2 {
							t.Errorf("acked %v, want both parts", got)
						}
						return
					}
					if got := w.desk.acked(); len(got) != 0 {
						t.Errorf("acked %v, want none", got)
					}
					if f := w.desk.failures(); len(f) != 1 || f[0].Kind != string(providers.Mismatch) {
						t.Errorf("failures %+v, want one mismatch", f)
					}
				})
			})
		}
	}
}

func TestShortStagingReadIsTransient(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, worldConfig{size: 64, partSize: 8, digestFirst: first})
			w.staging.data = w.staging.data[:20]
			w.handle(t.Context(), 3)
			if diff := cmp.Diff([]int{1, 2}, w.desk.acked()); diff != "" {
				t.Errorf("acked (-want +got):\n%s", diff)
			}
			if f := w.desk.failures(); len(f) != 1 || f[0].Kind != parts.SourceTransient || f[0].Part != 3 {
				t.Errorf("failures %+v, want source_transient at part 3", f)
			}
		})
	}
}

func TestUnfitJobs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		first worldConfig
		set   func(w *world)
		kind  providers.Kind
	}{
		"held parts are too large": {worldConfig{size: maxHeld + 1, partSize: maxHeld + 1, digestFirst: true}, func(*world) {}, providers.Rejected},
		"run before the plan":      {worldConfig{size: 64, partSize: 8}, func(w *world) { w.job.Run.First = 0 }, providers.Rejected},
		"run beyond the plan":      {worldConfig{size: 64, partSize: 8}, func(w *world) { w.job.Run.First = 2 }, providers.Rejected},
		"no such provider":         {worldConfig{size: 64, partSize: 8}, func(w *world) { w.desk.assignment.Provider = "new" }, providers.Transient},
		"no plan":                  {worldConfig{size: 64, partSize: 8}, func(w *world) { w.desk.assignment.Plan = parts.Plan{} }, providers.Transient},
		"no session":               {worldConfig{size: 64, partSize: 8}, func(w *world) { w.desk.assignment.Session = []byte("secret") }, providers.Transient},
		"no such digest":           {worldConfig{size: 64, partSize: 8}, func(w *world) { w.job = digestJob(w, "md6") }, providers.Transient},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.first)
			tt.set(w)
			s := w.handle(t.Context(), 3)
			f := w.desk.failures()
			if s.Verdict != parts.Done || len(f) != 1 || f[0].Kind != string(tt.kind) || strings.Contains(f[0].Message, "secret") {
				t.Errorf("%+v with failures %+v, want done and one that is %s", s, f, tt.kind)
			}
			if got := w.platform.Calls(providers.CallPut); got != 0 {
				t.Errorf("%d parts are put", got)
			}
		})
	}
}

func TestFailureKeepsNoURL(t *testing.T) {
	t.Parallel()
	leak := &url.Error{Op: "Put", URL: "https://host.example/part?X-Signature=topsecret", Err: errBroken}
	for name, set := range map[string]func(w *world){
		"platform": func(w *world) {
			w.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
				return true, only(call == providers.CallPut, &providers.Error{Kind: providers.Rejected, Err: leak})
			})
		},
		"unclassified": func(w *world) {
			w.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
				return true, only(call == providers.CallPut, fmt.Errorf("put: %w", leak))
			})
		},
		"staging": func(w *world) { w.staging.open = func(int) error { return fmt.Errorf("get: %w", leak) } },
		"long": func(w *world) {
			w.staging.open = func(int) error { return fmt.Errorf("host.example %s", strings.Repeat("ä", 1000)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{size: 8, partSize: 8})
				set(w)
				w.handle(t.Context(), 3)
				for _, f := range w.desk.failures() {
					if strings.Contains(f.Message, "topsecret") || !strings.Contains(f.Message, "host.example") || len(f.Message) > maxMessage {
						t.Errorf("the message is %q", f.Message)
					}
				}
				if len(w.desk.failures()) != 1 {
					t.Error("no failure is reported")
				}
			})
		})
	}
}

func TestStalledWorkIsEnded(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	for name, test := range map[string]struct {
		set   func(w *world)
		kind  string
		first parts.Verdict // of the first delivery: a platform that hangs gets no second
	}{
		"staging": {func(w *world) {
			w.staging.read = func(ctx context.Context, at int64) error {
				if at < 24 {
					return nil
				}
				return hang(ctx)
			}
		}, parts.SourceTransient, parts.Retry},
		"platform": {func(w *world) { w.assignments.platforms["fake"] = hanging{w.platform.Fake, 4} }, string(providers.Transient), parts.Done},
	} {
		for delivery, verdict := range map[int]parts.Verdict{1: test.first, 3: parts.Done} {
			t.Run(fmt.Sprintf("%s/%d", name, delivery), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, worldConfig{size: 64, partSize: 8})
					test.set(w)
					begun := time.Now()
					s := w.handle(t.Context(), delivery)
					if took := time.Since(begun); took < defaultStallTimeout || took > defaultStallTimeout+time.Second {
						t.Errorf("it took %v, want %v", took, defaultStallTimeout)
					}
					if s.Verdict != verdict {
						t.Errorf("comes to %+v", s)
					}
					if diff := cmp.Diff([]int{1, 2, 3}, w.desk.acked()); diff != "" {
						t.Errorf("acked (-want +got):\n%s", diff)
					}
					f := w.desk.failures()
					if verdict == parts.Done && (len(f) != 1 || f[0].Kind != test.kind || f[0].Part != 4 ||
						!strings.Contains(f[0].Message, "no byte moved for 30s")) {
						t.Errorf("failures %+v", f)
					}
				})
			})
		}
	}
}

// hanging is a platform that takes the bytes of a part and then does not answer.
type hanging struct {
	*providertest.Fake
	part int
}

func (h hanging) PutPart(ctx context.Context, s providers.Session, part parts.Part, b providers.Body) (parts.Receipt, error) {
	if part.Number == h.part {
		<-ctx.Done()
		return parts.Receipt{}, providers.TransportError("put", providers.Transient, ctx.Err())
	}
	return h.Fake.PutPart(ctx, s, part, b)
}

func TestSlowIsNotStalled(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, worldConfig{size: 20, partSize: 10, digestFirst: first})
			w.staging.chunk = 1
			w.staging.read = func(context.Context, int64) error { time.Sleep(14 * time.Second); return nil }
			if s := w.handle(t.Context(), 1); s.Verdict != parts.Done {
				t.Fatalf("comes to %+v", s)
			}
			w.staging.read = nil
			w.checkFinished(t)
			// 280 s: alive once for each byte but the last, and progress each second.
			if w.alive < 19 || w.alive > 24 {
				t.Errorf("alive was called %d times for 20 bytes", w.alive)
			}
			if n := len(w.desk.progress); n < 270 || n > 281 {
				t.Errorf("progress was shown %d times in 280 s", n)
			}
			last := w.desk.progress[244]
			if last.Total != 20 || last.Bytes != 17 || last.Stage != StageSending || last.Worker != "w1" || last.Delivery != 1 {
				t.Errorf("progress after 245 s: %+v", last)
			}
		})
	}
}

// A byte now and then, from staging or taken by the platform, keeps no slot for
// days; whoever is slow and gets on keeps it for hours.
func TestTricklingWorkIsEnded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		chunk   int // bytes in a second
		verdict parts.Verdict
	}{
		"a byte a second":     {1, parts.Retry},
		"a kilobyte a second": {1100, parts.Done},
	} {
		for _, first := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", name, first), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					const size = 1 << 20
					w := newWorld(t, worldConfig{size: size, partSize: size, digestFirst: first})
					w.staging.chunk = test.chunk
					w.staging.read = func(context.Context, int64) error { time.Sleep(time.Second); return nil }
					begun := time.Now()
					if s := w.handle(t.Context(), 1); s.Verdict != test.verdict {
						t.Fatalf("comes to %+v", s)
					}
					if took := time.Since(begun); test.verdict == parts.Retry && took > trickleTimeouts*defaultStallTimeout+2*time.Second {
						t.Errorf("it took %s", took)
					}
				})
			})
		}
	}
}

func TestAliveIsCalledOnlyWhileBytesMove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 1000, partSize: 1000})
		w.staging.chunk = 1
		w.staging.read = func(_ context.Context, at int64) error {
			if at == 500 {
				time.Sleep(25 * time.Second)
			} else {
				time.Sleep(time.Millisecond)
			}
			return nil
		}
		w.handle(t.Context(), 1)
		// A second of bytes, in two halves.
		if w.alive < 9 || w.alive > 13 {
			t.Errorf("alive was called %d times in a second of moving bytes", w.alive)
		}
	})
}

func TestAcksAreReportedInBatches(t *testing.T) {
	t.Parallel()
	sizes := func(w *world) (out []int) {
		for _, r := range w.desk.reports {
			out = append(out, len(r.Acks))
		}
		return out
	}
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, worldConfig{size: 300, partSize: 1})
			w.handle(t.Context(), 1)
			if diff := cmp.Diff([]int{128, 128, 44}, sizes(w)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	})
	t.Run("after a moment", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, worldConfig{size: 7, partSize: 1})
			var reported []time.Duration
			begun := time.Now()
			w.desk.report = func(context.Context, int) (bool, error) {
				reported = append(reported, time.Since(begun))
				return true, nil
			}
			w.platform.afterPut = func(int) error { time.Sleep(15 * time.Millisecond); return nil }
			w.handle(t.Context(), 1)
			// Acks come at 15, 30, 45 … 105 ms; a batch closes 20 ms after its first.
			ms := time.Millisecond
			if diff := cmp.Diff([]int{2, 2, 2, 1}, sizes(w)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]time.Duration{35 * ms, 65 * ms, 95 * ms, 105 * ms}, reported); diff != "" {
				t.Errorf("reported at (-want +got):\n%s", diff)
			}
		})
	})
}

// panicking is a platform with a fault in its code.
type panicking struct{ *providertest.Fake }

func (p panicking) PutPart(ctx context.Context, s providers.Session, part parts.Part, b providers.Body) (parts.Receipt, error) {
	if part.Number == 4 {
		panic("a fault")
	}
	return p.Fake.PutPart(ctx, s, part, b)
}

// Whoever calls Handle may recover; the worker is as good as before.
func TestPanicLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
		w := newWorld(t, worldConfig{size: 64, partSize: 8})
		w.assignments.platforms["fake"] = panicking{w.platform.Fake}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is hidden")
				}
			}()
			w.handle(t.Context(), 1)
		}()
		if w.Stats().Busy != 0 || len(w.inHand) != 0 {
			t.Errorf("%d slots are busy, %d jobs in hand", w.Stats().Busy, len(w.inHand))
		}
		w.assignments.forget(func(assignmentKey) bool { return true })
		w.assignments.platforms["fake"] = w.platform
		w.finishRun(t, 2, false)
	})
}

// When acks cannot be reported, no further parts are sent.
func TestSendingEndsWhenReportsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 400, partSize: 1})
		w.desk.report = func(context.Context, int) (bool, error) { return false, errBroken }
		w.platform.afterPut = func(int) error { time.Sleep(10 * time.Millisecond); return nil }
		if s := w.handle(t.Context(), 1); s.Verdict != parts.Retry {
			t.Errorf("comes to %+v", s)
		}
		if got := w.platform.Calls(providers.CallPut); got > 50 {
			t.Errorf("%d parts were put while none could be reported", got)
		}
	})
}

func TestAssignmentIsAskedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8, slots: 8})
		release := make(chan struct{})
		w.desk.ask = func(int) (bool, error) { <-release; return true, nil }
		var jobs sync.WaitGroup
		for n := range 8 {
			job := w.job
			job.Run = parts.Run{First: n + 1, Count: 1}
			jobs.Go(func() { w.Handle(t.Context(), job, 1, func() {}) })
		}
		synctest.Wait()
		if busy := w.Stats().Busy; busy != 8 {
			t.Errorf("%d slots are busy, want 8", busy)
		}
		close(release)
		jobs.Wait()
		w.checkFinished(t)
		if len(w.desk.asks) != 1 {
			t.Errorf("asked %d times for eight jobs of one upload", len(w.desk.asks))
		}
		w.handle(t.Context(), 1)
		if len(w.desk.asks) != 1 {
			t.Error("a later job asked again")
		}
		time.Sleep(assignmentLife)
		w.handle(t.Context(), 1)
		if len(w.desk.asks) != 2 {
			t.Errorf("asked %d times after %v, want 2", len(w.desk.asks), assignmentLife)
		}
		w.Cancel(w.job.Upload)
		w.handle(t.Context(), 1)
		if len(w.desk.asks) != 3 {
			t.Errorf("asked %d times after a cancel, want 3", len(w.desk.asks))
		}
		w.job.Epoch = 2
		w.handle(t.Context(), 1)
		if len(w.desk.asks) != 4 {
			t.Errorf("asked %d times in another epoch, want 4", len(w.desk.asks))
		}
	})
}

// The slot that asks for all may be interrupted; another one then asks.
func TestInterruptedAskIsTakenOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 16, partSize: 8, slots: 2})
		first, stop := context.WithCancelCause(t.Context())
		w.desk.ask = func(nth int) (bool, error) {
			if nth > 1 {
				return true, nil
			}
			<-first.Done()
			return false, errBroken
		}
		job := w.job
		job.Run = parts.Run{First: 1, Count: 1}
		var a, b parts.Settlement
		var jobs sync.WaitGroup
		jobs.Go(func() { a = w.Handle(first, job, 1, func() {}) })
		synctest.Wait()
		jobs.Go(func() { b = w.Handle(t.Context(), job, 1, func() {}) })
		synctest.Wait()
		stop(errRunner)
		jobs.Wait()
		if a.Verdict != parts.Release || b.Verdict != parts.Done {
			t.Errorf("the interrupted job comes to %+v, the other to %+v", a, b)
		}
	})
}

func TestAssignmentIsNotKeptPastItsSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8})
		w.session.Expires = time.Now().Add(time.Minute)
		var err error
		if w.desk.assignment.Session, err = json.Marshal(w.session); err != nil {
			t.Fatal(err)
		}
		for _, after := range []time.Duration{0, 59 * time.Second, time.Second} {
			time.Sleep(after)
			w.handle(t.Context(), 1)
		}
		if len(w.desk.asks) != 2 {
			t.Errorf("asked %d times, want 2: at first and when the session lapsed", len(w.desk.asks))
		}
	})
}

func TestKeptAssignmentsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{size: 8, partSize: 8})
	for epoch := range maxAssignments + 10 {
		if epoch > 0 {
			if _, err := w.assignments.first(t.Context(), parts.Job{Epoch: 0}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.assignments.first(t.Context(), parts.Job{Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.assignments.recent.Len(); n != maxAssignments || len(w.assignments.byKey) != n {
		t.Errorf("%d are kept under %d keys, want %d", n, len(w.assignments.byKey), maxAssignments)
	}
	if got := len(w.desk.asks); got != maxAssignments+10 {
		t.Errorf("asked %d times, want %d: the one in use is never dropped", got, maxAssignments+10)
	}
}

func TestCancelEndsAllJobsOfTheUploadAndNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8, slots: 4})
		release := make(chan struct{})
		w.staging.read = func(ctx context.Context, _ int64) error {
			select {
			case <-ctx.Done():
			case <-release:
			}
			return nil
		}
		other := w.job
		other.Upload = uploads.ID{1}
		var mine [3]parts.Settlement
		var theirs parts.Settlement
		var jobs, last sync.WaitGroup
		for i := range mine {
			jobs.Go(func() { mine[i] = w.handle(t.Context(), 3) })
		}
		last.Go(func() { theirs = w.Handle(t.Context(), other, 1, func() {}) })
		synctest.Wait()
		w.Cancel(w.job.Upload)
		jobs.Wait()
		close(release)
		last.Wait()
		if mine != [3]parts.Settlement{} {
			t.Errorf("cancelled jobs come to %+v, want done", mine)
		}
		if theirs.Verdict != parts.Done || len(w.desk.acked()) != 8 {
			t.Errorf("the other upload's job comes to %+v with acks of %v", theirs, w.desk.acked())
		}
		if f := w.desk.failures(); len(f) != 0 {
			t.Errorf("failures %+v", f)
		}
	})
}

// A worker that stops finishes and reports the part in hand and releases the
// rest of the run, which the next delivery sends; what comes after is released
// before it is begun.
func TestStopLeavesWhatIsNotBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8, slots: 4})
		w.staging.read = func(_ context.Context, at int64) error {
			if at == 3*8 {
				w.Stop()
			}
			return nil
		}
		if s := w.handle(t.Context(), 1); s.Verdict != parts.Release {
			t.Errorf("the run in hand comes to %+v, want it released", s)
		}
		if diff := cmp.Diff([]int{1, 2, 3, 4}, w.desk.acked()); diff != "" {
			t.Errorf("acked (-want +got)\n%s", diff)
		}
		if s := w.handle(t.Context(), 2); s.Verdict != parts.Release || len(w.desk.acked()) != 4 {
			t.Errorf("a run after the stop comes to %+v with %d parts, want it released", s, len(w.desk.acked()))
		}
		if f := w.desk.failures(); len(f) != 0 {
			t.Errorf("failures %+v", f)
		}
	})
}

// A run whose last part is in hand is done.
func TestStopAtTheLastPartIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8, slots: 4})
		w.staging.read = func(_ context.Context, at int64) error {
			if at == 7*8 {
				w.Stop()
			}
			return nil
		}
		if s := w.handle(t.Context(), 1); s.Verdict != parts.Done {
			t.Errorf("the run comes to %+v, want it done", s)
		}
		w.checkFinished(t)
	})
}

// What a cancelled job had sent is reported: a paused upload goes on later.
func TestCancelReportsWhatHadArrived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8, slots: 4})
		w.desk.report = func(context.Context, int) (bool, error) {
			time.Sleep(time.Second) // the stream takes its time
			return true, nil
		}
		w.staging.read = func(_ context.Context, at int64) error {
			if at == 3*8 {
				w.Cancel(w.job.Upload)
			}
			return nil
		}
		if s := w.handle(t.Context(), 1); s.Verdict != parts.Done {
			t.Errorf("the job comes to %+v, want it done", s)
		}
		if diff := cmp.Diff([]int{1, 2, 3}, w.desk.acked()); diff != "" {
			t.Errorf("acked (-want +got)\n%s", diff)
		}
	})
}

// An assignment that was asked for before a cancel and answered after is not kept.
func TestAnAnswerFromBeforeACancelIsNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8, slots: 4})
		w.desk.ask = func(nth int) (bool, error) {
			if nth == 1 {
				w.Cancel(w.job.Upload)
			}
			return true, nil
		}
		w.handle(t.Context(), 1)
		w.handle(t.Context(), 1)
		if len(w.desk.asks) != 2 {
			t.Errorf("asked %d times, want again after the cancel", len(w.desk.asks))
		}
	})
}

// holding is a platform that notes which memory parts are held in.
type holding struct {
	*providertest.Fake
	mu  sync.Mutex
	at  map[*byte]bool
	cap int
}

func (h *holding) PutPart(ctx context.Context, s providers.Session, part parts.Part, b providers.Body) (parts.Receipt, error) {
	h.mu.Lock()
	h.at[&b.Bytes()[0]] = true
	h.cap = max(h.cap, cap(b.Bytes()))
	h.mu.Unlock()
	return h.Fake.PutPart(ctx, s, part, b)
}

// However many jobs and parts go through, no more buffers than slots are made,
// and none is larger than maxHeld.
func TestMemoryIsBoundedBySlots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{size: 16<<20 - 1, partSize: maxHeld, digestFirst: true, slots: 2})
	w.platform.Discard()
	h := &holding{Fake: w.platform.Fake, at: make(map[*byte]bool)}
	w.assignments.platforms["fake"] = h
	var jobs sync.WaitGroup
	for range 6 {
		jobs.Go(func() {
			if s := w.Handle(t.Context(), w.job, 1, func() {}); s.Verdict != parts.Done {
				t.Errorf("comes to %+v", s)
			}
		})
	}
	jobs.Wait()
	if len(h.at) > 2 || h.cap > maxHeld {
		t.Errorf("%d buffers of up to %d bytes for 2 slots", len(h.at), h.cap)
	}
}

func TestJobsBeyondSlotsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 8, partSize: 8, slots: 1})
		release := make(chan struct{})
		w.staging.open = func(int) error { <-release; return nil }
		ctx, stop := context.WithCancelCause(t.Context())
		var jobs sync.WaitGroup
		var waiting parts.Settlement
		jobs.Go(func() { w.handle(t.Context(), 1) })
		synctest.Wait()
		jobs.Go(func() { waiting = w.handle(ctx, 1) })
		synctest.Wait()
		if n := len(w.staging.opened()); n != 1 {
			t.Errorf("%d reads are open for one slot", n)
		}
		stop(errRunner)
		synctest.Wait()
		close(release)
		jobs.Wait()
		if waiting.Verdict != parts.Release {
			t.Errorf("the job that waited comes to %+v, want release", waiting)
		}
	})
}

func TestEveryPartDigest(t *testing.T) {
	t.Parallel()
	for _, kind := range []hashing.Kind{hashing.MD5, hashing.SHA1, hashing.SHA256, hashing.CRC32C, hashing.CRC64NVME} {
		for _, first := range []bool{false, true} {
			w := newWorld(t, worldConfig{size: 1 << 20, partSize: 100_000, digest: kind, digestFirst: first})
			if s := w.handle(t.Context(), 1); s.Verdict != parts.Done {
				t.Fatalf("%s comes to %+v", kind, s)
			}
			w.checkFinished(t)
		}
	}
}

// What broke is reported as it was, however long its acks take to confirm.
func TestSlowReportIsNotAStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 64, partSize: 8})
		w.stallTimeout = 5 * time.Second
		w.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
			return true, only(call == providers.CallPut && nth == 4, &providers.Error{Kind: providers.Rejected})
		})
		w.desk.report = func(context.Context, int) (bool, error) { time.Sleep(9 * time.Second); return true, nil }
		w.handle(t.Context(), 1)
		if f := w.desk.failures(); len(f) != 1 || f[0].Kind != string(providers.Rejected) {
			t.Errorf("failures %+v, want rejected", f)
		}
	})
}

func TestProgressCountsBytesReadAgainOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldConfig{size: 100, partSize: 50})
		w.desk.ledger[1] = parts.Ack{Part: 1}
		w.staging.chunk = 5
		broken := false
		w.staging.read = func(_ context.Context, at int64) error {
			time.Sleep(time.Second)
			if at == 90 && !broken {
				broken = true
				return errBroken
			}
			return nil
		}
		w.handle(t.Context(), 2)
		var most int64
		for _, p := range w.desk.progress {
			most = max(most, p.Bytes)
			if p.Total > 50 {
				t.Errorf("%d bytes in all, 50 are missing", p.Total)
			}
		}
		if most < 45 || most > 50 {
			t.Errorf("progress reached %d of 50 bytes", most)
		}
	})
}
