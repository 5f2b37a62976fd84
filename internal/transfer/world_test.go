package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errBroken = errors.New("broken on purpose")
	errRunner = errors.New("the worker is told to stop")
)

func anySuccess(int) (bool, error) { return true, nil }

// staging is staging in memory. The hooks may block, fail, or end contexts.
type staging struct {
	mu    sync.Mutex
	data  []byte
	opens []int64                                   // offsets of all reads
	open  func(nth int) error                       // before an Open
	read  func(ctx context.Context, at int64) error // before each Read, at a byte of the object
	chunk int                                       // bytes that a Read returns at most; 0 for any
}

func (s *staging) Open(ctx context.Context, _ uploads.Object, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	s.opens = append(s.opens, offset)
	nth := len(s.opens)
	s.mu.Unlock()
	if s.open != nil {
		if err := s.open(nth); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return &stagingRead{ctx: ctx, s: s, at: offset, end: offset + length}, nil
}

func (s *staging) opened() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.opens)
}

type stagingRead struct {
	ctx     context.Context
	s       *staging
	at, end int64
}

func (r *stagingRead) Read(p []byte) (int, error) {
	if r.s.read != nil {
		if err := r.s.read(r.ctx, r.at); err != nil {
			return 0, err
		}
	}
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	if r.at == r.end {
		return 0, io.EOF
	}
	if r.s.chunk > 0 && len(p) > r.s.chunk {
		p = p[:r.s.chunk]
	}
	n := copy(p, r.s.data[r.at:min(r.end, int64(len(r.s.data)))])
	if n == 0 {
		return 0, io.EOF
	}
	r.at += int64(n)
	return n, nil
}

func (*stagingRead) Close() error { return nil }

// stagingError is a staging error that tells its kind.
type stagingError struct{ kind string }

func (e *stagingError) Error() string      { return "staging: " + e.kind }
func (e *stagingError) SourceKind() string { return e.kind }

// desk is the dispatcher's side: it knows the upload, and its ledger keeps what
// is reported. The hooks say, like the fake platform's, whether a call takes
// effect and what the caller is told.
type desk struct {
	mu         sync.Mutex
	assignment parts.Assignment
	stale      bool
	asks       []bool // redelivered
	ledger     map[int]parts.Ack
	reports    []parts.Report
	progress   []Progress

	ask    func(nth int) (bool, error)
	report func(ctx context.Context, nth int) (bool, error)
	count  int
}

func (d *desk) AskAssignment(ctx context.Context, job parts.Job, redelivered bool) (parts.Assignment, error) {
	d.mu.Lock()
	d.asks = append(d.asks, redelivered)
	nth := len(d.asks)
	d.mu.Unlock()
	if _, err := d.ask(nth); err != nil {
		return parts.Assignment{}, err
	}
	if ctx.Err() != nil {
		return parts.Assignment{}, context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stale {
		return parts.Assignment{}, ErrStale
	}
	a := d.assignment
	if redelivered {
		for n := range d.ledger {
			if n >= job.Run.First && n <= job.Run.Last() {
				a.Acked = append(a.Acked, n)
			}
		}
	}
	return a, nil
}

func (d *desk) Report(ctx context.Context, r parts.Report) error {
	d.mu.Lock()
	d.count++
	nth := d.count
	d.mu.Unlock()
	apply, told := true, error(nil)
	if d.report != nil {
		apply, told = d.report(ctx, nth)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if apply {
		r.Acks = slices.Clone(r.Acks)
		d.reports = append(d.reports, r)
		for _, a := range r.Acks {
			d.ledger[a.Part] = a
		}
	}
	return told
}

func (d *desk) Progress(p Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress = append(d.progress, p)
}

func (d *desk) failures() []parts.Failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []parts.Failure
	for _, r := range d.reports {
		if r.Failure != nil {
			out = append(out, *r.Failure)
		}
	}
	return out
}

func (d *desk) digested() []parts.Digested {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []parts.Digested
	for _, r := range d.reports {
		if r.Digested != nil {
			out = append(out, *r.Digested)
		}
	}
	return out
}

// acked returns the numbers of the parts that the ledger has, in order.
func (d *desk) acked() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []int
	for n := range d.ledger {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// platform is the fake with a hook after a part has taken effect.
type platform struct {
	*providertest.Fake
	afterPut func(part int) error
}

func (p *platform) PutPart(ctx context.Context, s providers.Session, part parts.Part, b providers.Body) (parts.Receipt, error) {
	receipt, err := p.Fake.PutPart(ctx, s, part, b)
	if err == nil && p.afterPut != nil {
		if err := p.afterPut(part.Number); err != nil {
			return parts.Receipt{}, err
		}
	}
	return receipt, err
}

// world is a worker with an upload in progress and all that is around it.
type world struct {
	*Worker
	desk     *desk
	staging  *staging
	platform *platform
	session  providers.Session
	plan     parts.Plan
	job      parts.Job // the whole upload, where that is one run
	alive    int
}

type worldConfig struct {
	size, partSize int64
	digest         hashing.Kind
	digestFirst    bool
	slots          int
	life           int // seconds
}

func newWorld(tb testing.TB, cfg worldConfig) *world {
	tb.Helper()
	id, err := uploads.NewID()
	if err != nil {
		tb.Fatal(err)
	}
	if cfg.digest == "" {
		cfg.digest = hashing.CRC64NVME
	}
	w := &world{
		plan:    parts.Plan{Size: cfg.size, PartSize: cfg.partSize},
		staging: &staging{data: randomBytes(cfg.size)},
		platform: &platform{Fake: providertest.NewFake(providers.Limits{
			Limits:     parts.Limits{MinPart: cfg.partSize, MaxPart: cfg.partSize},
			PartDigest: cfg.digest, DigestFirst: cfg.digestFirst,
		})},
	}
	begun, err := w.platform.Begin(tb.Context(), providers.Account{Name: "acme"},
		providers.Media{Upload: id, Epoch: 1, Size: cfg.size, PartSize: cfg.partSize})
	if err != nil {
		tb.Fatal(err)
	}
	w.session = begun.Session
	session, err := json.Marshal(begun.Session)
	if err != nil {
		tb.Fatal(err)
	}
	w.desk = &desk{
		ask:    anySuccess,
		ledger: make(map[int]parts.Ack),
		assignment: parts.Assignment{
			Provider: "fake", Plan: w.plan, Session: session,
			Source: uploads.Object{Bucket: "b", Key: "k", ETag: "e", Size: cfg.size},
		},
	}
	w.job = parts.Job{Upload: id, Account: "acme", Pool: "p", Epoch: 1, Run: parts.Run{First: 1, Count: w.plan.Count()}}
	w.Worker = New(Config{ID: "w1", Slots: cfg.slots}, zap.NewNop(), w.desk, w.staging, w.desk, w.desk,
		map[string]providers.Provider{"fake": w.platform})
	return w
}

func randomBytes(n int64) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(data) //nolint:errcheck // never fails
	return data
}

func (w *world) handle(ctx context.Context, delivery int) parts.Settlement {
	return w.Handle(ctx, w.job, delivery, func() { w.alive++ })
}

// heal takes all the hooks away.
func (w *world) heal() {
	w.stopping.Store(false) // as another worker
	w.desk.ask, w.desk.report = anySuccess, nil
	w.staging.open, w.staging.read = nil, nil
	w.platform.SetHook(nil)
	w.platform.afterPut = nil
}

// checkFinished checks that the ledger covers every byte once, with the true
// digests, and that the platform assembles the very bytes from its receipts.
func (w *world) checkFinished(t *testing.T) {
	t.Helper()
	kind := w.platform.Limits().PartDigest
	var stored []parts.Stored
	for n := 1; n <= w.plan.Count(); n++ {
		part := w.plan.Part(n)
		ack, ok := w.desk.ledger[n]
		if !ok {
			t.Fatalf("part %d is not in the ledger", n)
		}
		sum, err := hashing.Sum(kind, w.staging.data[part.Offset:part.Offset+part.Length])
		if err != nil {
			t.Fatal(err)
		}
		got := parts.Ack{Part: ack.Part, Offset: ack.Offset, Length: ack.Length, Digest: ack.Digest}
		want := parts.Ack{Part: n, Offset: part.Offset, Length: part.Length, Digest: sum}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ack of part %d (-want +got):\n%s", n, diff)
		}
		if ack.Started.IsZero() || ack.Finished.Before(ack.Started) {
			t.Errorf("part %d ran from %v to %v", n, ack.Started, ack.Finished)
		}
		stored = append(stored, parts.Stored{Part: part, Receipt: ack.Receipt})
	}
	asset, err := w.platform.Finish(t.Context(), w.session, stored)
	if err != nil {
		t.Fatal(err)
	}
	if content, _ := w.platform.Content(asset.ID); !bytes.Equal(content, w.staging.data) {
		t.Error("the platform has other bytes than staging")
	}
}
