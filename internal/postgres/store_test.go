package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zaptest"

	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { devtest.Main(m) }

// bundle is a store on a database of the test's own, and the database itself.
type bundle struct {
	*postgres.Store

	dsn string
}

func setup(t *testing.T) *bundle {
	t.Helper()
	dsn := devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	store, err := postgres.Open(t.Context(), dsn, 8, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return &bundle{Store: store, dsn: dsn}
}

// query returns the first column of every row as text.
func (b *bundle) query(t *testing.T, sql string, args ...any) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // read only
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func item(t *testing.T, key string, size int64) uploads.IntakeItem {
	t.Helper()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return uploads.IntakeItem{
		ID: id, RequestHash: []byte("hash of " + key), Name: key,
		Source: uploads.Object{Bucket: "staging", Key: key, ETag: "etag-" + key, Size: size},
	}
}

func intake(items ...uploads.IntakeItem) *uploads.Intake {
	return &uploads.Intake{
		Tenant: "default", Account: "acc", Provider: "fake", Pool: "default", Bucket: "staging",
		Labels: map[string]string{"show": "one"}, Items: items,
	}
}

// submit accepts one upload of size bytes and returns its ID.
func (b *bundle) submit(t *testing.T, key string, size int64) uploads.ID {
	t.Helper()
	it := item(t, key, size)
	if _, err := b.Insert(t.Context(), intake(it)); err != nil {
		t.Fatal(err)
	}
	return it.ID
}

// claim claims the one queued upload.
func (b *bundle) claim(t *testing.T) uploads.Step {
	t.Helper()
	steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, nil, 10, time.Minute)
	if err != nil || len(steps) != 1 {
		t.Fatalf("ClaimQueued = %v, %v; want one step", steps, err)
	}
	return steps[0]
}

// open submits an upload and opens a session for it, in parts of partSize.
func (b *bundle) open(t *testing.T, key string, size, partSize int64, found ...parts.Stored) uploads.ID {
	t.Helper()
	id := b.submit(t, key, size)
	b.record(t, b.claim(t), partSize, found...)
	return id
}

func (b *bundle) record(t *testing.T, step uploads.Step, partSize int64, found ...parts.Stored) {
	t.Helper()
	took, err := b.RecordOpened(t.Context(), []parts.Opened{{
		Upload: step.ID, Lease: step.Lease, Epoch: step.Epoch + 1,
		Plan: parts.Plan{Size: step.Source.Size, PartSize: partSize}, Session: []byte("sealed"), Found: found,
	}})
	if err != nil || len(took) != 1 {
		t.Fatalf("RecordOpened = %v, %v; want it to take", took, err)
	}
}

func report(id uploads.ID, epoch int, plan parts.Plan, numbers ...int) parts.Report {
	now := time.Now()
	r := parts.Report{Upload: id, Account: "acc", Epoch: epoch, Worker: "w1", Delivery: 1}
	for _, n := range numbers {
		p := plan.Part(n)
		r.Acks = append(r.Acks, parts.Ack{
			Part: n, Offset: p.Offset, Length: p.Length, Receipt: parts.Receipt{Tag: fmt.Sprintf("tag-%d", n)}, Started: now, Finished: now,
		})
	}
	return r
}

func (b *bundle) upload(t *testing.T, id uploads.ID) uploads.Upload {
	t.Helper()
	u, err := b.Upload(t.Context(), "default", id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestInsertKeepsOneUploadPerKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := item(t, "film.mp4", 10)
	first.IdempotencyKey = "k"
	if _, err := b.Insert(t.Context(), intake(first)); err != nil {
		t.Fatal(err)
	}

	again := item(t, "film.mp4", 10)
	again.IdempotencyKey = "k"
	in := intake(again)
	created, err := b.Insert(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if in.Items[0].ID != first.ID || created[first.ID] {
		t.Errorf("the same submission again: id %s created %v, want id %s not created", in.Items[0].ID, created, first.ID)
	}

	other := item(t, "other.mp4", 10)
	other.IdempotencyKey = "k"
	beside := item(t, "beside.mp4", 10)
	if _, err := b.Insert(t.Context(), intake(beside, other)); !errors.Is(err, uploads.ErrKeyTaken) {
		t.Errorf("another submission under the key: %v, want ErrKeyTaken", err)
	}
	if got, _ := b.Uploads(t.Context(), uploads.Filter{Tenant: "default"}); len(got) != 1 {
		t.Errorf("%d uploads, want 1: a refused call keeps nothing", len(got))
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	plan := parts.Plan{Size: 25, PartSize: 10}
	tests := []struct {
		name      string
		reports   func(id uploads.ID) []parts.Report
		wantParts int
		wantBytes int64
		wantState uploads.State
	}{
		{
			name:      "last part is shorter",
			reports:   func(id uploads.ID) []parts.Report { return []parts.Report{report(id, 1, plan, 3)} },
			wantParts: 1, wantBytes: 5, wantState: uploads.Uploading,
		},
		{
			name: "a redelivered ack changes nothing",
			reports: func(id uploads.ID) []parts.Report {
				return []parts.Report{report(id, 1, plan, 1), report(id, 1, plan, 1, 2), report(id, 1, plan, 2)}
			},
			wantParts: 2, wantBytes: 20, wantState: uploads.Uploading,
		},
		{
			name: "a stale epoch is dropped",
			reports: func(id uploads.ID) []parts.Report {
				return []parts.Report{report(id, 0, plan, 1, 2, 3), report(id, 2, plan, 1, 2, 3)}
			},
			wantState: uploads.Uploading,
		},
		{
			name: "what is not in the plan is dropped",
			reports: func(id uploads.ID) []parts.Report {
				wide := parts.Plan{Size: 25, PartSize: 20}
				beyond := report(id, 1, parts.Plan{Size: 100, PartSize: 10}, 3, 4)
				return []parts.Report{report(id, 1, wide, 1, 2), beyond}
			},
			wantState: uploads.Uploading,
		},
		{
			name:      "the last byte moves to finishing",
			reports:   func(id uploads.ID) []parts.Report { return []parts.Report{report(id, 1, plan, 3, 1, 2)} },
			wantParts: 3, wantBytes: 25, wantState: uploads.Finishing,
		},
		{
			name:      "an upload that nobody knows is dropped",
			reports:   func(uploads.ID) []parts.Report { return []parts.Report{report(uuid.New(), 1, plan, 1)} },
			wantState: uploads.Uploading,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
			for _, split := range []bool{true, false} { // one by one, then all at once: a repetition of everything
				reports := tt.reports(id)
				if split {
					for _, r := range reports {
						if _, err := b.RecordReports(t.Context(), []parts.Report{r}); err != nil {
							t.Fatal(err)
						}
					}
				} else if landed, err := b.RecordReports(t.Context(), reports); err != nil || len(landed) != 0 {
					t.Errorf("repeated: %v, %v; want nothing landed", landed, err)
				}
				u := b.upload(t, id)
				got := []any{u.AckedParts, u.AckedBytes, u.State}
				if diff := cmp.Diff([]any{tt.wantParts, tt.wantBytes, tt.wantState}, got); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
		})
	}
}

// Two dispatchers record the last two parts of an upload at the same moment,
// on connections of their own: exactly one of them sees it move to finishing.
func TestLastTwoPartsFinishOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const rounds = 1000
	plan := parts.Plan{Size: 20, PartSize: 10}
	ids := make([]uploads.ID, rounds)
	for at := 0; at < rounds; at += 100 {
		var items []uploads.IntakeItem
		for i := range 100 {
			items = append(items, item(t, fmt.Sprintf("film-%d.mp4", at+i), plan.Size))
			ids[at+i] = items[i].ID
		}
		if _, err := b.Insert(t.Context(), intake(items...)); err != nil {
			t.Fatal(err)
		}
		steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, nil, 100, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		var opened []parts.Opened
		for _, s := range steps {
			opened = append(opened, parts.Opened{Upload: s.ID, Lease: s.Lease, Epoch: 1, Plan: plan, Session: []byte("s")})
		}
		if _, err := b.RecordOpened(t.Context(), opened); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		var wg sync.WaitGroup
		fired := make(chan uploads.ID, 2)
		start := make(chan struct{})
		for n := 1; n <= 2; n++ {
			wg.Go(func() {
				<-start
				landed, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, n)})
				if err != nil {
					t.Error(err)
				}
				for _, l := range landed {
					if l.State == uploads.Finishing {
						fired <- l.Upload
					}
				}
			})
		}
		close(start)
		wg.Wait()
		if len(fired) != 1 {
			t.Fatalf("finishing fired %d times, want once", len(fired))
		}
	}
}

func TestFoundPartsCountAndMayFinish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 25, PartSize: 10}
	stored := func(n int) parts.Stored {
		return parts.Stored{Part: plan.Part(n), Receipt: parts.Receipt{Tag: "there"}}
	}

	some := b.open(t, "some.mp4", plan.Size, plan.PartSize, stored(2))
	if u := b.upload(t, some); u.AckedBytes != 10 || u.FoundBytes != 10 || u.State != uploads.Uploading {
		t.Errorf("one found: %d acked, %d found, %s; want 10, 10, uploading", u.AckedBytes, u.FoundBytes, u.State)
	}
	every := b.open(t, "every.mp4", plan.Size, plan.PartSize, stored(1), stored(2), stored(3))
	if u := b.upload(t, every); u.State != uploads.Finishing {
		t.Errorf("all found: %s, want finishing", u.State)
	}
}

func TestALeaseThatPassedOnRecordsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, "film.mp4", 10)
	steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, nil, 10, time.Nanosecond) // runs out at once
	if err != nil || len(steps) != 1 {
		t.Fatalf("claim: %v, %v", steps, err)
	}
	again, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(again) != 1 {
		t.Fatalf("claim after the lease ran out: %v, %v; want the step", again, err)
	}
	opened := parts.Opened{Upload: id, Lease: steps[0].Lease, Epoch: 1, Plan: parts.Plan{Size: 10, PartSize: 10}, Session: []byte("stale")}
	if took, err := b.RecordOpened(t.Context(), []parts.Opened{opened}); err != nil || len(took) != 0 {
		t.Errorf("the old holder recorded: %v, %v; want nothing", took, err)
	}
	if ok, err := b.Fail(t.Context(), id, 0, steps[0].Lease, uploads.Failure{Cause: uploads.CauseRejected}); err != nil || ok {
		t.Errorf("the old holder failed it: %v, %v; want nothing", ok, err)
	}
	if took, err := b.RecordFinished(t.Context(), []parts.Finished{{Upload: id, Lease: steps[0].Lease, Instant: true}}); err != nil || len(took) != 0 {
		t.Errorf("the old holder completed it: %v, %v; want nothing", took, err)
	}
	opened.Lease = again[0].Lease
	if took, err := b.RecordOpened(t.Context(), []parts.Opened{opened}); err != nil || len(took) != 1 {
		t.Errorf("the new holder: %v, %v; want it to take", took, err)
	}
}

func TestClaimsAreExclusive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 50 {
		b.submit(t, fmt.Sprintf("film-%d.mp4", i), 10)
	}
	var mu sync.Mutex
	seen := map[uploads.ID]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, nil, 3, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if len(steps) == 0 {
					return
				}
				mu.Lock()
				for _, s := range steps {
					seen[s.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("upload %s was claimed %d times", id, n)
		}
	}
	if len(seen) == 0 {
		t.Error("nothing was claimed")
	}
}

// The intent to finish is committed by the claim, so that whoever claims next
// knows that a call may have been made.
func TestFinishIntentOutlivesItsHolder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 10, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 1)}); err != nil {
		t.Fatal(err)
	}
	first, err := b.ClaimSteps(t.Context(), 10, nil, time.Nanosecond)
	if err != nil || len(first) != 1 || !first[0].Intent.IsZero() {
		t.Fatalf("first claim: %+v, %v; want a step without an earlier intent", first, err)
	}
	second, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(second) != 1 || second[0].Intent.IsZero() {
		t.Fatalf("second claim: %+v, %v; want a step with the intent of the first", second, err)
	}
	if err := b.Postpone(t.Context(), second[0], 0, 1, false); err != nil { // a definite no
		t.Fatal(err)
	}
	third, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(third) != 1 || !third[0].Intent.IsZero() {
		t.Errorf("third claim: %+v, %v; want no intent after a definite answer", third, err)
	}
}

func TestBeginAgainOpensANewEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 20, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 1)}); err != nil {
		t.Fatal(err)
	}
	if took, err := b.BeginAgain(t.Context(), id, 2, uploads.Lease{}, "lost", 0); err != nil || took {
		t.Errorf("another epoch: %v, %v; want nothing", took, err)
	}
	if took, err := b.BeginAgain(t.Context(), id, 1, uploads.Lease{}, "lost", 0); err != nil || !took {
		t.Fatalf("begin again: %v, %v", took, err)
	}
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(steps) != 1 {
		t.Fatalf("claim: %v, %v", steps, err)
	}
	b.record(t, steps[0], plan.PartSize)
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 2)}); err != nil {
		t.Fatal(err)
	}
	if u := b.upload(t, id); u.Epoch != 2 || u.AckedBytes != 0 {
		t.Errorf("epoch %d with %d bytes acked, want 2 with 0: the old epoch's acks are stale", u.Epoch, u.AckedBytes)
	}
}

func TestFeedHonoursItsGuards(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 100, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	feed := func(before, after int, bytes int64) (map[uploads.ID]bool, int64) {
		var inFlight int64
		took, err := b.Feed(t.Context(), "acc", 10, time.Hour, func(p parts.FeedPass) ([]parts.Fed, error) {
			inFlight = p.InFlight
			return []parts.Fed{{Upload: id, Epoch: 1, FedBefore: before, Fed: after, Bytes: bytes}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return took, inFlight
	}
	if took, inFlight := feed(0, 4, 40); !took[id] || inFlight != 0 {
		t.Errorf("first: took %v with %d in flight, want it with 0", took, inFlight)
	}
	if took, inFlight := feed(0, 4, 40); took[id] || inFlight != 40 {
		t.Errorf("the same again: took %v with %d in flight, want nothing with 40", took, inFlight)
	}
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 1, 2)}); err != nil {
		t.Fatal(err)
	}
	if _, inFlight := feed(0, 4, 40); inFlight != 20 {
		t.Errorf("%d in flight after two acks, want 20", inFlight)
	}

	// While one feeder has the account, another waits.
	var feeders sync.WaitGroup
	var inside atomic.Int32
	for range 4 {
		feeders.Go(func() {
			_, err := b.Feed(t.Context(), "acc", 10, time.Hour, func(pass parts.FeedPass) ([]parts.Fed, error) {
				if inside.Add(1) > 1 {
					t.Error("two feeders had the account at once")
				}
				_, err := pass.Acked(t.Context(), pass.Next[0], 1, 10) // takes a moment
				inside.Add(-1)
				return nil, err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	feeders.Wait()

	sweepable, err := b.Sweepable(t.Context(), true, 10)
	if err != nil || len(sweepable) != 1 {
		t.Fatalf("Sweepable = %v, %v; want the upload", sweepable, err)
	}
	if due, err := b.Sweepable(t.Context(), false, 10); err != nil || len(due) != 0 {
		t.Errorf("Sweepable within the grace = %v, %v; want nothing", due, err)
	}
	// One fed only now keeps its count, and so the ids of its runs.
	if f := sweepable[0]; !f.Recent || f.FeedCount != 1 {
		t.Errorf("Sweepable within the grace = %+v; want it recent, with count 1", f)
	}
	if took, err := b.RecordSwept(t.Context(), sweepable[0], 0); err != nil || !took {
		t.Errorf("RecordSwept of a recent feed = %v, %v; want it to take", took, err)
	}
	if sweepable, err = b.Sweepable(t.Context(), false, 10); err != nil || len(sweepable) != 1 || sweepable[0].Recent || sweepable[0].FeedCount != 1 {
		t.Fatalf("Sweepable after the grace = %+v, %v; want the upload with count 1", sweepable, err)
	}
	if took, err := b.RecordSwept(t.Context(), sweepable[0], time.Hour); err != nil || !took {
		t.Errorf("RecordSwept = %v, %v; want it to take", took, err)
	}
	if took, err := b.RecordSwept(t.Context(), sweepable[0], time.Hour); err != nil || took {
		t.Errorf("RecordSwept of an old look = %v, %v; want nothing", took, err)
	}
}

func TestMovesLeaveTheirTrailAndEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.open(t, "film.mp4", 10, 10)
	b.apply(t, uploads.ActionCancel, id)
	want := []string{"->queued", "queued->beginning", "beginning->uploading", "uploading->cancelled"}
	got := b.query(t, `SELECT concat(from_state, '->', to_state) FROM state_changes WHERE upload_id = $1 ORDER BY id`, id)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state changes (-want +got)\n%s", diff)
	}

	var seen []string
	broken := errors.New("nobody listens")
	if _, err := b.TakeEvents(t.Context(), 10, func([]uploads.Event) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("TakeEvents = %v, want the error of publish", err)
	}
	n, err := b.TakeEvents(t.Context(), 10, func(events []uploads.Event) error {
		for _, e := range events {
			seen = append(seen, e.Type)
		}
		return nil
	})
	if err != nil || n != 1 || len(seen) != 1 || seen[0] != "cancelled" {
		t.Errorf("events %v, %d, %v; want one cancelled, kept while nobody took it", seen, n, err)
	}
	if n, _ := b.TakeEvents(t.Context(), 10, func([]uploads.Event) error { return nil }); n != 0 {
		t.Errorf("%d events after all were taken, want 0", n)
	}
}

func TestCancelledSessionIsDueToBeDiscarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.open(t, "film.mp4", 10, 10)
	b.apply(t, uploads.ActionCancel, id)
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(steps) != 1 || !steps[0].AbortDue || string(steps[0].Session) != "sealed" {
		t.Fatalf("steps %+v, %v; want the abort with its session", steps, err)
	}
	if err := b.RecordAborted(t.Context(), steps[0]); err != nil {
		t.Fatal(err)
	}
	if got := b.query(t, `SELECT (session IS NULL AND NOT abort_due)::text FROM uploads WHERE id = $1`, id); got[0] != "true" {
		t.Error("the session is still there after it was discarded")
	}
}

func TestDigests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, "film.mp4", 10)
	steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, []string{"fake"}, 10, time.Minute)
	if err != nil || len(steps) != 1 || steps[0].State != uploads.Queued {
		t.Fatalf("claim: %+v, %v; want it still queued, for its digest", steps, err)
	}
	if took, err := b.MoveToDigesting(t.Context(), steps[0]); err != nil || !took {
		t.Fatalf("MoveToDigesting = %v, %v", took, err)
	}
	source := steps[0].Source
	check := func(offset int64) {
		if err := b.RecordCheckpoint(t.Context(), id, source, hashing.Checkpoint{Offset: offset}); err != nil {
			t.Fatal(err)
		}
	}
	check(8)
	check(4) // late
	known, err := b.Assignable(t.Context(), []uploads.ID{id})
	a := known[id]
	if err != nil || a.Checkpoint == nil || a.Checkpoint.Offset != 8 {
		t.Fatalf("Assignable = %+v, %v; want the checkpoint at 8", a, err)
	}
	if err := b.DropCheckpoint(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if known, err = b.Assignable(t.Context(), []uploads.ID{id}); err != nil || known[id].Checkpoint != nil {
		t.Errorf("Assignable = %+v, %v; want no checkpoint any more", known[id], err)
	}
	sum, _ := hashing.Sum(hashing.SHA1, []byte("0123456789"))
	changed := source
	changed.ETag = "another"
	if took, err := b.RecordDigested(t.Context(), id, changed, []hashing.Digest{sum}); err != nil || took {
		t.Errorf("digest of other bytes: %v, %v; want nothing", took, err)
	}
	if took, err := b.RecordDigested(t.Context(), id, source, []hashing.Digest{sum}); err != nil || !took {
		t.Errorf("RecordDigested = %v, %v; want it to take", took, err)
	}
	digests, err := b.KnownDigests(t.Context(), source)
	if diff := cmp.Diff([]hashing.Digest{sum}, digests); diff != "" || err != nil {
		t.Errorf("KnownDigests: %v (-want +got)\n%s", err, diff)
	}
	if u := b.upload(t, id); u.State != uploads.Beginning {
		t.Errorf("state %s, want beginning", u.State)
	}
}

func TestPartitionsAreMadeAheadAndUsed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var wg sync.WaitGroup
	for range 4 { // several dispatchers at once
		wg.Go(func() {
			if err := b.MakePartitions(t.Context(), time.Now(), 3); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	plan := parts.Plan{Size: 10, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 1)}); err != nil {
		t.Fatal(err)
	}
	want := []string{"part_acks_" + time.Unix(id.Time().UnixTime()).UTC().Format("200601")} // this month may be another by now
	if diff := cmp.Diff(want, b.query(t, `SELECT tableoid::regclass::text FROM part_acks`)); diff != "" {
		t.Errorf("partition (-want +got)\n%s", diff)
	}
}

// Who looks at a database, or schema, that is new leaves it so: the doctor may look
// with a role that cannot make tables.
func TestMigrationsOfANewDatabase(t *testing.T) {
	t.Parallel()
	dsn := devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // nothing is pending on it
	if _, err := conn.Exec(t.Context(), `CREATE SCHEMA fresh`); err != nil {
		t.Fatal(err)
	}
	all, err := postgres.Migrations(t.Context(), dsn+"&search_path=fresh")
	if err != nil || len(all) == 0 || all[0].Name != "00001_record.sql" || all[0].Applied {
		t.Errorf("got %v, %v", all, err)
	}
	var tables int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'fresh'`).Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d tables, %v", tables, err)
	}
}

func TestMigrationsGoDownAndUp(t *testing.T) {
	t.Parallel()
	dsn := devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	all, err := postgres.Migrations(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if !m.Applied {
			t.Errorf("%s is not applied", m.Name)
		}
	}
	for range all {
		if _, err := postgres.MigrateDown(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	applied := 0
	for range 3 { // several processes start at once
		wg.Go(func() {
			names, err := postgres.MigrateUp(t.Context(), dsn)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			applied += len(names)
			mu.Unlock()
		})
	}
	wg.Wait()
	if applied != len(all) {
		t.Errorf("%d changes applied, want each of %d once", applied, len(all))
	}
}

func TestReportViewsAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 20, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	r := report(id, 1, plan, 1)
	r.Failure = &parts.Failure{Part: 2, Kind: "throttled", Code: "429", Message: "slow down", Started: time.Now(), Failed: time.Now()}
	for range 2 { // delivered twice, counted once
		if _, err := b.RecordReports(t.Context(), []parts.Report{r}); err != nil {
			t.Fatal(err)
		}
	}
	for view, want := range map[string]string{
		`SELECT concat(account, ' ', worker, ' ', parts, ' ', bytes) FROM report.throughput_per_minute`: "acc w1 1 10",
		`SELECT concat(state, ' ', acked_bytes, ' of ', size) FROM report.upload_summary`:               "uploading 10 of 20",
		`SELECT concat(account, ' ', kind, ' ', code, ' ', failures) FROM report.failures_by_cause`:     "acc throttled 429 1",
	} {
		if diff := cmp.Diff([]string{want}, b.query(t, view)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", view, diff)
		}
	}
}

// Many dispatchers at once stay within an account's published rate.
func TestCallRateIsShared(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const count, per = 100, time.Hour // nothing leaks out while the test runs
	rate := providers.Rate{Count: count, Per: per}
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				wait, err := b.TakeCalls(t.Context(), "acc", providers.CallFinish, 1, rate)
				if err != nil {
					t.Error(err)
				}
				if wait == 0 {
					taken.Add(1)
				} else if wait > per {
					t.Errorf("wait %s, longer than the period", wait)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n != count/10 {
		t.Errorf("%d calls were taken at once, want %d", n, count/10)
	}
	if wait, err := b.TakeCalls(t.Context(), "other", providers.CallFinish, 1, rate); err != nil || wait != 0 {
		t.Errorf("another account: wait %s, %v; want its own budget", wait, err)
	}
	if wait, err := b.TakeCalls(t.Context(), "acc", providers.CallBegin, 1, rate); err != nil || wait != 0 {
		t.Errorf("another call: wait %s, %v; want its own budget", wait, err)
	}
}

// What a platform says may be anything; it must not hold up the ledger.
func TestWordsOfPlatformsFitTheRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 20, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	nasty := "\x00broken \xff\xfe" + strings.Repeat("ß", 10_000)
	r := report(id, 1, plan, 1)
	r.Acks[0].Receipt.Tag = "etag\x00"
	r.Failure = &parts.Failure{Part: 2, Kind: "rejected", Code: nasty, Message: nasty, Started: time.Now(), Failed: time.Now()}
	if landed, err := b.RecordReports(t.Context(), []parts.Report{r}); err != nil || len(landed) != 1 {
		t.Fatalf("RecordReports = %v, %v", landed, err)
	}
	if ok, err := b.Fail(t.Context(), id, 1, uploads.Lease{}, uploads.Failure{Cause: uploads.CauseRejected, Code: nasty, Message: nasty}); err != nil || !ok {
		t.Errorf("Fail = %v, %v", ok, err)
	}

	done := b.open(t, "other.mp4", 10, 10)
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(done, 1, parts.Plan{Size: 10, PartSize: 10}, 1)}); err != nil {
		t.Fatal(err)
	}
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.ID != done {
			continue
		}
		finished := parts.Finished{Upload: done, Lease: s.Lease, Asset: uploads.Asset{ID: nasty, URL: nasty, Detail: map[string]string{"x": nasty}}}
		if took, err := b.RecordFinished(t.Context(), []parts.Finished{finished}); err != nil || len(took) != 1 {
			t.Errorf("RecordFinished = %v, %v", took, err)
		}
	}
}
