package uploads

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a submission's fields.
const (
	MaxKeyLength   = 1024 // bytes, as in S3
	MaxNameLength  = 255  // bytes; providers may allow less
	MaxLabels      = 32
	MaxLabelLength = 256 // bytes, key and value each
	MaxPriority    = 100
	maxIdentLength = 64

	minBucketLength, maxBucketLength = 3, 63 // characters
)

// Validate fills defaults and reports everything that is wrong with the
// submission together, as a join of *FieldError. What only the provider or
// staging can tell is checked by intake.
func (s *Submission) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	if s.Tenant == "" {
		s.Tenant = "default"
	}
	if err := CheckIdent(s.Tenant); err != nil {
		bad("tenant", "%v", err)
	}
	if s.Account == "" {
		bad("account", "is missing; name one of the configured accounts")
	} else if err := CheckIdent(s.Account); err != nil {
		bad("account", "%v", err)
	}
	if err := CheckBucket(s.Source.Bucket); err != nil {
		bad("source.bucket", "%v", err)
	}
	switch {
	case strings.TrimSpace(s.Source.Key) == "": // clients of S3 take blanks for none
		bad("source.key", "is missing; give the object's key")
	case len(s.Source.Key) > MaxKeyLength:
		bad("source.key", "has %d bytes; at most %d are possible", len(s.Source.Key), MaxKeyLength)
	case !storable(s.Source.Key):
		bad("source.key", "is not UTF-8 without NUL")
	}
	for _, f := range []struct{ field, value string }{
		{"source.version", s.Source.Version},
		{"idempotency_key", s.IdempotencyKey},
	} {
		if !storable(f.value) {
			bad(f.field, "is not UTF-8 without NUL")
		}
	}
	if !plain(s.ContentType) || len(s.ContentType) > MaxLabelLength {
		bad("content_type", "is not a MIME type; give one such as video/mp4, or none")
	}
	if s.Name == "" {
		s.Name = path.Base(s.Source.Key)
	}
	if err := checkName(s.Name); err != nil {
		bad("name", "%v", err)
	}
	if s.Priority < -MaxPriority || s.Priority > MaxPriority {
		bad("priority", "is %d; give a number from %d to %d", s.Priority, -MaxPriority, MaxPriority)
	}
	if len(s.Labels) > MaxLabels {
		bad("labels", "has %d entries; at most %d are possible", len(s.Labels), MaxLabels)
	}
	for k, v := range s.Labels {
		if k == "" || len(k) > MaxLabelLength || len(v) > MaxLabelLength {
			bad("labels."+k, "key and value must have 1 and 0 to %d bytes", MaxLabelLength)
		}
		if !storable(k) || !storable(v) {
			bad("labels."+k, "key or value is not UTF-8 without NUL")
		}
	}
	for k, v := range s.Options {
		if !storable(k) || !storable(v) {
			bad("options."+k, "key or value is not UTF-8 without NUL")
		}
	}
	if len(s.IdempotencyKey) > MaxLabelLength {
		bad("idempotency_key", "has %d bytes; at most %d are possible", len(s.IdempotencyKey), MaxLabelLength)
	}
	return errors.Join(errs...)
}

// storable reports whether Postgres keeps the text as it is.
func storable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

func checkName(name string) error {
	switch {
	case len(name) > MaxNameLength:
		return fmt.Errorf("has %d bytes; at most %d are possible", len(name), MaxNameLength)
	case !utf8.ValidString(name):
		return errors.New("is not UTF-8")
	case name == "." || name == ".." || name == "/" || strings.ContainsAny(name, "/\\"):
		return fmt.Errorf("%q is not a file name; give one without slashes", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%q has control characters; take them out", name)
	}
	return nil
}

// CheckIdent checks a name that becomes a token of a NATS subject and a label
// of metrics: tenants, accounts, pools and workers.
func CheckIdent(ident string) error {
	if ident == "" || len(ident) > maxIdentLength {
		return fmt.Errorf("%q must have 1 to %d characters", ident, maxIdentLength)
	}
	for _, r := range ident {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return fmt.Errorf("%q may only have letters, digits, '-' and '_'", ident)
		}
	}
	return nil
}

// CheckBucket checks the name of a bucket by the rules of S3, those of its first
// years included: no server has a bucket of another name, and none can be asked.
func CheckBucket(name string) error {
	const remedy = "give the staging bucket's name"
	if name == "" {
		return errors.New("is missing; " + remedy)
	}
	if len(name) < minBucketLength || len(name) > maxBucketLength {
		return fmt.Errorf("%.80q is no name of a bucket, which has %d to %d characters; %s", name, minBucketLength, maxBucketLength, remedy)
	}
	alnum := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }
	inner := func(r rune) bool { return alnum(r) || strings.ContainsRune(".-_:", r) }
	switch {
	case strings.ContainsFunc(name, func(r rune) bool { return !inner(r) }):
		return fmt.Errorf("%q is no name of a bucket, which has only letters, digits, '.', '-', '_' and ':'; %s", name, remedy)
	case !alnum(rune(name[0])) || !alnum(rune(name[len(name)-1])):
		return fmt.Errorf("%q is no name of a bucket, which begins and ends with a letter or digit; %s", name, remedy)
	case strings.Contains(name, "..") || strings.Contains(name, ".-") || strings.Contains(name, "-."):
		return fmt.Errorf("%q is no name of a bucket, in which no '.' is beside another or a '-'; %s", name, remedy)
	case strings.Count(name, ".") == 3 && strings.Trim(name, ".0123456789") == "":
		return fmt.Errorf("%q is an address and no name of a bucket; %s", name, remedy)
	}
	return nil
}

// FieldErrors collects every *FieldError in the tree of err, in order:
// errors.As would stop at the first.
func FieldErrors(err error) []*FieldError {
	if f, ok := err.(*FieldError); ok { //nolint:errorlint // each node of the tree is looked at below
		return []*FieldError{f}
	}
	switch e := err.(type) { //nolint:errorlint // walks the tree itself
	case interface{ Unwrap() []error }:
		var all []*FieldError
		for _, sub := range e.Unwrap() {
			all = append(all, FieldErrors(sub)...)
		}
		return all
	case interface{ Unwrap() error }:
		return FieldErrors(e.Unwrap())
	default:
		return nil
	}
}
