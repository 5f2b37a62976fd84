package dispatch

import (
	"context"
	"time"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

type explainStore interface {
	Circumstances(ctx context.Context, tenant string, id uploads.ID) (uploads.Circumstances, error)
}

// queuePatience is how long the queue may take to say what it holds before it
// counts as not reachable.
const queuePatience = 2 * time.Second

// Explain says why an upload is where it is, or fails with uploads.ErrNotFound.
// It changes nothing, and may be asked as often as one likes.
func (d *Dispatcher) Explain(ctx context.Context, tenant string, id uploads.ID) (uploads.Explanation, error) {
	// The circumstances first: what moves meanwhile makes them older, not wrong
	// about a state that they did not see.
	c, err := d.store.Circumstances(ctx, tenant, id)
	if err != nil {
		return uploads.Explanation{}, err
	}
	if c.Upload, err = d.Upload(ctx, tenant, id); err != nil {
		return uploads.Explanation{}, err
	}
	accounts, err := d.Accounts(ctx)
	if err != nil {
		return uploads.Explanation{}, err
	}
	for _, a := range accounts {
		if a.Name == c.Upload.Account && a.Provider == c.Upload.Provider {
			c.Account = &a
		}
	}
	c.RateWaits = d.rateWaits(c.Upload.Account, c.Account)
	for _, w := range d.Workers(ctx) {
		if w.Pool == c.Pool {
			c.Workers = append(c.Workers, w)
		}
	}
	c.MovedAt = d.live.movedAt(id)
	c.OnQueue, c.QueueDown = d.onQueue(ctx, c.Upload)
	if c.Upload.State == uploads.Uploading || c.Upload.State == uploads.Digesting {
		c.QueuePaused = d.queuePaused(ctx, c.Pool)
	}
	if c.Sealed, err = d.sealedAway(ctx, c.Upload); err != nil {
		return uploads.Explanation{}, err
	}
	return uploads.Explain(c), nil
}

// explainQueue is what the queue tells of its own state.
type explainQueue interface {
	// Paused is until when somebody paused the deliveries to a pool, zero for not.
	Paused(ctx context.Context, pool string) (until time.Time, err error)
}

// queuePaused asks the queue whether workers of the pool are given jobs. Where it
// does not answer, that is told beside.
func (d *Dispatcher) queuePaused(ctx context.Context, pool string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	until, err := d.queue.Paused(ctx, pool)
	if err != nil {
		return time.Time{}
	}
	return until
}

// sealedAway reports whether no key that is given here opens the session of an
// upload in uploading: nobody can be assigned a part of it then.
func (d *Dispatcher) sealedAway(ctx context.Context, u uploads.Upload) (bool, error) {
	if u.State != uploads.Uploading {
		return false, nil
	}
	known, err := d.store.Assignable(ctx, []uploads.ID{u.ID})
	if err != nil {
		return false, err
	}
	a, ok := known[u.ID]
	if !ok || a.State != uploads.Uploading {
		return false, nil // moved on, or is held
	}
	_, err = d.sealer.Open(a.Session, sessionUse(u.ID, a.Epoch))
	return err != nil, nil
}

// rateWaits returns the calls of an account whose published rate is spent.
func (d *Dispatcher) rateWaits(name string, account *uploads.AccountStatus) map[string]time.Duration {
	if account == nil {
		return nil
	}
	waits := map[string]time.Duration{}
	for _, r := range account.Rates {
		rate, ok := d.rateOf(windows.Call{Account: name, Call: r.Call})
		if !ok {
			continue
		}
		perSecond, burst := rate.Spend()
		if over := r.Spent + 1 - burst; over > 0 {
			waits[r.Call] = time.Duration(over / perSecond * float64(time.Second))
		}
	}
	if wait := time.Until(d.flows[name].putAgain()); wait > 0 {
		waits[string(providers.CallPut)] = wait
	}
	return waits
}

// onQueue asks the queue how many jobs of the upload it holds, queued or in
// hand, where it is to hold any.
func (d *Dispatcher) onQueue(ctx context.Context, u uploads.Upload) (held int, down bool) {
	ctx, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	switch u.State {
	case uploads.Uploading:
		runs, err := d.queue.Held(ctx, u.Account, u.ID, u.Epoch)
		return len(runs), err != nil
	case uploads.Digesting:
		there, err := d.queue.HeldDigest(ctx, u.ID)
		if there {
			held = 1
		}
		return held, err != nil
	case uploads.Queued, uploads.Beginning, uploads.Finishing, uploads.Completed, uploads.Failed, uploads.Cancelled:
		return 0, false
	default:
		return 0, false
	}
}
