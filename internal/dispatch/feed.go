package dispatch

import (
	"context"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

type feedStore interface {
	Feed(ctx context.Context, account string, most int, grace time.Duration,
		decide func(pass parts.FeedPass) ([]parts.Fed, error)) (took map[uploads.ID]bool, err error)
}

const (
	feedSize  = 64               // uploads looked at in one pass
	feedGrace = 10 * time.Second // how long a run just fed is left to the queue
)

// feed puts further runs of an account on the queue while its window is open.
// What is taken is committed first and published after: a crash between leaves
// runs that are counted in flight but not in the queue, which is what the sweep
// looks for.
func (d *Dispatcher) feed(ctx context.Context, account Account) error {
	for {
		hold, now := d.holds.get(account.Name, providers.CallPut)
		if hold.Held(now) {
			return nil // woken when it is over
		}
		p := feeding{d: d, account: account, asking: !hold.Down.IsZero()}
		took, err := d.store.Feed(ctx, account.Name, feedSize, feedGrace, func(pass parts.FeedPass) ([]parts.Fed, error) {
			return p.decide(ctx, pass)
		})
		if err != nil {
			return err
		}
		if p.full {
			d.flows[account.Name].note(func(f *flow) { f.full = true })
		}
		kept := p.jobs[:0]
		for _, j := range p.jobs {
			if took[j.Job.Upload] {
				kept = append(kept, j)
			}
		}
		if len(kept) > 0 && p.asking {
			if wait, err := d.ask(ctx, account.Name, providers.CallPut); err != nil || wait > 0 {
				return err // another call asks already; the sweep has this run
			}
		}
		if len(kept) > 0 {
			if err := d.queue.Publish(ctx, kept); err != nil {
				return err
			}
		}
		if p.done || len(took) == 0 {
			return nil
		}
	}
}

// feeding is one pass over an account.
type feeding struct {
	d       *Dispatcher
	account Account
	asking  bool // the platform is down: one run is to ask whether it is back

	jobs []parts.Publication
	full bool // work waits for the window
	done bool // no further pass is due now
}

func (p *feeding) decide(ctx context.Context, pass parts.FeedPass) ([]parts.Fed, error) {
	w := windows.Window{Bytes: pass.Window}.Within(p.account.limits())
	room := w.Bytes - pass.InFlight
	p.done = len(pass.Next) < feedSize
	if p.asking {
		p.done = true
		if pass.InFlight > 0 {
			return nil, nil // the sweep asks with what is in flight already
		}
	}
	var fed []parts.Fed
	for _, f := range pass.Next {
		first := pass.InFlight == 0 && len(fed) == 0
		least := f.Plan.RunBytes()
		if first {
			room = max(room, least) // whatever the window, one run may always travel
		}
		if room <= 0 || p.asking && !first {
			p.full, p.done = true, true
			break
		}
		if p.asking {
			room = least
		}
		var done parts.Set
		if f.AckedAhead {
			acked, err := pass.Acked(ctx, f, f.Fed+1, f.Plan.Count())
			if err != nil {
				return nil, err
			}
			for _, n := range acked {
				done.Add(n)
			}
		}
		taken, runs := take(f, &done, room)
		if taken.Fed == f.Fed {
			// The next run does not fit in what is left of the window. Nobody
			// behind may overtake it, or a large part would wait for ever.
			p.full, p.done = true, true
			break
		}
		if p.asking && len(runs) > 1 {
			runs = runs[:1]
			taken = upTo(f, taken, runs)
		}
		within, err := p.afford(ctx, pass, runs)
		if err != nil {
			return nil, err
		}
		short := within < len(runs)
		if short {
			taken = upTo(f, taken, runs[:within])
		}
		if taken.Fed > f.Fed {
			fed = append(fed, taken)
			room -= taken.Bytes
		}
		for _, r := range runs[:within] {
			p.jobs = append(p.jobs, publication(f, r))
		}
		if short {
			p.done = true
			break
		}
	}
	return fed, nil
}

// afford spends the published rate of parts, where there is one, on as many of
// the runs as it allows. When it allows more, the feeder is woken.
func (p *feeding) afford(ctx context.Context, pass parts.FeedPass, runs []parts.Run) (within int, err error) {
	rate, bounded := p.d.rateOf(windows.Call{Account: p.account.Name, Call: string(providers.CallPut)})
	if !bounded {
		return len(runs), nil
	}
	flow := p.d.flows[p.account.Name]
	if wait := time.Until(flow.putAgain()); wait > 0 {
		return 0, nil
	}
	for i, r := range runs {
		wait, err := pass.TakeCalls(ctx, r.Count, rate.Count, rate.Per)
		if err != nil {
			return 0, err
		}
		if wait > 0 {
			flow.putLater(time.Now().Add(wait))
			time.AfterFunc(wait, func() { p.d.wakeFeeder(p.account.Name) })
			return i, nil
		}
	}
	return len(runs), nil
}

// upTo is what is taken of an upload when only its first runs are.
func upTo(f parts.Feedable, taken parts.Fed, runs []parts.Run) parts.Fed {
	taken.Bytes, taken.Fed = 0, f.Fed
	for _, r := range runs {
		_, length := f.Plan.Span(r)
		taken.Bytes += length
		taken.Fed = r.Last()
	}
	return taken
}

// take chooses the runs of an upload that fit in room bytes. Parts that the
// ledger has already are passed over.
func take(f parts.Feedable, done *parts.Set, room int64) (parts.Fed, []parts.Run) {
	fed := parts.Fed{
		Upload: f.Upload, Epoch: f.Epoch, FedBefore: f.Fed, Fed: f.Fed, LedgerRead: f.AckedAhead, AckedBefore: f.Acked,
	}
	var runs []parts.Run
	last := f.Plan.Count()
	complete := true
	for run := range f.Plan.Missing(f.Fed+1, last, done) {
		_, length := f.Plan.Span(run)
		if fed.Bytes+length > room {
			complete = false
			break
		}
		fed.Bytes += length
		fed.Fed = run.Last()
		runs = append(runs, run)
	}
	if complete {
		fed.Fed = last
	}
	return fed, runs
}

func publication(f parts.Feedable, r parts.Run) parts.Publication {
	return parts.Publication{
		Job:  parts.Job{Upload: f.Upload, Account: f.Account, Pool: f.Pool, Epoch: f.Epoch, Run: r},
		Feed: f.FeedCount + 1,
	}
}
