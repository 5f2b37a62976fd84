package service_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap/zaptest"

	"mediaferry/client"
	"mediaferry/internal/jobs"
	"mediaferry/internal/parts"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

// holding is a platform that takes some parts and then holds each until the
// worker gives it up or open is closed.
type holding struct {
	*providertest.Fake

	after int           // parts taken first
	held  chan struct{} // one for each part that is held
	ended chan time.Time
	open  chan struct{}

	mu sync.Mutex
	n  int
}

func holdAfter(f *providertest.Fake, after int) *holding {
	return &holding{Fake: f, after: after, held: make(chan struct{}, 1000), ended: make(chan time.Time, 1000), open: make(chan struct{})}
}

func (h *holding) PutPart(ctx context.Context, s providers.Session, p parts.Part, b providers.Body) (parts.Receipt, error) {
	h.mu.Lock()
	h.n++
	hold := h.n > h.after
	h.mu.Unlock()
	if hold {
		h.held <- struct{}{}
		select {
		case <-ctx.Done():
			h.ended <- time.Now()
			return parts.Receipt{}, fmt.Errorf("put: %w", ctx.Err())
		case <-h.open:
		}
	}
	return h.Fake.PutPart(ctx, s, p, b)
}

// held returns a function that counts the upload's runs on the queue.
func (b *bundle) held(t *testing.T) func(id string) int {
	t.Helper()
	conn, err := jobs.Connect(t.Context(), jobs.Config{URL: b.cfg.NATS.URL}, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return func(id string) int {
		runs, err := conn.Held(t.Context(), "acc", uuid.MustParse(id), 1)
		if err != nil {
			return -1 // away
		}
		return len(runs)
	}
}

// A pause ends what is in hand within a second and takes the rest off the
// queue. After the resume no part that had arrived is sent again, and no
// attempt was counted.
func TestPauseInMidRunAndResume(t *testing.T) {
	t.Parallel()
	note := client.Note{Reason: "maintenance", By: "ann"}
	scopes := map[string]struct {
		pause, resume func(b *bundle, ctx context.Context, id string) error
	}{
		"upload": {
			func(b *bundle, ctx context.Context, id string) error {
				_, err := b.api.Pause(ctx, id, note)
				return err
			},
			func(b *bundle, ctx context.Context, id string) error { _, err := b.api.Resume(ctx, id); return err },
		},
		"account": {
			func(b *bundle, ctx context.Context, _ string) error {
				_, err := b.api.PauseAccount(ctx, "acc", note)
				return err
			},
			func(b *bundle, ctx context.Context, _ string) error {
				_, err := b.api.ResumeAccount(ctx, "acc")
				return err
			},
		},
		"tenant": {
			func(b *bundle, ctx context.Context, _ string) error {
				_, err := b.api.PauseTenant(ctx, "default", note)
				return err
			},
			func(b *bundle, ctx context.Context, _ string) error {
				_, err := b.api.ResumeTenant(ctx, "default")
				return err
			},
		},
	}
	for scope, do := range scopes {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			b := setup(t, limits())
			platform := holdAfter(b.platform, 6)
			b.extra = map[string]providers.Provider{"fake": platform}
			data := b.put(t, "film.mp4", 90*mib) // more than the window
			b.dispatcher(t)
			b.worker(t, "w1")
			held, query := b.held(t), b.query(t)
			id := b.submit(t, "film.mp4").ID
			for range 4 { // all slots
				<-platform.held
			}
			if held(id) == 0 {
				t.Fatal("nothing is on the queue")
			}
			begun := time.Now()
			if err := do.pause(b, t.Context(), id); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				select {
				case at := <-platform.ended:
					t.Logf("a part in hand ended after %s", at.Sub(begun)) // the platform lets none go by itself
				case <-time.After(testPatience):
					t.Fatal("a part in hand goes on")
				}
			}
			eventually(t, "the runs are withdrawn", func() bool { return query(`SELECT bool_or(withdraw_due)::text FROM uploads`) == "false" })
			eventually(t, "what had arrived is in the ledger", func() bool { return query(`SELECT count(*)::text FROM part_acks`) == "6" })
			if n := held(id); n != 0 {
				t.Errorf("%d runs are on the queue while paused", n)
			}
			u, err := b.api.Show(t.Context(), id)
			if err != nil || !u.Paused || len(u.Pauses) != 1 || u.Pauses[0].Scope != scope || u.Pauses[0].Reason != note.Reason || u.Pauses[0].By != note.By {
				t.Errorf("Show = paused %v by %+v, %v; want it paused by its %s", u.Paused, u.Pauses, err, scope)
			}
			before := b.platform.Seen(uuid.MustParse(id)).Puts

			close(platform.open)
			if err := do.resume(b, t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if u := b.mustComplete(t, id, data); u.Epoch != 1 || u.Paused {
				t.Errorf("epoch %d, paused %v; want the first, and not", u.Epoch, u.Paused)
			}
			after := b.platform.Seen(uuid.MustParse(id))
			for n := range before {
				if after.Puts[n] != 1 {
					t.Errorf("part %d, which had arrived, was put %d times", n, after.Puts[n])
				}
			}
			if after.Bytes != int64(len(data)) {
				t.Errorf("%d bytes were sent of %d", after.Bytes, len(data))
			}
			if n := query(`SELECT count(*)::text FROM part_failures`); n != "0" {
				t.Errorf("%s failed tries were counted", n)
			}
		})
	}
}

// Between the commit of a pause, or a cancellation, and the withdrawal the
// dispatcher dies, or the queue is away: the withdrawal is made up for.
func TestWithdrawalThatWasMissed(t *testing.T) {
	t.Parallel()
	for _, action := range []uploads.Action{uploads.ActionPause, uploads.ActionCancel} {
		t.Run(string(action)+" with a dispatcher that dies", func(t *testing.T) {
			t.Parallel()
			b := setup(t, limits())
			b.put(t, "film.mp4", 40*mib)
			stop := b.dispatcher(t)
			held, query := b.held(t), b.query(t)
			id := b.submit(t, "film.mp4").ID
			eventually(t, "runs are queued", func() bool { return held(id) > 0 })
			stop()
			store, err := postgres.Open(t.Context(), b.dsn, 4, zaptest.NewLogger(t))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if changed, err := store.Apply(t.Context(), action, "default", []uploads.ID{uuid.MustParse(id)}, uploads.Note{}); err != nil || len(changed) != 1 {
				t.Fatalf("Apply = %v, %v", changed, err)
			}
			if held(id) == 0 {
				t.Fatal("the runs are gone by themselves")
			}
			b.dispatcher(t)
			b.withdrawn(t, id, held, query)
		})
		t.Run(string(action)+" with the queue away", func(t *testing.T) {
			t.Parallel()
			b := setup(t, limits())
			b.put(t, "film.mp4", 40*mib)
			b.dispatcher(t)
			held, query := b.held(t), b.query(t)
			id := b.submit(t, "film.mp4").ID
			eventually(t, "runs are queued", func() bool { return held(id) > 0 })
			b.nats.Stop()
			var err error
			if action == uploads.ActionPause {
				_, err = b.api.Pause(t.Context(), id, client.Note{})
			} else {
				_, err = b.api.Cancel(t.Context(), id)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := b.nats.Start(); err != nil {
				t.Fatal(err)
			}
			b.withdrawn(t, id, held, query)
		})
	}
}

func (b *bundle) withdrawn(t *testing.T, id string, held func(string) int, query func(string) string) {
	t.Helper()
	eventually(t, "the runs are withdrawn", func() bool { return held(id) == 0 })
	eventually(t, "the withdrawal is noted", func() bool { return query(`SELECT withdraw_due::text FROM uploads`) == "false" })
	b.worker(t, "w1")
	eventually(t, "the worker is there", func() bool {
		workers, err := b.api.Workers(t.Context())
		return err == nil && len(workers) == 1
	})
	if n := b.platform.Calls(providers.CallPut); n != 0 {
		t.Errorf("%d parts were sent", n)
	}
}

// A cancellation meets a finishing call: an asset wins, and after an unknown
// outcome the platform is asked which it is.
func TestCancelWhileFinishIsUnderWay(t *testing.T) {
	t.Parallel()
	unknown := &providers.Error{Kind: providers.UnknownOutcome, Call: "finish", Message: "the answer was lost"}
	tests := map[string]struct {
		apply bool
		told  error
		want  uploads.State
	}{
		"it makes the asset":         {true, nil, uploads.Completed},
		"it makes the asset unheard": {true, unknown, uploads.Completed},
		"it is lost on its way":      {false, unknown, uploads.Cancelled},
		"it is refused for now":      {false, &providers.Error{Kind: providers.Throttled, Call: "finish", Message: "later"}, uploads.Cancelled},
		"it finds its session lost":  {false, &providers.Error{Kind: providers.SessionLost, Call: "finish", Message: "gone"}, uploads.Cancelled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, limits())
			data := b.put(t, "film.mp4", 3*mib)
			reached, cancelled := make(chan struct{}), make(chan struct{})
			b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
				if call == providers.CallFinish && nth == 1 {
					close(reached)
					<-cancelled
					return tt.apply, tt.told
				}
				return true, nil
			})
			b.dispatcher(t)
			b.worker(t, "w1")
			id := b.submit(t, "film.mp4").ID
			<-reached
			u, err := b.api.Cancel(t.Context(), id)
			if err != nil || u.State != string(uploads.Finishing) || !u.Cancelling {
				t.Errorf("Cancel = %s, cancelling %v, %v; want it finishing and to be cancelled", u.State, u.Cancelling, err)
			}
			close(cancelled)
			if tt.want == uploads.Completed {
				b.mustComplete(t, id, data)
				return
			}
			if u := b.wait(t, id); u.State != string(tt.want) || u.Asset != nil {
				t.Errorf("%s with asset %v, want %s", u.State, u.Asset, tt.want)
			}
			seen := func() providertest.Seen { return b.platform.Seen(uuid.MustParse(id)) }
			eventually(t, "the session is discarded", func() bool { return seen().Aborts > 0 })
			if s := seen(); len(s.Assets) != 0 || s.Finishes != 1 {
				t.Errorf("%d assets after %d finishing calls, want none after one", len(s.Assets), s.Finishes)
			}
		})
	}
}

// The session that is opened while its upload is cancelled is discarded, also
// when the platform refuses that at first.
func TestCancelWhileBeginIsUnderWayKeepsTheSessionToDiscard(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", 3*mib)
	begun, release := make(chan struct{}), make(chan struct{})
	aborted := make(chan struct{}, 1)
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		switch call {
		case providers.CallBegin:
			close(begun)
			<-release
		case providers.CallAbort:
			if nth == 1 {
				return false, &providers.Error{Kind: providers.Transient, Call: "abort", Message: "not now"}
			}
			aborted <- struct{}{}
		case providers.CallPut, providers.CallFinish, providers.CallProbe:
		}
		return true, nil
	})
	b.dispatcher(t)
	id := b.submit(t, "film.mp4").ID
	<-begun
	if u, err := b.api.Cancel(t.Context(), id); err != nil || u.State != string(uploads.Cancelled) {
		t.Fatalf("Cancel = %s, %v", u.State, err)
	}
	close(release)
	select {
	case <-aborted:
	case <-time.After(testPatience):
		t.Fatal("the upstream session was not discarded")
	}
	query := b.query(t)
	eventually(t, "the session is forgotten", func() bool { return query(`SELECT (session IS NULL AND NOT abort_due)::text FROM uploads`) == "true" })
}

// What a filter selects is cancelled batch by batch, and a dry run says so before.
func TestCancelByFilter(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", 1000)
	b.dispatcher(t)
	if _, err := b.api.PauseAccount(t.Context(), "acc", client.Note{}); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range 520 { // more than a batch
		u, _, err := b.api.Submit(t.Context(), client.Submission{
			Account: "acc", Source: client.Source{Bucket: "staging", Key: "film.mp4"}, Labels: map[string]string{"odd": fmt.Sprint(i % 2)}, Name: fmt.Sprint(i),
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, u.ID)
	}
	filter := client.Change{Account: "acc", States: []string{"queued", "failed"}, DryRun: true}
	dry, err := b.api.CancelMatching(t.Context(), filter)
	if err != nil || dry.Matched != 520 || dry.Changed != 0 || !slices.Equal(dry.First, ids[:10]) {
		t.Errorf("dry run: %+v, %v; want all 520 and the first ten", dry, err)
	}
	done, err := b.api.CancelMatching(t.Context(), client.Change{Labels: map[string]string{"odd": "1"}})
	if err != nil || done.Matched != 260 || done.Changed != 260 || len(done.First) != 10 || done.First[0] != ids[1] {
		t.Errorf("by label: %+v, %v; want the 260 odd ones", done, err)
	}
	filter.DryRun = false
	if done, err = b.api.CancelMatching(t.Context(), filter); err != nil || done.Changed != 260 {
		t.Errorf("the rest: %+v, %v; want the 260 even ones", done, err)
	}
	if n := b.query(t)(`SELECT count(*)::text FROM uploads WHERE state <> 'cancelled'`); n != "0" {
		t.Errorf("%s are not cancelled", n)
	}
	if _, err := b.api.CancelMatching(t.Context(), client.Change{}); err == nil || !strings.Contains(err.Error(), "all") {
		t.Errorf("no filter: %v, want it refused without all", err)
	}
}

// A dispatcher that stops gives up every lease: a step that waits for its turn
// at once, a call in hand after the grace, and one that ends in time is recorded.
func TestADispatcherThatStopsLeavesNoLease(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.cfg.StopGrace = 300 * time.Millisecond
	b.put(t, "film.mp4", 3*mib)
	hung := &hanging{Fake: providertest.NewFake(limits()), begun: make(chan struct{}, 1000)}
	b.extra = map[string]providers.Provider{"fake": hung}
	stop := b.dispatcher(t)
	for i := range 40 { // more than are called at once
		if _, _, err := b.api.Submit(t.Context(), client.Submission{
			Account: "acc", Name: fmt.Sprint(i), Source: client.Source{Bucket: "staging", Key: "film.mp4"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range 32 {
		<-hung.begun
	}
	query := b.query(t)
	eventually(t, "all are claimed", func() bool { return query(`SELECT count(*)::text FROM uploads WHERE lease_token IS NOT NULL`) == "40" })
	stop() // although calls hang
	if n := query(`SELECT count(*)::text FROM uploads WHERE lease_token IS NOT NULL OR step_tries > 0`); n != "0" {
		t.Errorf("%s uploads wait for a lease to run out, or have a try counted", n)
	}
	if n := query(`SELECT count(*)::text FROM part_failures`); n != "0" {
		t.Errorf("%s failed tries were counted", n)
	}
}

// hanging is a platform that opens no session.
type hanging struct {
	*providertest.Fake

	begun chan struct{}
}

func (h *hanging) Begin(ctx context.Context, _ providers.Account, _ providers.Media) (providers.Begun, error) {
	h.begun <- struct{}{}
	<-ctx.Done()
	return providers.Begun{}, fmt.Errorf("begin: %w", ctx.Err())
}

// A call that ends within the grace is no unknown outcome.
func TestFinishEndsWithinTheGraceOfAStop(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.cfg.StopGrace = testPatience
	data := b.put(t, "film.mp4", 3*mib)
	reached, release := make(chan struct{}), make(chan struct{})
	b.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
		if call == providers.CallFinish {
			close(reached)
			<-release
		}
		return true, nil
	})
	stop := b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-reached
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	b.unreachable(t)
	close(release)
	<-stopped
	if state := b.query(t)(`SELECT state::text FROM uploads`); state != "completed" {
		t.Errorf("%s after the stop, want completed", state)
	}
	b.dispatcher(t)
	b.mustComplete(t, id, data)
	if n := b.platform.Calls(providers.CallProbe); n != 0 {
		t.Errorf("probed %d times, want a known outcome", n)
	}
}

// unreachable returns once the API takes no requests.
func (b *bundle) unreachable(t *testing.T) {
	t.Helper()
	eventually(t, "the API is closed", func() bool {
		b.api.Close() // a new connection each time
		_, err := b.api.Workers(t.Context())
		return err != nil
	})
}

// Dispatchers are replaced one after another under load: no byte is sent twice,
// no attempt is counted, and each upload is finished once.
func TestRollingRestartsOfDispatchers(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
		if call == providers.CallPut {
			<-time.After(250 * time.Millisecond) // a platform that takes its time
		}
		return true, nil
	})
	stops := []func(){b.dispatcher(t), b.dispatcher(t)}
	b.worker(t, "w1")
	b.worker(t, "w2")
	query := b.query(t)
	var ids []string
	var data [][]byte
	submit := func() {
		t.Helper()
		n := len(ids)
		key := fmt.Sprintf("film-%d.mp4", n)
		data = append(data, b.put(t, key, 12*mib+n))
		ids = append(ids, b.submit(t, key).ID)
	}
	for i := range 6 {
		submit()
		submit()
		eventually(t, "parts are under way", func() bool {
			if query(`SELECT count(*)::text FROM uploads WHERE state <> 'completed'`) == "0" {
				submit() // the others were quicker than we looked
			}
			return query(`SELECT count(*)::text FROM uploads WHERE state = 'uploading'`) != "0"
		})
		stops[i%2]()
		stops[i%2] = b.dispatcher(t)
	}
	for i, id := range ids {
		b.mustComplete(t, id, data[i])
		if seen := b.platform.Seen(uuid.MustParse(id)); seen.Bytes != int64(len(data[i])) || seen.Finishes != 1 || seen.Begins != 1 {
			t.Errorf("upload %d: %d bytes sent of %d, begun %d and finished %d times", i, seen.Bytes, len(data[i]), seen.Begins, seen.Finishes)
		}
	}
	if n := query(`SELECT count(*)::text FROM part_failures`); n != "0" {
		t.Errorf("%s failed tries were counted", n)
	}
}
