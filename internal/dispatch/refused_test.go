package dispatch_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// renewing is a platform that renews sessions.
type renewing struct{ *guarded }

func (r renewing) Renew(_ context.Context, _ providers.Account, _ providers.Media, s providers.Session) (providers.Session, error) {
	if kind, ok := r.renewal.Load().(providers.Kind); ok && kind != "" {
		return s, &providers.Error{Kind: kind, Call: "renew", Message: "injected"}
	}
	s.Expires = time.Now().Add(time.Hour)
	r.renewed.Store(true)
	return s, nil
}

// A session is found to be gone when it is to be renewed: the upload begins
// again at once.
func TestASessionLostAtItsRenewal(t *testing.T) {
	t.Parallel()
	h := partsInHand(t, true)
	h.platform.LoseSessions(h.id)
	h.platform.renewal.Store(providers.SessionLost)
	h.refuse(t, h.session(t), 1, 2)
	h.renew(t)
	h.mustBe(t, h.id, uploads.Beginning)
	if u := h.mustSettle(t, h.p, h.id); u.Epoch != 2 {
		t.Errorf("epoch %d, want 2", u.Epoch)
	}
}

// Finish is refused for its authorisation, and the session is gone too: it is
// the platform's loss, not the credentials'.
func TestASessionLostWhereFinishIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.renews = true
	w, p, id := finishingIn(t, w, dispatch.Config{})
	w.platform.LoseSessions(id)
	w.platform.renewal.Store(providers.SessionLost)
	w.platform.SetHook(func(c providers.Call, nth int) (bool, error) {
		if c == providers.CallFinish && nth <= 3 && w.upload(t, id).Epoch == 1 {
			return false, &providers.Error{Kind: providers.Unauthorized, Call: string(c), Message: "the token has lapsed"}
		}
		return true, nil
	})
	if u := w.mustSettle(t, p, id); u.Epoch != 2 {
		t.Errorf("epoch %d, want 2", u.Epoch)
	}
}

// Finish is refused until the session is renewed, however long the platform
// does not get round to that; but not for session after session.
func TestFinishIsRefusedUntilTheSessionIsRenewed(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"and goes on": true, "and again": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.renews = true
			w, p, id := finishingIn(t, w, dispatch.Config{})
			w.platform.renewal.Store(providers.Transient)
			w.platform.SetHook(func(c providers.Call, nth int) (bool, error) {
				if nth == 5 {
					w.platform.renewal.Store(providers.Kind(""))
				}
				if c == providers.CallFinish && (nth <= 5 || !ends) {
					return false, &providers.Error{Kind: providers.Unauthorized, Call: string(c), Message: "the token has lapsed"}
				}
				return true, nil
			})
			if ends {
				w.mustSettle(t, p, id)
				return
			}
			if err := w.settleAll(t.Context(), p, 20); err != nil {
				t.Fatal(err)
			}
			if u := w.mustBe(t, id, uploads.Failed); u.Failure.Cause != uploads.CauseUnauthorized || w.platform.Seen(id).Finishes != 12 {
				t.Errorf("failed with %+v after %d calls, want unauthorized after 12: five of one session, and one of each of seven more", u.Failure, w.platform.Seen(id).Finishes)
			}
		})
	}
}

// inHand is an upload with all its parts in workers' hands.
type inHand struct {
	*world

	p  *process
	id uploads.ID
}

func partsInHand(t *testing.T, renews bool) inHand {
	t.Helper()
	return lapsingInHand(t, renews, false)
}

// lapsingInHand is partsInHand in a session that lapses at once, or does not.
func lapsingInHand(t *testing.T, renews, lapses bool) inHand {
	t.Helper()
	w := newWorld(t)
	w.renews = renews
	limits := plain()
	if lapses {
		limits.SessionLife = time.Nanosecond
	}
	if err := w.empty(t.Context(), limits); err != nil {
		t.Fatal(err)
	}
	p := w.start(t, dispatch.Config{})
	id, err := w.submit(t.Context(), p, "a-48")
	if err = errors.Join(err, p.OpenPass(t.Context()), p.FeedPass(t.Context(), accountName)); err != nil {
		t.Fatal(err)
	}
	w.mustBe(t, id, uploads.Uploading)
	return inHand{w, p, id}
}

// session returns the number of the session that workers are told of.
func (h inHand) session(t *testing.T) int {
	t.Helper()
	job := parts.Job{Upload: h.id, Account: accountName, Epoch: h.upload(t, h.id).Epoch, Run: parts.Run{First: 1, Count: 1}}
	answers := h.p.Assign(t.Context(), []dispatch.Ask{{Job: job}})
	if answers[0].Err != nil {
		t.Fatal(answers[0].Err)
	}
	return answers[0].Assignment.SessionNumber
}

// refuse reports that the platform refused the session to all of the parts.
func (h inHand) refuse(t *testing.T, session int, numbers ...int) {
	t.Helper()
	epoch := h.upload(t, h.id).Epoch
	var reports []parts.Report
	for _, n := range numbers {
		reports = append(reports, parts.Report{
			Upload: h.id, Account: accountName, Epoch: epoch, Worker: "w", Delivery: 1, Failure: &parts.Failure{
				Part: n, Kind: string(providers.Unauthorized), Code: "E403", Message: "the token has lapsed",
				SessionNumber: session, Started: time.Now(), Failed: time.Now(),
			},
		})
	}
	if err := h.p.HandleReports(t.Context(), reports); err != nil {
		t.Fatal(err)
	}
}

func (h inHand) ack(t *testing.T, n int) {
	t.Helper()
	err := h.p.HandleReports(t.Context(), []parts.Report{{
		Upload: h.id, Account: accountName, Epoch: 1, Worker: "w", Delivery: 1,
		Acks: []parts.Ack{{Part: n, Offset: int64(n-1) * partSize, Length: partSize, Started: time.Now(), Finished: time.Now()}},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func (h inHand) renew(t *testing.T) {
	t.Helper()
	if err := h.p.RenewPass(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// However often sessions lapse, each time for all parts in hand, an upload that
// gets on goes on, and within its epoch.
func TestLapsesDoNotFailAnUploadThatGetsOn(t *testing.T) {
	t.Parallel()
	h := partsInHand(t, true)
	for n := 1; n <= 5; n++ {
		before := h.session(t)
		h.refuse(t, before, 2, 3, 4, 5, 6)
		h.renew(t)
		if now := h.session(t); now != before+1 {
			t.Fatalf("session %d after %d was refused, want it renewed", now, before)
		}
		h.refuse(t, before, 6) // one that was slow
		h.ack(t, n)
	}
	if u := h.mustBe(t, h.id, uploads.Uploading); u.Epoch != 1 {
		t.Errorf("epoch %d, want 1", u.Epoch)
	}
}

// A session that is refused again and again before it could be renewed is one.
func TestRefusalsOfOneSessionAreOne(t *testing.T) {
	t.Parallel()
	h := partsInHand(t, true)
	session := h.session(t)
	for range 20 {
		h.refuse(t, session, 1)
	}
	h.mustBe(t, h.id, uploads.Uploading)
	if _, err := h.db.Exec(t.Context(), `UPDATE uploads SET session_expires = now() - interval '11 minutes'`); err != nil {
		t.Fatal(err)
	}
	h.refuse(t, session, 1) // nobody could renew it in all that time
	if u := h.mustBe(t, h.id, uploads.Beginning); u.Epoch != 1 {
		t.Errorf("epoch %d, want 1", u.Epoch)
	}
}

// One session after the other is refused, and nothing gets through: it is the
// credentials. That the platform renews sessions speaks for them for a while.
func TestSessionsRefusedInARowFailAnUpload(t *testing.T) {
	t.Parallel()
	for name, sessions := range map[string]int{"renewed": 8, "opened anew": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			renews := name == "renewed"
			h := partsInHand(t, renews)
			for range sessions - 1 {
				h.refuse(t, h.session(t), 1, 2, 3)
				h.renew(t)
				if renews {
					continue
				}
				h.mustBe(t, h.id, uploads.Beginning)
				if err := errors.Join(h.pass(t.Context()), h.p.StepsPass(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			h.mustBe(t, h.id, uploads.Uploading)
			h.refuse(t, h.session(t), 1)
			u := h.mustBe(t, h.id, uploads.Failed)
			if u.Failure.Cause != uploads.CauseUnauthorized || u.Failure.Code != "E403" {
				t.Errorf("failure %+v, want unauthorized with the platform's code", u.Failure)
			}
		})
	}
}

// Steps that failed otherwise do not make a refusal the last straw.
func TestARefusedStepAfterOthersThatFailed(t *testing.T) {
	t.Parallel()
	kinds := []providers.Kind{providers.Transient, providers.Transient, providers.Unauthorized}
	for _, call := range []providers.Call{providers.CallBegin, providers.CallFinish} {
		t.Run(string(call), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.empty(t.Context(), plain()); err != nil {
				t.Fatal(err)
			}
			p := w.start(t, dispatch.Config{})
			w.platform.SetHook(func(c providers.Call, nth int) (bool, error) {
				if c != call || nth > len(kinds) {
					return true, nil
				}
				return false, &providers.Error{Kind: kinds[nth-1], Call: string(call), Message: "injected"}
			})
			id, err := w.submit(t.Context(), p, "a-20")
			if err != nil {
				t.Fatal(err)
			}
			w.mustSettle(t, p, id)
		})
	}
}

// The authorisation of a session has lapsed when its upload is cancelled: it is
// renewed for the call that discards it, and what is gone is not asked for again.
func TestALapsedSessionIsDiscarded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		renews  bool
		lapsed  bool           // the record says so
		renewal providers.Kind // how the first renewal fails
		calls   int            // of abort, until it is over
	}{
		"renewed":               {renews: true, calls: 2},
		"renewed at the second": {renews: true, renewal: providers.Transient, calls: 3},
		"gone":                  {renews: true, renewal: providers.SessionLost, calls: 1},
		"known to have lapsed":  {renews: true, lapsed: true, calls: 1},
		"not to be renewed":     {renews: true, lapsed: true, renewal: providers.Rejected, calls: 1},
		"cannot be renewed":     {calls: 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := lapsingInHand(t, tt.renews, tt.lapsed)
			h.platform.renewal.Store(tt.renewal)
			h.platform.SetHook(func(c providers.Call, nth int) (bool, error) {
				switch {
				case c != providers.CallAbort, tt.renews && h.platform.renewed.Load(), tt.renewal == providers.Rejected:
					return true, nil
				case nth == 2:
					h.platform.renewal.Store(providers.Kind(""))
				}
				return false, &providers.Error{Kind: providers.Unauthorized, Call: string(c), Message: "the token has lapsed"}
			})
			if _, err := h.p.Change(t.Context(), uploads.ActionCancel, "default", h.id, uploads.Note{}); err != nil {
				t.Fatal(err)
			}
			if err := h.settleAll(t.Context(), h.p, 20); err != nil {
				t.Fatal(err)
			}
			if n := h.platform.Seen(h.id).Aborts; n != tt.calls {
				t.Errorf("%d calls of abort, want %d", n, tt.calls)
			}
		})
	}
}
