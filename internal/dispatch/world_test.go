package dispatch_test

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/dispatch"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/sealing"
	"mediaferry/internal/uploads"
)

const (
	accountName = "acc"
	partSize    = 8 // bytes
)

// world is the record on a real Postgres, a queue and a platform in memory,
// and as many dispatchers as a test makes. Nothing happens in it by itself:
// the test makes the passes of the dispatchers' loops and is the workers.
type world struct {
	db       *pgx.Conn
	store    *postgres.Store
	limits   providers.Limits
	platform *guarded
	queue    *memoryQueue
	renews   bool // the platform renews sessions
	sealer   *sealing.Sealer
	log      *journal // what the dispatchers say
}

// plain is a platform on which every finish makes an asset of its own.
func plain() providers.Limits {
	return providers.Limits{
		Limits:     parts.Limits{MinPart: partSize, MaxPart: partSize, Preferred: partSize, MaxParts: 100},
		PartDigest: hashing.CRC64NVME,
	}
}

// keyed is a platform that knows media by SHA-1.
func keyed() providers.Limits {
	l := plain()
	l.ObjectDigests, l.KnownBy = []hashing.Kind{hashing.SHA1}, hashing.SHA1
	return l
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dsn := devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	store, err := postgres.Open(t.Context(), dsn, 8, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	w := &world{store: store}
	if w.db, err = pgx.Connect(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close(context.WithoutCancel(t.Context())) }) // the database goes with it
	if w.sealer, err = sealing.New(sealing.NewKey()); err != nil {
		t.Fatal(err)
	}
	return w
}

// empty makes everything new but the database, which it empties.
func (w *world) empty(ctx context.Context, limits providers.Limits) error {
	w.limits, w.queue, w.log = limits, &memoryQueue{}, &journal{}
	w.platform = &guarded{Fake: providertest.NewFake(limits), unsettled: map[uploads.ID]bool{}}
	_, err := w.db.Exec(ctx, `DO $$ BEGIN
		EXECUTE (SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables
			WHERE schemaname = 'public' AND tablename NOT LIKE 'goose%' AND tablename <> 'record_marks');
	END $$`)
	if err != nil {
		return fmt.Errorf("empty the database: %w", err)
	}
	return nil
}

// process is a dispatcher that can die at a step of the record. Its loops do
// not run: the test makes their passes, after start.
type process struct {
	*dispatch.Dispatcher

	store *mortalStore
}

func (w *world) process(cfg dispatch.Config) *process { return w.processOf(cfg, accountName) }

// processOf is a dispatcher in whose settings there is that account alone.
func (w *world) processOf(cfg dispatch.Config, account string) *process {
	p := &process{store: &mortalStore{Store: w.store}}
	if cfg.Lease == 0 {
		cfg.Lease = time.Minute
	}
	var platform providers.Provider = w.platform
	if w.renews {
		platform = renewing{w.platform}
	}
	p.Dispatcher = dispatch.New(cfg, p.store, mortalQueue{w.queue, p.store}, objects{}, w.sealer,
		map[string]providers.Provider{"fake": platform},
		[]dispatch.Account{{
			Account: providers.Account{Name: account}, Tenant: "default", Provider: "fake", Pool: "default", Window: 1 << 20,
		}}, w.log.logger())
	return p
}

// submit accepts an upload of the content.
func (w *world) submit(ctx context.Context, p *process, key string) (uploads.ID, error) {
	u, _, err := p.Submit(ctx, uploads.Submission{
		Tenant: "default", Account: accountName, Name: "film.mp4", Source: uploads.Object{Bucket: "staging", Key: key},
	})
	if err != nil {
		return uploads.ID{}, fmt.Errorf("submit %s: %w", key, err)
	}
	return u.ID, nil
}

// timePassed is that leases and delays are over.
const timePassed = `UPDATE uploads SET lease_until = least(lease_until, now() - interval '1 s'),
	step_at = least(step_at, now()), feed_after = least(feed_after, now())
	WHERE (state NOT IN ('completed', 'cancelled') OR abort_due)`

// pass lets time pass.
func (w *world) pass(ctx context.Context) error {
	_, err := w.db.Exec(ctx, timePassed)
	if err == nil {
		// What held calls back is over, and the platform answers again.
		_, err = w.db.Exec(ctx, `DELETE FROM call_holds`)
	}
	if err != nil {
		return fmt.Errorf("let time pass: %w", err)
	}
	return nil
}

// passFor is pass for some uploads only, while the test itself is busy with the
// connection: others may be in the hands of a process that does not stand still.
func (w *world) passFor(ctx context.Context, ids ...uploads.ID) error {
	db, err := pgx.ConnectConfig(ctx, w.db.Config())
	if err == nil {
		_, err = db.Exec(ctx, timePassed+` AND id = ANY($1)`, ids)
		err = errors.Join(err, db.Close(ctx))
	}
	if err != nil {
		return fmt.Errorf("let time pass: %w", err)
	}
	return nil
}

// states returns every upload's state.
func (w *world) states(ctx context.Context) (map[uploads.ID]uploads.State, error) {
	rows, err := w.db.Query(ctx, `SELECT id, state::text FROM uploads`)
	if err != nil {
		return nil, fmt.Errorf("read states: %w", err)
	}
	states := map[uploads.ID]uploads.State{}
	var id uploads.ID
	var state string
	_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error {
		states[id] = uploads.State(state)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read states: %w", err)
	}
	return states, nil
}

// work does what a worker does with a job, and reports. Where most is less than
// the parts that are to be sent, the worker dies after so many and the job stays
// to be delivered again; silent says that it dies before it reports.
func (w *world) work(ctx context.Context, p *process, job parts.Job, most int, silent bool) error {
	redelivered := false
	if pending, _ := w.queue.PendingAcks(ctx, job.Account, job.Upload); pending == 0 {
		redelivered = true
	}
	answer := p.Assign(ctx, []dispatch.Ask{{Job: job, Redelivered: redelivered}})[0]
	if errors.Is(answer.Err, dispatch.ErrStale) {
		w.queue.settle(job)
		return nil
	}
	if answer.Err != nil {
		return answer.Err
	}
	a := answer.Assignment
	content := contentOf(a.Source.Key)
	report := parts.Report{Upload: job.Upload, Account: job.Account, Epoch: job.Epoch, Worker: "w", Delivery: 1}
	if job.IsDigest() {
		report.Digested = &parts.Digested{Sums: []hashing.Digest{sha1Of(a.Source.Key)}, Object: a.Source}
		w.queue.report(report)
		w.queue.settle(job)
		return nil
	}
	var session providers.Session
	if err := json.Unmarshal(a.Session, &session); err != nil {
		return fmt.Errorf("session of %s: %w", job.Upload, err)
	}
	sent := 0
	for n := job.Run.First; n <= job.Run.Last() && sent < most; n++ {
		if slices.Contains(a.Acked, n) {
			continue
		}
		part := a.Plan.Part(n)
		started := time.Now()
		body := providertest.NewBody(w.limits, content[part.Offset:part.Offset+part.Length])
		receipt, err := w.platform.PutPart(ctx, session, part, body)
		if err != nil {
			e, ok := errors.AsType[*providers.Error](err)
			if !ok {
				return fmt.Errorf("put part %d: %w", n, err)
			}
			report.Failure = &parts.Failure{Part: n, Kind: string(e.Kind), Code: e.Code, Message: e.Message, Started: started, Failed: time.Now()}
			break
		}
		sent++
		report.Acks = append(report.Acks, parts.Ack{
			Part: n, Offset: part.Offset, Length: part.Length, Receipt: receipt, Digest: body.Digest(), Started: started, Finished: time.Now(),
		})
	}
	if silent {
		return nil
	}
	w.queue.report(report)
	if report.Failure != nil || sent < most {
		w.queue.settle(job)
	}
	return nil
}

// settleAll works and makes passes until every upload has come to rest, or
// nothing moves any more.
func (w *world) settleAll(ctx context.Context, p *process, rounds int) error {
	for range rounds {
		if err := w.pass(ctx); err != nil {
			return err
		}
		err := errors.Join(p.WithdrawPass(ctx), p.OpenPass(ctx), p.StepsPass(ctx), p.FeedPass(ctx, accountName), p.SweepPass(ctx))
		if err != nil {
			return fmt.Errorf("pass: %w", err)
		}
		for _, job := range w.queue.all() {
			if err := w.work(ctx, p, job, 1000, false); err != nil {
				return err
			}
		}
		if err := p.HandleReports(ctx, w.queue.takeReports(1000)); err != nil {
			return fmt.Errorf("handle reports: %w", err)
		}
		var active int
		err = w.db.QueryRow(ctx, `SELECT count(*) FROM uploads
			WHERE state NOT IN ('completed', 'cancelled', 'failed') OR abort_due`).Scan(&active)
		if err != nil {
			return fmt.Errorf("count what is active: %w", err)
		}
		if active == 0 {
			return nil
		}
	}
	states, err := w.states(ctx)
	return errors.Join(err, fmt.Errorf("after %d rounds not all have come to rest: %v", rounds, states))
}

// contentOf returns the bytes of an object, whose key tells them: "a-20" is 20
// bytes that differ from those of "b-20", and "a-20.2" is a second object with
// the same bytes.
func contentOf(key string) []byte {
	var letter byte
	var size int
	_, _ = fmt.Sscanf(strings.TrimSuffix(key, ".2"), "%c-%d", &letter, &size) // keys are the tests' own
	content := make([]byte, size)
	for i := range content {
		content[i] = letter + byte(i)
	}
	return content
}

func sha1Of(key string) hashing.Digest {
	sum := sha1.Sum(contentOf(key))
	return hashing.New(hashing.SHA1, sum[:])
}

// journal keeps what is logged, to be shown when something is wrong.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, strings.TrimSpace(string(p)))
	return len(p), nil
}

func (j *journal) logger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m"}), zapcore.AddSync(j), zap.DebugLevel))
}

func (j *journal) tail(most int) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines[max(0, len(j.lines)-most):])
}

// objects is a staging bucket.
type objects struct{}

func (objects) Stat(_ context.Context, bucket, key string) (uploads.Object, error) {
	return uploads.Object{Bucket: bucket, Key: key, ETag: "etag-" + key, Size: int64(len(contentOf(key)))}, nil
}

func (o objects) StatDigest(ctx context.Context, bucket, key string) (uploads.Object, hashing.Digest, error) {
	object, err := o.Stat(ctx, bucket, key)
	return object, hashing.Digest{}, err
}

func (objects) List(context.Context, string, string, func(uploads.Object) error) error { return nil }

func (objects) Open(context.Context, uploads.Object, int64, int64) (io.ReadCloser, error) {
	return nil, errors.New("there are no attachments")
}

// memoryQueue is the queue, of which anything may be lost at any moment.
type memoryQueue struct {
	mu      sync.Mutex
	jobs    []parts.Publication // queued or in hand
	reports []parts.Report
	losses  int64
	deaf    error // to what it is told of the record
}

func (q *memoryQueue) Publish(_ context.Context, jobs []parts.Publication) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range jobs {
		if !slices.Contains(q.jobs, j) { // as the publish id makes it
			q.jobs = append(q.jobs, j)
		}
	}
	return nil
}

func (q *memoryQueue) drop(which func(parts.Job) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = slices.DeleteFunc(q.jobs, func(p parts.Publication) bool { return which(p.Job) })
}

func (q *memoryQueue) settle(job parts.Job) { q.drop(func(j parts.Job) bool { return j == job }) }

func (q *memoryQueue) Withdraw(_ context.Context, _ string, id uploads.ID) error {
	q.drop(func(j parts.Job) bool { return j.Upload == id })
	return nil
}

func (q *memoryQueue) Cancel(uploads.ID) error { return nil }

func (q *memoryQueue) Held(_ context.Context, _ string, id uploads.ID, epoch int) ([]int, error) {
	var first []int
	for _, j := range q.all() {
		if j.Upload == id && j.Epoch == epoch && !j.IsDigest() {
			first = append(first, j.Run.First)
		}
	}
	return first, nil
}

func (q *memoryQueue) HeldRuns(_ context.Context, account string) (map[uploads.ID][]int, error) {
	first := map[uploads.ID][]int{}
	for _, j := range q.all() {
		if j.Account == account && !j.IsDigest() {
			first[j.Upload] = append(first[j.Upload], j.Run.First)
		}
	}
	return first, nil
}

func (q *memoryQueue) WithdrawRuns(_ context.Context, account string) error {
	q.drop(func(j parts.Job) bool { return j.Account == account && !j.IsDigest() })
	return nil
}

func (q *memoryQueue) Told(context.Context, uuid.UUID) (int64, error) { return 0, nil }

func (q *memoryQueue) Tell(context.Context, parts.RecordMark) (int64, error) { return 0, q.deaf }

func (q *memoryQueue) PutBack(context.Context, uploads.SetAside) error { return nil }

func (q *memoryQueue) HeldDigest(_ context.Context, id uploads.ID) (bool, error) {
	return slices.ContainsFunc(q.all(), func(j parts.Job) bool { return j.Upload == id && j.IsDigest() }), nil
}

func (q *memoryQueue) PendingAcks(_ context.Context, _ string, id uploads.ID) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, r := range q.reports {
		if r.Upload == id {
			n++
		}
	}
	return n, nil
}

func (q *memoryQueue) PublishEvents(context.Context, []uploads.Event) error { return nil }

func (q *memoryQueue) all() []parts.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := make([]parts.Job, len(q.jobs))
	for i, p := range q.jobs {
		jobs[i] = p.Job
	}
	return jobs
}

func (q *memoryQueue) report(r parts.Report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reports = append(q.reports, r)
}

func (q *memoryQueue) takeReports(most int) []parts.Report {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(most, len(q.reports))
	taken := slices.Clone(q.reports[:n])
	q.reports = q.reports[n:]
	return taken
}

func (q *memoryQueue) lose() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs, q.reports = nil, nil
	q.losses++
}

func (q *memoryQueue) Marks(context.Context) ([]parts.StreamMark, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return []parts.StreamMark{{Stream: "JOBS", Created: time.Unix(q.losses+1, 0)}}, nil
}

// guarded is the platform, with eyes on how it is called, and stops in the
// middle of a call.
type guarded struct {
	*providertest.Fake

	mu        sync.Mutex
	unsettled map[uploads.ID]bool // finish was called and nothing is known of it
	broken    []string            // what must not have been
	// midFinish, if set, is called once after a finish has taken effect or not,
	// and before its caller hears of it.
	midFinish func(id uploads.ID)
	// covered tells whether the ledger has every byte of an upload.
	covered func(id uploads.ID) bool
	renewal atomic.Value // a providers.Kind: how renewals fail
	renewed atomic.Bool  // one did not
}

func (g *guarded) Finish(ctx context.Context, s providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	id := g.uploadOf(s)
	g.mu.Lock()
	if g.unsettled[id] {
		g.broken = append(g.broken, fmt.Sprintf("finish of %s is called again, and nobody has probed", id))
	}
	g.unsettled[id] = true
	stop := g.midFinish
	g.midFinish = nil
	covered := g.covered
	g.mu.Unlock()
	if covered != nil && !covered(id) {
		g.note(fmt.Sprintf("finish of %s is called, and the ledger does not have every byte", id))
	}
	asset, err := g.Fake.Finish(ctx, s, stored)
	if stop != nil {
		stop(id)
	}
	if err != nil && providers.KindOf(err) != providers.UnknownOutcome {
		g.mu.Lock()
		g.unsettled[id] = false
		g.mu.Unlock()
	}
	return asset, err
}

func (g *guarded) Probe(ctx context.Context, a providers.Account, m providers.Media, s providers.Session) (providers.Outcome, error) {
	out, err := g.Fake.Probe(ctx, a, m, s)
	if err == nil {
		g.mu.Lock()
		g.unsettled[g.uploadOf(s)] = false
		g.mu.Unlock()
	}
	return out, err
}

func (g *guarded) note(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken = append(g.broken, what)
}

// uploadOf returns the upload whose Begin opened the session.
func (g *guarded) uploadOf(s providers.Session) uploads.ID { return g.UploadOf(s) }

// errDead is what a dead process would not have lived to see.
var errDead = errors.New("this process is dead")

// mortalStore is the record as one process sees it, which dies at a step that
// the test names: before it is durable, or after.
type mortalStore struct {
	*postgres.Store

	mu    sync.Mutex
	dead  bool
	dieAt string // name of the method
	after bool
	// stall, if set, is called once when control steps are claimed and nothing is
	// done of them yet; claims are older by stood than they say.
	stall func(claimed []uploads.ID)
	stood time.Duration
}

func (s *mortalStore) die(at string, after bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dieAt, s.after = at, after
}

func (s *mortalStore) isDead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// step runs one method of the record.
func step[T any](s *mortalStore, name string, do func() (T, error)) (T, error) {
	var zero T
	s.mu.Lock()
	if s.dieAt == name && !s.after {
		s.dead = true
	}
	dead := s.dead
	s.mu.Unlock()
	if dead {
		return zero, errDead
	}
	out, err := do()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dieAt == name {
		s.dead = true
	}
	if s.dead {
		return zero, errDead
	}
	return out, err
}

// only is step for a method that returns nothing but an error.
func only(s *mortalStore, name string, do func() error) error {
	_, err := step(s, name, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// Steps of the record at which a process may die.
func mortalSteps() []string {
	return []string{
		"ClaimQueued", "ClaimSteps", "MoveToDigesting", "MoveToBeginning", "RecordOpened", "RecordFinished", "Postpone",
		"BeginAgain", "Fail", "Feed", "RecordReports", "RecordDigested", "RecordSwept", "RecordAborted", "Publish", "Withdraw", "RecordWithdrawn",
	}
}

func (s *mortalStore) ClaimQueued(ctx context.Context, accounts, digesting []string, per int, lease time.Duration) ([]uploads.Step, error) {
	return step(s, "ClaimQueued", func() ([]uploads.Step, error) { return s.Store.ClaimQueued(ctx, accounts, digesting, per, lease) })
}

func (s *mortalStore) ClaimSteps(ctx context.Context, most int, accounts []string, lease time.Duration) ([]uploads.Step, error) {
	return step(s, "ClaimSteps", func() ([]uploads.Step, error) {
		steps, err := s.Store.ClaimSteps(ctx, most, accounts, lease)
		for i := range steps {
			steps[i].ClaimedAt = steps[i].ClaimedAt.Add(-s.stood)
		}
		return steps, err
	})
}

func (s *mortalStore) MoveToDigesting(ctx context.Context, u uploads.Step) (bool, error) {
	return step(s, "MoveToDigesting", func() (bool, error) { return s.Store.MoveToDigesting(ctx, u) })
}

func (s *mortalStore) MoveToBeginning(ctx context.Context, u uploads.Step) (bool, error) {
	return step(s, "MoveToBeginning", func() (bool, error) { return s.Store.MoveToBeginning(ctx, u) })
}

func (s *mortalStore) Receipts(ctx context.Context, ids []uploads.ID) (map[uploads.ID][]parts.Stored, error) {
	s.mu.Lock()
	stall := s.stall
	s.stall = nil
	s.mu.Unlock()
	if stall != nil {
		stall(ids)
	}
	return step(s, "Receipts", func() (map[uploads.ID][]parts.Stored, error) { return s.Store.Receipts(ctx, ids) })
}

func (s *mortalStore) RecordOpened(ctx context.Context, o []parts.Opened) (map[uploads.ID]uploads.State, error) {
	return step(s, "RecordOpened", func() (map[uploads.ID]uploads.State, error) { return s.Store.RecordOpened(ctx, o) })
}

func (s *mortalStore) RecordFinished(ctx context.Context, f []parts.Finished) (map[uploads.ID]bool, error) {
	return step(s, "RecordFinished", func() (map[uploads.ID]bool, error) { return s.Store.RecordFinished(ctx, f) })
}

func (s *mortalStore) RecordAborted(ctx context.Context, u uploads.Step) error {
	return only(s, "RecordAborted", func() error { return s.Store.RecordAborted(ctx, u) })
}

func (s *mortalStore) Postpone(ctx context.Context, u uploads.Step, delay time.Duration, tries int, keep bool, notes ...uploads.Evidence) error {
	return only(s, "Postpone", func() error { return s.Store.Postpone(ctx, u, delay, tries, keep, notes...) })
}

func (s *mortalStore) BeginAgain(ctx context.Context, id uploads.ID, epoch int, lease uploads.Lease, reason string, delay time.Duration) (bool, error) {
	return step(s, "BeginAgain", func() (bool, error) { return s.Store.BeginAgain(ctx, id, epoch, lease, reason, delay) })
}

func (s *mortalStore) Fail(ctx context.Context, id uploads.ID, epoch int, lease uploads.Lease, f uploads.Failure) (bool, error) {
	return step(s, "Fail", func() (bool, error) { return s.Store.Fail(ctx, id, epoch, lease, f) })
}

func (s *mortalStore) Feed(ctx context.Context, account string, most int, grace time.Duration, decide func(parts.FeedPass) ([]parts.Fed, error)) (map[uploads.ID]bool, error) {
	return step(s, "Feed", func() (map[uploads.ID]bool, error) { return s.Store.Feed(ctx, account, most, grace, decide) })
}

func (s *mortalStore) RecordReports(ctx context.Context, r []parts.Report) ([]parts.Landed, error) {
	return step(s, "RecordReports", func() ([]parts.Landed, error) { return s.Store.RecordReports(ctx, r) })
}

func (s *mortalStore) RecordDigested(ctx context.Context, id uploads.ID, o uploads.Object, d []hashing.Digest) (bool, error) {
	return step(s, "RecordDigested", func() (bool, error) { return s.Store.RecordDigested(ctx, id, o, d) })
}

func (s *mortalStore) RecordSwept(ctx context.Context, f parts.Feedable, grace time.Duration) (bool, error) {
	return step(s, "RecordSwept", func() (bool, error) { return s.Store.RecordSwept(ctx, f, grace) })
}

func (s *mortalStore) RecordWithdrawn(ctx context.Context, done []uploads.Withdrawal) error {
	return only(s, "RecordWithdrawn", func() error { return s.Store.RecordWithdrawn(ctx, done) })
}

// mortalQueue is the queue as one process sees it.
type mortalQueue struct {
	*memoryQueue

	store *mortalStore
}

func (q mortalQueue) Publish(ctx context.Context, jobs []parts.Publication) error {
	return only(q.store, "Publish", func() error { return q.memoryQueue.Publish(ctx, jobs) })
}

// Paused is never: nobody edits this queue.
func (*memoryQueue) Paused(context.Context, string) (time.Time, error) { return time.Time{}, nil }

func (q mortalQueue) Withdraw(ctx context.Context, account string, id uploads.ID) error {
	return only(q.store, "Withdraw", func() error { return q.memoryQueue.Withdraw(ctx, account, id) })
}
