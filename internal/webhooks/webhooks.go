// Package webhooks sends events to the endpoints that are configured for their
// tenant, as Standard Webhooks describes.
//
// A message is written in the transaction of its event and tried until the
// endpoint takes it: at least once, in no promised order, with the same id each
// time. Each endpoint has its own loop, so one that hangs holds up no other.
// Several dispatchers share the messages by claims that lapse: if a process dies
// in the middle of a try, the message is tried again.
package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
)

// Endpoint is where a tenant's events go.
type Endpoint struct {
	Name    string
	Tenant  string
	URL     string
	Types   []string           // of events; empty for all
	Secrets []providers.Secret // each signs; two while one replaces the other
	Reach   reach.Reach        // which addresses it may have besides public ones
}

// store is the record of messages; postgres.Store meets it.
type store interface {
	SetWebhooks(ctx context.Context, endpoints []uploads.WebhookEndpoint) error
	Webhooks(ctx context.Context, tenant string) ([]uploads.WebhookEndpoint, error)
	ClaimWebhookMessages(ctx context.Context, tenant, endpoint string, most int, lease time.Duration) ([]uploads.WebhookMessage, error)
	WebhookDelivered(ctx context.Context, endpoint string, id uuid.UUID) error
	WebhookFailed(ctx context.Context, f uploads.WebhookFailure) (disabled bool, err error)
	ReleaseWebhookMessage(ctx context.Context, m uploads.WebhookMessage) error
	EnableWebhook(ctx context.Context, tenant, name string) error
	ReplayWebhook(ctx context.Context, r uploads.WebhookReplay) (int64, error)
	DropOldWebhookMessages(ctx context.Context) error
}

// Bounds of sending.
const (
	maxTogether   = 8 // messages to one endpoint at once
	tryTimeout    = 15 * time.Second
	claimLease    = time.Minute     // longer than a try and its recording
	recordTimeout = 5 * time.Second // for the outcome of a try
	pollInterval  = time.Second
	failedPause   = 5 * time.Second // after Postgres could not be asked
	firstDelay    = 5 * time.Second // before a message's second try; it doubles with each
	longestDelay  = 6 * time.Hour
	dropInterval  = time.Hour
)

// Webhooks sends messages and manages the endpoints. It is safe for use by many
// goroutines.
type Webhooks struct {
	endpoints []Endpoint
	store     store
	http      *http.Client
	log       *zap.Logger
}

// New makes a Webhooks over transport, which should be a reach.Guard; nothing
// is sent before Run.
func New(endpoints []Endpoint, store store, transport http.RoundTripper, log *zap.Logger) *Webhooks {
	return &Webhooks{
		endpoints: endpoints, store: store, log: log.Named("webhooks"),
		http: &http.Client{
			Transport: transport,
			Timeout:   tryTimeout,
			// A redirect could carry what is signed to a host that nobody configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Announce records which endpoints there are. Events committed afterwards have
// messages for them. It may be repeated.
func (w *Webhooks) Announce(ctx context.Context) error {
	all := make([]uploads.WebhookEndpoint, len(w.endpoints))
	for i, e := range w.endpoints {
		all[i] = uploads.WebhookEndpoint{Name: e.Name, Tenant: e.Tenant, Types: e.Types}
	}
	return w.store.SetWebhooks(ctx, all)
}

// Run sends messages until ctx ends. Tries in hand are then cut short and given
// back, for another dispatcher to make at once.
func (w *Webhooks) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for _, e := range w.endpoints {
		loops.Go(func() { w.serve(ctx, e) })
	}
	loops.Go(func() {
		for {
			if err := w.store.DropOldWebhookMessages(ctx); err != nil && ctx.Err() == nil {
				w.log.Warn("old messages are not dropped", zap.Error(err))
			}
			if !backoff.Pause(ctx, dropInterval) {
				return
			}
		}
	})
	loops.Wait()
}

// serve is the loop of one endpoint. It does not pause while there are messages
// and all of them arrive.
func (w *Webhooks) serve(ctx context.Context, e Endpoint) {
	down := false
	for {
		n, ok, err := w.pass(ctx, e)
		wait := pollInterval
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !down {
				w.log.Warn("webhook is held up", zap.String("endpoint", e.Name), zap.Error(err))
			}
			wait = failedPause
		case ok && n > 0:
			wait = 0
		}
		down = err != nil
		if !backoff.Pause(ctx, wait) {
			return
		}
	}
}

// pass sends what is due to an endpoint; ok is false if one of n tries failed.
func (w *Webhooks) pass(ctx context.Context, e Endpoint) (n int, ok bool, err error) {
	messages, err := w.store.ClaimWebhookMessages(ctx, e.Tenant, e.Name, maxTogether, claimLease)
	if err != nil {
		return 0, false, err
	}
	errs := make([]error, len(messages))
	arrived := make([]bool, len(messages))
	var tries sync.WaitGroup
	for i, m := range messages {
		tries.Go(func() { arrived[i], errs[i] = w.try(ctx, e, m) })
	}
	tries.Wait()
	return len(messages), !slices.Contains(arrived, false), errors.Join(errs...)
}

// try sends one message and records what came of it.
func (w *Webhooks) try(ctx context.Context, e Endpoint, m uploads.WebhookMessage) (arrived bool, err error) {
	sendErr := w.send(ctx, e, m)
	stopped := ctx.Err() != nil
	// The outcome is recorded even while stopping: else the message is sent twice.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	refusal, _ := errors.AsType[*refusedError](sendErr)
	switch {
	case sendErr == nil:
		return true, w.store.WebhookDelivered(ctx, e.Name, m.ID)
	case stopped && refusal == nil:
		return false, w.store.ReleaseWebhookMessage(ctx, m)
	}
	f := uploads.WebhookFailure{Endpoint: e.Name, Message: m, Reason: sendErr.Error(), Delay: backoff.Delay(m.Tries+1, firstDelay, longestDelay)}
	if refusal != nil {
		f.Gone = refusal.status == http.StatusGone
		f.Delay = max(f.Delay, min(refusal.after, longestDelay))
	}
	disabled, err := w.store.WebhookFailed(ctx, f)
	if disabled {
		w.log.Error("webhook is disabled", zap.String("endpoint", e.Name), zap.String("reason", f.Reason))
	} else {
		w.log.Info("webhook message did not arrive", zap.String("endpoint", e.Name), zap.Stringer("message", m.ID),
			zap.Int("tries", m.Tries+1), zap.String("reason", f.Reason))
	}
	return false, err
}

// refusedError says that the endpoint answered with something other than 2xx.
type refusedError struct {
	status int
	after  time.Duration // asked for by the endpoint
}

func (e *refusedError) Error() string {
	if e.status >= 300 && e.status < 400 {
		return fmt.Sprintf("the endpoint answers %d: redirects are not followed; configure the address that it redirects to", e.status)
	}
	return fmt.Sprintf("the endpoint answers %d", e.status)
}

// body is the JSON of a message.
type body struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// send makes one request. Its error does not quote the URL, which may hold a
// secret.
func (w *Webhooks) send(ctx context.Context, e Endpoint, m uploads.WebhookMessage) error {
	text, err := json.Marshal(body{Type: m.Type, Timestamp: m.At.UTC(), Data: m.Payload})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	req, err := newRequest(reach.With(ctx, e.Reach), e, "msg_"+m.ID.String(), time.Now(), text)
	if err != nil {
		return err
	}
	res, err := w.http.Do(req)
	if err != nil {
		if refused, ok := errors.AsType[*reach.RefusedError](err); ok {
			return fmt.Errorf("the endpoint's address is refused: %s; if it is meant, add its network to the webhook's allow_networks", refused.Why)
		}
		if withURL, ok := errors.AsType[*url.Error](err); ok {
			if withURL.Timeout() {
				return fmt.Errorf("no answer within %s", tryTimeout)
			}
			err = withURL.Err
		}
		return fmt.Errorf("no answer: %w", err)
	}
	_ = res.Body.Close() // only the status counts
	if res.StatusCode/100 != 2 {
		return &refusedError{status: res.StatusCode, after: retryAfter(res.Header)}
	}
	return nil
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, int(longestDelay/time.Second)))*time.Second, longestDelay)
}

// ListWebhooks returns the tenant's endpoints as they stand.
func (w *Webhooks) ListWebhooks(ctx context.Context, tenant string) ([]uploads.WebhookEndpoint, error) {
	return w.store.Webhooks(ctx, tenant)
}

// EnableWebhook resumes sending to a disabled endpoint.
func (w *Webhooks) EnableWebhook(ctx context.Context, tenant, name string) error {
	return w.store.EnableWebhook(ctx, tenant, name)
}

// ReplayWebhook queues messages to be sent again, under their old ids, and returns
// how many.
func (w *Webhooks) ReplayWebhook(ctx context.Context, r uploads.WebhookReplay) (int64, error) {
	return w.store.ReplayWebhook(ctx, r)
}

// TestWebhook sends a message of the type webhook.test at once, even to a disabled
// endpoint. It returns why the message did not arrive, "" if it did.
func (w *Webhooks) TestWebhook(ctx context.Context, tenant, name string) (why string, err error) {
	i := slices.IndexFunc(w.endpoints, func(e Endpoint) bool { return e.Name == name && e.Tenant == tenant })
	if i < 0 {
		return "", uploads.ErrNoWebhook
	}
	data, err := json.Marshal(map[string]string{"endpoint": name, "tenant": tenant})
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	err = w.send(ctx, w.endpoints[i], uploads.WebhookMessage{ID: uuid.New(), Type: "webhook.test", At: time.Now(), Payload: data})
	if err != nil {
		return err.Error(), nil //nolint:nilerr // what was asked for
	}
	return "", nil
}
