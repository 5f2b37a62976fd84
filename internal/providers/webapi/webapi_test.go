package webapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
)

func TestWordsHoldNoSecret(t *testing.T) {
	t.Parallel()
	got := webapi.Words("bad SECRET "+strings.Repeat("ü", webapi.MaxWords), "SECRET", "")
	if strings.Contains(got, "SECRET") || len(got) > webapi.MaxWords || !utf8.ValidString(got) || !strings.HasPrefix(got, "bad [redacted] ü") {
		t.Errorf("%q", got)
	}
	if got := webapi.Words("signed by key ID with a MAC", "ID", "key ID with a MAC"); got != "signed by [redacted]" {
		t.Errorf("%q", got)
	}
	// A secret across the cut is struck before the cut is made.
	got = webapi.Words(strings.Repeat("x", webapi.MaxWords-3)+"SECRET", "SECRET")
	if strings.Contains(got, "SEC") {
		t.Errorf("part of the secret is in %q", got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999999": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0,
	} {
		if got := webapi.RetryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("%q is read as %s, want %s", value, got, want)
		}
	}
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	if got := webapi.RetryAfter(http.Header{"Retry-After": {at}}); got < 59*time.Minute || got > time.Hour {
		t.Errorf("%q is read as %s", at, got)
	}
}

func TestStatusKind(t *testing.T) {
	t.Parallel()
	for status, want := range map[int][2]providers.Kind{ // of a call that may be repeated, of one that finishes
		204: {providers.Transient, providers.UnknownOutcome},
		302: {providers.Transient, providers.UnknownOutcome},
		400: {providers.Rejected, providers.Rejected},
		401: {providers.Unauthorized, providers.Unauthorized},
		403: {providers.Unauthorized, providers.Unauthorized},
		408: {providers.Transient, providers.UnknownOutcome},
		429: {providers.Throttled, providers.Throttled},
		500: {providers.Transient, providers.UnknownOutcome},
		502: {providers.Transient, providers.UnknownOutcome},
		503: {providers.Throttled, providers.UnknownOutcome},
	} {
		got := [2]providers.Kind{webapi.StatusKind(status, providers.Transient), webapi.StatusKind(status, providers.UnknownOutcome)}
		if got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}
