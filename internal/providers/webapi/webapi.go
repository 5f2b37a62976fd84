// Package webapi reads what the platforms' HTTP APIs answer alike: a status that
// says all there is to know, a time to wait, and words that may echo a secret.
package webapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers"
)

// Direct returns a client over the transport of the given one that follows no
// redirect: it would carry what authorises a call to another host.
func Direct(client *http.Client) *http.Client {
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// StatusKind classifies an answer that has nothing but its HTTP status. lost is
// the kind of one that does not tell what became of the call.
func StatusKind(status int, lost providers.Kind) providers.Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return providers.Throttled
	case status == http.StatusServiceUnavailable && lost == providers.Transient:
		return providers.Throttled
	case status >= 500 || status < 400 || status == http.StatusRequestTimeout:
		// Below 400 it is no answer of these APIs, but of something on the way: a
		// redirect, which is not followed, or a success of another kind.
		// Of a finishing call, a 503 too: a gateway may give up on one that goes on.
		return lost
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return providers.Unauthorized
	default:
		return providers.Rejected
	}
}

// RetryAfter reads the header in either form, 0 if there is none to be read.
func RetryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 20); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// MaxWords bounds what is kept of a platform's words, in bytes.
const MaxWords = 300

// Words returns the platform's own, cut to MaxWords, with the secrets struck
// from them should it echo one.
func Words(message string, secrets ...string) string {
	// The longest first: one that has another in it would not be known after that
	// was struck.
	longest := slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return len(b) - len(a) })
	for _, secret := range longest {
		if secret != "" {
			message = strings.ReplaceAll(message, secret, "[redacted]")
		}
	}
	if len(message) > MaxWords {
		message = message[:MaxWords]
	}
	return strings.ToValidUTF8(message, "")
}
