// Command bench compares mediaferry with other programs that move objects from
// one S3 endpoint to another: throughput, CPU seconds, memory. README.md says
// what is measured and what distorts it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mediaferry/bench/figures"
	"mediaferry/bench/movers"
	"mediaferry/bench/sink"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errRunsFailed: the table and the figures are printed all the same.
var errRunsFailed = errors.New("a mover failed or did not move everything: see the table")

type settings struct {
	large, small string        // datasets, "4x1GiB"; empty leaves one out
	movers       string        // names, comma-separated; empty is all
	rounds       int           // of each dataset
	timeout      time.Duration // of one run of one mover
	data         string        // folder for the source's objects, kept between runs
	peers        string        // folder of rclone, mc, s5cmd
	results      string        // folder for the JSON
	bin          string        // folder of floor, gateway, sinkserver
	ledger       int           // rows for the reports' benchmark; 0 runs the movers'
	keep         string        // folder in which that ledger stays for the next time
}

func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var c settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.large, "large", "4x1GiB", "large objects; empty: none")
	flags.StringVar(&c.small, "small", "2000x1MiB", "small objects; empty: none")
	flags.StringVar(&c.movers, "movers", "", "comma-separated movers; empty: all")
	flags.IntVar(&c.rounds, "rounds", 3, "rounds; the table shows medians")
	flags.DurationVar(&c.timeout, "timeout", 10*time.Minute, "longest time for one run of one mover")
	flags.StringVar(&c.data, "data", "bench/.data", "folder for the source's objects, made once")
	flags.StringVar(&c.peers, "peers", "bench/.peers", "folder of the other programs")
	flags.StringVar(&c.results, "results", "bench/results", "folder for the results as JSON")
	flags.StringVar(&c.bin, "bin", "bench/.bin", "folder of floor, gateway and sinkserver")
	flags.IntVar(&c.ledger, "ledger", 0, "measure reports over a ledger of so many rows, and nothing else")
	flags.StringVar(&c.keep, "keep", "", "folder to keep the ledger of -ledger in, which is made there once")
	if err := flags.Parse(args); err != nil {
		return c, fmt.Errorf("flags: %w", err)
	}
	if c.rounds < 1 {
		return c, errors.New("flags: at least one round is needed")
	}
	for _, folder := range []*string{&c.data, &c.peers, &c.results, &c.bin} {
		path, err := filepath.Abs(*folder)
		if err != nil {
			return c, fmt.Errorf("flags: %w", err)
		}
		*folder = path
	}
	return c, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	sets, err := c.sets()
	if err != nil {
		return err
	}
	// Scratch files lie beside the source's folder, not in it: there they would be a bucket.
	folder := filepath.Join(c.data, "source")
	for _, folder := range []string{folder, c.results} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	work, err := os.MkdirTemp(c.data, "work")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	env := movers.Env{AccessKey: "benchmark", SecretKey: "benchmark-secret", Bin: c.bin, Peers: c.peers, Work: work}
	keys := []string{"BENCH_ACCESS_KEY=" + env.AccessKey, "BENCH_SECRET_KEY=" + env.SecretKey}
	source, err := startServer(ctx, filepath.Join(c.bin, "gateway"), keys, "-folder", folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.stop()) }()
	destination, err := startServer(ctx, filepath.Join(c.bin, "sinkserver"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, destination.stop()) }()
	env.Source, env.Sink = source.url, destination.url

	client, err := sourceClient(env)
	if err != nil {
		return err
	}
	if c.ledger > 0 {
		return runReports(ctx, env, c, stdout)
	}
	for _, set := range sets {
		if err := set.prepare(ctx, client, folder); err != nil {
			return fmt.Errorf("prepare the %s objects: %w", set.name, err)
		}
	}

	chosen, err := choose(competitors(env), c.movers)
	if err != nil {
		return err
	}
	b := &bench{
		movers: chosen, sets: sets, rounds: c.rounds, timeout: c.timeout,
		folder: folder, sink: sink.Client{URL: env.Sink}, log: stderr,
	}
	defer func() { err = errors.Join(err, closeAll(b.movers)) }()
	b.prepare(ctx)
	if err := b.run(ctx); err != nil {
		return err
	}
	return report(ctx, b, c, stdout)
}

// competitors lists every mover.
func competitors(env movers.Env) []movers.Mover {
	return append([]movers.Mover{newMediaferry(env)}, movers.Peers(env)...)
}

func (c settings) sets() ([]*dataset, error) {
	var sets []*dataset
	for _, s := range []struct{ name, text string }{{"large", c.large}, {"small", c.small}} {
		if s.text == "" {
			continue
		}
		set, err := parseDataset(s.name, s.text)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// choose picks movers by name; a name that nobody has is an error.
func choose(all []movers.Mover, names string) ([]movers.Mover, error) {
	if names == "" {
		return all, nil
	}
	var chosen []movers.Mover
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(m movers.Mover) bool { return m.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no mover is called %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func closeAll(all []movers.Mover) error {
	var errs []error
	for _, m := range all {
		if closer, ok := m.(io.Closer); ok {
			errs = append(errs, closer.Close())
		}
	}
	return errors.Join(errs...)
}

// report prints the table and the figures, and writes all of it as JSON.
func report(ctx context.Context, b *bench, c settings, stdout io.Writer) error {
	sheet := &figures.Sheet{}
	all := b.summaries()
	compare(sheet, all)
	for _, name := range wanted() {
		sheet.Miss(name, "no mover reported it")
	}
	peaks(sheet, b.runs)
	for _, m := range b.movers {
		reporter, ok := m.(movers.Reporter)
		if _, absent := b.absent[m.Name()]; !ok || absent {
			continue
		}
		if err := reporter.Figures(ctx, sheet); err != nil {
			return fmt.Errorf("figures of %s: %w", m.Name(), err)
		}
	}

	path, err := writeJSON(c.results, b, all, sheet)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "%s\nresults: %s\n", table(b.sets, all), path); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := sheet.Print(stdout); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if b.failed() {
		return errRunsFailed
	}
	return nil
}

func writeJSON(folder string, b *bench, all []summary, sheet *figures.Sheet) (string, error) {
	now := time.Now().UTC()
	type setJSON struct {
		Name  string `json:"name"`
		Count int    `json:"count"`
		Size  int64  `json:"size"`
	}
	var sets []setJSON
	for _, s := range b.sets {
		sets = append(sets, setJSON{s.name, s.count, s.size})
	}
	text, err := json.MarshalIndent(struct {
		Time    time.Time      `json:"time"`
		CPUs    int            `json:"cpus"`
		Kernel  string         `json:"kernel"`
		Go      string         `json:"go"`
		Sets    []setJSON      `json:"sets"`
		Runs    []result       `json:"runs"`
		Medians []summary      `json:"medians"`
		Sheet   *figures.Sheet `json:"sheet"`
	}{now, runtime.NumCPU(), kernel(), runtime.Version(), sets, b.runs, all, sheet}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode results: %w", err)
	}
	path := filepath.Join(folder, now.Format("20060102T150405Z")+".json")
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil { //nolint:gosec // results are for everybody
		return "", fmt.Errorf("write results: %w", err)
	}
	return path, nil
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}
