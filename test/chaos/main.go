// Command chaos runs real processes of the dispatcher and the worker against
// real servers and local platforms, brings faults about while uploads are on
// their way, and has a checker of its own verify the design's invariants: from
// the database with its own statements, from the platforms' logs and files, and
// from gates before every server that record each call. The seed decides what
// is submitted and which fault comes when.
//
// It ends with 1 if it finds a counter-example to any invariant, and prints it
// with the history of the upload concerned. It runs on Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mediaferry/internal/devstack"
)

const settleAtMost = 4 // times the time in which nothing may get on

// options say what a run is like.
type options struct {
	scenario    string
	seed        uint64
	duration    time.Duration
	settle      time.Duration
	kinds       []string
	dispatcher  string
	worker      string
	dispatchers int
	workers     int
	uploads     int
	every       time.Duration // between two deploys of deploy-storm
	evidence    string        // folder of what the run leaves
	staging     string        // URL that the processes read from
}

// log is the file that all processes write to.
func (o options) log() string { return filepath.Join(o.evidence, keptLog) }

func (o options) wants(kind string) bool { return slices.Contains(o.kinds, kind) }

func main() {
	devstack.ChildMain()
	natsMain()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func readOptions(args []string) (options, error) {
	o := options{dispatchers: 2, workers: 4}
	var kinds, folder string
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.StringVar(&o.scenario, "scenario", scenarioStorm, "what to run: chaos, queue-wipe or deploy-storm")
	flags.Uint64Var(&o.seed, "seed", 1, "what decides load and faults")
	flags.DurationVar(&o.duration, "duration", 0, "how long uploads are submitted and faults come; 0 for two minutes, and four of deploy-storm")
	flags.DurationVar(&o.every, "every", time.Minute, "deploy-storm: how often all processes are restarted")
	flags.DurationVar(&o.settle, "settle", 90*time.Second, "how long nothing may get on then before everything has ended")
	flags.IntVar(&o.uploads, "uploads", 0, "how many; 0 for three a second")
	flags.StringVar(&kinds, "faults", "", "kinds of faults, with commas; all if empty, none for none")
	flags.StringVar(&o.dispatcher, "dispatcher", "bin/dispatcher", "binary of the dispatcher")
	flags.StringVar(&o.worker, "worker", "bin/worker", "binary of the worker")
	flags.StringVar(&folder, "evidence", "", "folder to be made for logs, record and calls, and deleted where all holds; one in the temporary folder if empty")
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("flags: %w", err)
	}
	known := append(processKinds(), trafficKinds()...)
	o.kinds = known
	if kinds != "" {
		o.kinds = strings.Split(kinds, ",")
	}
	for _, k := range o.kinds {
		if k != "none" && !slices.Contains(known, k) {
			return o, fmt.Errorf("-faults: %q is not known; give some of %s", k, strings.Join(known, ", "))
		}
	}
	if err := o.apply(); err != nil {
		return o, err
	}
	if o.uploads == 0 {
		o.uploads = int(o.duration / (333 * time.Millisecond))
	}
	var err error
	for _, path := range []*string{&o.dispatcher, &o.worker} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, fmt.Errorf("path of a binary: %w", err)
		}
		if _, err := os.Stat(*path); err != nil {
			return o, fmt.Errorf("%w; build it with make build", err)
		}
	}
	o.evidence, err = newFolder(folder, o)
	return o, err
}

func run(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	opts, err := readOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	report, err := os.Create(filepath.Join(opts.evidence, keptReport))
	if err != nil {
		return false, fmt.Errorf("write the report: %w", err)
	}
	ok, err = try(ctx, opts, io.MultiWriter(out, report))
	if cerr := report.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("write the report: %w", cerr)
	}
	if ok && err == nil {
		if err := os.RemoveAll(opts.evidence); err != nil {
			return ok, fmt.Errorf("delete the evidence: %w", err)
		}
		return true, nil
	}
	_, _ = fmt.Fprintf(out, "evidence of this run is in %s\n", opts.evidence)
	return false, err
}

// try makes one run. Unless all holds, the folder has then what is needed to
// see why.
func try(ctx context.Context, opts options, out io.Writer) (ok bool, err error) {
	var saying sync.Mutex
	start := time.Now()
	say := func(format string, args ...any) {
		saying.Lock()
		defer saying.Unlock()
		_, _ = fmt.Fprintf(out, "%7.1fs %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	say("seed %d, %s, %d uploads; processes log to %s", opts.seed, opts.duration, opts.uploads, opts.log())
	w, err := startWorld(ctx, opts)
	if err != nil {
		return false, err
	}
	defer func() {
		if !ok || err != nil {
			err = errors.Join(err, w.keep(ctx))
		}
		err = errors.Join(err, w.stop())
	}()
	l, err := newLoad(w, planLoad(opts, w.accounts))
	if err != nil {
		return false, err
	}
	defer l.close()
	if err := l.warmUp(ctx); err != nil {
		return false, err
	}
	before := w.still(ctx, func(stillness) bool { return true })
	say("warm")
	schedule := opts.schedule()
	for _, e := range schedule {
		say("planned: %s", e)
	}
	n := &nemesis{w: w, load: l, say: say}
	if err := n.storm(ctx, schedule); err != nil {
		return false, err
	}
	settled, err := settle(ctx, w, opts.settle)
	if err != nil {
		return false, err
	}
	say("settled after %s", settled.Round(100*time.Millisecond))
	after := w.still(ctx, within(before))
	e, err := gather(ctx, w, l, n)
	if err != nil {
		return false, err
	}
	e.before, e.after = before, after
	return e.report(out, settled), nil
}

// storm runs load and faults beside each other, and then puts everything right.
func (n *nemesis) storm(ctx context.Context, schedule []event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stormCtx, calm := context.WithTimeout(ctx, n.w.opts.duration)
	defer calm()
	var running sync.WaitGroup
	running.Go(func() { n.w.watch(ctx) })
	running.Go(func() { n.load.retryFailed(stormCtx) })
	loaded := make(chan error, 1)
	// Submissions under way when the faults end are made all the same.
	loadCtx, late := context.WithTimeout(ctx, n.w.opts.duration+time.Minute)
	defer late()
	go func() { loaded <- n.load.run(loadCtx) }()
	n.run(stormCtx, schedule)
	<-stormCtx.Done()
	err := n.heal(ctx)
	if lerr := <-loaded; err == nil {
		err = lerr
	}
	cancel()
	running.Wait()
	return err
}

// settle waits until nothing is left to do. It gives up when nothing has got on
// for so long as most says, however fast the machine is, and in any case after
// settleAtMost times that: what has not ended then is for the checks to report.
func settle(ctx context.Context, w *world, most time.Duration) (time.Duration, error) {
	start := time.Now()
	var last progress
	moved := start
	for time.Since(moved) < most && time.Since(start) < settleAtMost*most {
		now, err := progressOf(ctx, w.postgres.DSN())
		if err != nil {
			return 0, err
		}
		if now.unended == 0 {
			break
		}
		if now != last {
			last, moved = now, time.Now()
		}
		if !wait(ctx, 200*time.Millisecond) {
			return 0, context.Cause(ctx)
		}
	}
	took := time.Since(start)
	wait(ctx, 2*time.Second) // calls in hand end, and what should not come may come
	return took, nil
}
