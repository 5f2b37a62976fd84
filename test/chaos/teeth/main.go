// Command teeth asks whether the chaos harness would notice. It plants one fault
// at a time in a copy of the code, builds the processes, and has the harness run
// where the fault would show, until a check finds a counter-example. The code
// as it is must pass the same runs, since a check that also bites healthy code
// proves nothing.
//
// It exits with 1 if a fault was not caught, if one could not be planted because
// the code has changed, or if healthy code was bitten.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "teeth:", err)
		ok = false
	}
	if !ok {
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	chosen   []tooth
	atOnce   int           // runs of the harness under way
	seeds    int           // with which each fault is looked for, one after the other
	patience time.Duration // after which no further run is begun
}

func parseFlags(args []string) (settings, error) {
	flags := flag.NewFlagSet("teeth", flag.ContinueOnError)
	only := flags.String("only", "", "names of faults, with commas; all if empty")
	atOnce := flags.Int("at-once", 2, "how many runs are under way")
	seeds := flags.Int("seeds", 3, "with how many seeds a fault is looked for, one after the other")
	patience := flags.Duration("patience", 12*time.Minute, "when no further run is begun")
	if err := flags.Parse(args); err != nil {
		return settings{}, fmt.Errorf("flags: %w", err)
	}
	chosen := teeth()
	if *only != "" {
		names := strings.Split(*only, ",")
		chosen = slices.DeleteFunc(chosen, func(t tooth) bool { return !slices.Contains(names, t.name) })
		if len(chosen) != len(names) {
			return settings{}, fmt.Errorf("-only: %q are not all known", names)
		}
	}
	return settings{chosen: chosen, atOnce: *atOnce, seeds: *seeds, patience: *patience}, nil
}

// bite is runs of the harness.
type bite struct {
	settings

	harness string
	root    string // folder for everything
	start   time.Time
	saying  sync.Mutex
	out     io.Writer // guarded by saying
}

// say writes a line with the time since the start.
func (b *bite) say(format string, args ...any) {
	b.saying.Lock()
	defer b.saying.Unlock()
	_, _ = fmt.Fprintf(b.out, "%6.1fs %s\n", time.Since(b.start).Seconds(), fmt.Sprintf(format, args...))
}

// bin is the folder of the processes that were built under the name.
func (b *bite) bin(name string) string { return filepath.Join(b.root, name+"-bin") + "/" }

// run plants the faults that the flags choose and looks for them. ok is false if
// one was not caught, or if healthy code was bitten.
func run(ctx context.Context, args []string, out io.Writer) (ok bool, err error) {
	chosen, err := parseFlags(args)
	if err != nil {
		return false, err
	}
	root, err := os.MkdirTemp("", "mediaferry-teeth-")
	if err != nil {
		return false, fmt.Errorf("temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	b := &bite{settings: chosen, harness: filepath.Join(root, "chaos"), root: root, start: time.Now(), out: out}

	healthy := filepath.Join(root, "healthy")
	if err := copyTree(".", healthy); err != nil {
		return false, err
	}
	// Each fault is planted before anything takes long.
	trees, err := plantAll(b.chosen, healthy, root)
	if err != nil {
		return false, err
	}
	if err := build(ctx, healthy, b.harness, "./test/chaos"); err != nil {
		return false, err
	}
	if err := build(ctx, healthy, b.bin("healthy"), "./cmd/dispatcher", "./cmd/worker"); err != nil {
		return false, err
	}
	bitten, caught, err := b.runAll(ctx, trees)
	if err != nil {
		return false, err
	}
	b.say("figure teeth_planted %d count", len(b.chosen))
	b.say("figure teeth_caught %d count", caught)
	b.say("figure teeth_s %.0f s", time.Since(b.start).Seconds())
	return bitten == 0 && caught == len(b.chosen), nil
}

// runAll runs the harness on healthy code, once for each focus, and on the trees
// with a fault. It counts the runs that bit healthy code, and the faults that were
// caught. Runs wait more than they work, so several are under way.
func (b *bite) runAll(ctx context.Context, trees map[string]string) (bitten, caught int, err error) {
	running, ctx := errgroup.WithContext(ctx)
	running.SetLimit(b.atOnce)
	var bites, catches atomic.Int64
	begun := make(map[string]bool) // by name of the focus
	for _, t := range b.chosen {
		if begun[t.focus.name] {
			continue
		}
		begun[t.focus.name] = true
		running.Go(func() error {
			ok, err := b.passes(ctx, t.focus)
			if err == nil && !ok {
				bites.Add(1)
			}
			return err
		})
	}
	for _, t := range b.chosen {
		running.Go(func() error {
			ok, err := b.catches(ctx, t, trees[t.name])
			if ok {
				catches.Add(1)
			}
			return err
		})
	}
	err = running.Wait()
	return int(bites.Load()), int(catches.Load()), err
}

// plantAll returns a copy of the healthy tree for each fault, with the fault in
// it, by the fault's name.
func plantAll(chosen []tooth, healthy, root string) (map[string]string, error) {
	trees := make(map[string]string)
	for _, t := range chosen {
		tree := filepath.Join(root, t.name)
		if err := copyTree(healthy, tree); err != nil {
			return nil, err
		}
		if err := t.plant(tree); err != nil {
			return nil, err
		}
		trees[t.name] = tree
	}
	return trees, nil
}

// passes reports whether healthy code passes the runs in which a fault would show.
func (b *bite) passes(ctx context.Context, f focus) (bool, error) {
	bites, said, err := b.once(ctx, "healthy", f, 1, 90*time.Second)
	switch {
	case err != nil:
		return false, err
	case len(bites) > 0:
		b.say("healthy code does not pass %q: %s\n%s", f.name, strings.Join(bites, ", "), said)
		return false, nil
	}
	b.say("healthy code passes %q", f.name)
	return true, nil
}

// catches reports whether a check finds the fault in the tree with one of the
// seeds, from 1. No run is begun after patience is over.
func (b *bite) catches(ctx context.Context, t tooth, tree string) (bool, error) {
	if err := build(ctx, tree, b.bin(t.name), "./cmd/dispatcher", "./cmd/worker"); err != nil {
		return false, fmt.Errorf("%s: %w", t.name, err)
	}
	for seed := 1; seed <= b.seeds && time.Since(b.start) < b.patience; seed++ {
		bites, _, err := b.once(ctx, t.name, t.focus, seed, 45*time.Second)
		if err != nil {
			return false, fmt.Errorf("%s: %w", t.name, err)
		}
		if len(bites) > 0 {
			b.say("caught %s (%s) with seed %d by: %s", t.name, t.what, seed, strings.Join(bites, ", "))
			return true, nil
		}
	}
	b.say("MISSED %s: %s", t.name, t.what)
	return false, nil
}

var violated = regexp.MustCompile(`(?m)^invariant (.+?) +VIOLATED`)

// once runs the harness on the processes of that name and returns the names of
// the checks that found something, with all its output. A run that fails for
// another reason is an error. It ends when nothing has moved for settle.
func (b *bite) once(ctx context.Context, name string, f focus, seed int, settle time.Duration) (bites []string, out []byte, err error) {
	args := append([]string{
		"-dispatcher", b.bin(name) + "dispatcher", "-worker", b.bin(name) + "worker",
		"-evidence", filepath.Join(b.root, fmt.Sprintf("%s-%s-%d-evidence", name, f.name, seed)), "-settle", settle.String(), "-seed", strconv.Itoa(seed),
	}, f.args...)
	cmd := exec.CommandContext(ctx, b.harness, args...) //nolint:gosec // what we built
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	rerr := cmd.Run()
	for _, m := range violated.FindAllSubmatch(said.Bytes(), -1) {
		bites = append(bites, string(m[1]))
	}
	if rerr != nil && len(bites) == 0 {
		return nil, nil, fmt.Errorf("run of the harness: %w:\n%s", rerr, said.Bytes())
	}
	return bites, said.Bytes(), nil
}

func build(ctx context.Context, tree, to string, packages ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-o", to}, packages...)...) //nolint:gosec // paths of our own
	cmd.Dir = tree
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w:\n%s", err, said)
	}
	return nil
}

// copyTree copies what a build of Go reads; not what was built, nor the history.
func copyTree(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, path)
		switch {
		case err != nil || relErr != nil:
			return errors.Join(err, relErr)
		case d.IsDir() && (rel == ".git" || rel == "bin" || rel == "bench"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)                                             //nolint:gosec // in the tree that is copied
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), data, 0o600)) //nolint:gosec // in a folder of our own
	})
	if err != nil {
		return fmt.Errorf("copy the code: %w", err)
	}
	return nil
}
