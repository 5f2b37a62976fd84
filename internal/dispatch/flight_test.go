package dispatch_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// patience bounds every wait for something that must happen.
const patience = 3 * time.Minute

// beginning takes an upload to where it begins: its digest is known.
func (w *world) beginning(t *testing.T, p *process, key string) uploads.ID {
	t.Helper()
	id, err := w.submit(t.Context(), p, key)
	if err == nil {
		err = p.OpenPass(t.Context())
	}
	for _, job := range w.queue.all() {
		err = errors.Join(err, w.work(t.Context(), p, job, 0, false))
	}
	if err = errors.Join(err, p.HandleReports(t.Context(), w.queue.takeReports(1000))); err != nil {
		t.Fatal(err)
	}
	return id
}

// Fifty uploads of the same bytes at once, with two dispatchers: one goes, the
// others wait for it, and none of the others sends a byte.
func TestDuplicatesGoOneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.empty(t.Context(), keyed()); err != nil {
		t.Fatal(err)
	}
	var finishing, most int
	var mu sync.Mutex
	w.platform.SetHook(func(c providers.Call, _ int) (bool, error) {
		if c == providers.CallPut {
			mu.Lock()
			defer mu.Unlock()
			var open int
			// Under the lock, the one connection is this goroutine's.
			if err := w.db.QueryRow(t.Context(), `SELECT count(*) FROM uploads WHERE state IN ('uploading', 'finishing')`).Scan(&open); err != nil {
				return false, err
			}
			finishing++
			most = max(most, open)
		}
		return true, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	procs := []*process{w.process(dispatch.Config{}), w.process(dispatch.Config{})}
	for _, p := range procs {
		running.Go(func() { _ = p.Run(ctx) })
	}
	running.Go(func() { // the workers
		for ctx.Err() == nil {
			for _, job := range w.queue.all() {
				if err := w.work(ctx, procs[0], job, 1000, false); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
			if err := procs[1].HandleReports(ctx, w.queue.takeReports(1000)); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond) // the queue tells nobody
		}
	})
	defer running.Wait()
	defer cancel()
	const copies = 50
	ids := make([]uploads.ID, copies)
	for i := range ids {
		key := "a-40"
		if i%2 == 1 {
			key = "a-40.2" // another object of the same bytes
		}
		var err error
		if ids[i], err = w.submit(ctx, procs[i%2], key); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		done := 0
		for _, id := range ids {
			if w.upload(t, id).State == uploads.Completed {
				done++
			}
		}
		if done == copies {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d of %d are completed after %s", done, copies, patience)
		}
	}
	var asset string
	var bytes int64
	instant := 0
	for _, id := range ids {
		u := w.upload(t, id)
		if asset != "" && asset != u.Asset.ID {
			t.Errorf("assets %s and %s for the same bytes", asset, u.Asset.ID)
		}
		asset = u.Asset.ID
		bytes += w.platform.Seen(id).Bytes
		if u.Instant() {
			instant++
		}
	}
	if bytes != 40 || instant != copies-1 || most != 1 || w.platform.Calls(providers.CallFinish) != 1 {
		t.Errorf("%d bytes sent, %d instant, at most %d under way, %d finishes; want 40, %d, 1, 1",
			bytes, instant, most, w.platform.Calls(providers.CallFinish), copies-1)
	}
	for _, b := range w.platform.broken {
		t.Error(b)
	}
}

// Who waits says for whom, and goes on when that one ends, however it does.
func TestWhoWaitsGoesOnWhenTheFirstEnds(t *testing.T) {
	t.Parallel()
	ends := map[string]func(t *testing.T, w *world, p *process, first uploads.ID){
		"cancelled": func(t *testing.T, _ *world, p *process, first uploads.ID) {
			t.Helper()
			if _, err := p.Change(t.Context(), uploads.ActionCancel, "default", first, uploads.Note{}); err != nil {
				t.Error(err)
			}
		},
		"failed": func(t *testing.T, w *world, p *process, first uploads.ID) {
			t.Helper()
			w.platform.SetHook(refusing(providers.CallBegin, false, providers.Rejected))
			if err := p.StepsPass(t.Context()); err != nil {
				t.Error(err)
			}
			w.mustBe(t, first, uploads.Failed)
		},
		"completed": func(t *testing.T, w *world, p *process, first uploads.ID) {
			t.Helper()
			w.platform.AddAsset(accountName, sha1Of("a-20"))
			if err := p.StepsPass(t.Context()); err != nil {
				t.Error(err)
			}
			w.mustBe(t, first, uploads.Completed)
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.empty(t.Context(), keyed()); err != nil {
				t.Fatal(err)
			}
			p := w.start(t, dispatch.Config{})
			first, second := w.beginning(t, p, "a-20"), w.beginning(t, p, "a-20.2")
			third := w.beginning(t, p, "a-20") // of an object whose digest is known by now
			for _, id := range []uploads.ID{second, third} {
				if u := w.mustBe(t, id, uploads.Beginning); u.WaitsFor != first {
					t.Errorf("%s waits for %s, want %s", id, u.WaitsFor, first)
				}
			}
			var reason string
			err := w.db.QueryRow(t.Context(), `SELECT reason FROM state_changes WHERE upload_id = $1 AND to_state = 'beginning'`, second).Scan(&reason)
			if err != nil || !strings.Contains(reason, first.String()) {
				t.Errorf("the move of the second says %q, %v; want the first named", reason, err)
			}
			if steps, err := w.store.ClaimSteps(t.Context(), 10, nil, time.Nanosecond); err != nil || len(steps) != 1 {
				t.Errorf("%d steps are due, %v; want the first one's", len(steps), err)
			}
			if err := w.pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			end(t, w, p, first)
			if u := w.upload(t, third); u.State == uploads.Beginning && u.WaitsFor != second && u.WaitsFor != (uploads.ID{}) {
				t.Errorf("the third waits for %s, want %s or nobody", u.WaitsFor, second)
			}
			other := w.beginning(t, p, "b-20")
			if u := w.upload(t, other); u.WaitsFor != (uploads.ID{}) {
				t.Errorf("other bytes wait for %s", u.WaitsFor)
			}
			if err := w.settleAll(t.Context(), p, 20); err != nil {
				t.Fatal(err)
			}
			for _, id := range []uploads.ID{second, other, third} {
				w.mustBe(t, id, uploads.Completed)
			}
			var left int
			if err := w.db.QueryRow(t.Context(), `SELECT count(*) FROM flights`).Scan(&left); err != nil || left != 0 {
				t.Errorf("%d flights are left, %v", left, err)
			}
		})
	}
}

// An upload comes to wait in the same moment in which the one that it waits for
// ends. Whichever commits first, it is not left waiting for nobody.
func TestAFlightIsNotLostBetweenTwoTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.empty(t.Context(), keyed()); err != nil {
		t.Fatal(err)
	}
	p := w.start(t, dispatch.Config{})
	first := w.beginning(t, p, "a-20")
	second, err := w.submit(t.Context(), p, "a-20")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), `UPDATE uploads SET state = 'beginning', digests = ARRAY[$2] WHERE id = $1`, second, sha1Of("a-20").String())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := p.Change(t.Context(), uploads.ActionCancel, "default", first, uploads.Note{})
		ended <- err
	}()
	// It has to wait for the other transaction. Should it not, it ends.
	for blocked := false; !blocked; {
		select {
		case err := <-ended:
			ended <- err
			blocked = true
		case <-time.After(5 * time.Millisecond):
			if err := tx.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&blocked); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(tx.Commit(t.Context()), <-ended); err != nil {
		t.Fatal(err)
	}
	if u := w.upload(t, second); u.State != uploads.Beginning || u.WaitsFor != (uploads.ID{}) {
		t.Errorf("the second is %s and waits for %s", u.State, u.WaitsFor)
	}
	var waits bool
	if err := w.db.QueryRow(t.Context(), `SELECT waits FROM uploads WHERE id = $1`, second).Scan(&waits); err != nil || waits {
		t.Errorf("the second waits, and nobody has its flight; %v", err)
	}
}

// Two uploads of the same bytes begin at the same moment, again and again, while
// who has the flight gives it up: nobody waits for nobody.
func TestFlightsAreHandedOnUnderContention(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.empty(t.Context(), keyed()); err != nil {
		t.Fatal(err)
	}
	w.platform.AddAsset(accountName, sha1Of("a-20"))
	p := w.start(t, dispatch.Config{})
	w.beginning(t, p, "a-20") // from now on the digest is known at once
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 3 {
		other := w.process(dispatch.Config{})
		running.Go(func() { _ = other.Run(ctx) })
	}
	defer running.Wait()
	defer cancel()
	var ids []uploads.ID
	for range 60 {
		id, err := w.submit(ctx, p, "a-20")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	deadline := time.Now().Add(patience)
	for _, id := range ids {
		for w.upload(t, id).State != uploads.Completed {
			if time.Now().After(deadline) {
				t.Fatalf("%+v has not completed", w.upload(t, id))
			}
			time.Sleep(5 * time.Millisecond) // its end is told to nobody here
		}
	}
}
