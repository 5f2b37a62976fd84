package wire

import "time"

// Webhook is an endpoint as it stands.
type Webhook struct {
	Name           string    `json:"name"`
	Types          []string  `json:"types,omitempty" doc:"of the events that it wants; all if there are none"`
	Pending        int64     `json:"pending" doc:"messages that are still tried"`
	GivenUp        int64     `json:"given_up" doc:"messages that were tried for five days"`
	FailingSince   time.Time `json:"failing_since,omitzero" doc:"since when every try has failed"`
	LastError      string    `json:"last_error,omitempty"`
	DisabledAt     time.Time `json:"disabled_at,omitzero" doc:"since when nothing is sent"`
	DisabledReason string    `json:"disabled_reason,omitempty"`
}

// WebhookList is the endpoints of a tenant, by name.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks"`
}

// WebhookTest is what came of a test.
type WebhookTest struct {
	Error string `json:"error,omitempty" doc:"why the message did not arrive"`
}

// WebhookReplay selects messages that are sent again.
type WebhookReplay struct {
	Since       time.Time `json:"since,omitzero" doc:"of events since then"`
	Upload      string    `json:"upload,omitempty" doc:"about this upload alone"`
	Undelivered bool      `json:"undelivered,omitempty" doc:"leave out what was delivered"`
	All         bool      `json:"all,omitempty" doc:"all that are kept, of two weeks"`
}

// WebhookReplayed is what came of a replay.
type WebhookReplayed struct {
	Messages int64 `json:"messages" doc:"that are sent again"`
}
