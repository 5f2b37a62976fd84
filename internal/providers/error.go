package providers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"mediaferry/internal/reach"
)

// Kind classifies an error by what must be done about it.
type Kind string

// The kinds.
const (
	Transient      Kind = "transient"       // try again after a while
	Throttled      Kind = "throttled"       // try again after RetryAfter, with a smaller window
	Unauthorized   Kind = "unauthorized"    // credentials are refused
	SessionLost    Kind = "session_lost"    // the upstream session lapsed or is unknown: a new epoch
	Rejected       Kind = "rejected"        // this upload will never be taken
	Mismatch       Kind = "mismatch"        // a digest or size disagrees: the bytes must be sent again
	UnknownOutcome Kind = "unknown_outcome" // the call may have taken effect: probe first
)

// ErrWrongAsset is in the chain of a Mismatch from Finish if the asset was made,
// but of other bytes than the object's. Finishing again would make a second asset.
var ErrWrongAsset = errors.New("the asset is there and wrong")

// Error is the error of every method of a Provider.
type Error struct {
	Kind       Kind
	Call       string        // the platform's name of the call, such as "UploadPartEx"
	Code       string        // the platform's own code or HTTP status, "" for a transport error
	Message    string        // the platform's own words; without secrets
	RetryAfter time.Duration // with Throttled; 0 if the platform did not say
	Err        error         // the cause, if there is one
}

// Error names the call, the kind and what the platform said.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s", e.Call, e.Kind)
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err: that of a *Error in its chain, else
// Transient, since what is not classified may be tried again.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Transient
}

// TransportError returns the *Error of a request that brought no answer. It keeps
// only the host of the URL, since platforms put signatures in the query. kind is
// what such a failure means for the call: Transient if it may be repeated,
// UnknownOutcome for Finish. A cancelled context keeps its cause in the chain.
func TransportError(call string, kind Kind, err error) *Error {
	var host string
	if u, ok := errors.AsType[*url.Error](err); ok {
		if parsed, perr := url.Parse(u.URL); perr == nil {
			host = parsed.Host
		}
		err = u.Err
	}
	e := &Error{Kind: kind, Call: call, Err: err}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		// Nothing was sent, so nothing can have taken effect.
		e.Kind = Transient
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.Kind = Transient // nor here: whoever answered is not the platform
	}
	if refused, ok := errors.AsType[*reach.RefusedError](err); ok {
		// The platform would name the same address again.
		e.Kind, e.Code, e.Message, e.Err = Rejected, "address_refused", refused.Error(), nil
		return e
	}
	if host != "" && !errors.Is(err, context.Canceled) {
		e.Message = "no answer from " + host
	}
	return e
}
