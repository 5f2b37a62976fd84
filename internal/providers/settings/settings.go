// Package settings reads an account's settings and a submission's options for a
// provider. It collects what is wrong with them, so that all problems are reported
// at once, each with its field and what to give instead.
package settings

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Reader collects problems. The zero Reader is ready for use, by one goroutine.
type Reader struct {
	errs []error
}

// Bad notes what is wrong with a field and what to give instead.
func (r *Reader) Bad(field, format string, args ...any) {
	r.errs = append(r.errs, &uploads.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
}

// Err returns what was noted as joined *uploads.FieldError, nil if nothing was.
func (r *Reader) Err() error { return errors.Join(r.errs...) }

// Unknown notes that a field's name is not one of known.
func (r *Reader) Unknown(field string, known ...string) {
	verb, last := "are", len(known)-1
	list := known[last]
	if last == 0 {
		verb = "is"
	} else {
		list = strings.Join(known[:last], ", ") + " and " + list
	}
	r.Bad(field, "is not known here; there %s %s", verb, list)
}

// Bool reads true or false.
func (r *Reader) Bool(field, value string) bool {
	b, err := strconv.ParseBool(value)
	if err != nil {
		r.Bad(field, "is %q; give true or false", value)
	}
	return b
}

// Number reads a decimal number without a sign, of at most so many bits, and
// returns its text unchanged; example shows what to give.
func (r *Reader) Number(field, value string, bits int, example string) string {
	if _, err := strconv.ParseUint(value, 10, bits); err != nil {
		r.Bad(field, "is %q; give %s", value, example)
	}
	return value
}

// OneOf reads one of two values.
func OneOf[T ~string](r *Reader, field, value string, one, other T) T {
	if T(value) != one && T(value) != other {
		r.Bad(field, "is %q; give %s or %s", value, one, other)
	}
	return T(value)
}

// Origin reads scheme and host, and drops a slash at the end; example, if not "",
// shows what to give.
func (r *Reader) Origin(field, value, example string) string {
	origin := strings.TrimSuffix(value, "/")
	if !IsOrigin(origin) {
		if example != "" {
			example = ", such as " + example
		}
		r.Bad(field, "is %q; give scheme and host only%s", value, example)
	}
	return origin
}

// IsOrigin reports whether text is scheme and host and nothing else.
func IsOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" &&
		u.Path == "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// Secret names a secret that an account must have.
type Secret struct {
	Name  string
	Words string // what the platform calls it, as in "give …"
}

// Secrets returns the needed secrets in their order. It notes those that are
// missing, and those that are not needed.
func (r *Reader) Secrets(given map[string]providers.Secret, needed ...Secret) []providers.Secret {
	names := make([]string, len(needed))
	for i, n := range needed {
		names[i] = n.Name
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, name) {
			r.Unknown("secrets."+name, names...)
		}
	}
	found := make([]providers.Secret, len(needed))
	for i, n := range needed {
		if found[i] = given[n.Name]; found[i] == "" {
			r.Bad("secrets."+n.Name, "is missing; give %s", n.Words)
		}
	}
	return found
}
