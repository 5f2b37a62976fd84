// Package webapi reads what is alike in the answers of the platforms' HTTP APIs:
// a bare status, a time to wait, and messages that may echo a secret.
package webapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"mediaferry/internal/providers"
)

// Direct returns a copy of the client that follows no redirects: one would carry
// what authorises a call to another host.
func Direct(client *http.Client) *http.Client {
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// StatusKind classifies an answer that has nothing but its HTTP status. lost is
// the kind to return if the status does not tell what became of the call.
func StatusKind(status int, lost providers.Kind) providers.Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return providers.Throttled
	case status == http.StatusServiceUnavailable && lost == providers.Transient:
		return providers.Throttled
	case status >= 500 || status < 400 || status == http.StatusRequestTimeout:
		// Below 400 the answer is not from these APIs but from something in between:
		// a redirect, which is not followed, or another kind of success. A 503 to a
		// finishing call is here too: a gateway may give up while the call goes on.
		return lost
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return providers.Unauthorized
	default:
		return providers.Rejected
	}
}

// RetryAfter reads the header in either form, 0 if there is none or it cannot be
// read.
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

// Words returns the platform's message, cut to MaxWords, with "[redacted]" in place
// of each of the secrets.
func Words(message string, secrets ...string) string {
	// The longest first: a secret that contains another would no longer match after
	// the shorter one was replaced.
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
