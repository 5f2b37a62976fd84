package client

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/api/wire"
)

type (
	// Webhook is an endpoint of webhooks as it stands.
	Webhook = wire.Webhook
	// WebhookReplay selects messages that are sent again.
	WebhookReplay = wire.WebhookReplay
)

// WebhookEvent is what a webhook brings.
type WebhookEvent struct {
	ID        string          `json:"-"` // the same in every try: remember it, and take an event once
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"` // of the event
	Data      json.RawMessage `json:"data"`
}

// webhookTolerance is how old or early a try may be.
const webhookTolerance = 5 * time.Minute

// ErrWebhook says that a request is none of mediaferry's, or an old one that
// somebody sends again.
var ErrWebhook = errors.New("not a webhook signed with this secret")

// VerifyWebhook reads the body of a webhook's request once its signature is found
// to be that of one of the secrets, as they are in the dispatcher's settings:
// whsec_ and base64. Give two while one takes the other's place. The error is
// ErrWebhook, wrapped, for whatever should be answered with 401.
func VerifyWebhook(header http.Header, body []byte, secrets ...string) (WebhookEvent, error) {
	return verifyWebhook(header, body, time.Now(), secrets...)
}

func verifyWebhook(header http.Header, body []byte, now time.Time, secrets ...string) (WebhookEvent, error) {
	id, seconds := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if id == "" || err != nil {
		return WebhookEvent{}, fmt.Errorf("%w: webhook-id or webhook-timestamp is missing", ErrWebhook)
	}
	if age := now.Sub(time.Unix(at, 0)).Abs(); age > webhookTolerance {
		return WebhookEvent{}, fmt.Errorf("%w: it was signed %s from now", ErrWebhook, age.Round(time.Second))
	}
	found := false
	for i, secret := range secrets {
		text, _ := strings.CutPrefix(secret, "whsec_")
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) == 0 {
			return WebhookEvent{}, fmt.Errorf("secret %d is not whsec_ and base64", i+1)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + seconds + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		for signature := range strings.FieldsSeq(header.Get("Webhook-Signature")) {
			encoded, isV1 := strings.CutPrefix(signature, "v1,")
			got, err := base64.StdEncoding.DecodeString(encoded)
			found = found || isV1 && err == nil && hmac.Equal(got, want)
		}
	}
	if !found {
		return WebhookEvent{}, fmt.Errorf("%w: no signature is right", ErrWebhook)
	}
	e := WebhookEvent{ID: id}
	if err := json.Unmarshal(body, &e); err != nil {
		return WebhookEvent{}, fmt.Errorf("read the webhook: %w", err)
	}
	return e, nil
}

// Webhooks returns the tenant's endpoints, by name.
func (c *Client) Webhooks(ctx context.Context) ([]Webhook, error) {
	var list wire.WebhookList
	if _, err := c.call(ctx, http.MethodGet, "/v1/webhooks", nil, &list); err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	return list.Webhooks, nil
}

// TestWebhook has a webhook.test sent and returns why it did not arrive, "" if it
// did.
func (c *Client) TestWebhook(ctx context.Context, name string) (string, error) {
	var result wire.WebhookTest
	if _, err := c.call(ctx, http.MethodPost, webhookPath(name)+"/test", nil, &result); err != nil {
		return "", fmt.Errorf("test webhook %s: %w", name, err)
	}
	return result.Error, nil
}

// EnableWebhook has a disabled endpoint tried again. It may be repeated.
func (c *Client) EnableWebhook(ctx context.Context, name string) error {
	if _, err := c.callAgain(ctx, http.MethodPost, webhookPath(name)+"/enable", nil, nil); err != nil {
		return fmt.Errorf("enable webhook %s: %w", name, err)
	}
	return nil
}

// ReplayWebhook has messages sent again, under their old ids, and returns how many.
func (c *Client) ReplayWebhook(ctx context.Context, name string, r WebhookReplay) (int64, error) {
	var result wire.WebhookReplayed
	if _, err := c.call(ctx, http.MethodPost, webhookPath(name)+"/replay", r, &result); err != nil {
		return 0, fmt.Errorf("replay webhook %s: %w", name, err)
	}
	return result.Messages, nil
}

func webhookPath(name string) string { return "/v1/webhooks/" + url.PathEscape(name) }
