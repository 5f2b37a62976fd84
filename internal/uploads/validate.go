package uploads

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mediaferry/internal/hashing"
)

// Bounds of a submission's fields.
const (
	MaxKeyLength   = 1024 // bytes, as in S3
	MaxNameLength  = 255  // bytes; providers may allow less
	MaxLabels      = 32
	MaxLabelLength = 256 // bytes, key and value each
	MaxPriority    = 100
	maxIdentLength = 64

	maxOptions      = 64
	maxOptionLength = 8 << 10 // bytes of a value; a name has those of a label
	maxTagLength    = 1 << 10 // bytes of a version and of an ETag
	maxNamed        = 80      // bytes of a label's or option's name in an error

	minBucketLength, maxBucketLength = 3, 63 // characters
)

// Validate fills defaults, brings what means the same into one form, and reports
// everything that is wrong with the submission together, as a join of
// *FieldError. What only the provider or staging can tell is checked by intake.
// mediaferry.submit checks the same in SQL.
func (s *Submission) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	s.normalize()
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
	}
	for _, f := range []struct {
		field, value string
		most         int
	}{
		{"source.key", s.Source.Key, math.MaxInt}, // see above
		{"source.version", s.Source.Version, maxTagLength},
		{"source.etag", s.Source.ETag, maxTagLength},
		{"idempotency_key", s.IdempotencyKey, MaxLabelLength},
	} {
		switch {
		case len(f.value) > f.most:
			bad(f.field, "has %d bytes; at most %d are possible", len(f.value), f.most)
		case !storable(f.value):
			bad(f.field, "is not UTF-8 without NUL; give text that is")
		}
	}
	if !plain(s.ContentType) || len(s.ContentType) > MaxLabelLength {
		bad("content_type", "is not a MIME type; give one such as video/mp4, or none")
	}
	if s.Name != "" { // or there is no key to take it from
		if err := checkName(s.Name); err != nil {
			bad("name", "%v", err)
		}
	}
	if s.Priority < -MaxPriority || s.Priority > MaxPriority {
		bad("priority", "is %d; give a number from %d to %d", s.Priority, -MaxPriority, MaxPriority)
	}
	checkTexts(bad, "labels", s.Labels, MaxLabels, MaxLabelLength)
	checkTexts(bad, "options", s.Options, maxOptions, maxOptionLength)
	for i := 1; i < len(s.Digests); i++ {
		if kind := s.Digests[i].Kind; kind == s.Digests[i-1].Kind {
			bad("digests", "have two of the kind %s that differ; an object has one of each: leave the wrong one out", kind)
		}
	}
	return errors.Join(errs...)
}

// normalize fills defaults, and makes submissions equal that ask for the same:
// by what way one came must not show in its hash.
func (s *Submission) normalize() {
	if s.Tenant == "" {
		s.Tenant = "default"
	}
	if s.Name == "" && strings.TrimSpace(s.Source.Key) != "" {
		s.Name = path.Base(s.Source.Key)
	}
	s.Source.ETag = strings.Trim(s.Source.ETag, `"`)
	if len(s.Options) == 0 {
		s.Options = nil
	}
	if len(s.Labels) == 0 {
		s.Labels = nil
	}
	if !s.NotBefore.IsZero() {
		s.NotBefore = s.NotBefore.UTC().Truncate(time.Microsecond) // as Postgres keeps it
	}
	s.Digests = slices.Compact(slices.SortedFunc(slices.Values(s.Digests), func(a, b hashing.Digest) int {
		return strings.Compare(a.String(), b.String())
	}))
}

// Hash tells a repeated submission from another one under the same idempotency
// key. It covers everything that the submitter said, and nothing that staging
// said, so that a repetition is known as one whatever happened to the object
// since. The submission must have been validated. The record has hashes of
// earlier versions, and the SQL function submission_hash makes the same: it
// must not change.
func (s Submission) Hash() []byte {
	s.Source.Size = 0
	raw, err := json.Marshal(s) // maps are written in the order of their keys
	if err != nil {
		raw = fmt.Append(nil, s)
	}
	sum := sha256.Sum256(raw)
	return sum[:]
}

// checkTexts bounds a map of texts, and has each be storable.
func checkTexts(bad func(field, format string, args ...any), field string, texts map[string]string, most, longest int) {
	if len(texts) > most {
		bad(field, "has %d entries; at most %d are possible", len(texts), most)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(texts)) {
		v, named := texts[k], field+"."+strings.ToValidUTF8(k[:min(len(k), maxNamed)], "")
		switch {
		case !storable(k) || !storable(v):
			bad(named, "key or value is not UTF-8 without NUL; give text that is")
		case k == "" || len(k) > MaxLabelLength || len(v) > longest:
			bad(named, "has a key of %d and a value of %d bytes; keys have 1 to %d, values at most %d", len(k), len(v), MaxLabelLength, longest)
		}
	}
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
