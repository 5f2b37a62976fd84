package api

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// missingProperty is how the framework says that a field is missing: of the
// object that it is missing in.
var missingProperty = regexp.MustCompile(`^expected required property (\S+) to be present$`)

// unknownType begins what the framework says of a body of another type.
const unknownType = "unknown content type: "

// expected begins what the framework says of a value that is not what the
// description asks for.
var expected = regexp.MustCompile(`^expected (?:value to be )?(.*)$`)

// remedies are what to do about what the framework refuses, by its words.
func remedies() map[string]string {
	return map[string]string{
		"unexpected property":     "is not known here; leave it out, or mend its name: /docs lists the fields",
		"unknown query parameter": "is not known here; leave it out, or mend its name: /docs lists the parameters",
	}
}

// tellPlaces makes of a problem that the framework found one like those of the
// use cases: each entry names the very field, and the body where it is about that.
// What was sent is repeated only where it is a single value.
func tellPlaces(_ huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	if len(p.Errors) == 0 && strings.HasPrefix(p.Detail, "request body is ") {
		what := strings.TrimPrefix(p.Detail, "request body ")
		switch p.Status {
		case http.StatusRequestEntityTooLarge:
			what = strings.Replace(what, "limit=", "for this call; send at most ", 1)
		case http.StatusBadRequest:
			what += "; send it, as /docs shows"
		}
		p.Errors = []*huma.ErrorDetail{{Location: "body", Message: what}}
	}
	for _, e := range p.Errors {
		if m := missingProperty.FindStringSubmatch(e.Message); m != nil {
			e.Location, e.Message = e.Location+"."+m[1], "is missing; give it"
		}
		if remedy, known := remedies()[e.Message]; known {
			e.Message = remedy
		}
		switch {
		case strings.HasPrefix(e.Message, "expected string to be RFC 4122 uuid"):
			e.Message = "is not an id; give a UUID"
		case e.Message == "expected string to be RFC 3339 date-time" || strings.HasPrefix(e.Message, "invalid date/time"):
			e.Message = "is no time; give one as 2006-01-02T15:04:05Z"
		case e.Message == "invalid integer":
			e.Message = "is no whole number; give one"
		default:
			e.Message = expected.ReplaceAllString(e.Message, "is not what is expected; give $1")
		}
		if m := outOfRange.FindStringSubmatch(e.Message); m != nil {
			e.Location, e.Message, e.Value = "body."+m[2], fmt.Sprintf("is %.40s; give a whole number that is not as large", m[1]), nil
		}
		switch {
		case e.Location != "body":
		case strings.HasPrefix(e.Message, unknownType):
			e.Location, e.Message = "header.Content-Type", fmt.Sprintf("is %.80q; send JSON, as application/json", strings.TrimPrefix(e.Message, unknownType))
			e.Value = nil
		case strings.HasSuffix(e.Message, ": "+thereTwice):
			e.Location, e.Message = "body."+strings.TrimSuffix(e.Message, ": "+thereTwice), thereTwice
		case p.Status == http.StatusBadRequest && !strings.HasPrefix(e.Message, "is "):
			e.Message = "is not JSON: " + e.Message
		}
		switch e.Value.(type) {
		case map[string]any, []any:
			e.Value = nil
		}
		if e.Location == "body" || p.Status == http.StatusBadRequest {
			e.Value = nil // all that was sent
		}
	}
	return p, nil
}

// noRoute answers in place of the mux, whose words are plain text, where there is
// no such route, or not with that method.
func noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	seen := &mutedWriter{ResponseWriter: w}
	h.ServeHTTP(seen, r)
	switch seen.status {
	case http.StatusNotFound:
		writeProblem(w, huma.Error404NotFound(fmt.Sprintf("there is nothing at %.200s; /docs lists the calls", r.URL.Path)))
	case http.StatusMethodNotAllowed:
		writeProblem(w, huma.Error405MethodNotAllowed(fmt.Sprintf("%.200s does not take %.20s; it takes %s", r.URL.Path, r.Method, w.Header().Get("Allow"))))
	}
}

// mutedWriter lets everything through but the two answers that noRoute gives.
type mutedWriter struct {
	http.ResponseWriter

	status int
}

func (m *mutedWriter) WriteHeader(status int) {
	if m.status = status; !m.muted() {
		m.ResponseWriter.WriteHeader(status)
	}
}

func (m *mutedWriter) Write(b []byte) (int, error) {
	if m.muted() {
		return len(b), nil
	}
	return m.ResponseWriter.Write(b) //nolint:wrapcheck // passes it on
}

func (m *mutedWriter) muted() bool {
	return m.status == http.StatusNotFound || m.status == http.StatusMethodNotAllowed
}
