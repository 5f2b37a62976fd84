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
	switch {
	case errors.Is(err, access.ErrUnknown):
		return huma.Error404NotFound(access.ErrUnknown.Error())
	case errors.Is(err, uploads.ErrNotFound):
		return huma.Error404NotFound(uploads.ErrNotFound.Error())
	case errors.Is(err, uploads.ErrKeyTaken):
		return huma.Error409Conflict(uploads.ErrKeyTaken.Error() + "; use another key, or submit the same content")
	case errors.Is(err, uploads.ErrRefused):
		return huma.Error409Conflict(uploads.ErrRefused.Error())
	case errors.Is(err, uploads.ErrNotFailed):
		return huma.Error409Conflict(uploads.ErrNotFailed.Error())
	case errors.Is(err, uploads.ErrFinal):
		return huma.Error409Conflict(uploads.ErrFinal.Error())
	case errors.Is(err, uploads.ErrNoSetAside):
		return huma.Error404NotFound(uploads.ErrNoSetAside.Error())
	case errors.Is(err, uploads.ErrNoReport):
		return huma.Error404NotFound(uploads.ErrNoReport.Error())
	case errors.Is(err, uploads.ErrNoPresign):
		return huma.Error409Conflict(uploads.ErrNoPresign.Error())
	case errors.Is(err, uploads.ErrNoBatch):
		return huma.Error404NotFound(uploads.ErrNoBatch.Error())
	case errors.Is(err, uploads.ErrNoWebhook):
		return huma.Error404NotFound(uploads.ErrNoWebhook.Error())
	case errors.Is(err, uploads.ErrNotWhole):
		return huma.Error409Conflict(uploads.ErrNotWhole.Error())
	case errors.Is(err, uploads.ErrEnded):
		return huma.Error409Conflict(uploads.ErrEnded.Error())
	case errors.Is(err, uploads.ErrNoAccount), errors.Is(err, uploads.ErrNoTenant):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, uploads.ErrUnsettled):
		return later(uploads.ErrUnsettled.Error() + "; try again later")
	case errors.Is(err, uploads.ErrOverloaded):
		return later(uploads.ErrOverloaded.Error() + "; try again later")
	}
	if e, ok := errors.AsType[*uploads.UnavailableError](err); ok {
		s.log.Warn("cannot serve", zap.String("call", call), zap.Error(err))
		if e.Full {
			return later(e.What + " has no room left on its disk; nothing is lost, and submissions are taken again once there is room")
		}
		return later(e.What + " is not reachable; try again later")
	}
	s.log.Error("request failed", zap.String("call", call), zap.Error(err))
	return huma.Error500InternalServerError("internal error; the dispatcher's log has the details")
}

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
	case "batch", "after":
		return "query." + field
	}
	for _, place := range []string{"header.", "query.", "path."} {
		if strings.HasPrefix(field, place) {
			return field
		}
	}
	return "body." + field
}
