package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// ErrStale is what an assigner returns for a job that is no longer wanted: its
// upload is cancelled, finished, or in another epoch. The job is settled as done.
var ErrStale = errors.New("the job is stale")

// ErrCancelled is the cause of a job's context when its upload was cancelled or
// paused. The job is settled as done, since the dispatcher takes it off the queue.
// Any other cause is a stop: the job is released. No failure is counted either way.
var ErrCancelled = errors.New("the upload is cancelled or paused")

// errStopping is the cause of digest passes that end because the worker stops.
var errStopping = errors.New("the worker is stopping")

// assigner asks the dispatcher about a job.
type assigner interface {
	// AskAssignment returns how to read the job's bytes and where to send them.
	// If redelivered, Acked lists the parts of the run that the ledger has. It
	// returns ErrStale for a job to be dropped; any other error is temporary.
	AskAssignment(ctx context.Context, job parts.Job, redelivered bool) (parts.Assignment, error)
}

// source reads staging objects.
type source interface {
	// Open starts one ranged read of length bytes, at least 1, from offset, pinned
	// to obj.ETag. The context and Close end the reader even during a Read. Errors
	// of Open and Read tell their kind through SourceKind() string; any other is
	// parts.SourceTransient.
	Open(ctx context.Context, obj uploads.Object, offset, length int64) (io.ReadCloser, error)
}

// reporter sends reports to the dispatcher.
type reporter interface {
	// Report returns when the ACKS stream has stored the report. It may be
	// repeated. It does not keep the report.
	Report(ctx context.Context, report parts.Report) error
}

// live shows progress to whoever watches.
type live interface {
	// Progress is called about once a second for each job in hand. It must not
	// block, and may drop what it is told.
	Progress(p Progress)
}

// Stage says what a job in hand is doing.
type Stage string

// The stages.
const (
	StageAsking    Stage = "asking"    // for its assignment
	StageSending   Stage = "sending"   // parts travel
	StageDigesting Stage = "digesting" // the object is read and hashed
	StageReporting Stage = "reporting" // waiting for the last reports to be confirmed
)

// Progress is how far a job in hand has come.
type Progress struct {
	Job      parts.Job
	Worker   string
	Delivery int // 1 for the first
	Stage    Stage
	// Bytes have been read of Total: of the run's parts that are to be sent, or of
	// the whole object. Total is 0 until the assignment is known.
	Bytes, Total int64
}

// Config is what a Worker needs besides its dependencies.
type Config struct {
	ID    string // name of the worker, as reports carry it
	Slots int    // jobs in hand at most; at least 1
	// StallTimeout ends an attempt that has moved no byte for so long; 0 means 30 s.
	StallTimeout time.Duration
}

const defaultStallTimeout = 30 * time.Second

// Worker handles jobs. It is safe for use by many goroutines.
type Worker struct {
	id           string
	stallTimeout time.Duration
	log          *zap.Logger
	source       source
	reporter     reporter
	live         live
	assignments  *assignments

	slots    chan *slot // the free ones
	total    int
	stopping atomic.Bool

	sentBytes, sentParts, digestedBytes, buffered atomic.Int64

	mu     sync.Mutex
	inHand map[*hand]struct{} // guarded by mu
	taken  int64              // jobs in all; guarded by mu
}

// slot is the memory of one job in hand. The buffer grows to what the job
// needs, at most maxHeld, and is kept for the next job.
type slot struct {
	buf      []byte
	buffered *atomic.Int64 // bytes of all slots' memory
}

// take returns n bytes of the slot's memory.
func (s *slot) take(n int) []byte {
	if cap(s.buf) < n {
		s.buffered.Add(int64(n - cap(s.buf)))
		s.buf = make([]byte, n)
	}
	return s.buf[:n]
}

// drop leaves the memory to the garbage collector, since a transport that gave
// up on a request may still be reading from it.
func (s *slot) drop() {
	s.buffered.Add(-int64(cap(s.buf)))
	s.buf = nil
}

// New returns a Worker. The keys of platforms are the names in
// Assignment.Provider.
func New(
	cfg Config, log *zap.Logger, assigner assigner, source source, reporter reporter, live live,
	platforms map[string]providers.Provider,
) *Worker {
	w := &Worker{
		id:           cfg.ID,
		stallTimeout: cfg.StallTimeout,
		log:          log.Named("transfer"),
		source:       source,
		reporter:     reporter,
		live:         live,
		assignments:  newAssignments(assigner, platforms),
		total:        max(cfg.Slots, 1),
		inHand:       make(map[*hand]struct{}),
	}
	if w.stallTimeout == 0 {
		w.stallTimeout = defaultStallTimeout
	}
	w.slots = make(chan *slot, w.total)
	for range w.total {
		w.slots <- &slot{buffered: &w.buffered}
	}
	return w
}

// Handle does one delivery of a job, counted from 1, and says how to settle it. It
// returns Done only when all reports are confirmed. The same job may be handled
// again at any time, even concurrently. alive is called while bytes move, at most
// ten times a second. Jobs in excess of the slots wait here.
//
// When ctx is cancelled, Handle returns as soon as its dependencies notice, plus
// at most reportGrace for acks of finished parts.
func (w *Worker) Handle(ctx context.Context, job parts.Job, delivery int, alive func()) parts.Settlement {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h := &hand{Worker: w, job: job, delivery: max(delivery, 1), alive: alive, cancel: cancel}
	h.enter(StageAsking)
	w.register(h)
	defer w.unregister(h)
	if w.stopping.Load() {
		return parts.Settlement{Verdict: parts.Release}
	}

	select {
	case h.slot = <-w.slots:
	case <-ctx.Done():
		return interrupted(ctx)
	}
	defer func() { w.slots <- h.slot }()

	// The work ends with ctx, and also when it stalls or its acks cannot be
	// reported; reports outlive it.
	work, stop := context.WithCancelCause(ctx)
	defer h.watch(work, stop)()
	defer stop(nil)

	if job.IsDigest() {
		return h.digestObject(ctx, work)
	}
	return h.sendRun(ctx, work, stop)
}

// Stop lets jobs in hand end early: the part that is being sent is finished and
// reported, and the rest of its run is released, for another worker to take at
// once. A digest pass is released after a last checkpoint; a job that is handled
// from now on, before it begins. Stop does not wait and may be repeated. To end a
// job sooner, cancel its context.
func (w *Worker) Stop() {
	w.stopping.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	for h := range w.inHand {
		if h.job.IsDigest() {
			h.cancel(errStopping)
		}
	}
}

// Cancel ends the upload's jobs in hand: when it returns, their contexts are
// cancelled and its assignments are forgotten. Handle then returns Done.
func (w *Worker) Cancel(upload uploads.ID) {
	w.assignments.forget(func(k assignmentKey) bool { return k.upload == upload })
	w.mu.Lock()
	defer w.mu.Unlock()
	for h := range w.inHand {
		if h.job.Upload == upload {
			h.cancel(ErrCancelled)
		}
	}
}

// Stats is what a worker has done since it started.
type Stats struct {
	Slots, Busy   int
	SentParts     int64
	SentBytes     int64 // of parts that the platform confirmed
	DigestedBytes int64
	BufferedBytes int64 // memory that the slots keep at present
}

// Stats returns the present counts.
func (w *Worker) Stats() Stats {
	return Stats{
		Slots:         w.total,
		Busy:          w.total - len(w.slots),
		SentParts:     w.sentParts.Load(),
		SentBytes:     w.sentBytes.Load(),
		DigestedBytes: w.digestedBytes.Load(),
		BufferedBytes: w.buffered.Load(),
	}
}

func (w *Worker) register(h *hand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken++
	h.taken = w.taken
	w.inHand[h] = struct{}{}
}

func (w *Worker) unregister(h *hand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.inHand, h)
}
