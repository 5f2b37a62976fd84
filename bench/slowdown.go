package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"mediaferry/bench/figures"
	"mediaferry/client"
	"mediaferry/internal/postgres"
)

const (
	// So many files are under way at any time, each begun some time after the one
	// before it: as they share the work evenly, none of them ends as another does,
	// and what the begin and the end of a file cost is spread over all windows.
	slowdownFiles   = 8
	slowdownStagger = 3 * time.Second

	slowdownWindow = 10 * time.Second // that with more folding is twice as long

	// slowdownRest spends a third of the time folding, while there is something to fold.
	slowdownRest = 2

	slowdownLeastBlocks = 6
	slowdownMostBlocks  = 12
	slowdownError       = 0.3 // per cent
)

// foldSlowdown measures what folding costs those who fill the ledger. Acks are
// recorded without a pause, as fast as they go, by one dispatcher and one worker,
// and the dispatcher folds as it always does. That adds about one per cent, which is
// less than what a machine varies by. So now and then folding is done beside it with
// hardly a rest, which costs enough to be told from noise, and what that costs is
// scaled to as much as the dispatcher folds: folding a part costs the same whoever
// does it.
//
// Blocks of three windows take turns: as it is, with more folding, as it is. What
// drifts evenly over a block, such as a machine that others use more and more,
// cancels out, and blocks that were disturbed are cut off with the outer fifths.
// There are as many blocks as it takes to bring the standard error below
// slowdownError, within bounds. The CPU time of an ack is what ingest is slowed by
// where it takes all that there is; by the clock the same is told with more noise.
func foldSlowdown(ctx context.Context, m *mediaferry, conns *sql.DB, store *postgres.Store, sheet *figures.Sheet, say func(string, ...any)) error {
	f := &folding{m: m, conns: conns, store: store}
	var usual, more ackWindow
	var byCPU, byClock []float64
	// scaled returns the mean and its error for as much folding as usual.
	scaled := func(effects []float64) (mean, spread float64) {
		scale := usual.share() / (more.share() - usual.share())
		mean, spread = figures.Mean(effects)
		return scale * mean, scale * spread
	}
	err := withDiscard(ctx, m, func(ctx context.Context, api *client.Client) error {
		enough := make(chan struct{})
		g, ctx := errgroup.WithContext(ctx)
		for i := range slowdownFiles {
			g.Go(func() error {
				if err := pause(ctx, time.Duration(i)*slowdownStagger); err != nil {
					return err
				}
				return recordUntil(ctx, api, enough)
			})
		}
		g.Go(func() error {
			defer close(enough)
			if err := pause(ctx, slowdownFiles*slowdownStagger+slowdownWindow); err != nil { // until all run evenly
				return err
			}
			for len(byCPU) < slowdownMostBlocks {
				without, with, err := f.block(ctx)
				if err != nil {
					return err
				}
				usual, more = usual.plus(without), more.plus(with)
				byCPU = append(byCPU, 100*(with.cpu()/without.cpu()-1))
				byClock = append(byClock, 100*(1-with.rate()/without.rate()))
				say("acks %6.0f 1/s, %5.2f µs of CPU each, %4.1f %% folded meanwhile; %6.0f, %5.2f, %4.1f %% with more folding",
					without.rate(), without.cpu(), 100*without.share(), with.rate(), with.cpu(), 100*with.share())
				if _, spread := scaled(byCPU); len(byCPU) >= slowdownLeastBlocks && spread < slowdownError {
					break
				}
			}
			return nil
		})
		return g.Wait()
	})
	if err != nil {
		return err
	}
	if usual.folded == 0 || more.share() <= usual.share() {
		return fmt.Errorf("%d and %d parts were folded, which tells nothing", usual.folded, more.folded)
	}
	set := func(name string, effects []float64) {
		mean, spread := scaled(effects)
		sheet.Set(name+"_pct", mean, "%")
		sheet.Set(name+"_stderr_pct", spread, "%")
	}
	set("report_ingest_slowdown", byCPU)
	set("report_ingest_slowdown_clock", byClock)
	return nil
}

// recordUntil has one file after another recorded, the last of them to its end.
func recordUntil(ctx context.Context, api *client.Client, enough <-chan struct{}) error {
	for {
		select {
		case <-enough:
			return nil
		default:
		}
		id, err := submitAcks(ctx, api)
		if err != nil {
			return err
		}
		if _, err := awaitAcks(ctx, api, id); err != nil {
			return err
		}
	}
}

// ackWindow is what was recorded, and folded, in some time.
type ackWindow struct {
	parts, folded int
	took, spent   time.Duration // by the clock, and of CPU
}

func (w ackWindow) rate() float64  { return float64(w.parts) / w.took.Seconds() }                // parts a second
func (w ackWindow) cpu() float64   { return float64(w.spent.Microseconds()) / float64(w.parts) } // microseconds for each
func (w ackWindow) share() float64 { return float64(w.folded) / float64(w.parts) }               // folded for each recorded

func (w ackWindow) plus(o ackWindow) ackWindow {
	return ackWindow{w.parts + o.parts, w.folded + o.folded, w.took + o.took, w.spent + o.spent}
}

// folding folds beside a dispatcher.
type folding struct {
	m     *mediaferry
	conns *sql.DB
	store *postgres.Store
}

// block measures three windows: as it is, with more folding, as it is.
func (f *folding) block(ctx context.Context) (without, with ackWindow, err error) {
	before, err := f.window(ctx, slowdownWindow)
	if err != nil {
		return without, with, err
	}
	folding, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.fold(folding) }()
	with, err = f.window(ctx, 2*slowdownWindow)
	stop()
	if foldErr := <-ended; err == nil {
		err = foldErr
	}
	if err != nil {
		return without, with, err
	}
	after, err := f.window(ctx, slowdownWindow)
	return before.plus(after), with, err
}

// fold folds until it is stopped, and then gives up what it has in hand.
func (f *folding) fold(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, err := f.store.FoldLedger(ctx, slowdownRest); err != nil && ctx.Err() == nil {
			return err
		}
		_ = pause(ctx, 50*time.Millisecond) // the dispatcher is at it
	}
	return nil
}

// window measures for so long.
func (f *folding) window(ctx context.Context, length time.Duration) (w ackWindow, err error) {
	recorded, folded, err := f.count(ctx)
	if err != nil {
		return w, err
	}
	start := time.Now()
	meter, err := startAckMeter(f.m)
	if err != nil {
		return w, err
	}
	if err := pause(ctx, length); err != nil {
		return w, err
	}
	if w.spent, err = meter.stop(); err != nil {
		return w, err
	}
	w.took = time.Since(start)
	if w.parts, w.folded, err = f.count(ctx); err != nil {
		return w, err
	}
	w.parts, w.folded = w.parts-recorded, w.folded-folded
	return w, nil
}

// count returns how many parts are recorded and how many folded so far.
func (f *folding) count(ctx context.Context) (recorded, folded int, err error) {
	err = f.conns.QueryRowContext(ctx, `
SELECT (SELECT coalesce(sum(acked_parts), 0) FROM uploads WHERE account = 'discard'),
    (SELECT coalesce(sum(parts), 0) FROM rollup_hours WHERE account = 'discard')`).Scan(&recorded, &folded)
	if err != nil {
		return 0, 0, fmt.Errorf("count parts: %w", err)
	}
	return recorded, folded, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait: %w", context.Cause(ctx))
	case <-time.After(d):
		return nil
	}
}
