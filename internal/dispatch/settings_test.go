package dispatch_test

import (
	"errors"
	"testing"
	"time"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// While accounts come and go, dispatchers run beside each other with other
// settings. One that does not have an upload's account leaves it to one that
// has, whatever is due.
func TestADispatcherLeavesUploadsOfAccountsThatItDoesNotHave(t *testing.T) {
	t.Parallel()
	for name, bring := range map[string]func(t *testing.T, w *world) (*process, uploads.ID, uploads.State){
		"beginning again": func(t *testing.T, w *world) (*process, uploads.ID, uploads.State) {
			t.Helper()
			w.platform.SetHook(refusing(providers.CallBegin, false, providers.Transient))
			p := w.start(t, dispatch.Config{})
			id, err := w.submit(t.Context(), p, "a-20")
			if err = errors.Join(err, p.OpenPass(t.Context())); err != nil {
				t.Fatal(err)
			}
			return p, id, uploads.Beginning
		},
		"finishing": func(t *testing.T, w *world) (*process, uploads.ID, uploads.State) {
			t.Helper()
			_, p, id := finishingIn(t, w, dispatch.Config{})
			return p, id, uploads.Finishing
		},
		"an outcome that is not known": func(t *testing.T, w *world) (*process, uploads.ID, uploads.State) {
			t.Helper()
			_, p, id := finishingIn(t, w, dispatch.Config{})
			w.platform.SetHook(refusing(providers.CallFinish, true, providers.UnknownOutcome))
			if err := p.StepsPass(t.Context()); err != nil {
				t.Fatal(err)
			}
			return p, id, uploads.Finishing
		},
		"in doubt": func(t *testing.T, w *world) (*process, uploads.ID, uploads.State) {
			t.Helper()
			_, p, id := finishingIn(t, w, dispatch.Config{})
			if _, err := w.db.Exec(t.Context(), `UPDATE uploads SET probe_since = now() WHERE id = $1`, id); err != nil {
				t.Fatal(err)
			}
			return p, id, uploads.Finishing
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.empty(t.Context(), plain()); err != nil {
				t.Fatal(err)
			}
			p, id, state := bring(t, w)
			stranger := w.processOf(dispatch.Config{}, "another")
			t.Cleanup(stranger.Start(t.Context()))
			for range 3 {
				err := errors.Join(w.pass(t.Context()), stranger.OpenPass(t.Context()), stranger.StepsPass(t.Context()), stranger.ProbesPass(t.Context()))
				if err != nil {
					t.Fatal(err)
				}
			}
			w.mustBe(t, id, state)
			if err := errors.Join(w.pass(t.Context()), p.ProbesPass(t.Context())); err != nil {
				t.Fatal(err)
			}
			w.mustSettle(t, p, id)
		})
	}
}

// The session of a cancelled upload is not given up by a dispatcher that does
// not have the account, and a refused one is not taken for refused credentials.
func TestADispatcherDoesNotJudgeSessionsOfAccountsThatItDoesNotHave(t *testing.T) {
	t.Parallel()
	h := partsInHand(t, true)
	stranger := h.processOf(dispatch.Config{}, "another")
	t.Cleanup(stranger.Start(t.Context()))
	for session := range 4 { // more than there may be in a row where sessions are opened anew
		h.stranger(t, stranger, session+1)
		h.renew(t)
	}
	if u := h.mustBe(t, h.id, uploads.Uploading); u.Epoch != 1 {
		t.Errorf("epoch %d, want 1: the platform renews sessions", u.Epoch)
	}
	if _, err := h.p.Change(t.Context(), uploads.ActionCancel, "default", h.id, uploads.Note{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.pass(t.Context()), stranger.StepsPass(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := h.settleAll(t.Context(), h.p, 20); err != nil {
		t.Fatal(err)
	}
	if n := h.platform.Seen(h.id).Aborts; n != 1 {
		t.Errorf("%d calls of abort, want 1", n)
	}
}

// stranger has the process hear that the platform refuses a session.
func (h inHand) stranger(t *testing.T, p *process, session int) {
	t.Helper()
	err := p.HandleReports(t.Context(), []parts.Report{{
		Upload: h.id, Account: accountName, Epoch: 1, Worker: "w", Delivery: 1, Failure: &parts.Failure{
			Part: 1, Kind: string(providers.Unauthorized), Code: "E403", Message: "the token has lapsed",
			SessionNumber: session, Started: time.Now(), Failed: time.Now(),
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// A platform that throttles and asks for a pause of days has a wrong clock, or
// slipped: an upload waits for an hour at most before it asks again.
func TestAPauseThatAPlatformAsksForIsBounded(t *testing.T) {
	t.Parallel()
	const days = 300 * time.Hour
	throttled := func(call providers.Call) func(providers.Call, int) (bool, error) {
		return func(c providers.Call, _ int) (bool, error) {
			if c != call {
				return true, nil
			}
			return false, &providers.Error{Kind: providers.Throttled, Call: string(c), RetryAfter: days, Message: "injected"}
		}
	}
	waits := func(t *testing.T, w *world, id uploads.ID, column string) {
		t.Helper()
		var wait time.Duration
		if err := w.db.QueryRow(t.Context(), `SELECT `+column+` - now() FROM uploads WHERE id = $1`, id).Scan(&wait); err != nil {
			t.Fatal(err)
		}
		if wait > time.Hour || wait < 59*time.Minute {
			t.Errorf("it waits %s, want an hour", wait)
		}
	}
	t.Run("begin", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if err := w.empty(t.Context(), plain()); err != nil {
			t.Fatal(err)
		}
		w.platform.SetHook(throttled(providers.CallBegin))
		p := w.start(t, dispatch.Config{})
		id, err := w.submit(t.Context(), p, "a-20")
		if err = errors.Join(err, p.OpenPass(t.Context())); err != nil {
			t.Fatal(err)
		}
		waits(t, w, id, "step_at")
	})
	t.Run("part", func(t *testing.T) {
		t.Parallel()
		h := partsInHand(t, false)
		err := h.p.HandleReports(t.Context(), []parts.Report{{
			Upload: h.id, Account: accountName, Epoch: 1, Worker: "w", Delivery: 1,
			Failure: &parts.Failure{Part: 1, Kind: string(providers.Throttled), RetryAfter: days, Started: time.Now(), Failed: time.Now()},
		}})
		if err != nil {
			t.Fatal(err)
		}
		waits(t, h.world, h.id, "feed_after")
	})
	t.Run("finish", func(t *testing.T) {
		t.Parallel()
		w, p, id := finishingIn(t, newWorld(t), dispatch.Config{})
		w.platform.SetHook(throttled(providers.CallFinish))
		if err := p.StepsPass(t.Context()); err != nil {
			t.Fatal(err)
		}
		waits(t, w, id, "step_at")
	})
}
