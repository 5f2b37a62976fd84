package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"mediaferry/bench/figures"
	"mediaferry/bench/movers"
	"mediaferry/bench/sink"
)

// result is one run of one mover over one dataset.
type result struct {
	Set      string             `json:"set"`
	Mover    string             `json:"mover"`
	Round    int                `json:"round"`
	Wall     float64            `json:"wall_s,omitempty"`
	CPU      map[string]float64 `json:"cpu_s,omitempty"`
	PeakRSS  map[string]float64 `json:"peak_rss_mb,omitempty"`
	Received int64              `json:"received_bytes"` // more than the dataset where a mover sent again
	Puts     int                `json:"puts"`
	Error    string             `json:"error,omitempty"` // and then the rest is no result
}

// summary is the medians of one mover's rounds over one dataset.
type summary struct {
	Set     string             `json:"set"`
	Mover   string             `json:"mover"`
	Rounds  int                `json:"rounds"`
	Wall    float64            `json:"wall_s"`
	CPU     float64            `json:"cpu_s"`
	ByRole  map[string]float64 `json:"cpu_s_by_role"`
	PeakRSS float64            `json:"peak_rss_mb"`
	Why     string             `json:"why,omitempty"` // there is no result: not installed, or a run that failed
}

// bench runs movers over datasets.
type bench struct {
	movers  []movers.Mover
	absent  map[string]string // mover → why it takes no part
	sets    []*dataset
	rounds  int
	timeout time.Duration // of one run
	folder  string        // of the datasets
	sink    sink.Client
	log     io.Writer // progress
	runs    []result
}

const dstBucket = "moved"

// prepare asks every mover whether it can take part.
func (b *bench) prepare(ctx context.Context) {
	b.absent = map[string]string{}
	for _, m := range b.movers {
		if err := m.Prepare(ctx); err != nil {
			b.absent[m.Name()] = err.Error()
		}
	}
}

// run takes all movers in turn within each round, from another one on each time,
// so that a slow minute of the machine hits all of them alike. It returns an error
// only if the benchmark itself cannot go on.
func (b *bench) run(ctx context.Context) error {
	buf := make([]byte, 1<<20)
	var present []movers.Mover
	for _, m := range b.movers {
		if _, absent := b.absent[m.Name()]; !absent {
			present = append(present, m)
		}
	}
	for _, set := range b.sets {
		for round := range b.rounds {
			for i := range present {
				m := present[(i+round)%len(present)]
				if err := b.sink.Reset(ctx); err != nil {
					return fmt.Errorf("before %s: %w", m.Name(), err)
				}
				if err := set.warm(ctx, b.folder, buf); err != nil {
					return fmt.Errorf("before %s: %w", m.Name(), err)
				}
				r, err := b.one(ctx, m, set)
				if err != nil {
					return err
				}
				r.Round = round + 1
				b.runs = append(b.runs, r)
				b.tell(r, set)
			}
		}
	}
	return nil
}

// one runs one mover and checks what arrived. Its failure is in the result.
func (b *bench) one(ctx context.Context, m movers.Mover, set *dataset) (result, error) {
	moving, cancel := context.WithTimeoutCause(ctx, b.timeout, fmt.Errorf("not done after %s", b.timeout))
	cost, failed := m.Move(moving, set.bucket(), dstBucket, set.keys())
	cancel()
	if ctx.Err() != nil {
		return result{}, fmt.Errorf("run %s: %w", m.Name(), context.Cause(ctx))
	}
	got, err := b.sink.Stats(ctx)
	if err != nil {
		return result{}, fmt.Errorf("after %s: %w", m.Name(), err)
	}
	r := result{Set: set.name, Mover: m.Name(), Received: got.Received, Puts: got.Puts}
	if failed = errors.Join(failed, set.verify(got, dstBucket)); failed != nil {
		r.Error = failed.Error()
		return r, nil //nolint:nilerr // the mover's failure is its result, not the benchmark's
	}
	r.Wall = cost.Wall.Seconds()
	r.CPU, r.PeakRSS = map[string]float64{}, map[string]float64{}
	for role, d := range cost.CPU {
		r.CPU[role] = d.Seconds()
	}
	for role, bytes := range cost.PeakRSS {
		r.PeakRSS[role] = megabytes(bytes)
	}
	return r, nil
}

func (b *bench) tell(r result, set *dataset) {
	outcome := "FAILED: " + r.Error
	if r.Error == "" {
		outcome = fmt.Sprintf("%.0f MB/s, %.2f CPU-s", megabytes(set.bytes())/r.Wall, total(r.CPU))
	}
	_, _ = fmt.Fprintf(b.log, "%s round %d %s: %s\n", r.Set, r.Round, r.Mover, outcome) // progress only
}

func (b *bench) failed() bool {
	return slices.ContainsFunc(b.runs, func(r result) bool { return r.Error != "" })
}

// summaries has one entry for each dataset and mover, in the order of the flags.
func (b *bench) summaries() []summary {
	var all []summary
	for _, set := range b.sets {
		for _, m := range b.movers {
			all = append(all, b.summarize(set.name, m.Name()))
		}
	}
	return all
}

// summarize takes medians. One failed run leaves a mover without a result: the
// rounds that went well are not the whole story.
func (b *bench) summarize(set, mover string) summary {
	s := summary{Set: set, Mover: mover, Why: b.absent[mover]}
	var wall, cpu, rss []float64
	roles := map[string][]float64{}
	for _, r := range b.runs {
		if r.Set != set || r.Mover != mover {
			continue
		}
		if r.Error != "" {
			return summary{Set: set, Mover: mover, Why: fmt.Sprintf("round %d failed: %s", r.Round, r.Error)}
		}
		wall, cpu, rss = append(wall, r.Wall), append(cpu, total(r.CPU)), append(rss, total(r.PeakRSS))
		for role, seconds := range r.CPU {
			roles[role] = append(roles[role], seconds)
		}
	}
	if len(wall) == 0 {
		if s.Why == "" {
			s.Why = "not run"
		}
		return s
	}
	s.Rounds = len(wall)
	s.Wall, s.CPU, s.PeakRSS = figures.Median(wall), figures.Median(cpu), figures.Median(rss)
	s.ByRole = map[string]float64{}
	for role, seconds := range roles {
		s.ByRole[role] = figures.Median(seconds)
	}
	return s
}

func total(byRole map[string]float64) float64 {
	sum := 0.0
	for _, v := range byRole {
		sum += v
	}
	return sum
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }
