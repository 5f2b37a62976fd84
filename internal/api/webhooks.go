package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// webhookCases are the use cases of whoever is told of events.
type webhookCases interface {
	ListWebhooks(ctx context.Context, tenant string) ([]uploads.WebhookEndpoint, error)
	// TestWebhook says why a message did not arrive, "" if it did.
	TestWebhook(ctx context.Context, tenant, name string) (why string, err error)
	EnableWebhook(ctx context.Context, tenant, name string) error
	// ReplayWebhook has messages sent again: durable on return.
	ReplayWebhook(ctx context.Context, r uploads.WebhookReplay) (int64, error)
}

func (s *server) registerWebhooks(api huma.API, op func(method, path, id, summary string, codes ...int) huma.Operation) {
	huma.Register(api, op("GET", "/v1/webhooks", "list-webhooks",
		"List the endpoints of webhooks", 422, 503), s.webhooks)
	huma.Register(api, op("POST", "/v1/webhooks/{name}/test", "test-webhook",
		"Send an endpoint a webhook.test", 404, 422, 503), s.testWebhook)
	huma.Register(api, op("POST", "/v1/webhooks/{name}/enable", "enable-webhook",
		"Try a disabled endpoint again", 404, 422, 503), s.enableWebhook)
	huma.Register(api, op("POST", "/v1/webhooks/{name}/replay", "replay-webhook",
		"Send messages again, under their old ids", 404, 422, 503), s.replayWebhook)
}

type webhooksAnswer struct {
	Body wire.WebhookList
}

func (s *server) webhooks(ctx context.Context, in *TenantParam) (*webhooksAnswer, error) {
	all, err := s.uc.ListWebhooks(ctx, in.Tenant)
	if err != nil {
		return nil, s.problem("list-webhooks", err)
	}
	out := wire.WebhookList{Webhooks: []wire.Webhook{}}
	for _, e := range all {
		out.Webhooks = append(out.Webhooks, wire.Webhook{
			Name: e.Name, Types: e.Types, Pending: e.Pending, GivenUp: e.GivenUp, FailingSince: utc(e.FailingSince),
			LastError: e.LastError, DisabledAt: utc(e.DisabledAt), DisabledReason: e.DisabledReason,
		})
	}
	return &webhooksAnswer{Body: out}, nil
}

// WebhookParam names an endpoint of the tenant.
type WebhookParam struct {
	TenantParam
	Name string `path:"name" doc:"the endpoint's name"`
}

type webhookTestAnswer struct {
	Body wire.WebhookTest
}

func (s *server) testWebhook(ctx context.Context, in *WebhookParam) (*webhookTestAnswer, error) {
	why, err := s.uc.TestWebhook(ctx, in.Tenant, in.Name)
	if err != nil {
		return nil, s.problem("test-webhook", err)
	}
	return &webhookTestAnswer{Body: wire.WebhookTest{Error: why}}, nil
}

func (s *server) enableWebhook(ctx context.Context, in *WebhookParam) (*struct{}, error) {
	if err := s.uc.EnableWebhook(ctx, in.Tenant, in.Name); err != nil {
		return nil, s.problem("enable-webhook", err)
	}
	return nil, nil // 204
}

type webhookReplayRequest struct {
	WebhookParam
	Body wire.WebhookReplay
}

type webhookReplayAnswer struct {
	Body wire.WebhookReplayed
}

func (s *server) replayWebhook(ctx context.Context, in *webhookReplayRequest) (*webhookReplayAnswer, error) {
	b := in.Body
	if b.All == (!b.Since.IsZero() || b.Upload != "") {
		return nil, s.problem("replay-webhook", &uploads.FieldError{
			Field: "since", Detail: "and upload select messages, or all does; give either",
		})
	}
	r := uploads.WebhookReplay{Tenant: in.Tenant, Endpoint: in.Name, Since: b.Since, Undelivered: b.Undelivered}
	var err error
	if r.Upload, err = parseID("upload", b.Upload); err != nil {
		return nil, s.problem("replay-webhook", err)
	}
	n, err := s.uc.ReplayWebhook(ctx, r)
	if err != nil {
		return nil, s.problem("replay-webhook", err)
	}
	return &webhookReplayAnswer{Body: wire.WebhookReplayed{Messages: n}}, nil
}
