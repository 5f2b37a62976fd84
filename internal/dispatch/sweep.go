package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

type sweepStore interface {
	Sweepable(ctx context.Context, everything bool, most int) ([]parts.Feedable, error)
	RecordSwept(ctx context.Context, f parts.Feedable, grace time.Duration) (bool, error)
	InFlight(ctx context.Context, account string) (inFlight, window int64, err error)
	InFlightPlans(ctx context.Context, account string) (map[uploads.ID]parts.Plan, error)
	AckedParts(ctx context.Context, id uploads.ID, epoch, first, last int) ([]int, error)
	Digesting(ctx context.Context, most int) ([]uploads.DigestWait, error)
	TouchDigesting(ctx context.Context, id uploads.ID, grace time.Duration) (bool, error)
	StreamMark(ctx context.Context, stream string) (parts.StreamMark, error)
	SetStreamMark(ctx context.Context, mark parts.StreamMark) error
}

type sweepQueue interface {
	// Held returns the first parts of the upload's runs that are queued or in hand.
	Held(ctx context.Context, account string, id uploads.ID, epoch int) ([]int, error)
	// HeldRuns returns, by upload, the first parts of all runs of the account that
	// are queued or in hand.
	HeldRuns(ctx context.Context, account string) (map[uploads.ID][]int, error)
	// HeldDigest reports whether the upload's digest job is queued or in hand.
	HeldDigest(ctx context.Context, id uploads.ID) (bool, error)
	// PendingAcks returns how many reports of the upload wait for the ledger.
	PendingAcks(ctx context.Context, account string, id uploads.ID) (int, error)
	// Marks returns the marks of all streams, also of those that are missing.
	Marks(ctx context.Context) ([]parts.StreamMark, error)
}

const sweepSize = 200 // uploads looked at in one sweep

// sweep compares ledger and queue and feeds again what is in neither: runs
// whose publication was lost with a process or with the queue, and runs that a
// worker handed back. What must be fed again is computed here and stored
// nowhere.
func (d *Dispatcher) sweep(ctx context.Context) error {
	marks, lost, err := d.look(ctx)
	if err != nil {
		return err
	}
	toSweep, err := d.store.Sweepable(ctx, lost, sweepLimit(lost))
	if err != nil {
		return err
	}
	var errs []error
	rooms := make(map[string]*refeed)
	for _, f := range toSweep {
		room, ok := rooms[f.Account]
		if !ok {
			if room, err = d.refeedRoom(ctx, f.Account); err != nil {
				errs = append(errs, err)
				continue
			}
			rooms[f.Account] = room
		}
		if err := d.sweepUpload(ctx, f, room); err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
		}
	}
	errs = append(errs, d.sweepDigests(ctx, lost))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// Kept only now: a crash before this finds the loss again.
	for _, m := range marks {
		if err := d.store.SetStreamMark(ctx, m); err != nil {
			return err
		}
	}
	if lost {
		d.cfg.Watcher.QueueLost()
	}
	return nil
}

// sweepLimit bounds a sweep; after the loss of the queue all that was in the
// windows is swept at once.
func sweepLimit(lost bool) int {
	if lost {
		return 100 * sweepSize
	}
	return sweepSize
}

// NoteMarks takes the marks of the queue's streams, read after what was
// missing had been made again. If one shows a loss, everything in flight is
// swept at once.
func (d *Dispatcher) NoteMarks(ctx context.Context, marks []parts.StreamMark) {
	d.marks.Store(&marks)
	if _, lost, err := d.look(ctx); lost || err != nil {
		d.sweeps.wake()
	}
}

// look compares the marks with those that the last sweep left: lost says that
// a stream was missing, is younger or is behind. Only marks that changed are
// returned.
func (d *Dispatcher) look(ctx context.Context) (changed []parts.StreamMark, lost bool, err error) {
	noted := d.marks.Load()
	if noted == nil {
		return nil, false, nil // not connected yet
	}
	marks, before := *noted, make(map[string]parts.StreamMark, len(*noted))
	for _, m := range marks {
		if before[m.Stream], err = d.store.StreamMark(ctx, m.Stream); err != nil {
			return nil, false, err
		}
	}
	isLost := func(m parts.StreamMark) bool { return m.LostSince(before[m.Stream]) }
	// Another dispatcher may have left a mark that it read after what is noted
	// here: only what is read after that mark can prove a loss.
	if slices.ContainsFunc(marks, isLost) {
		if marks, err = d.queue.Marks(ctx); err != nil {
			return nil, false, err
		}
	}
	for _, m := range marks {
		if m.Created.IsZero() {
			return nil, false, fmt.Errorf("stream %s is missing; it is looked at once it is made again", m.Stream)
		}
		if isLost(m) {
			d.log.Warn("the queue was lost: all work in flight is fed again", zap.String("stream", m.Stream),
				zap.Time("created", m.Created), zap.Uint64("last_seq", m.LastSeq), zap.Uint64("seen_seq", before[m.Stream].LastSeq))
			lost = true
		}
		if m != before[m.Stream] {
			changed = append(changed, m)
		}
	}
	return changed, lost, nil
}

// refeed is how much of an account may be fed again in one sweep.
type refeed struct {
	bytes int64 // left; no bound where what was fed fits the window
	bound bool
	none  bool // the queue holds nothing of the account, so that one run may go in any case
	// asking: the platform is down, and one run is to ask whether it is back.
	asking, asked bool
}

// refeedRoom returns what may be fed again of an account. All that is in flight
// was fed within the window of its time; where the window was cut since, what
// is lost goes back on the queue only as far as the new one allows.
func (d *Dispatcher) refeedRoom(ctx context.Context, account string) (*refeed, error) {
	hold, _ := d.holds.get(account, providers.CallPut)
	r := &refeed{asking: !hold.Down.IsZero()}
	a, ok := d.accounts[account]
	if !ok || r.asking {
		return r, nil
	}
	inFlight, known, err := d.store.InFlight(ctx, account)
	if err != nil {
		return nil, err
	}
	window := windows.Window{Bytes: known}.Within(a.limits()).Bytes
	if inFlight <= window {
		return r, nil
	}
	held, err := d.queue.HeldRuns(ctx, account)
	if err != nil {
		return nil, err
	}
	plans, err := d.store.InFlightPlans(ctx, account)
	if err != nil {
		return nil, err
	}
	r.bound, r.bytes, r.none = true, window, true
	for id, firsts := range held {
		plan, ok := plans[id]
		if !ok {
			continue // ended meanwhile, and about to be dropped
		}
		for _, first := range firsts {
			if first <= plan.Count() {
				_, length := plan.Span(plan.Cell(first))
				r.bytes -= length
				r.none = false
			}
		}
	}
	return r, nil
}

// fit returns how many of the runs may be fed again.
func (r *refeed) fit(plan parts.Plan, runs []parts.Run) int {
	switch {
	case r.asking && r.asked:
		return 0
	case r.asking:
		return min(1, len(runs))
	case !r.bound:
		return len(runs)
	}
	for i, run := range runs {
		_, length := plan.Span(run)
		if length > r.bytes && !r.none {
			return i
		}
		r.bytes -= length
		r.none = false
	}
	return len(runs)
}

// sweepUpload feeds again the runs of one upload that are lost. The order
// matters: a run that left the queue before Held was asked had its acks in the
// ACKS stream by then, and once that holds none of this upload they are in the
// ledger. Read in another order, runs that arrived would be sent twice.
func (d *Dispatcher) sweepUpload(ctx context.Context, f parts.Feedable, room *refeed) error {
	if room.asking && room.asked {
		return nil
	}
	held, err := d.queue.Held(ctx, f.Account, f.Upload, f.Epoch)
	if err != nil {
		return err
	}
	if pending, err := d.queue.PendingAcks(ctx, f.Account, f.Upload); err != nil || pending > 0 {
		return err
	}
	acked, err := d.store.AckedParts(ctx, f.Upload, f.Epoch, 1, f.Fed)
	if err != nil {
		return err
	}
	var there parts.Set
	for _, n := range acked {
		there.Add(n)
	}
	for _, first := range held {
		// The queue tells where a run begins, not how long it is: the rest of its
		// cell counts as held, and what was not is found when that run is done.
		for n := first; n <= f.Plan.Cell(first).Last(); n++ {
			there.Add(n)
		}
	}
	runs := slices.Collect(f.Plan.Missing(1, f.Fed, &there))
	within := room.fit(f.Plan, runs)
	if within, err = d.affordAgain(ctx, f.Account, runs[:within]); err != nil {
		return err
	}
	grace := feedGrace
	if within < len(runs) {
		grace = refeedRest
		time.AfterFunc(grace, d.sweeps.wake)
	}
	took, err := d.store.RecordSwept(ctx, f, grace)
	if err != nil || !took || within == 0 {
		return err
	}
	if room.asking {
		room.asked = true
		if wait, err := d.ask(ctx, f.Account, providers.CallPut); err != nil || wait > 0 {
			return err
		}
	}
	var jobs []parts.Publication
	for _, run := range runs[:within] {
		jobs = append(jobs, republication(f, run))
	}
	d.log.Info("feeds again", zap.Stringer("upload", f.Upload), zap.Int("epoch", f.Epoch), zap.String("account", f.Account),
		zap.Int("runs", len(jobs)), zap.Int("held", len(held)))
	if err := d.queue.Publish(ctx, jobs); err != nil {
		return err
	}
	d.cfg.Watcher.FedAgain(f.Account, len(jobs))
	return nil
}

// republication is a run fed again. Of an upload fed only now (which is swept
// where the queue was lost) the feeder, or another sweep, may be about to
// publish the same runs: by the same ids, the queue takes them once.
func republication(f parts.Feedable, r parts.Run) parts.Publication {
	p := publication(f, r)
	if f.Recent {
		p.Feed = f.FeedCount
	}
	return p
}

// refeedRest is when an upload of which some had to wait is looked at again.
const refeedRest = time.Second

// affordAgain spends the published rate of parts on runs that are fed again,
// and returns how many of them it allows now.
func (d *Dispatcher) affordAgain(ctx context.Context, account string, runs []parts.Run) (within int, err error) {
	rate, bounded := d.rateOf(windows.Call{Account: account, Call: string(providers.CallPut)})
	if !bounded {
		return len(runs), nil
	}
	for i, run := range runs {
		if wait, err := d.store.TakeCalls(ctx, account, providers.CallPut, run.Count, rate); err != nil || wait > 0 {
			return i, err
		}
	}
	return len(runs), nil
}

func (d *Dispatcher) sweepDigests(ctx context.Context, lost bool) error {
	waiting, err := d.store.Digesting(ctx, sweepSize)
	if err != nil {
		return err
	}
	for _, w := range waiting {
		if !w.Due && !lost {
			continue
		}
		held, err := d.queue.HeldDigest(ctx, w.ID)
		if err != nil {
			return err
		}
		if held {
			continue
		}
		if err := d.publishDigestJob(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dispatcher) publishDigestJob(ctx context.Context, w uploads.DigestWait) error {
	took, err := d.store.TouchDigesting(ctx, w.ID, feedGrace)
	if err != nil || !took {
		return err
	}
	return d.queue.Publish(ctx, []parts.Publication{{
		Job: parts.Job{Upload: w.ID, Account: w.Account, Pool: w.Pool}, Feed: w.FeedCount + 1,
	}})
}
