package uploads

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// EventTypes returns the types of events that webhooks bring.
func EventTypes() []string {
	return []string{"upload.completed", "upload.failed", "upload.cancelled", "webhook.disabled"}
}

// WebhookEndpoint is who is told of events of a tenant, as it stands.
type WebhookEndpoint struct {
	Name           string
	Tenant         string
	Types          []string // of the events it wants; empty for all
	Pending        int64    // messages that are still tried
	GivenUp        int64    // messages that were tried for too long
	FailingSince   time.Time
	LastError      string
	DisabledAt     time.Time // nothing is sent since; zero if it is not disabled
	DisabledReason string
}

// WebhookMessage is an event on its way to one endpoint.
type WebhookMessage struct {
	ID      uuid.UUID // the same in every try
	Type    string
	At      time.Time
	Payload []byte // JSON
	Claim   int    // which claim of the message this is
	Tries   int    // that were made before
}

// WebhookFailure is a try that failed.
type WebhookFailure struct {
	Endpoint string
	Message  WebhookMessage
	Reason   string        // no secret
	Delay    time.Duration // until the next try
	Gone     bool          // the endpoint wants no more
}

// WebhookReplay selects messages that are sent again.
type WebhookReplay struct {
	Tenant      string
	Endpoint    string
	Since       time.Time // of their events; zero for all that are kept
	Upload      ID        // only what is about it; zero for all
	Undelivered bool      // leave out what was delivered
}

// ErrNoWebhook says that there is no such endpoint of the tenant.
var ErrNoWebhook = errors.New("no such webhook endpoint is configured")
