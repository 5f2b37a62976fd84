package dispatch

import (
	"context"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

type feedStore interface {
	Feed(ctx context.Context, account string, most int, grace time.Duration,
		decide func(pass parts.FeedPass) ([]parts.Fed, error)) (took map[uploads.ID]bool, err error)
}

const feedSize = 64 // uploads looked at in one pass

// feed puts further runs of an account on the queue while its window is open.
// What is taken is committed first and published after: a crash between leaves
// runs that are counted in flight but not in the queue, which is what the sweep
// looks for.
func (d *Dispatcher) feed(ctx context.Context, account Account) error {
	for {
		var jobs []parts.Publication
		full := false
		took, err := d.store.Feed(ctx, account.Name, feedSize, d.cfg.FeedGrace, func(pass parts.FeedPass) ([]parts.Fed, error) {
			room := account.Window - pass.InFlight
			var fed []parts.Fed
			for _, f := range pass.Next {
				if room <= 0 {
					full = true
					break
				}
				var done parts.Set
				if f.Found {
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
					full = true
					break
				}
				room -= taken.Bytes
				fed = append(fed, taken)
				for _, r := range runs {
					jobs = append(jobs, publication(f, r))
				}
			}
			full = full || len(pass.Next) < feedSize
			return fed, nil
		})
		if err != nil {
			return err
		}
		kept := jobs[:0]
		for _, j := range jobs {
			if took[j.Job.Upload] {
				kept = append(kept, j)
			}
		}
		if len(kept) > 0 {
			if err := d.queue.Publish(ctx, kept); err != nil {
				return err
			}
		}
		if full || len(took) == 0 {
			return nil
		}
	}
}

// take chooses the runs of an upload that fit in room bytes. Parts that were
// found upstream are passed over.
func take(f parts.Feedable, done *parts.Set, room int64) (parts.Fed, []parts.Run) {
	fed := parts.Fed{Upload: f.Upload, Epoch: f.Epoch, FedBefore: f.Fed, Fed: f.Fed}
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
