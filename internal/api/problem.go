package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"mediaferry/internal/access"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// retryAfter is how long a caller is asked to wait while something that is
// needed cannot be reached, in seconds.
const retryAfter = "5"

// problem turns an error of a use case into the answer. What the caller cannot
// help is logged here and told without its details.
func (s *server) problem(call string, err error) error {
	if fields := uploads.FieldErrors(err); len(fields) > 0 {
		details := make([]error, len(fields))
		for i, f := range fields {
			details[i] = &huma.ErrorDetail{Message: f.Detail, Location: location(f.Field)}
		}
		return huma.Error422UnprocessableEntity("the request is not valid", details...)
	}
	for _, known := range sentinels() {
		if errors.Is(err, known.err) {
			return known.answer(known.err.Error() + known.remedy)
		}
	}
	if errors.Is(err, uploads.ErrNoAccount) || errors.Is(err, uploads.ErrNoTenant) {
		return huma.Error404NotFound(err.Error()) // which says what there is
	}
	if e, ok := errors.AsType[*uploads.UnavailableError](err); ok {
		s.log.Warn("cannot serve", zap.String("call", call), zap.Error(err))
		switch {
		case e.Busy:
			return later(e.What + " is busy, and gave up after a while; try again later")
		case e.Full:
			return later(e.What + " has no room left on its disk; nothing is lost, and submissions are taken again once there is room")
		}
		return later(e.What + " is not reachable; try again later")
	}
	s.log.Error("request failed", zap.String("call", call), zap.Error(err))
	return huma.Error500InternalServerError("internal error; the dispatcher's log has the details")
}

// sentinel is an error that is the caller's to know of: told in its own words,
// and what to do about it where they do not say so.
type sentinel struct {
	err    error
	answer func(detail string) error
	remedy string
}

func sentinels() []sentinel {
	notFound := func(detail string) error { return huma.Error404NotFound(detail) }
	conflict := func(detail string) error { return huma.Error409Conflict(detail) }
	return []sentinel{
		{err: access.ErrUnknown, answer: notFound},
		{err: uploads.ErrNotFound, answer: notFound},
		{err: uploads.ErrNoBatch, answer: notFound},
		{err: uploads.ErrNoReport, answer: notFound, remedy: "; GET /v1/reports lists them"},
		{err: uploads.ErrNoSetAside, answer: notFound},
		{err: uploads.ErrNoWebhook, answer: notFound},
		{err: uploads.ErrKeyTaken, answer: conflict, remedy: "; use another key, or submit the same content"},
		{err: uploads.ErrEnded, answer: conflict},
		{err: uploads.ErrFinal, answer: conflict},
		{err: uploads.ErrNotFailed, answer: conflict},
		{err: uploads.ErrRefused, answer: conflict},
		{err: uploads.ErrNotWhole, answer: conflict},
		{err: uploads.ErrNoPresign, answer: conflict},
		{err: uploads.ErrUnsettled, answer: later, remedy: "; try again later"},
	}
}

// later is an answer that asks the caller to come again, and when.
func later(detail string) error {
	return huma.ErrorWithHeaders(huma.Error503ServiceUnavailable(detail),
		http.Header{"Retry-After": {retryAfter}})
}

// location is the place of a submission's field in the request.
func location(field string) string {
	switch field {
	case "tenant":
		return "header." + wire.TenantHeader
	case "id":
		return "path.id"
	}
	for _, place := range []string{"header.", "query.", "path."} {
		if strings.HasPrefix(field, place) {
			return field
		}
	}
	return "body." + field
}
