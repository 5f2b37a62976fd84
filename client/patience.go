package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"mediaferry/internal/backoff"
)

// Bounds of the pause before a call is made again.
const (
	firstAgain = 250 * time.Millisecond
	lastAgain  = 5 * time.Second
)

// WithPatience makes the client make a call again that got no answer, or the answer
// that the dispatcher cannot for now, for up to most from the first such call on:
// one whose repetition changes nothing whatever became of it, and any other where
// its request cannot have left. told, which may be nil, is called with the reason
// when that begins, and with nil when there is an answer again; calls made side by
// side are told of as one. Zero is no patience: then Wait gives up too.
func WithPatience(most time.Duration, told func(why error)) Option {
	return func(c *Client, _ *http.Transport) { c.patience = &patience{most: most, told: told} }
}

// patience is what the calls of a client know of each other while there is no
// answer: one that begins late in an outage waits for the rest of the time alone.
type patience struct {
	most time.Duration
	told func(error)

	mu          sync.Mutex
	waiting     int       // calls that will be made again
	since, last time.Time // first and last call of the outage; since is zero where there is none
}

// Repeat makes a call until it succeeds, its error is none that passes, or the
// client's patience is over; then it returns that error. The call must be one that
// may be repeated.
func (c *Client) Repeat(ctx context.Context, passes func(error) bool, call func() error) error {
	p := c.patience
	if p == nil {
		return call()
	}
	var begun time.Time // of failing
	for tries := 1; ; tries++ {
		err := call()
		if err == nil || ctx.Err() != nil || !passes(err) {
			p.over(!begun.IsZero(), err == nil || ctx.Err() == nil && !IsAway(err))
			return err
		}
		now := time.Now()
		if begun.IsZero() {
			begun = now
			p.enter(now, err)
		}
		left := p.missed(now, begun)
		if left <= 0 {
			p.over(true, false)
			return err
		}
		pause := backoff.Delay(tries, firstAgain, lastAgain)
		if e, ok := errors.AsType[*Error](err); ok {
			pause = max(pause, e.RetryAfter)
		}
		if !backoff.Pause(ctx, min(pause, left)) {
			p.over(true, false)
			return fmt.Errorf("%w, waiting after: %v", context.Cause(ctx), err) //nolint:errorlint // it was given up, not refused
		}
	}
}

// enter notes that a call begins to wait, and tells of the first.
func (p *patience) enter(now time.Time, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// What was given up long ago says nothing of now.
	if p.since.IsZero() || now.Sub(p.last) > p.most {
		p.since = now
	}
	p.waiting++
	if p.waiting == 1 && p.told != nil && now.Sub(p.since) < p.most {
		p.told(why)
	}
}

// missed notes that a call that has been failing since begun did so again, and
// returns how long to go on.
func (p *patience) missed(now, begun time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = now
	if !p.since.IsZero() && p.since.Before(begun) {
		begun = p.since
	}
	return begun.Add(p.most).Sub(now)
}

// over notes that a call has come to its end.
func (p *patience) over(waited, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if waited {
		p.waiting--
	}
	if !answered || p.since.IsZero() || !waited && p.waiting > 0 {
		return
	}
	p.since = time.Time{}
	if waited && p.told != nil {
		p.told(nil)
	}
}

// IsAway reports whether err says that there was no answer, or one that the
// dispatcher, staging, or what they need, cannot for now: later is of use.
func IsAway(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status == http.StatusTooManyRequests || e.Status == http.StatusBadGateway ||
			e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
	}
	if e, ok := errors.AsType[*stagingError](err); ok {
		return e.status == http.StatusTooManyRequests || e.status >= http.StatusInternalServerError
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrSchemeMismatch) {
		return false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	_, ok := errors.AsType[*url.Error](err)
	return ok
}

// unsent reports whether err says that there was no connection to send the request
// by, so that nothing came of it.
func unsent(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}
