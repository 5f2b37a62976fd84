package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The kinds of faults. Those of processes and servers come one after the other,
// those of staging and platforms beside them.
const (
	workerKill     = "worker_kill"
	workerStop     = "worker_stop" // SIGSTOP beyond the time after which jobs are delivered again
	workerLate     = "worker_late" // what workers report waits until another epoch has begun
	dispatcherKill = "dispatcher_kill"
	dispatcherStop = "dispatcher_stop"
	natsKill       = "nats_kill"
	natsWipe       = "nats_wipe"     // killed, and its store deleted
	natsConsumer   = "nats_consumer" // consumers deleted: everything is delivered again
	natsStop       = "nats_stop"     // SIGSTOP: connections stand, and nothing comes
	postgresKill   = "postgres_kill"
	postgresCut    = "postgres_cut"  // connections terminated
	postgresStop   = "postgres_stop" // SIGSTOP, of the server and its backends
	deploy         = "deploy"        // rolling SIGTERM of everything

	staging5xx     = "staging_5xx"
	stagingReset   = "staging_reset"
	stagingShort   = "staging_short"
	stagingSlow    = "staging_slow"
	stagingOther   = "staging_other"   // a bit of the body turned over
	stagingShifted = "staging_shifted" // the bytes of one place further
	stagingChanged = "staging_changed" // the object replaced

	upstreamDelay    = "upstream_delay"
	upstreamReset    = "upstream_reset"
	upstream5xx      = "upstream_5xx"
	upstreamThrottle = "upstream_throttle"
	upstreamExpired  = "upstream_expired"
	upstreamApplied  = "upstream_applied" // carried out, then failed
	upstreamDamage   = "upstream_damage"  // a bit turned over on the way
)

func processKinds() []string {
	return []string{
		workerKill, workerStop, workerLate, dispatcherKill, dispatcherStop, natsKill, natsWipe, natsConsumer, natsStop,
		postgresKill, postgresCut, postgresStop, deploy,
	}
}

func trafficKinds() []string {
	return []string{
		staging5xx, stagingReset, stagingShort, stagingSlow, stagingOther, stagingShifted, stagingChanged,
		upstreamDelay, upstreamReset, upstream5xx, upstreamThrottle, upstreamExpired, upstreamApplied, upstreamDamage,
	}
}

// stall is longer than the time after which a job in hand is delivered to
// another worker, which is 10 s.
const stall = 13 * time.Second

// lasts reports whether other faults of processes come while this one is about.
func lasts(kind string) bool {
	return kind == workerStop || kind == workerLate || kind == dispatcherStop
}

// event is one fault of the schedule.
type event struct {
	at     time.Duration // after the start
	kind   string
	target int           // draws the process or the account
	length time.Duration // of what lasts
}

func (e event) String() string {
	return fmt.Sprintf("%6.1fs %s target %d for %s", e.at.Seconds(), e.kind, e.target, e.length)
}

// planFaults makes the schedule. The same seed, kinds and duration make the same
// one. Each kind comes once before any comes again.
func planFaults(opts options) (events []event) {
	for lane, kinds := range [][]string{processKinds(), trafficKinds()} {
		draws := rand.New(rand.NewPCG(opts.seed, uint64(2+lane))) //nolint:gosec // to be repeatable is the point
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return !opts.wants(k) })
		if len(kinds) == 0 {
			continue
		}
		var round []string
		last := opts.duration - 2*time.Second
		for at := 4 * time.Second; at < last; {
			if len(round) == 0 {
				round = slices.Clone(kinds)
				draws.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
			}
			e := event{at: at, kind: round[0], target: draws.IntN(1 << 16), length: time.Duration(1000+draws.IntN(2500)) * time.Millisecond}
			round = round[1:]
			if lasts(e.kind) {
				e.length = stall
			}
			if lane == 1 {
				e.length += 1500 * time.Millisecond
			}
			events = append(events, e)
			at += time.Duration(1500+draws.IntN(2500)) * time.Millisecond
			switch {
			case e.kind == deploy:
				at += 12 * time.Second
			case lane == 1, e.length < stall:
				at += e.length
			}
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
	return events
}

// injected is a fault that took place.
type injected struct {
	event

	start, end time.Time
	what       string
	err        error
	none       bool // there was nothing to hit
}

// nemesis brings the schedule about.
type nemesis struct {
	w    *world
	load *load
	say  func(format string, args ...any)

	alone sync.RWMutex // held by a deploy, which is to happen without any other fault
	lates sync.Mutex   // held by the one worker_late at a time
	mu    sync.Mutex
	done  []injected
	wiped []wiped // of the scenario that times it
}

func (n *nemesis) run(ctx context.Context, schedule []event) {
	start := time.Now()
	var running sync.WaitGroup
	lanes := [2]chan event{make(chan event, len(schedule)), make(chan event, len(schedule))}
	for _, e := range schedule {
		if slices.Contains(processKinds(), e.kind) {
			lanes[0] <- e
		} else {
			lanes[1] <- e
		}
	}
	for _, lane := range lanes {
		close(lane)
		running.Go(func() {
			for e := range lane {
				select {
				case <-time.After(time.Until(start.Add(e.at))):
				case <-ctx.Done():
					return
				}
				if lasts(e.kind) {
					running.Go(func() { n.inject(ctx, e) }) // others go on meanwhile
					continue
				}
				n.inject(ctx, e)
			}
		})
	}
	running.Wait()
}

func (n *nemesis) inject(ctx context.Context, e event) {
	if e.kind == deploy {
		n.alone.Lock()
		defer n.alone.Unlock()
		if !wait(ctx, 2*time.Second) { // what came before has been reported by then
			return
		}
	} else {
		n.alone.RLock()
		defer n.alone.RUnlock()
	}
	if ctx.Err() != nil {
		return
	}
	in := injected{event: e, start: time.Now()}
	in.what, in.err = n.bring(ctx, e)
	in.end = time.Now()
	in.none = in.what == ""
	n.mu.Lock()
	n.done = append(n.done, in)
	n.mu.Unlock()
	n.say("%s: %s%s", e.kind, in.what, errText(in.err))
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

// wait returns false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *nemesis) bring(ctx context.Context, e event) (what string, err error) {
	switch e.kind {
	case workerKill, dispatcherKill:
		r := n.pick(e)
		if err := n.w.kill(r); err != nil {
			return r.name, err
		}
		wait(ctx, e.length)
		return r.name, n.w.start(context.WithoutCancel(ctx), r)
	case workerStop, dispatcherStop:
		r := n.pick(e)
		r.signal(syscall.SIGSTOP)
		wait(ctx, e.length)
		r.signal(syscall.SIGCONT)
		return r.name, nil
	case workerLate:
		return n.late(ctx, e)
	case natsKill, natsWipe:
		if n.w.opts.scenario == scenarioQueueWipe {
			return n.wipeAndTime(ctx, e.length)
		}
		return n.killNATS(ctx, e.kind == natsWipe, e.length)
	case natsConsumer:
		return n.deleteConsumers(ctx)
	case postgresKill:
		return n.killPostgres(ctx, e.length)
	case natsStop:
		r := n.w.role("nats")
		r.signal(syscall.SIGSTOP)
		wait(ctx, e.length)
		r.signal(syscall.SIGCONT)
		return "stopped for " + e.length.String(), nil
	case postgresCut:
		return n.cutPostgres(ctx)
	case postgresStop:
		return n.stopPostgres(ctx, e.length)
	case deploy:
		return n.deploy(ctx)
	case stagingChanged:
		return n.replaceObject(ctx)
	case upstreamExpired:
		what = strings.Join(n.lapse(e.target), " ")
		wait(ctx, e.length)
		return what, nil
	default:
		return n.traffic(ctx, e)
	}
}

// pick draws the process that an event is for.
func (n *nemesis) pick(e event) *role {
	kind, _, _ := strings.Cut(e.kind, "_")
	roles := n.w.kind(kind)
	return roles[e.target%len(roles)]
}

// traffic puts a fault into force at staging, or at all platforms, for a while.
func (n *nemesis) traffic(ctx context.Context, e event) (string, error) {
	f := fault{kind: e.kind, chance: 0.25, delay: 2 * time.Second}
	gates := []*gate{n.w.gateS3}
	if strings.HasPrefix(e.kind, "upstream_") {
		gates, f.chance = nil, 0.35
		for _, a := range n.w.accounts {
			gates = append(gates, a.gate)
		}
	}
	switch e.kind {
	case stagingOther, stagingShifted, upstreamDamage:
		f.data, f.chance = true, 0.6
	case stagingSlow:
		f.chance = 0.5
	}
	hits := func() (sum int) {
		for _, g := range gates {
			sum += g.hit(e.kind)
		}
		return sum
	}
	before := hits()
	for _, g := range gates {
		g.set(f)
	}
	wait(ctx, e.length)
	for _, g := range gates {
		g.set(fault{})
	}
	if hits() == before {
		return "", nil
	}
	return fmt.Sprintf("%d calls at %d gates", hits()-before, len(gates)), nil
}

func (n *nemesis) killNATS(ctx context.Context, wipe bool, down time.Duration) (string, error) {
	r := n.w.role("nats")
	if err := n.w.kill(r); err != nil {
		return "killed", err
	}
	what := "killed"
	if wipe {
		what = "killed and wiped"
		if err := os.RemoveAll(n.w.natsDir()); err != nil {
			return what, fmt.Errorf("delete the store: %w", err)
		}
	}
	wait(ctx, down)
	return what, n.w.start(context.WithoutCancel(ctx), r)
}

func (n *nemesis) deleteConsumers(ctx context.Context) (string, error) {
	conn, err := nats.Connect(n.w.natsURL())
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := js.DeleteConsumer(ctx, "ACKS", "ledger"); err != nil {
		return "ledger", fmt.Errorf("delete a consumer: %w", err)
	}
	if err := js.DeleteConsumer(ctx, "JOBS", "default"); err != nil {
		return "default", fmt.Errorf("delete a consumer: %w", err)
	}
	return "ledger and default", nil
}

// killPostgres kills the server and its backends at once.
func (n *nemesis) killPostgres(ctx context.Context, down time.Duration) (string, error) {
	if err := signalAll(n.w.postgres.PID(), syscall.SIGKILL); err != nil {
		return "killed", err
	}
	wait(ctx, down)
	return "killed", n.revivePostgres(ctx)
}

// stopPostgres has the server and its backends stand still: nobody is refused and
// nobody is answered. The one that is let go on is the one that was stopped.
func (n *nemesis) stopPostgres(ctx context.Context, length time.Duration) (string, error) {
	pid := n.w.postgres.PID()
	err := signalAll(pid, syscall.SIGSTOP)
	wait(ctx, length)
	if n.w.postgres.PID() == pid {
		err = errors.Join(err, signalAll(pid, syscall.SIGCONT))
	}
	return "stopped for " + length.String(), err
}

// signalAll sends a signal to a process and then to its children.
func signalAll(pid int, s syscall.Signal) error {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	_ = syscall.Kill(pid, s) // one that is gone needs no signal
	for child := range strings.FieldsSeq(string(children)) {
		var c int
		if _, err := fmt.Sscan(child, &c); err == nil {
			_ = syscall.Kill(c, s)
		}
	}
	if err != nil {
		return fmt.Errorf("find the children of process %d: %w", pid, err)
	}
	return nil
}

// revivePostgres starts the server; a backend that lingers keeps it from that
// for a moment.
func (n *nemesis) revivePostgres(ctx context.Context) (err error) {
	for range 50 {
		startCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		err = n.w.postgres.Restart(startCtx)
		cancel()
		if err == nil {
			return nil
		}
		wait(context.WithoutCancel(ctx), 100*time.Millisecond)
	}
	return err
}

func (n *nemesis) cutPostgres(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, n.w.postgres.DSN())
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var cut int
	err = conn.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&cut)
	if err != nil {
		return "", fmt.Errorf("cut connections: %w", err)
	}
	return fmt.Sprintf("%d connections", cut), nil
}

// deploy ends and starts one process after the other.
func (n *nemesis) deploy(ctx context.Context) (string, error) {
	ctx = context.WithoutCancel(ctx) // half of it would be another fault
	for _, r := range n.w.roles {
		if r.kind == "nats" {
			continue
		}
		late, err := n.w.end(ctx, r)
		if err != nil {
			return r.name, err
		}
		if late {
			return r.name, fmt.Errorf("%s did not end within %s", r.name, processEnd)
		}
		if err := n.w.start(context.WithoutCancel(ctx), r); err != nil {
			return r.name, err
		}
	}
	return fmt.Sprintf("%d processes", len(n.w.roles)-1), nil
}

// replaceObject puts other bytes under the keys of a few uploads that have
// begun to arrive, or are about to.
func (n *nemesis) replaceObject(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, n.w.postgres.DSN())
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, `SELECT idempotency_key FROM uploads WHERE state IN ('queued', 'digesting', 'beginning', 'uploading')
		ORDER BY acked_parts > 0 AND acked_parts < part_count DESC NULLS LAST, part_count DESC NULLS LAST LIMIT 3`)
	if err != nil {
		return "", fmt.Errorf("find an object in use: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("find an object in use: %w", err)
	}
	for _, s := range n.load.all {
		if !slices.Contains(keys, s.key) {
			continue
		}
		s.mu.Lock()
		s.changed = true
		s.mu.Unlock()
		if _, err := n.w.put(ctx, s.key, "second", s.size); err != nil {
			return s.key, err
		}
	}
	return strings.Join(keys, " "), nil
}

// heal ends every fault and sees to it that everything runs.
func (n *nemesis) heal(ctx context.Context) error {
	for _, a := range n.w.accounts {
		a.gate.set(fault{})
		a.gate.setLag(0)
	}
	n.w.gateS3.set(fault{})
	for _, r := range n.w.roles {
		if r.wire != nil {
			r.wire.release()
		}
		r.signal(syscall.SIGCONT)
		if err := n.w.start(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
