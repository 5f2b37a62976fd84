package transfer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

// Each case breaks one step of a run of eight parts, 8 bytes each, and says
// what the delivery comes to. Then everything is healed and the job delivered
// again: the run must finish, with the right bytes, and no part that the ledger
// had may be put again.
func TestBreakPoints(t *testing.T) {
	t.Parallel()
	const middle = 3*8 + 3 // a byte of part 4
	transient := &providers.Error{Kind: providers.Transient, Call: "put"}
	unknown := &providers.Error{Kind: providers.UnknownOutcome, Call: "put"}

	type want struct {
		verdict parts.Verdict
		acked   int // parts in the ledger
		puts    int // of part 4 (each counts, also those refused)
		failure string
	}
	// stop and cancel end the delivery from inside a step.
	type ends struct{ stop, cancel func() }
	putHook := func(f func(nth int) (bool, error)) providertest.Hook {
		return func(call providers.Call, nth int) (bool, error) {
			if call != providers.CallPut {
				return true, nil
			}
			return f(nth)
		}
	}
	tests := []struct {
		name      string
		delivery  int // 1 if 0
		cancelled bool
		reads     bool // breaks while a part is read: a held part is not put then
		set       func(w *world, e ends)
		want      want
	}{
		{name: "nothing breaks", set: func(*world, ends) {}, want: want{parts.Done, 8, 1, ""}},

		{name: "ask refused", set: func(w *world, _ ends) {
			w.desk.ask = func(int) (bool, error) { return false, errBroken }
		}, want: want{parts.Retry, 0, 0, ""}},
		{name: "ask refused for long", delivery: 7, set: func(w *world, _ ends) {
			w.desk.ask = func(int) (bool, error) { return false, errBroken }
		}, want: want{parts.Retry, 0, 0, ""}},
		{name: "ask says stale", set: func(w *world, _ ends) {
			w.desk.ask = func(nth int) (bool, error) {
				if nth == 1 {
					return false, ErrStale
				}
				return true, nil
			}
		}, want: want{parts.Done, 0, 0, ""}},
		{name: "stop while asking", set: func(w *world, e ends) {
			w.desk.ask = func(int) (bool, error) { e.stop(); return true, nil }
		}, want: want{parts.Release, 0, 0, ""}},
		{name: "cancel while asking", cancelled: true, set: func(w *world, e ends) {
			w.desk.ask = func(int) (bool, error) { e.cancel(); return true, nil }
		}, want: want{parts.Done, 0, 0, ""}},

		{name: "open fails once", set: func(w *world, _ ends) {
			w.staging.open = func(nth int) error { return only(nth == 1, errBroken) }
		}, want: want{parts.Done, 8, 1, ""}},
		{name: "open fails", set: func(w *world, _ ends) {
			w.staging.open = func(int) error { return errBroken }
		}, want: want{parts.Retry, 0, 0, ""}},
		{name: "open fails at the last delivery", delivery: 3, set: func(w *world, _ ends) {
			w.staging.open = func(int) error { return errBroken }
		}, want: want{parts.Done, 0, 0, parts.SourceTransient}},
		{name: "open finds another object", set: func(w *world, _ ends) {
			w.staging.open = func(int) error { return &stagingError{parts.SourceChanged} }
		}, want: want{parts.Done, 0, 0, parts.SourceChanged}},
		{name: "open finds nothing", set: func(w *world, _ ends) {
			w.staging.open = func(int) error { return &stagingError{parts.SourceMissing} }
		}, want: want{parts.Done, 0, 0, parts.SourceMissing}},
		{name: "open is denied", set: func(w *world, _ ends) {
			w.staging.open = func(int) error { return &stagingError{parts.SourceDenied} }
		}, want: want{parts.Done, 0, 0, parts.SourceDenied}},
		{name: "stop while opening", set: func(w *world, e ends) {
			w.staging.open = func(int) error { e.stop(); return nil }
		}, want: want{parts.Release, 0, 0, ""}},
		{name: "cancel while opening", cancelled: true, set: func(w *world, e ends) {
			w.staging.open = func(int) error { e.cancel(); return nil }
		}, want: want{parts.Done, 0, 0, ""}},

		{name: "read breaks once", reads: true, set: func(w *world, _ ends) {
			broken := false
			w.staging.read = func(_ context.Context, at int64) error {
				if at < middle || broken {
					return nil
				}
				broken = true
				return errBroken
			}
		}, want: want{parts.Done, 8, 2, ""}},
		{name: "read breaks", reads: true, set: func(w *world, _ ends) {
			w.staging.read = func(_ context.Context, at int64) error { return only(at >= middle, errBroken) }
		}, want: want{parts.Retry, 3, 2, ""}},
		{name: "read breaks at the last delivery", reads: true, delivery: 3, set: func(w *world, _ ends) {
			w.staging.read = func(_ context.Context, at int64) error { return only(at >= middle, errBroken) }
		}, want: want{parts.Done, 3, 2, parts.SourceTransient}},
		{name: "read finds another object", reads: true, set: func(w *world, _ ends) {
			w.staging.read = func(_ context.Context, at int64) error {
				return only(at >= middle, &stagingError{parts.SourceChanged})
			}
		}, want: want{parts.Done, 3, 1, parts.SourceChanged}},
		{name: "stop while reading", reads: true, set: func(w *world, e ends) {
			w.staging.read = func(_ context.Context, at int64) error {
				if at >= middle {
					e.stop()
				}
				return nil
			}
		}, want: want{parts.Release, 3, 1, ""}},
		{name: "stop while reading at the last delivery", reads: true, delivery: 3, set: func(w *world, e ends) {
			w.staging.read = func(_ context.Context, at int64) error {
				if at >= middle {
					e.stop()
				}
				return nil
			}
		}, want: want{parts.Release, 3, 1, ""}},
		{name: "cancel while reading", reads: true, cancelled: true, set: func(w *world, e ends) {
			w.staging.read = func(_ context.Context, at int64) error {
				if at >= middle {
					e.cancel()
				}
				return nil
			}
		}, want: want{parts.Done, 0, 1, ""}},

		{name: "put refused once", set: func(w *world, _ ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) { return nth != 4, only(nth == 4, transient) }))
		}, want: want{parts.Done, 8, 2, ""}},
		{name: "put refused", set: func(w *world, _ ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) { return nth < 4, only(nth >= 4, transient) }))
		}, want: want{parts.Retry, 3, 2, ""}},
		{name: "put refused at the last delivery", delivery: 3, set: func(w *world, _ ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) { return nth < 4, only(nth >= 4, transient) }))
		}, want: want{parts.Done, 3, 2, string(providers.Transient)}},
		{name: "put applied and reported as failed once", set: func(w *world, _ ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) { return true, only(nth == 4, unknown) }))
		}, want: want{parts.Done, 8, 2, ""}},
		{name: "put applied and reported as failed", set: func(w *world, _ ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) { return true, only(nth >= 4, unknown) }))
		}, want: want{parts.Retry, 3, 2, ""}},
		{name: "stop before put", set: func(w *world, e ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) {
				if nth == 4 {
					e.stop()
				}
				return true, nil
			}))
		}, want: want{parts.Release, 3, 1, ""}},
		{name: "stop after put, told as failed", set: func(w *world, e ends) {
			w.platform.afterPut = func(part int) error {
				if part != 4 {
					return nil
				}
				e.stop()
				return transient
			}
		}, want: want{parts.Release, 3, 1, ""}},
		{name: "stop after put", set: func(w *world, e ends) {
			w.platform.afterPut = func(part int) error {
				if part == 4 {
					e.stop()
				}
				return nil
			}
		}, want: want{parts.Release, 4, 1, ""}},
		{name: "cancel before put", cancelled: true, set: func(w *world, e ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) {
				if nth == 4 {
					e.cancel()
				}
				return true, nil
			}))
		}, want: want{parts.Done, 0, 1, ""}},
		{name: "cancel after put", cancelled: true, set: func(w *world, e ends) {
			w.platform.afterPut = func(part int) error {
				if part == 4 {
					e.cancel()
				}
				return nil
			}
		}, want: want{parts.Done, 0, 1, ""}},

		{name: "report refused once", set: func(w *world, _ ends) {
			w.desk.report = func(_ context.Context, nth int) (bool, error) { return nth > 1, only(nth == 1, errBroken) }
		}, want: want{parts.Done, 8, 1, ""}},
		{name: "report refused", set: func(w *world, _ ends) {
			w.desk.report = func(context.Context, int) (bool, error) { return false, errBroken }
		}, want: want{parts.Retry, 0, 1, ""}},
		{name: "report applied and told as failed once", set: func(w *world, _ ends) {
			w.desk.report = func(_ context.Context, nth int) (bool, error) { return true, only(nth == 1, errBroken) }
		}, want: want{parts.Done, 8, 1, ""}},
		{name: "report applied and told as failed", set: func(w *world, _ ends) {
			w.desk.report = func(context.Context, int) (bool, error) { return true, errBroken }
		}, want: want{parts.Retry, 8, 1, ""}},
		{name: "stop while reporting", set: func(w *world, e ends) {
			w.desk.report = func(context.Context, int) (bool, error) { e.stop(); return true, nil }
		}, want: want{parts.Done, 8, 1, ""}},
		{name: "stop while a report hangs", set: func(w *world, e ends) {
			w.desk.report = func(ctx context.Context, _ int) (bool, error) { e.stop(); <-ctx.Done(); return false, nil }
		}, want: want{parts.Release, 0, 1, ""}},
		{name: "stop, then the report is refused", set: func(w *world, e ends) {
			w.desk.report = func(context.Context, int) (bool, error) { e.stop(); return false, errBroken }
		}, want: want{parts.Release, 0, 1, ""}},
		{name: "cancel while a report hangs", cancelled: true, set: func(w *world, e ends) {
			w.desk.report = func(ctx context.Context, _ int) (bool, error) { e.cancel(); <-ctx.Done(); return false, nil }
		}, want: want{parts.Done, 0, 1, ""}},
		{name: "report of the failure is refused", delivery: 3, set: func(w *world, _ ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) { return nth < 4, only(nth >= 4, transient) }))
			w.desk.report = func(_ context.Context, nth int) (bool, error) { return nth < 2, only(nth >= 2, errBroken) }
		}, want: want{parts.Retry, 3, 2, ""}},
		{name: "stop while the failure is reported", delivery: 3, set: func(w *world, e ends) {
			w.platform.SetHook(putHook(func(nth int) (bool, error) { return nth < 4, only(nth >= 4, transient) }))
			w.desk.report = func(_ context.Context, nth int) (bool, error) {
				if nth == 2 {
					e.stop()
				}
				return true, nil
			}
		}, want: want{parts.Release, 3, 2, ""}},
	}
	for _, first := range []bool{false, true} {
		for _, tt := range tests {
			name := "streamed/" + tt.name
			if first {
				name = "held/" + tt.name
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, worldConfig{size: 8*8 - 3, partSize: 8, digestFirst: first})
					w.staging.chunk = 3
					ctx, stop := context.WithCancelCause(t.Context())
					defer stop(nil)
					tt.set(w, ends{
						stop: func() { stop(errRunner) },
						cancel: func() {
							w.desk.mu.Lock()
							w.desk.stale = true
							w.desk.mu.Unlock()
							w.Cancel(w.job.Upload)
						},
					})
					delivery := max(tt.delivery, 1)
					begun := time.Now()
					s := w.handle(ctx, delivery)
					if took := time.Since(begun); took > 2*reportTimeout {
						t.Errorf("the delivery took %v", took)
					}

					got := want{verdict: s.Verdict, acked: len(w.desk.acked()), puts: w.platform.Seen(w.job.Upload).Puts[4]}
					if f := w.desk.failures(); len(f) > 0 {
						got.failure = f[0].Kind
					}
					wanted := tt.want
					if first && tt.reads {
						wanted.puts = wanted.acked / 8
					}
					if tt.cancelled {
						got.acked = wanted.acked // either way is right: nobody wants them
					}
					if diff := cmp.Diff(wanted, got, cmp.AllowUnexported(want{})); diff != "" {
						t.Fatalf("first delivery (-want +got):\n%s", diff)
					}
					if busy := w.Stats().Busy; busy != 0 {
						t.Errorf("%d slots are busy after the job", busy)
					}
					w.heal()
					w.finishRun(t, delivery+1, tt.cancelled)
				})
			})
		}
	}
}

// only returns err where the condition holds.
func only(condition bool, err error) error {
	if condition {
		return err
	}
	return nil
}

// finishRun delivers the job once more with everything healed.
func (w *world) finishRun(t *testing.T, delivery int, cancelled bool) {
	t.Helper()
	before, had, failed := w.platform.Seen(w.job.Upload).Puts, w.desk.acked(), len(w.desk.failures())
	if s := w.handle(t.Context(), delivery); s.Verdict != parts.Done {
		t.Fatalf("the healed delivery comes to %+v", s)
	}
	if n := len(w.desk.failures()); n != failed {
		t.Errorf("the healed delivery reports %d failures", n-failed)
	}
	after := w.platform.Seen(w.job.Upload).Puts
	if cancelled {
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("parts of a cancelled upload are put (-want +got):\n%s", diff)
		}
		return
	}
	for _, n := range had {
		if after[n] != before[n] {
			t.Errorf("part %d was in the ledger and is put again", n)
		}
	}
	w.checkFinished(t)
}
