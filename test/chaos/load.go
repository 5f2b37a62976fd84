package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"mediaferry/client"
)

// submission is one upload as its submitter knows it.
type submission struct {
	number  int
	key     string // of the object, and the idempotency key
	size    int64
	account *account
	sums    sums
	at      time.Duration // after the start
	cancel  time.Duration // after it was accepted; 0 for never

	mu        sync.Mutex
	id        string // "" until a dispatcher has accepted it
	tries     int
	refused   error // by a dispatcher, for good
	changed   bool  // the object was replaced after it was accepted
	cancelled bool  // a cancel was asked for, whatever came of it
	retried   bool
	answered  []string // ids that were answered, if they differ
}

// sizeOf draws the size of an object: most are small, some take several parts,
// of which the platforms want 16 MiB, 4 MiB or 1 MiB.
func sizeOf(draws *rand.Rand, provider string) int64 {
	between := func(low, high int64) int64 { return low + draws.Int64N(high-low) }
	large := 3
	if provider == "s3" || provider == "tencentcos" || provider == "tencentsmh" {
		large = 14
	}
	switch p := draws.IntN(100); {
	case p < large:
		return between(18*mib, 40*mib)
	case p < large+12:
		return between(5*mib, 18*mib)
	case p < large+35:
		return between(mib, 5*mib)
	default:
		return between(4*kib, mib)
	}
}

// planLoad says what is submitted when. The same seed makes the same load.
func planLoad(opts options, accounts []*account) []*submission {
	draws := rand.New(rand.NewPCG(opts.seed, 1)) //nolint:gosec // to be repeatable is the point
	all := make([]*submission, opts.uploads)
	for i, next := 0, 0; i < len(all); i++ {
		a := accounts[next%len(accounts)]
		// This platform wants six uploads a minute at most: more would only wait.
		for next++; a.provider == "cdnetworks" && next/len(accounts)%4 != 0; next++ {
			a = accounts[next%len(accounts)]
		}
		s := &submission{
			number: i, key: fmt.Sprintf("film-%d-%04d.mp4", opts.seed, i), size: sizeOf(draws, a.provider),
			account: a, at: opts.duration * time.Duration(i) / time.Duration(len(all)),
		}
		if draws.IntN(100) < 5 {
			s.cancel = time.Duration(1+draws.IntN(4000)) * time.Millisecond
		}
		all[i] = s
	}
	return all
}

// load submits, cancels and retries.
type load struct {
	w    *world
	all  []*submission               // in the order of time, those of the warm-up last
	due  []*submission               // of these, what run submits
	apis map[string][]*client.Client // by tenant, one for each dispatcher
}

func newLoad(w *world, all []*submission) (*load, error) {
	l := &load{w: w, all: all, due: all, apis: make(map[string][]*client.Client)}
	for _, tenant := range tenants {
		clients, err := w.clients(tenant)
		if err != nil {
			return nil, err
		}
		l.apis[tenant] = clients
	}
	return l, nil
}

func (l *load) close() {
	for _, clients := range l.apis {
		for _, c := range clients {
			c.Close()
		}
	}
}

// run submits everything in its time and returns when each submission has been
// accepted or refused, or ctx has ended.
func (l *load) run(ctx context.Context) error {
	start := time.Now()
	var submitting sync.WaitGroup
	errs := make(chan error, len(l.due))
	for _, s := range l.due {
		select {
		case <-time.After(time.Until(start.Add(s.at))):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		submitting.Go(func() {
			if err := l.submit(ctx, s); err != nil {
				errs <- err
			}
		})
	}
	submitting.Wait()
	close(errs)
	return <-errs
}

// call asks one dispatcher after the other until one answers.
func (l *load) call(ctx context.Context, s *submission, ask func(context.Context, *client.Client) error) error {
	clients := l.apis[s.account.tenant]
	for try := s.number; ; try++ {
		callCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := ask(callCtx, clients[try%len(clients)])
		cancel()
		e, answered := errors.AsType[*client.Error](err)
		if err == nil || (answered && e.Status < http.StatusInternalServerError && e.Status != http.StatusTooManyRequests) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (l *load) submit(ctx context.Context, s *submission) (err error) {
	if s.sums, err = l.w.put(ctx, s.key, "first", s.size); err != nil {
		return fmt.Errorf("store %s: %w", s.key, err)
	}
	err = l.call(ctx, s, func(ctx context.Context, c *client.Client) error {
		u, _, err := c.Submit(ctx, client.Submission{
			Account: s.account.name, Source: client.Source{Bucket: bucket, Key: s.key}, IdempotencyKey: s.key,
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tries++
		if err == nil {
			s.id = u.ID
		}
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			s.refused = err
		}
		return nil
	}
	if s.number%5 == 0 { // the same submission again, at the other dispatcher, is the same upload
		_ = l.call(ctx, s, func(ctx context.Context, c *client.Client) error {
			u, _, err := c.Submit(ctx, client.Submission{
				Account: s.account.name, Source: client.Source{Bucket: bucket, Key: s.key}, IdempotencyKey: s.key,
			})
			s.mu.Lock()
			defer s.mu.Unlock()
			if err == nil && u.ID != s.id {
				s.answered = append(s.answered, u.ID)
			}
			return err
		})
	}
	if s.cancel == 0 {
		return nil
	}
	select {
	case <-time.After(s.cancel):
	case <-ctx.Done():
		return nil
	}
	l.cancel(ctx, s)
	return nil
}

func (l *load) cancel(ctx context.Context, s *submission) {
	s.mu.Lock()
	s.cancelled = true
	s.mu.Unlock()
	// One that is completed by now is refused, which is as it should be.
	_ = l.call(ctx, s, func(ctx context.Context, c *client.Client) error {
		_, err := c.Cancel(ctx, s.id)
		return err
	})
}

// retryFailed gives uploads that failed another life, once each, until ctx ends.
func (l *load) retryFailed(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, tenant := range tenants {
			for _, c := range l.apis[tenant] {
				callCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
				page, err := c.List(callCtx, client.Filter{States: []string{"failed"}, Limit: 100})
				cancel()
				if err != nil {
					continue
				}
				for _, u := range page.Uploads {
					l.retry(ctx, c, u.ID)
				}
				break
			}
		}
	}
}

func (l *load) retry(ctx context.Context, c *client.Client, id string) {
	for _, s := range l.all {
		s.mu.Lock()
		due := s.id == id && !s.retried && s.number%2 == 0
		s.mu.Unlock()
		if !due {
			continue
		}
		callCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
		if _, err := c.Retry(callCtx, id); err == nil {
			s.mu.Lock()
			s.retried = true
			s.mu.Unlock()
		}
		cancel()
	}
}
