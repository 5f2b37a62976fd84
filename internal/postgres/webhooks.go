package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// How long webhooks are given.
const (
	webhookPatience = 5 * 24 * time.Hour  // tries of one message
	endpointSilence = 3 * 24 * time.Hour  // tries of an endpoint that all fail, before it is disabled
	webhookKept     = 14 * 24 * time.Hour // for replay
)

// SetWebhooks says which endpoints there are: events that are committed from now
// on have messages for these. It may be repeated. Messages for others are kept
// and not sent.
func (s *Store) SetWebhooks(ctx context.Context, endpoints []uploads.WebhookEndpoint) error {
	return s.inTx(ctx, "set webhooks", func(tx pgx.Tx) error {
		if err := s.q.LockWebhooks(ctx, tx); err != nil {
			return err
		}
		names := []string{}
		for _, e := range endpoints {
			names = append(names, e.Name)
			if err := s.q.SetWebhook(ctx, tx, e.Name, e.Tenant, append([]string{}, e.Types...)); err != nil {
				return err
			}
		}
		return s.q.RemoveWebhooks(ctx, tx, names)
	})
}

// Webhooks returns the tenant's endpoints as they stand, by name.
func (s *Store) Webhooks(ctx context.Context, tenant string) ([]uploads.WebhookEndpoint, error) {
	rows, err := s.q.Webhooks(ctx, s.pool, tenant)
	if err != nil {
		return nil, unavailable("list webhooks", err)
	}
	out := make([]uploads.WebhookEndpoint, len(rows))
	for i, r := range rows {
		out[i] = uploads.WebhookEndpoint{
			Name: r.Name, Tenant: r.Tenant, Types: r.Types, Pending: r.Pending, GivenUp: r.GivenUp,
			FailingSince: value(r.FailingSince), LastError: r.LastError,
			DisabledAt: value(r.DisabledAt), DisabledReason: r.DisabledReason,
		}
	}
	return out, nil
}

// ClaimWebhookMessages takes up to most messages of an endpoint that are due, one
// if the endpoint fails, for as long as the lease: if nothing is recorded until
// then they are due again.
func (s *Store) ClaimWebhookMessages(ctx context.Context, tenant, endpoint string, most int, lease time.Duration) ([]uploads.WebhookMessage, error) {
	rows, err := s.q.ClaimWebhookMessages(ctx, s.pool, db.ClaimWebhookMessagesParams{
		Tenant: tenant, Endpoint: endpoint, Most: int32(most), Lease: lease, //nolint:gosec // a small constant
	})
	if err != nil {
		return nil, unavailable("claim webhook messages", err)
	}
	out := make([]uploads.WebhookMessage, len(rows))
	for i, r := range rows {
		out[i] = uploads.WebhookMessage{
			ID: r.ID, Type: r.Type, At: r.CreatedAt, Payload: r.Payload, Claim: int(r.Claim), Tries: int(r.Tries),
		}
	}
	return out, nil
}

// WebhookDelivered records that the endpoint took the message. It may be repeated.
func (s *Store) WebhookDelivered(ctx context.Context, endpoint string, id uuid.UUID) error {
	return s.inTx(ctx, "record a webhook message", func(tx pgx.Tx) error {
		if err := s.q.WebhookMessageDelivered(ctx, tx, id); err != nil {
			return err
		}
		return s.q.WebhookWorks(ctx, tx, endpoint)
	})
}

// WebhookFailed records a failed try, unless the message has passed to another
// claim, and reports whether the endpoint is disabled for it.
func (s *Store) WebhookFailed(ctx context.Context, f uploads.WebhookFailure) (disabled bool, err error) {
	err = s.inTx(ctx, "record a failed try of a webhook", func(tx pgx.Tx) error {
		n, err := s.q.WebhookMessageFailed(ctx, tx, db.WebhookMessageFailedParams{
			ID: f.Message.ID, Claim: int32(f.Message.Claim), Error: clean(f.Reason), Delay: f.Delay, Patience: webhookPatience, //nolint:gosec // from the row
		})
		if err != nil || n == 0 {
			return err
		}
		if err := s.q.WebhookFails(ctx, tx, clean(f.Reason), f.Endpoint); err != nil {
			return err
		}
		n, err = s.q.DisableWebhook(ctx, tx, db.DisableWebhookParams{
			Name: f.Endpoint, Reason: clean(f.Reason), Gone: f.Gone, Patience: endpointSilence,
		})
		disabled = n > 0
		return err
	})
	return disabled, err
}

// ReleaseWebhookMessage gives a claim back: no try is counted.
func (s *Store) ReleaseWebhookMessage(ctx context.Context, m uploads.WebhookMessage) error {
	if err := s.q.ReleaseWebhookMessage(ctx, s.pool, m.ID, int32(m.Claim)); err != nil { //nolint:gosec // from the row
		return unavailable("give a webhook message back", err)
	}
	return nil
}

// EnableWebhook has a disabled endpoint tried again, or fails with
// uploads.ErrNoWebhook. It may be repeated.
func (s *Store) EnableWebhook(ctx context.Context, tenant, name string) error {
	n, err := s.q.EnableWebhook(ctx, s.pool, name, tenant)
	if err != nil {
		return unavailable("enable a webhook", err)
	}
	if n == 0 {
		return uploads.ErrNoWebhook
	}
	return nil
}

// ReplayWebhook has messages sent again and returns how many, or fails with
// uploads.ErrNoWebhook. Durable on return.
func (s *Store) ReplayWebhook(ctx context.Context, r uploads.WebhookReplay) (n int64, err error) {
	err = s.inTx(ctx, "replay webhook messages", func(tx pgx.Tx) error {
		found, err := s.q.WebhookOfTenant(ctx, tx, r.Endpoint, r.Tenant)
		if err != nil {
			return err
		}
		if found == 0 {
			return uploads.ErrNoWebhook
		}
		n, err = s.q.ReplayWebhook(ctx, tx, db.ReplayWebhookParams{
			Endpoint: r.Endpoint, Tenant: r.Tenant, Since: optional(r.Since), Upload: optional(r.Upload), Undelivered: r.Undelivered,
		})
		return err
	})
	return n, err
}

// DropOldWebhookMessages forgets messages that are kept no longer.
func (s *Store) DropOldWebhookMessages(ctx context.Context) error {
	if err := s.q.DropOldWebhookMessages(ctx, s.pool, webhookKept); err != nil {
		return unavailable("drop old webhook messages", err)
	}
	return nil
}
