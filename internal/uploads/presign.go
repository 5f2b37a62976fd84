package uploads

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of a file that is put into staging by a URL.
const (
	// MaxPut is the most bytes that S3 takes in one request.
	MaxPut     = 5 << 30
	MaxPutLife = 7 * 24 * time.Hour // as in S3
)

// Put asks for a URL by which a file is put into staging.
type Put struct {
	Tenant      string
	Name        string // file name; where it is stored is not the caller's to say
	Size        int64  // bytes, exactly
	ContentType string
	SHA256      []byte // of the bytes; nil if the caller does not say
	Life        time.Duration
}

// Validate reports everything that is wrong, as a join of *FieldError.
func (p Put) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	if err := CheckIdent(p.Tenant); err != nil {
		bad("tenant", "%v", err)
	}
	if p.Name == "" {
		bad("name", "is missing; give the file's name, without a path")
	} else if err := checkName(p.Name); err != nil {
		bad("name", "%v", err)
	}
	switch {
	case p.Size <= 0:
		bad("size", "is %d; give the file's bytes, at least 1", p.Size)
	case p.Size > MaxPut:
		bad("size", "is %d bytes; one request puts at most %d (5 GiB). Put a larger file with an S3 client in parts, or with mediaferry push and credentials of staging, and submit its key",
			p.Size, int64(MaxPut))
	}
	if !plain(p.ContentType) || len(p.ContentType) > MaxLabelLength {
		bad("content_type", "is not a MIME type; give one such as video/mp4, or none")
	}
	if p.SHA256 != nil && len(p.SHA256) != 32 {
		bad("sha256", "has %d bytes; give 64 hex digits", len(p.SHA256))
	}
	if p.Life < time.Second || p.Life > MaxPutLife {
		bad("expires_seconds", "is %d; give 1 to %d (7 days)", int64(p.Life/time.Second), int64(MaxPutLife/time.Second))
	}
	return errors.Join(errs...)
}

// plain reports whether the text may be the value of a header.
func plain(text string) bool {
	for _, r := range text {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return true
}

// SignedPut is a request that stores a file in staging. Whoever has the URL may
// make it until it expires, so it is never logged.
type SignedPut struct {
	URL       string
	Headers   map[string]string // go with the request as they are
	Source    Object            // bucket and key
	ExpiresAt time.Time
}

// ErrNoPresign says that no such URLs are made here.
var ErrNoPresign = errors.New("this dispatcher makes no URLs to put files by; set presign.bucket, or put files into staging with an S3 client")
