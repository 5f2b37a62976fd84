package staging

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// Kind classifies an error by what must be done about it.
type Kind string

// The kinds.
const (
	Missing   Kind = "missing"   // the object or its bucket is gone
	Changed   Kind = "changed"   // the object is another one than was asked for
	Denied    Kind = "denied"    // staging refuses our credentials
	Transient Kind = "transient" // everything else: try again after a while
)

// Error is what every method of a Store returns when it fails, and what a body
// from Open returns from Read. It holds no secret.
type Error struct {
	Kind   Kind
	Op     string // "stat", "open", "read", "list", "put", "make bucket", "delete", "check"
	Bucket string // "" with "check"
	Key    string // the prefix with "list", "" where the call is about a bucket
	Err    error  // the cause
}

// Error names the operation, the object, the kind and the cause.
func (e *Error) Error() string {
	if e.Bucket == "" {
		return fmt.Sprintf("%s staging: %s: %v", e.Op, e.Kind, e.Err)
	}
	return fmt.Sprintf("%s s3://%s/%s: %s: %v", e.Op, e.Bucket, e.Key, e.Kind, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// classify makes the *Error of what minio-go returned.
func classify(op, bucket, key string, err error) *Error {
	e := &Error{Kind: Transient, Op: op, Bucket: bucket, Key: key, Err: err}
	resp, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return e
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		e.Kind = Missing
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		// A range that is out of bounds means a shorter object than was submitted.
		e.Kind = Changed
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Kind = Denied
	}
	switch resp.Code {
	case "RequestTimeTooSkewed":
		// It is the clock of one machine, and another one may be right.
		e.Kind = Transient
	case "InvalidAccessKeyId", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "XAdminUserNotFound":
		// Credentials that are wrong in themselves come with 400 from S3 and, the
		// last of these codes, with 404 from versitygw.
		e.Kind = Denied
	case "InvalidBucketName", "XMinioInvalidObjectName", "KeyTooLongError", "InvalidURI":
		// No object can have such a name, so asking again would be in vain.
		e.Kind = Missing
	}
	if resp.Message == "" {
		// An answer to HEAD has no body, and so no words.
		e.Err = fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	return e
}

// SourceKind names the kind as failures of jobs do: one of parts.SourceMissing
// and its kin.
func (e *Error) SourceKind() string { return "source_" + string(e.Kind) }
