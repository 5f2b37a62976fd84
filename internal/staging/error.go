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
	Changed   Kind = "changed"   // the object is not the one that was asked for
	Denied    Kind = "denied"    // staging refuses our credentials
	Transient Kind = "transient" // everything else: try again after a while
)

// Error is returned by every method of a Store that fails, and by Read of a body
// from Open. It holds no secret.
type Error struct {
	Kind   Kind
	Op     string // "stat", "open", "read", "list", "put", "make bucket", "delete", "check"
	Bucket string // "" for "check"
	Key    string // the prefix for "list"; "" if the call is about a bucket
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

// classify turns an error of minio-go into an *Error.
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
		// A range out of bounds means that the object is shorter than submitted.
		e.Kind = Changed
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Kind = Denied
	}
	switch resp.Code {
	case "RequestTimeTooSkewed":
		// One machine's clock is wrong; another worker's may be right.
		e.Kind = Transient
	case "InvalidAccessKeyId", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "XAdminUserNotFound":
		// S3 answers malformed credentials with 400. The last of these codes is
		// versitygw's, which comes with 404.
		e.Kind = Denied
	case "InvalidBucketName", "XMinioInvalidObjectName", "KeyTooLongError", "InvalidURI":
		// No object can have such a name, so it is pointless to ask again.
		e.Kind = Missing
	}
	if resp.Message == "" {
		// An answer to HEAD has no body and so no message.
		e.Err = fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	return e
}

// SourceKind returns the kind under the name that failures of jobs use, such as
// parts.SourceMissing.
func (e *Error) SourceKind() string { return "source_" + string(e.Kind) }
