package apitest

import (
	"context"

	"mediaferry/internal/uploads"
)

// ListWebhooks lists what the test set.
func (p port) ListWebhooks(_ context.Context, tenant string) ([]uploads.WebhookEndpoint, error) {
	var found []uploads.WebhookEndpoint
	for _, e := range p.uc.Webhooks {
		if e.Tenant == tenant {
			found = append(found, e)
		}
	}
	return found, p.uc.failure()
}

// TestWebhook says the last error of the endpoint.
func (p port) TestWebhook(_ context.Context, tenant, name string) (string, error) {
	e, err := p.webhook(tenant, name)
	if err != nil {
		return "", err
	}
	return e.LastError, nil
}

// EnableWebhook finds the endpoint and leaves it.
func (p port) EnableWebhook(_ context.Context, tenant, name string) error {
	_, err := p.webhook(tenant, name)
	return err
}

// ReplayWebhook counts what the endpoint has given up.
func (p port) ReplayWebhook(_ context.Context, r uploads.WebhookReplay) (int64, error) {
	e, err := p.webhook(r.Tenant, r.Endpoint)
	if err != nil {
		return 0, err
	}
	return e.GivenUp, nil
}

func (p port) webhook(tenant, name string) (*uploads.WebhookEndpoint, error) {
	for i, e := range p.uc.Webhooks {
		if e.Tenant == tenant && e.Name == name {
			return &p.uc.Webhooks[i], p.uc.failure()
		}
	}
	return nil, uploads.ErrNoWebhook
}
