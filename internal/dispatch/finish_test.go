package dispatch_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// finishing returns a world with one upload whose every byte is acknowledged,
// and the dispatcher that brought it there.
func finishing(t *testing.T, cfg dispatch.Config) (*world, *process, uploads.ID) {
	t.Helper()
	return finishingIn(t, newWorld(t), cfg)
}

func finishingIn(t *testing.T, w *world, cfg dispatch.Config) (*world, *process, uploads.ID) {
	t.Helper()
	if err := w.empty(t.Context(), plain()); err != nil {
		t.Fatal(err)
	}
	p := w.start(t, cfg)
	id, err := w.submit(t.Context(), p, "a-20")
	if err == nil {
		err = errors.Join(p.OpenPass(t.Context()), p.FeedPass(t.Context(), accountName))
	}
	for _, job := range w.queue.all() {
		err = errors.Join(err, w.work(t.Context(), p, job, 1000, false))
	}
	if err = errors.Join(err, p.HandleReports(t.Context(), w.queue.takeReports(10))); err != nil {
		t.Fatal(err)
	}
	w.mustBe(t, id, uploads.Finishing)
	return w, p, id
}

// start starts a dispatcher whose passes the test makes.
func (w *world) start(t *testing.T, cfg dispatch.Config) *process {
	t.Helper()
	p := w.process(cfg)
	t.Cleanup(p.Start(t.Context()))
	return p
}

func (w *world) upload(t *testing.T, id uploads.ID) uploads.Upload {
	t.Helper()
	u, err := w.store.Upload(t.Context(), "default", id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (w *world) mustBe(t *testing.T, id uploads.ID, want uploads.State) uploads.Upload {
	t.Helper()
	u := w.upload(t, id)
	if u.State != want {
		t.Fatalf("%s is %s (%+v), want %s", id, u.State, u.Failure, want)
	}
	return u
}

// mustSettle lets everything go on to its end and checks that the upload has
// the one asset that the platform made of it.
func (w *world) mustSettle(t *testing.T, p *process, id uploads.ID) uploads.Upload {
	t.Helper()
	if err := w.settleAll(t.Context(), p, 20); err != nil {
		t.Fatal(err)
	}
	u := w.mustBe(t, id, uploads.Completed)
	made := w.platform.Seen(id).Assets
	if len(made) != 1 || made[0].ID != u.Asset.ID {
		t.Errorf("the platform made %+v of the upload, recorded is %+v; want the same one", made, u.Asset)
	}
	for _, b := range w.platform.broken {
		t.Error(b)
	}
	return u
}

// refusing fails the first call of a kind.
func refusing(call providers.Call, apply bool, kind providers.Kind) func(providers.Call, int) (bool, error) {
	return func(c providers.Call, n int) (bool, error) {
		switch {
		case c != call || n != 1:
			return true, nil
		case kind == unclassified:
			return apply, errors.New("injected")
		default:
			return apply, &providers.Error{Kind: kind, Call: string(call), Message: "injected"}
		}
	}
}

// unclassified stands for an error that no provider has made.
const unclassified providers.Kind = "unclassified"

// Whatever finish answers, and wherever its dispatcher dies, there is one asset.
func TestBreakPointsOfFinish(t *testing.T) {
	t.Parallel()
	type breakPoint struct {
		apply  bool
		answer providers.Kind // "" for a success
		dieAt  string         // "" for no death
		after  bool
	}
	var table []breakPoint
	for _, kind := range []providers.Kind{
		providers.Transient, providers.Throttled, providers.Unauthorized, providers.SessionLost, providers.UnknownOutcome, unclassified,
	} {
		table = append(table, breakPoint{answer: kind})
	}
	table = append(table, breakPoint{apply: true, answer: providers.UnknownOutcome}, breakPoint{apply: true, answer: unclassified})
	for _, at := range []string{"ClaimSteps", "Receipts", "RecordFinished"} {
		table = append(table, breakPoint{apply: true, dieAt: at}, breakPoint{apply: true, dieAt: at, after: true})
	}
	for _, apply := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			table = append(table, breakPoint{apply: apply, answer: providers.UnknownOutcome, dieAt: "Postpone", after: after})
		}
	}
	table = append(table, breakPoint{answer: providers.SessionLost, dieAt: "BeginAgain"}, breakPoint{answer: providers.SessionLost, dieAt: "BeginAgain", after: true})
	for _, b := range table {
		t.Run(fmt.Sprintf("applied=%t/%s/dies_at=%s/after=%t", b.apply, b.answer, b.dieAt, b.after), func(t *testing.T) {
			t.Parallel()
			w, p, id := finishing(t, dispatch.Config{})
			if b.answer != "" {
				w.platform.SetHook(refusing(providers.CallFinish, b.apply, b.answer))
			}
			p.store.die(b.dieAt, b.after)
			if err := p.StepsPass(t.Context()); err != nil && !errors.Is(err, errDead) {
				t.Fatal(err)
			}
			if p.store.isDead() != (b.dieAt != "") {
				t.Fatalf("the dispatcher is dead: %t", p.store.isDead())
			}
			w.mustSettle(t, w.start(t, dispatch.Config{}), id)
		})
	}
}

// A dispatcher stands still in the middle of the finishing call for longer than
// its lease. The one that takes over probes, and the late one records nothing.
func TestALateFinishRecordsNothing(t *testing.T) {
	t.Parallel()
	for _, answer := range []providers.Kind{"", providers.UnknownOutcome, providers.Transient, providers.Rejected, providers.SessionLost} {
		t.Run("answer="+string(answer), func(t *testing.T) {
			t.Parallel()
			w, late, id := finishing(t, dispatch.Config{})
			other := w.start(t, dispatch.Config{})
			if answer != "" {
				w.platform.SetHook(refusing(providers.CallFinish, answer == providers.UnknownOutcome, answer))
			}
			var recorded uploads.Upload
			w.platform.midFinish = func(uploads.ID) {
				if err := errors.Join(w.pass(t.Context()), other.StepsPass(t.Context())); err != nil {
					t.Error(err)
				}
				// The late one's own loop may be who took over; then it is still at it.
				for recorded = w.upload(t, id); recorded.State == uploads.Finishing; recorded = w.upload(t, id) {
					time.Sleep(time.Millisecond)
				}
			}
			if err := late.StepsPass(t.Context()); err != nil {
				t.Fatal(err)
			}
			if w.platform.Seen(id).Probes == 0 {
				t.Error("the one that took over has not probed")
			}
			if recorded.State != uploads.Completed {
				t.Fatalf("the one that took over left the upload %s", recorded.State)
			}
			u := w.mustSettle(t, other, id)
			if u.Epoch != 1 || u.FinishedAt != recorded.FinishedAt {
				t.Errorf("the late one recorded over it: %+v, was %+v", u, recorded)
			}
		})
	}
}

// A dispatcher stands still between its claim and the call. When it goes on,
// its lease has passed to another one, and it does not call.
func TestALateDispatcherDoesNotCall(t *testing.T) {
	t.Parallel()
	w, late, id := finishing(t, dispatch.Config{})
	other := w.start(t, dispatch.Config{})
	late.store.stood = time.Hour
	late.store.stall = func([]uploads.ID) {
		if err := errors.Join(w.pass(t.Context()), other.StepsPass(t.Context())); err != nil {
			t.Error(err)
		}
	}
	if err := late.StepsPass(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mustSettle(t, other, id)
	if n := w.platform.Seen(id).Finishes; n != 1 {
		t.Errorf("finish was called %d times, want once", n)
	}
}

// When the outcome cannot be told for long enough, a person is asked, with the
// evidence. A retry asks the platform again, whatever it holds by then.
func TestRetryOfAnUnknownOutcomeProbesFirst(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		applied bool // the finish whose answer was lost
		lose    bool // the session, before the retry
		epochs  int
	}{
		"the asset is there":        {applied: true, epochs: 1},
		"the session is still open": {epochs: 1},
		"nothing is there":          {lose: true, epochs: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, p, id := finishing(t, dispatch.Config{FinishPatience: time.Nanosecond})
			silent := true
			w.platform.SetHook(func(c providers.Call, n int) (bool, error) {
				switch {
				case c == providers.CallFinish && n == 1:
					return tt.applied, &providers.Error{Kind: providers.UnknownOutcome, Call: "finish", Message: "reset by peer"}
				case c == providers.CallProbe && silent:
					return false, &providers.Error{Kind: providers.Transient, Call: "probe", Message: "maintenance"}
				}
				return true, nil
			})
			if err := errors.Join(p.StepsPass(t.Context()), w.pass(t.Context()), p.StepsPass(t.Context())); err != nil {
				t.Fatal(err)
			}
			u := w.mustBe(t, id, uploads.Failed)
			if u.Failure.Cause != uploads.CauseNeedsHuman || len(u.Failure.Evidence) != 2 ||
				u.Failure.Evidence[0].Call != "finish" || !strings.Contains(u.Failure.Evidence[0].Answer, "reset by peer") ||
				u.Failure.Evidence[1].Call != "probe" || !strings.Contains(u.Failure.Evidence[1].Answer, "maintenance") {
				t.Errorf("failure %+v, want needs_human with the finish and the probe", u.Failure)
			}
			if err := errors.Join(w.pass(t.Context()), p.StepsPass(t.Context())); err != nil {
				t.Fatal(err)
			}
			if n := w.platform.Seen(id).Aborts; n != 0 {
				t.Errorf("the session was aborted %d times while it may tell what became of it", n)
			}
			silent = false
			if tt.lose {
				w.platform.LoseSessions(id)
			}
			if _, err := p.Change(t.Context(), uploads.ActionRetry, "default", id, uploads.Note{}); err != nil {
				t.Fatal(err)
			}
			begins := w.platform.Seen(id).Begins
			if err := p.OpenPass(t.Context()); err != nil || w.platform.Seen(id).Begins != begins {
				t.Errorf("the retry opened a session before it probed: %v", err)
			}
			if u := w.mustSettle(t, p, id); u.Epoch != tt.epochs {
				t.Errorf("completed in epoch %d, want %d", u.Epoch, tt.epochs)
			}
		})
	}
}

// Something is learnt of the bytes after finish was called, and they are not
// the object's. The platform is asked before the session is discarded: where the
// asset is there, nothing is sent again, which would make a second one.
func TestWhatIsLearntAfterFinishWaitsForTheProbe(t *testing.T) {
	t.Parallel()
	for name, applied := range map[string]bool{"the asset is there": true, "the session is still open": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, p, id := finishing(t, dispatch.Config{})
			w.platform.SetHook(refusing(providers.CallFinish, applied, providers.UnknownOutcome))
			if err := p.StepsPass(t.Context()); err != nil {
				t.Fatal(err)
			}
			other, err := hashing.Sum(hashing.CRC64NVME, []byte("other bytes"))
			if err == nil {
				_, err = w.db.Exec(t.Context(), `UPDATE uploads SET bucket_digest = $1`, other.String())
			}
			if err = errors.Join(err, w.settleAll(t.Context(), p, 30)); err != nil {
				t.Fatal(err)
			}
			u := w.mustBe(t, id, uploads.Failed)
			seen := w.platform.Seen(id)
			if u.Failure.Cause != uploads.CauseMismatch || seen.Probes == 0 {
				t.Errorf("failure %+v after %d probes, want a mismatch after a probe", u.Failure, seen.Probes)
			}
			if applied && (len(seen.Assets) != 1 || u.Epoch != 1 || !strings.Contains(u.Failure.Message, seen.Assets[0].ID)) {
				t.Errorf("epoch %d, assets %+v, failure %+v; want one asset, and the failure to name it", u.Epoch, seen.Assets, u.Failure)
			}
			if !applied && (len(seen.Assets) != 0 || u.Epoch == 1) {
				t.Errorf("epoch %d, assets %+v; want the bytes sent again, and no asset of them", u.Epoch, seen.Assets)
			}
		})
	}
}

// A worker that was slow reports the failure of a part that another one has
// brought: it is nothing to an upload that finishes.
func TestALateFailureOfAPartDoesNotFailAFinish(t *testing.T) {
	t.Parallel()
	w, p, id := finishing(t, dispatch.Config{})
	w.platform.SetHook(refusing(providers.CallFinish, true, providers.UnknownOutcome))
	if err := p.StepsPass(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []providers.Kind{providers.Rejected, providers.SessionLost} {
		err := p.HandleReports(t.Context(), []parts.Report{{
			Upload: id, Account: accountName, Epoch: 1, Worker: "slow", Delivery: 1,
			Failure: &parts.Failure{Part: 1, Kind: string(kind), Message: "no such upload", Started: time.Now(), Failed: time.Now()},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.mustBe(t, id, uploads.Finishing)
	w.mustSettle(t, p, id)
}

// The object is read wrong for the third time, and the dispatcher dies as it is
// about to fail the upload. What a digest pass found is still there, since a probe
// may need it, or it is gone with the failure, and a retry makes a pass of its own.
func TestDeathWhileWrongBytesFailAnUpload(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%t", after), func(t *testing.T) {
			t.Parallel()
			w, p, id := finishing(t, dispatch.Config{})
			other, err := hashing.Sum(hashing.CRC64NVME, []byte("other bytes"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.db.Exec(t.Context(), `UPDATE uploads SET bucket_digest = $1, digests = ARRAY[$2], pass_digests = ARRAY[$2]`,
				other.String(), sha1Of("a-20").String()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				wrong := parts.Report{Upload: id, Account: accountName, Epoch: 1, Failure: &parts.Failure{
					Kind: string(providers.Mismatch), Stage: uploads.StageStaging, Started: time.Now(), Failed: time.Now(),
				}}
				if _, err := w.store.RecordReports(t.Context(), []parts.Report{wrong}); err != nil {
					t.Fatal(err)
				}
			}
			p.store.die("Fail", after)
			if err := p.StepsPass(t.Context()); err != nil && !errors.Is(err, errDead) {
				t.Fatal(err)
			}
			var made int
			if err := w.db.QueryRow(t.Context(), `SELECT cardinality(pass_digests) FROM uploads`).Scan(&made); err != nil {
				t.Fatal(err)
			}
			state, left := uploads.Finishing, 1
			if after {
				state, left = uploads.Failed, 0
			}
			w.mustBe(t, id, state)
			if made != left {
				t.Errorf("an upload that is %s has %d digests of the pass, want %d", state, made, left)
			}
			if err := w.settleAll(t.Context(), w.start(t, dispatch.Config{}), 30); err != nil {
				t.Fatal(err)
			}
			u := w.mustBe(t, id, uploads.Failed)
			if u.Failure.Cause != uploads.CauseMismatch || len(w.platform.Seen(id).Assets) != 0 {
				t.Errorf("failure %+v, assets %+v; want a mismatch, and no asset", u.Failure, w.platform.Seen(id).Assets)
			}
		})
	}
}
