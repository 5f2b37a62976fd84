// Package dispatch is the use cases of the control process: intake, opening
// upstream sessions, feeding the queue, keeping the ledger, finishing, and the
// sweep that sends again what was lost.
//
// Several dispatchers run side by side. What keeps them out of each other's way
// is in the database alone: leases on control steps, one feeder per account
// under a lock, and statements that name the state they expect. Between a
// commit and what follows it a process may die at any point; each file says
// what that leaves and who picks it up.
package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"mediaferry/internal/backoff"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
)

// Account is where uploads may be bound for.
type Account struct {
	providers.Account

	Tenant   string
	Provider string
	Pool     string
	Window   int64 // bytes in flight upstream, at most; see windows.Window for how many at present
	Reach    reach.Reach
	// SourcePass has an object digested first of which neither the bucket nor
	// the submitter gives a digest to compare the bytes read with.
	SourcePass bool
}

// Config holds what may be tuned. Zero values stand for the defaults.
type Config struct {
	SweepInterval  time.Duration // between two looks for lost runs; 2 s
	Lease          time.Duration // of a control step, renewed while its call runs; 30 s
	Watcher        Watcher       // nobody
	FinishPatience time.Duration // how long an unknown outcome is probed before a human is asked; 15 min
	StopGrace      time.Duration // how long calls in hand may go on after a stop; 0 cuts them short
	Presign        Presign       // URLs by which callers put files into staging; none are made
}

func (c Config) withDefaults() Config {
	c.SweepInterval = cmp.Or(c.SweepInterval, 2*time.Second)
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.FinishPatience = cmp.Or(c.FinishPatience, 15*time.Minute)
	if c.Watcher == nil {
		c.Watcher = nobody{}
	}
	return c
}

// Store is the record; postgres.Store meets it.
type Store interface {
	intakeStore
	stepStore
	feedStore
	ledgerStore
	sweepStore
	sealStore
	assignStore
	renewStore
	chainStore
	eventStore
	windowStore
	doubtStore
	reconcileStore
	setAsideStore
	controlStore
	reportStore
	pictureStore
	explainStore
	bulkStore
	batchStore
	submissionStore
	followStore
}

// Queue is the pipe to the workers. Nothing depends on what it keeps: all of
// it may be lost at any moment.
type Queue interface {
	// Publish puts jobs on the queue; on return without error it holds them.
	Publish(ctx context.Context, jobs []parts.Publication) error
	// Withdraw takes an upload's jobs off the queue; those in hand go on. It may
	// be repeated, and on return without error none is delivered any more.
	Withdraw(ctx context.Context, account string, id uploads.ID) error
	// WithdrawRuns takes an account's runs off the queue; those in hand go on.
	WithdrawRuns(ctx context.Context, account string) error
	// Cancel tells workers to drop what they have in hand of an upload. A worker
	// that cannot be reached in this moment does not hear of it.
	Cancel(id uploads.ID) error
	sweepQueue
	eventQueue
	doubtQueue
	setAsideQueue
	explainQueue
}

// Sealer hides upstream sessions at rest; sealing.Sealer meets it.
type Sealer interface {
	Seal(plain []byte, use string) []byte
	Open(sealed []byte, use string) ([]byte, error)
	Prefix() []byte // how all begins that Seal returns
}

// Staging is what is asked of the bucket; staging.Store meets it.
type Staging interface {
	Stat(ctx context.Context, bucket, key string) (uploads.Object, error)
	StatDigest(ctx context.Context, bucket, key string) (uploads.Object, hashing.Digest, error)
	List(ctx context.Context, bucket, prefix string, yield func(uploads.Object) error) error
	Open(ctx context.Context, obj uploads.Object, offset, length int64) (io.ReadCloser, error)
}

// Dispatcher runs the use cases.
type Dispatcher struct {
	cfg       Config
	store     Store
	queue     *roomQueue
	staging   Staging
	sealer    Sealer
	providers map[string]providers.Provider
	accounts  map[string]Account
	log       *zap.Logger

	feeders     map[string]*signal // by account
	opens       *signal            // queued uploads may be opened
	steps       *signal            // control steps are due
	sweeps      *signal            // the queue may have been lost
	renews      *signal            // a session is refused or will lapse
	drops       *signal            // jobs are to be taken off the queue
	events      *signal            // the outbox has something
	probes      *signal            // uploads are in doubt
	submissions *signal            // submissions by SQL are committed
	ticks       atomic.Int64       // the highest tick of the record that was seen here
	marks       atomic.Pointer[[]parts.StreamMark]
	opened      *group[parts.Opened, uploads.State]
	done        *group[parts.Finished, bool]
	flows       map[string]*flow // by account
	holds       *holds
	adjusts     *signal // a window is to be cut
	hand        *hand
	taking      sync.WaitGroup // steps in hand
	live        *live
	follows     *following
}

// New makes a Dispatcher; nothing runs before Run.
func New(cfg Config, store Store, queue Queue, staging Staging, sealer Sealer,
	known map[string]providers.Provider, accounts []Account, log *zap.Logger,
) *Dispatcher {
	d := &Dispatcher{
		cfg: cfg.withDefaults(), store: store, queue: &roomQueue{Queue: queue}, staging: staging, sealer: sealer,
		providers: known, accounts: make(map[string]Account, len(accounts)), log: log.Named("dispatch"),
		feeders: make(map[string]*signal, len(accounts)),
		opens:   newSignal(), steps: newSignal(), sweeps: newSignal(), renews: newSignal(), drops: newSignal(), events: newSignal(), probes: newSignal(), submissions: newSignal(),
		opened: newGroup(store.RecordOpened, func(o parts.Opened) uploads.ID { return o.Upload }),
		done:   newGroup(store.RecordFinished, func(f parts.Finished) uploads.ID { return f.Upload }),
		flows:  make(map[string]*flow, len(accounts)), holds: newHolds(), adjusts: newSignal(),
		hand: newHand(), live: newLive(), follows: newFollowing(),
	}
	for _, a := range accounts {
		d.accounts[a.Name] = a
		d.feeders[a.Name] = newSignal()
		d.flows[a.Name] = &flow{}
	}
	return d
}

// Run keeps all loops going until ctx ends; then no new step is claimed, steps
// that wait for their turn are given back, and calls in hand go on for StopGrace
// before they are cut short through their context. Run returns when all have
// ended and what came of them is recorded. The lease of a step that is given
// back or cut short is given up, so that another dispatcher takes it at once.
func (d *Dispatcher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	// What outlives the steps in hand: their leases, and the recording of what
	// they have done upstream.
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	var claiming sync.WaitGroup
	run := func(l loop) {
		claiming.Add(1)
		g.Go(func() error {
			defer claiming.Done()
			d.keep(ctx, l)
			return nil
		})
	}
	run(loop{name: "open", wake: d.opens, rest: 50 * time.Millisecond, every: time.Second, pass: d.openQueued})
	run(loop{name: "steps", wake: d.steps, rest: 15 * time.Millisecond, every: 500 * time.Millisecond, pass: d.takeSteps})
	run(loop{name: "probes", wake: d.probes, rest: 15 * time.Millisecond, every: time.Second, pass: d.takeProbes})
	run(loop{name: "record", wake: newSignal(), every: tellEvery, pass: d.checkRecord})
	run(loop{name: "windows", wake: d.adjusts, rest: 50 * time.Millisecond, every: time.Second, pass: d.adjustWindows})
	g.Go(func() error {
		d.keep(recording, loop{name: "leases", wake: newSignal(), every: d.cfg.Lease / 3, pass: d.renewLeases})
		return nil
	})
	run(loop{name: "renew", wake: d.renews, rest: time.Second, every: 20 * time.Second, pass: d.renewSessions})
	run(loop{name: "submissions", wake: d.submissions, rest: 20 * time.Millisecond, every: submissionPoll, jitter: submissionPoll / 2, pass: d.takeSubmissions})
	g.Go(func() error { d.listenSubmissions(ctx); return nil })
	run(loop{name: "reseal", wake: newSignal(), every: resealEvery, pass: d.reseal})
	run(loop{name: "sweep", wake: d.sweeps, rest: 100 * time.Millisecond, every: d.cfg.SweepInterval, pass: d.sweep})
	run(loop{name: "withdraw", wake: d.drops, rest: 10 * time.Millisecond, every: d.cfg.SweepInterval, pass: d.withdraw})
	run(loop{name: "events", wake: d.events, rest: 100 * time.Millisecond, every: time.Second, pass: d.relayEvents})
	run(loop{name: "roll-ups", wake: newSignal(), every: foldEvery, pass: d.foldLedger})
	run(loop{name: "partitions", wake: newSignal(), every: time.Hour, pass: d.makePartitions})
	run(loop{name: "row numbers", wake: newSignal(), every: time.Hour, pass: d.store.CatchUpNumbers})
	run(loop{name: "follow", wake: d.follows.wake, every: followEvery, pass: d.settle})
	for name, wake := range d.feeders {
		run(loop{
			name: "feed " + name, wake: wake, rest: 10 * time.Millisecond, every: 2 * time.Second,
			pass: func(ctx context.Context) error { return d.feed(ctx, d.accounts[name]) },
		})
	}
	g.Go(func() error { d.opened.run(recording); return nil })
	g.Go(func() error { d.done.run(recording); return nil })
	g.Go(func() error {
		claiming.Wait() // the loops that claim are over, so nothing is added to taking
		d.taking.Wait()
		stopRecording()
		return nil
	})
	return g.Wait()
}

// errStopping is the cause of calls that are cut short when the grace is over.
var errStopping = errors.New("the dispatcher is stopping")

// loop is work that is done whenever it is woken, and every so often in case a
// wake was lost with the process that would have given it.
type loop struct {
	name  string
	wake  *signal
	rest  time.Duration // after a pass, so that wakes of a busy moment share the next
	every time.Duration
	// jitter is added to every, by chance, where many would ask at once.
	jitter time.Duration
	pass   func(context.Context) error
}

// keep runs the loop until ctx ends, beginning at once. A pass that fails is
// tried again with growing delay; the first failure of a row is logged, and so
// is the recovery.
func (d *Dispatcher) keep(ctx context.Context, l loop) {
	failures := 0
	for {
		err := l.pass(ctx)
		delay := l.every
		if l.jitter > 0 {
			delay += rand.N(l.jitter) //nolint:gosec // jitter needs no secrecy
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failures == 0 {
				d.log.Warn(l.name+" is held up", zap.Error(err))
			}
			failures++
			delay = backoff.Delay(failures, 200*time.Millisecond, 5*time.Second)
		case failures > 0:
			d.log.Info(l.name+" goes on", zap.Int("failures", failures))
			failures = 0
		}
		wake, rest := l.wake.c, l.rest
		if err != nil {
			wake, rest = nil, 0 // wait out the delay
		}
		if !pause(ctx, nil, rest) || !pause(ctx, wake, delay) {
			return
		}
	}
}

// pause waits until it is woken or the time is over, and reports whether ctx
// goes on.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// makePartitions makes the months of the ledger ahead. It is in no hurry: where
// somebody is in the way it is done another time.
func (d *Dispatcher) makePartitions(ctx context.Context) error {
	err := d.store.MakePartitions(ctx, time.Now(), 3)
	if away, ok := errors.AsType[*uploads.UnavailableError](err); ok && away.Busy {
		d.log.Info("months of the ledger are made later", zap.Error(err))
		return nil
	}
	return err
}

// provider returns the account and provider that an upload needs.
func (d *Dispatcher) provider(account, provider string) (Account, providers.Provider, error) {
	a, ok := d.accounts[account]
	if !ok || a.Provider != provider {
		return Account{}, nil, fmt.Errorf("account %q of provider %s is not configured here", account, provider)
	}
	p, ok := d.providers[provider]
	if !ok {
		return Account{}, nil, fmt.Errorf("provider %q is not built in", provider)
	}
	return a, p, nil
}

// wakeFeeder lets the account's feeder look again.
func (d *Dispatcher) wakeFeeder(account string) {
	if f, ok := d.feeders[account]; ok {
		f.wake()
	}
}

// sessionUse binds a sealed session to its upload and epoch.
func sessionUse(id uuid.UUID, epoch int) string { return fmt.Sprintf("session %s/%d", id, epoch) }

// providerError returns the *providers.Error in err, or makes a transient one.
func providerError(err error) *providers.Error {
	if e, ok := errors.AsType[*providers.Error](err); ok {
		return e
	}
	return &providers.Error{Kind: providers.KindOf(err), Err: err}
}
