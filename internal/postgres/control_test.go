package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// apply does an action that takes.
func (b *bundle) apply(t *testing.T, action uploads.Action, ids ...uploads.ID) {
	t.Helper()
	changed, err := b.Apply(t.Context(), action, "default", ids, uploads.Note{Reason: "maintenance", By: "ann"})
	if err != nil || len(changed) != len(ids) {
		t.Fatalf("%s = %v, %v; want it to take for all of %v", action, changed, err, ids)
	}
}

// withdraw records that what is due for withdrawal is off the queue.
func (b *bundle) withdraw(t *testing.T, want ...uploads.ID) {
	t.Helper()
	due, err := b.WithdrawDue(t.Context(), 10)
	var got []uploads.ID
	for _, w := range due {
		got = append(got, w.ID)
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("WithdrawDue: %v (-want +got)\n%s", err, diff)
	}
	if err := b.RecordWithdrawn(t.Context(), due); err != nil {
		t.Fatal(err)
	}
}

// feedAll takes everything that one pass shows, as the feeder would with a
// window of most bytes.
func (b *bundle) feedAll(t *testing.T, most int64) (runs map[uploads.ID][]int, inFlight int64) {
	t.Helper()
	runs = map[uploads.ID][]int{}
	took, err := b.Feed(t.Context(), "acc", 10, time.Hour, func(pass parts.FeedPass) ([]parts.Fed, error) {
		inFlight = pass.InFlight
		var all []parts.Fed
		for _, f := range pass.Next {
			var done parts.Set
			if f.AckedAhead {
				acked, err := pass.Acked(t.Context(), f, f.Fed+1, f.Plan.Count())
				if err != nil {
					return nil, err
				}
				for _, n := range acked {
					done.Add(n)
				}
			}
			fed := parts.Fed{Upload: f.Upload, Epoch: f.Epoch, FedBefore: f.Fed, Fed: f.Fed, LedgerRead: f.AckedAhead, AckedBefore: f.Acked}
			for n := f.Fed + 1; n <= f.Plan.Count(); n++ {
				if !done.Has(n) {
					if inFlight+fed.Bytes+f.Plan.Part(n).Length > most {
						break
					}
					fed.Bytes += f.Plan.Part(n).Length
					runs[f.Upload] = append(runs[f.Upload], n)
				}
				fed.Fed = n
			}
			all = append(all, fed)
		}
		return all, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id := range runs {
		if !took[id] {
			delete(runs, id)
		}
	}
	return runs, inFlight
}

func (b *bundle) ack(t *testing.T, id uploads.ID, plan parts.Plan, numbers ...int) {
	t.Helper()
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, numbers...)}); err != nil {
		t.Fatal(err)
	}
}

// What is paused, by itself, its account or its tenant, is in none of the
// answers that work is begun from; and all of it is there again once resumed.
func TestPausedUploadsAreNotWorkedOn(t *testing.T) {
	t.Parallel()
	for _, scope := range []uploads.Scope{uploads.ScopeUpload, uploads.ScopeAccount, uploads.ScopeTenant} {
		t.Run(string(scope), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			plan := parts.Plan{Size: 100, PartSize: 10}
			sending := b.open(t, "sending.mp4", plan.Size, plan.PartSize)
			b.feedAll(t, 40)
			finishing := b.open(t, "finishing.mp4", 10, 10)
			b.ack(t, finishing, parts.Plan{Size: 10, PartSize: 10}, 1)
			digesting := b.submit(t, "digesting.mp4", 10)
			steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, []string{"fake"}, 10, time.Minute)
			if err != nil || len(steps) != 1 {
				t.Fatalf("claim: %v, %v", steps, err)
			}
			if took, err := b.MoveToDigesting(t.Context(), steps[0]); err != nil || !took {
				t.Fatalf("MoveToDigesting = %v, %v", took, err)
			}
			queued := b.submit(t, "queued.mp4", 10)
			all := []uploads.ID{sending, finishing, digesting, queued}

			b.hold(t, scope, all)
			pauses := b.upload(t, queued).Pauses
			if len(pauses) != 1 || pauses[0].Scope != scope || pauses[0].Reason != "maintenance" || pauses[0].By != "ann" || pauses[0].At.IsZero() {
				t.Errorf("held by %+v, want one pause by %s with its note", pauses, scope)
			}
			if took, err := b.TouchDigesting(t.Context(), digesting, 0); err != nil || took {
				t.Errorf("TouchDigesting = %v, %v; want no job for it", took, err)
			}
			if got := b.workable(t, all); len(got) != 0 {
				t.Errorf("work before the withdrawal: %v, want none", got)
			}
			b.withdraw(t, sending, digesting)
			if got := b.workable(t, all); len(got) != 0 {
				t.Errorf("work after the withdrawal: %v, want none", got)
			}

			b.release(t, scope, all)
			want := []string{"assign 2", "begin 1", "digest 1", "feed 1", "step 1"}
			if diff := cmp.Diff(want, b.workable(t, all)); diff != "" {
				t.Errorf("work once resumed (-want +got)\n%s", diff)
			}
		})
	}
}

// scopeName is what the uploads of these tests belong to.
func scopeName(scope uploads.Scope) string {
	if scope == uploads.ScopeAccount {
		return "acc"
	}
	return "default"
}

func (b *bundle) hold(t *testing.T, scope uploads.Scope, ids []uploads.ID) {
	t.Helper()
	if scope == uploads.ScopeUpload {
		b.apply(t, uploads.ActionPause, ids...)
		return
	}
	for _, note := range []uploads.Note{{Reason: "maintenance", By: "ann"}, {Reason: "again"}} { // the first note stays
		if err := b.Pause(t.Context(), scope, scopeName(scope), []string{"acc"}, note); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bundle) release(t *testing.T, scope uploads.Scope, ids []uploads.ID) {
	t.Helper()
	if scope == uploads.ScopeUpload {
		b.apply(t, uploads.ActionResume, ids...)
		return
	}
	if err := b.Resume(t.Context(), scope, scopeName(scope)); err != nil {
		t.Fatal(err)
	}
}

// workable names the answers from which work would begin.
func (b *bundle) workable(t *testing.T, ids []uploads.ID) []string {
	t.Helper()
	assignable, err := b.Assignable(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := b.Digesting(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	sweepable, err := b.Sweepable(t.Context(), true, 10)
	if err != nil {
		t.Fatal(err)
	}
	due, err := b.ClaimSteps(t.Context(), 10, nil, time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	queued, err := b.ClaimQueued(t.Context(), []string{"acc"}, nil, 10, time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	fed, _ := b.feedAll(t, 1000)
	var out []string
	for what, n := range map[string]int{
		"assign": len(assignable), "digest": len(waiting), "sweep": len(sweepable), "step": len(due), "begin": len(queued), "feed": len(fed),
	} {
		if n > 0 {
			out = append(out, fmt.Sprintf("%s %d", what, n))
		}
	}
	slices.Sort(out)
	return out
}

// Once its runs are withdrawn, an upload is fed from its beginning: what the
// ledger has is passed over, what it gets late too, and bytes in flight are
// exact throughout.
func TestFeedingAfterAWithdrawal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 95, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	if runs, _ := b.feedAll(t, 60); len(runs[id]) != 6 {
		t.Fatalf("fed %v, want six parts", runs)
	}
	b.ack(t, id, plan, 2, 3)
	b.apply(t, uploads.ActionPause, id)
	b.ack(t, id, plan, 5) // of what workers had in hand
	b.withdraw(t, id)
	b.ack(t, id, plan, 6) // late
	b.apply(t, uploads.ActionResume, id)

	want := [][]int{{1, 4, 7}, {8, 9, 10}}
	for i, parts := range want {
		runs, inFlight := b.feedAll(t, 30)
		if diff := cmp.Diff(parts, runs[id]); diff != "" || inFlight != 0 {
			t.Errorf("feeding %d: %d bytes in flight before (-want +got)\n%s", i+1, inFlight, diff)
		}
		b.ack(t, id, plan, parts...)
	}
	if u := b.upload(t, id); u.State != uploads.Finishing || u.AckedBytes != plan.Size {
		t.Errorf("%s with %d bytes, want finishing with all", u.State, u.AckedBytes)
	}
}

// An ack that comes while the feeder decides: what was decided without it does
// not take.
func TestAnAckBetweenReadingTheLedgerAndFeeding(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 100, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	b.feedAll(t, 60)
	b.ack(t, id, plan, 1)
	b.apply(t, uploads.ActionPause, id)
	b.withdraw(t, id)
	b.apply(t, uploads.ActionResume, id)
	took, err := b.Feed(t.Context(), "acc", 10, time.Hour, func(pass parts.FeedPass) ([]parts.Fed, error) {
		f := pass.Next[0]
		if !f.AckedAhead {
			t.Error("the feeder is not told to read the ledger")
		}
		b.ack(t, id, plan, 2)
		return []parts.Fed{{Upload: id, Epoch: 1, FedBefore: f.Fed, Fed: 3, Bytes: 20, LedgerRead: true, AckedBefore: f.Acked}}, nil
	})
	if err != nil || took[id] {
		t.Errorf("Feed took %v, %v; want nothing", took, err)
	}
	if runs, inFlight := b.feedAll(t, 20); inFlight != 0 || cmp.Diff([]int{3, 4}, runs[id]) != "" {
		t.Errorf("then fed %v with %d in flight, want parts 3 and 4 with none", runs[id], inFlight)
	}
}

// A resume before the withdrawal was done does not overtake it: what is still
// to be taken off the queue would be taken from what is fed anew.
func TestAResumeWaitsForTheWithdrawal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.open(t, "film.mp4", 100, 10)
	b.feedAll(t, 50)
	b.apply(t, uploads.ActionPause, id)
	b.apply(t, uploads.ActionResume, id)
	if got := b.workable(t, []uploads.ID{id}); len(got) != 0 {
		t.Errorf("work before the withdrawal: %v, want none", got)
	}
	b.withdraw(t, id)
	if diff := cmp.Diff([]string{"assign 1", "feed 1"}, b.workable(t, []uploads.ID{id})); diff != "" {
		t.Errorf("work after it (-want +got)\n%s", diff)
	}
}

// A withdrawal that was looked up before a later feeding is not noted as done.
func TestAStaleWithdrawalIsNotNoted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.open(t, "film.mp4", 100, 10)
	b.feedAll(t, 50)
	b.apply(t, uploads.ActionPause, id)
	stale, err := b.WithdrawDue(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	b.withdraw(t, id)
	b.apply(t, uploads.ActionResume, id)
	b.feedAll(t, 50)
	b.apply(t, uploads.ActionPause, id)
	if err := b.RecordWithdrawn(t.Context(), stale); err != nil {
		t.Fatal(err)
	}
	b.withdraw(t, id) // still due
}

// A pause holds up neither the discarding of a session nor a cancellation.
func TestCancelOfAPausedUpload(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.open(t, "film.mp4", 100, 10)
	b.apply(t, uploads.ActionPause, id)
	b.apply(t, uploads.ActionCancel, id)
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(steps) != 1 || !steps[0].AbortDue {
		t.Errorf("ClaimSteps = %+v, %v; want its session to be discarded", steps, err)
	}
	if u := b.upload(t, id); u.State != uploads.Cancelled || len(u.Pauses) != 0 {
		t.Errorf("%s, held by %v; want cancelled, held by nothing", u.State, u.Pauses)
	}
	b.withdraw(t, id)
}

// While a finishing call may have taken effect a cancellation waits for its
// outcome; an asset wins.
func TestCancelDuringFinish(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		end  func(t *testing.T, b *bundle, step uploads.Step)
		want uploads.State
	}{
		"asset": {func(t *testing.T, b *bundle, step uploads.Step) {
			t.Helper()
			took, err := b.RecordFinished(t.Context(), []parts.Finished{{Upload: step.ID, Lease: step.Lease, Asset: uploads.Asset{ID: "a"}}})
			if err != nil || !took[step.ID] {
				t.Fatalf("RecordFinished = %v, %v", took, err)
			}
		}, uploads.Completed},
		"definite no": {func(t *testing.T, b *bundle, step uploads.Step) {
			t.Helper()
			if err := b.Postpone(t.Context(), step, time.Hour, 1, false); err != nil {
				t.Fatal(err)
			}
			b.cancelDue(t, true)
		}, uploads.Cancelled},
		"session lost": {func(t *testing.T, b *bundle, step uploads.Step) {
			t.Helper()
			if took, err := b.BeginAgain(t.Context(), step.ID, step.Epoch, step.Lease, "lost", time.Hour); err != nil || !took {
				t.Fatalf("BeginAgain = %v, %v", took, err)
			}
			b.cancelDue(t, true)
		}, uploads.Cancelled},
		"unknown, then a probe": {func(t *testing.T, b *bundle, step uploads.Step) {
			t.Helper()
			if err := b.Postpone(t.Context(), step, 0, 1, true); err != nil {
				t.Fatal(err)
			}
			b.cancelDue(t, false)
		}, uploads.Cancelled},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			plan := parts.Plan{Size: 10, PartSize: 10}
			id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
			b.ack(t, id, plan, 1)
			steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
			if err != nil || len(steps) != 1 {
				t.Fatalf("ClaimSteps = %v, %v", steps, err)
			}
			b.apply(t, uploads.ActionPause, id) // which does not hold up the cancellation
			b.apply(t, uploads.ActionCancel, id)
			if u := b.upload(t, id); u.State != uploads.Finishing || !u.CancelDue {
				t.Errorf("%s, cancellation due %v; want finishing with it due", u.State, u.CancelDue)
			}
			tt.end(t, b, steps[0])
			if u := b.upload(t, id); u.State != tt.want || u.CancelDue {
				t.Errorf("%s, cancellation due %v; want %s", u.State, u.CancelDue, tt.want)
			}
		})
	}
}

// cancelDue claims the one step, whose cancellation is due, and cancels it.
func (b *bundle) cancelDue(t *testing.T, noIntent bool) {
	t.Helper()
	if _, err := b.ClaimSteps(t.Context(), 10, nil, time.Nanosecond); err != nil { // who dies with it
		t.Fatal(err)
	}
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(steps) != 1 || !steps[0].CancelDue || steps[0].Intent.IsZero() != noIntent {
		t.Fatalf("ClaimSteps = %+v, %v; want the cancellation, without an intent %v", steps, err, noIntent)
	}
	if took, err := b.CancelClaimed(t.Context(), steps[0]); err != nil || !took {
		t.Fatalf("CancelClaimed = %v, %v", took, err)
	}
}

// The session that was opened for an upload that was cancelled meanwhile is
// kept until it is discarded.
func TestAnOrphanedSessionIsDiscarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, "film.mp4", 10)
	step := b.claim(t)
	orphan := parts.Opened{Upload: id, Epoch: step.Epoch, Session: []byte("orphan")}
	if kept, err := b.RecordOrphan(t.Context(), orphan); err != nil || kept {
		t.Errorf("of an upload that goes on: %v, %v; want nothing", kept, err)
	}
	b.apply(t, uploads.ActionCancel, id)
	if kept, err := b.RecordOrphan(t.Context(), orphan); err != nil || !kept {
		t.Fatalf("RecordOrphan = %v, %v; want it kept", kept, err)
	}
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(steps) != 1 || !steps[0].AbortDue || string(steps[0].Session) != "orphan" {
		t.Errorf("ClaimSteps = %+v, %v; want the session to be discarded", steps, err)
	}
}

// What a filter selects for an action, and in batches.
func TestMatching(t *testing.T) {
	t.Parallel()
	b := setup(t)
	queue := func(key string, labels map[string]string, batch uploads.ID) uploads.ID {
		it := item(t, key, 10)
		in := intake(it)
		in.Labels, in.Batch = labels, batch
		if _, err := b.Insert(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		return it.ID
	}
	batch := uuid.New()
	news := queue("news.mp4", map[string]string{"show": "news", "day": "mon"}, batch)
	sport := queue("sport.mp4", map[string]string{"show": "sport"}, uploads.ID{})
	fail := func(key string, cause uploads.Cause) uploads.ID {
		id := queue(key, nil, uploads.ID{})
		if took, err := b.Fail(t.Context(), id, 0, uploads.Lease{}, uploads.Failure{Cause: cause, Message: "no"}); err != nil || !took {
			t.Fatalf("Fail = %v, %v", took, err)
		}
		return id
	}
	rejected, unclear := fail("rejected.mp4", uploads.CauseRejected), fail("unclear.mp4", uploads.CauseNeedsHuman)
	b.apply(t, uploads.ActionPause, sport)

	tests := map[string]struct {
		action uploads.Action
		filter uploads.Filter
		want   []uploads.ID
	}{
		"label":                      {uploads.ActionPause, uploads.Filter{Labels: map[string]string{"show": "news"}}, []uploads.ID{news}},
		"two labels":                 {uploads.ActionPause, uploads.Filter{Labels: map[string]string{"show": "news", "day": "tue"}}, nil},
		"batch":                      {uploads.ActionCancel, uploads.Filter{Batch: batch}, []uploads.ID{news}},
		"another account":            {uploads.ActionCancel, uploads.Filter{Account: "other"}, nil},
		"paused already":             {uploads.ActionPause, uploads.Filter{}, []uploads.ID{news}},
		"to resume":                  {uploads.ActionResume, uploads.Filter{}, []uploads.ID{sport}},
		"to cancel":                  {uploads.ActionCancel, uploads.Filter{}, []uploads.ID{news, sport}},
		"to retry":                   {uploads.ActionRetry, uploads.Filter{}, []uploads.ID{rejected}},
		"to retry what is looked at": {uploads.ActionRetry, uploads.Filter{Causes: []uploads.Cause{uploads.CauseNeedsHuman}}, []uploads.ID{unclear}},
	}
	for name, tt := range tests {
		f := tt.filter
		f.Tenant, f.States = "default", tt.action.States()
		var got []uploads.ID
		for after := (uploads.ID{}); ; {
			ids, err := b.Matching(t.Context(), tt.action, f, after, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(ids) == 0 {
				break
			}
			got, after = append(got, ids...), ids[0]
		}
		n, err := b.CountMatching(t.Context(), tt.action, f)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil || n != len(got) {
			t.Errorf("%s: counted %d, %v (-want +got)\n%s", name, n, err, diff)
		}
		f.Tenant = "other"
		if n, err := b.CountMatching(t.Context(), tt.action, f); err != nil || n != 0 {
			t.Errorf("%s: %d of another tenant, %v", name, n, err)
		}
	}
	if list, err := b.Uploads(t.Context(), uploads.Filter{Tenant: "default", Causes: []uploads.Cause{uploads.CauseRejected}}); err != nil || len(list) != 1 || list[0].ID != rejected {
		t.Errorf("list by cause: %v, %v", list, err)
	}
	yes := true
	if list, err := b.Uploads(t.Context(), uploads.Filter{Tenant: "default", Paused: &yes}); err != nil || len(list) != 1 || list[0].ID != sport {
		t.Errorf("list of what is paused: %v, %v", list, err)
	}
}

// A pause waits for the feeder that has the account, and sees what it took.
func TestAPauseComesAfterTheFeederThatHasTheAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.open(t, "film.mp4", 100, 10)
	paused := make(chan error, 1)
	_, err := b.Feed(t.Context(), "acc", 10, time.Hour, func(parts.FeedPass) ([]parts.Fed, error) {
		go func() {
			paused <- b.Pause(context.WithoutCancel(t.Context()), uploads.ScopeAccount, "acc", []string{"acc"}, uploads.Note{})
		}()
		b.awaitBlocked(t)
		return []parts.Fed{{Upload: id, Epoch: 1, FedBefore: 0, Fed: 5, Bytes: 50}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-paused; err != nil {
		t.Fatal(err)
	}
	b.withdraw(t, id)
	if runs, inFlight := b.feedAll(t, 1000); len(runs) != 0 || inFlight != 0 {
		t.Errorf("fed %v with %d in flight, want nothing with none", runs, inFlight)
	}
}

// awaitBlocked returns once somebody waits for a lock.
func (b *bundle) awaitBlocked(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for b.query(t, `SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)[0] == "0" {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the feeder")
		}
	}
}
