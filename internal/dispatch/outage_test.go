package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

const mib = 1 << 20

// holdsRecord is the record of one upload as far as these tests need it, in
// memory, so that an hour passes at once.
type holdsRecord struct {
	Store

	mu       sync.Mutex
	windows  map[string]windows.Window
	holds    map[windows.Call]windows.Hold
	failures int // of the part that are not excused
	delay    time.Duration
	tries    int
	intent   bool
	failed   *uploads.Failure
	done     *parts.Finished
}

func newHoldsRecord() *holdsRecord {
	return &holdsRecord{windows: map[string]windows.Window{}, holds: map[windows.Call]windows.Hold{}}
}

func (r *holdsRecord) AdjustWindow(_ context.Context, account string, change func(time.Time, windows.Window) windows.Window) (windows.Window, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.windows[account] = change(time.Now(), r.windows[account])
	return r.windows[account], nil
}

func (r *holdsRecord) AdjustHold(_ context.Context, account string, call providers.Call, change func(time.Time, windows.Hold) windows.Hold) (windows.Hold, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := windows.Call{Account: account, Call: string(call)}
	r.holds[key] = change(time.Now(), r.holds[key])
	return r.holds[key], nil
}

func (r *holdsRecord) Holds(context.Context) (map[windows.Call]windows.Hold, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.holds), time.Now(), nil
}

func (r *holdsRecord) Release(context.Context, string, providers.Call) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = 0
	return nil
}

func (r *holdsRecord) RecordReports(_ context.Context, reports []parts.Report) ([]parts.Landed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range reports {
		hold := r.holds[windows.Call{Account: report.Account, Call: string(providers.CallPut)}]
		if report.Failure != nil && report.Failure.Part > 0 && !hold.Excuses(time.Now()) {
			r.failures++
		}
	}
	return nil, nil
}

func (r *holdsRecord) Failures(context.Context, uploads.ID, int, int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures, nil
}

func (r *holdsRecord) HoldFeeding(_ context.Context, _ uploads.ID, _ int, delay time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = delay
	return nil
}

func (r *holdsRecord) RenewLeases(_ context.Context, inHand map[uploads.ID]uploads.Lease, _ time.Duration) (map[uploads.ID]bool, error) {
	kept := map[uploads.ID]bool{}
	for id := range inHand {
		kept[id] = true
	}
	return kept, nil
}

func (r *holdsRecord) Postpone(_ context.Context, _ uploads.Step, delay time.Duration, tries int, keepIntent bool, _ ...uploads.Evidence) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay, r.intent = delay, keepIntent
	r.tries += tries
	return nil
}

func (r *holdsRecord) Fail(_ context.Context, _ uploads.ID, _ int, _ uploads.Lease, f uploads.Failure) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = &f
	return true, nil
}

func (r *holdsRecord) RecordFinished(_ context.Context, finished []parts.Finished) (map[uploads.ID]bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = &finished[0]
	return map[uploads.ID]bool{finished[0].Upload: true}, nil
}

// idle is a queue that takes what it is given.
type idle struct{ Queue }

func (idle) Withdraw(context.Context, string, uploads.ID) error { return nil }
func (idle) WithdrawRuns(context.Context, string) error         { return nil }
func (idle) Cancel(uploads.ID) error                            { return nil }

// plain seals nothing.
type plain struct{}

func (plain) Seal(b []byte, _ string) []byte { return b }
func (plain) Prefix() []byte                 { return nil }

func (plain) Open(b []byte, _ string) ([]byte, error) { return b, nil }

func outageSetup(t *testing.T) (*Dispatcher, *holdsRecord, *providertest.Fake) {
	t.Helper()
	platform := providertest.NewFake(providers.Limits{
		Limits: parts.Limits{MinPart: 1, MaxPart: 64 * mib, Preferred: mib}, PartDigest: hashing.CRC64NVME,
	})
	record := newHoldsRecord()
	d := New(Config{}, record, idle{}, nil, plain{}, map[string]providers.Provider{"fake": platform},
		[]Account{{Account: providers.Account{Name: "acc"}, Provider: "fake", Pool: "default", Window: 256 * mib}}, zap.NewNop())
	return d, record, platform
}

var errRefused = &providers.Error{Kind: providers.Transient, Call: "call", Err: errors.New("connection refused")}

// settle lets the timers end that a test leaves behind, which synctest waits for.
func settle() { time.Sleep(2 * time.Hour) }

func partFailure(part int) parts.Report {
	now := time.Now()
	return parts.Report{Upload: uploads.ID{1}, Account: "acc", Epoch: 1, Worker: "w", Delivery: 3, Failure: &parts.Failure{
		Part: part, Kind: string(providers.Transient), Message: "connection refused", Started: now, Failed: now,
	}}
}

// One call asks whether the platform is back, another is told to wait for what
// becomes of it, and the answer comes before the waiting is written down. It
// may come to another dispatcher.
func TestWhatWaitsForTheCallThatAsksIsReleasedByItsAnswer(t *testing.T) {
	t.Parallel()
	step := uploads.Step{ID: uploads.ID{2}, Account: "acc", Provider: "fake", State: uploads.Beginning, Epoch: 1}
	for name, test := range map[string]struct{ elsewhere, looks bool }{
		"one dispatcher":                          {},
		"another dispatcher, heard of before":     {elsewhere: true, looks: true},
		"another dispatcher, heard of thereafter": {elsewhere: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				waits, record, _ := outageSetup(t)
				asks := waits
				if test.elsewhere {
					asks, _, _ = outageSetup(t)
					asks.store = record
				}
				for range windows.TripAfter {
					asks.noteCall(t.Context(), "acc", providers.CallBegin, errRefused)
				}
				time.Sleep(2 * time.Second)
				if wait, _, err := asks.budget(t.Context(), step, providers.CallBegin); err != nil || wait > 0 {
					t.Fatalf("the call that asks is to wait %s: %v", wait, err)
				}
				if err := waits.adjustWindows(t.Context()); err != nil {
					t.Fatal(err)
				}
				wait, held, err := waits.budget(t.Context(), step, providers.CallBegin)
				if err != nil || wait < time.Minute {
					t.Fatalf("another call is to wait %s: %v", wait, err)
				}
				asks.noteCall(t.Context(), "acc", providers.CallBegin, nil)
				if test.looks {
					if err := waits.adjustWindows(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := waits.wait(t.Context(), step, wait, held, false, nil); err != nil {
					t.Fatal(err)
				}
				if err := waits.adjustWindows(t.Context()); err != nil {
					t.Fatal(err)
				}
				if record.delay > 0 {
					t.Errorf("the platform is back, and the step waits for %s", record.delay)
				}
				settle()
			})
		})
	}
}

// For an hour nothing answers. The one upload is tried about once a minute, and
// goes on when the hour is over.
func TestAnHourOfOutageFailsNoPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, record, _ := outageSetup(t)
		begun, calls := time.Now(), 0
		for time.Since(begun) < time.Hour {
			wait, err := d.ask(t.Context(), "acc", providers.CallPut)
			if err != nil {
				t.Fatal(err)
			}
			if wait > 0 {
				time.Sleep(wait)
				continue
			}
			calls++
			if err := d.HandleReports(t.Context(), []parts.Report{partFailure(1)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(record.delay)
		}
		if record.failed != nil {
			t.Fatalf("failed: %+v", record.failed)
		}
		if calls < 60 || calls > 150 {
			t.Errorf("%d tries in an hour", calls)
		}
		if w := record.windows["acc"]; w.Bytes != 0 {
			t.Error("the window is told before its loop looks")
		}
		if err := d.adjustWindows(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w := record.windows["acc"]; w.Bytes != 16*mib || w.Threshold != 128*mib {
			t.Errorf("window %d, threshold %d after an outage; want one run, and half of what it was", w.Bytes, w.Threshold)
		}
		now := time.Now()
		err := d.HandleReports(t.Context(), []parts.Report{{
			Upload: uploads.ID{1}, Account: "acc", Epoch: 1, Acks: []parts.Ack{{Part: 1, Length: mib, Started: now, Finished: now}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if wait, err := d.ask(t.Context(), "acc", providers.CallPut); err != nil || wait > 0 {
			t.Errorf("after an answer parts wait %s: %v", wait, err)
		}
		settle()
	})
}

// While others are answered, a part that fails again and again fails its upload.
func TestABrokenPartFailsItsUploadWhileOthersArrive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, record, _ := outageSetup(t)
		tries := 0
		for ; record.failed == nil && tries < 100; tries++ {
			now := time.Now()
			other := parts.Report{Upload: uploads.ID{2}, Account: "acc", Epoch: 1, Acks: []parts.Ack{{Part: tries + 1, Length: mib, Started: now, Finished: now}}}
			if err := d.HandleReports(t.Context(), []parts.Report{other}); err != nil {
				t.Fatal(err)
			}
			if err := d.HandleReports(t.Context(), []parts.Report{partFailure(1)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(record.delay)
		}
		if tries != 8 || record.failed == nil || record.failed.Cause != uploads.CauseAttempts {
			t.Errorf("after %d tries: %+v", tries, record.failed)
		}
		settle()
	})
}

// Begin, and finish with the probe after it, ride out an hour as well.
func TestAnHourOfOutageFailsNoStep(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		state uploads.State
		down  error // what calls come to while the platform is down
	}{
		"begin":              {uploads.Beginning, errRefused},
		"finish, refused":    {uploads.Finishing, errRefused},
		"finish, then probe": {uploads.Finishing, &providers.Error{Kind: providers.UnknownOutcome, Call: "call", Code: "502"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, record, platform := outageSetup(t)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go d.done.run(ctx)
				step := uploads.Step{
					ID: uploads.ID{1}, Account: "acc", Provider: "fake", State: test.state, Epoch: 1, PartSize: mib,
					Source: uploads.Object{Bucket: "b", Key: "k", Size: mib}, BucketAsked: true,
				}
				begun, err := platform.Begin(ctx, providers.Account{Name: "acc"}, providers.Media{Upload: step.ID, Epoch: 1, Size: mib, PartSize: mib})
				if err != nil {
					t.Fatal(err)
				}
				if step.Session, err = json.Marshal(begun.Session); err != nil {
					t.Fatal(err)
				}
				calls := 0
				platform.SetHook(func(providers.Call, int) (bool, error) {
					calls++
					return false, test.down
				})
				stored := []parts.Stored{{Part: parts.Part{Number: 1, Length: mib}}}
				do := func() {
					t.Helper()
					var err error
					if test.state == uploads.Beginning {
						err = d.begin(ctx, step)
					} else {
						err = d.finish(ctx, step, stored)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				for since := time.Now(); time.Since(since) < time.Hour && record.failed == nil; time.Sleep(record.delay) {
					do()
					if step.Tries = record.tries; record.intent && step.Intent.IsZero() {
						step.Intent = time.Now()
					}
				}
				if record.failed != nil {
					t.Fatalf("failed: %+v", record.failed)
				}
				if calls < 60 || calls > 160 {
					t.Errorf("%d calls in an hour", calls)
				}
				if record.tries >= windows.TripAfter*2 {
					t.Errorf("%d tries are counted", record.tries)
				}
				settle()
			})
		})
	}
}
