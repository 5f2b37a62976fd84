package transfer

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// maxDeliveries is how often a job is delivered before a temporary failure is
// handed back.
const maxDeliveries = 3

const maxMessage = 500 // bytes of a Failure's message

// course is what is done about a failure.
type course struct {
	again     bool // one more try of the part within this delivery
	redeliver bool // then by another delivery, up to maxDeliveries
	forget    bool // the cached assignment is of no use any more
}

// courseOf decides by kind. It is the one place that does.
func courseOf(f *parts.Failure) course {
	if f.Code == parts.CodeStalled {
		// A slot was blocked for the whole timeout, and another delivery would block
		// one again. The dispatcher knows how the account's other parts fare.
		return course{}
	}
	switch providers.Kind(f.Kind) {
	case providers.Transient, parts.SourceTransient, providers.UnknownOutcome:
		// An unknown outcome is no different: a part may be put any number of times.
		return course{again: true, redeliver: true}
	case providers.Mismatch:
		return course{again: true}
	case providers.Unauthorized, providers.SessionLost:
		return course{forget: true}
	case providers.Throttled, providers.Rejected:
		return course{}
	case parts.SourceMissing, parts.SourceChanged, parts.SourceDenied:
		return course{}
	default:
		// A kind that this build does not know is for the dispatcher to judge.
		return course{}
	}
}

// platformFailure turns an error of a provider into a Failure.
func platformFailure(part int, started time.Time, err error) *parts.Failure {
	f := &parts.Failure{
		Part: part, Kind: string(providers.KindOf(err)), Message: message(err),
		Started: started, Failed: time.Now(),
	}
	if e, ok := errors.AsType[*providers.Error](err); ok {
		f.Code, f.RetryAfter = e.Code, e.RetryAfter
	}
	if f.Kind == string(providers.Mismatch) {
		f.Stage = uploads.StageTransit
	}
	return f
}

// sourceError is an error of staging that says which kind of parts.Failure it is.
type sourceError interface {
	error
	SourceKind() string
}

// sourceFailure turns an error of reading staging into a Failure.
func sourceFailure(part int, started time.Time, err error) *parts.Failure {
	f := &parts.Failure{
		Part: part, Kind: parts.SourceTransient, Message: message(err),
		Started: started, Failed: time.Now(),
	}
	if e, ok := errors.AsType[sourceError](err); ok {
		f.Kind = e.SourceKind()
	}
	if e, ok := errors.AsType[*sourceMismatchError](err); ok {
		f.Kind, f.Stage, f.Against = string(providers.Mismatch), uploads.StageStaging, e.known.From
	}
	return f
}

// unfit returns the Failure of a job that this worker cannot do.
func unfit(kind providers.Kind, part int, err error) *parts.Failure {
	now := time.Now()
	return &parts.Failure{
		Part: part, Kind: string(kind), Code: parts.CodeUnfit, Message: message(err),
		Started: now, Failed: now,
	}
}

// nameStall makes f say that the work stalled, if it did: the error that the
// stall caused says less. If staging was being read, it is staging that stalled.
func nameStall(work context.Context, f *parts.Failure) *parts.Failure {
	cause := context.Cause(work)
	switch {
	case !errors.Is(cause, errStalled):
	case strings.HasPrefix(f.Kind, "source_"):
		f.Kind, f.Code, f.Stage, f.Message = parts.SourceTransient, "", "", cause.Error()
	default:
		f.Kind, f.Code, f.Stage, f.Message = string(providers.Transient), parts.CodeStalled, "", cause.Error()
	}
	return f
}

// message returns err for a person, at most maxMessage bytes. An error of
// net/http carries the URL, and a URL may carry a signature: only the host is kept.
func message(err error) string {
	text := err.Error()
	if u, ok := errors.AsType[*url.Error](err); ok {
		host := "the server"
		if parsed, perr := url.Parse(u.URL); perr == nil && parsed.Host != "" {
			host = parsed.Host
		}
		text = u.Op + " " + host + ": " + u.Err.Error()
	}
	if len(text) > maxMessage {
		text = text[:maxMessage]
	}
	return strings.ToValidUTF8(text, "")
}
