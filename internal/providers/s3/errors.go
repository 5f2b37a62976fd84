package s3

import (
	"net/http"

	"github.com/minio/minio-go/v7"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
)

// classify turns an error of minio-go into one of the contract. Only the loss of a
// completion leaves the outcome unknown: all other calls may be repeated.
func classify(call string, err error, told *exchange) *providers.Error {
	lost := providers.Transient
	if call == callComplete {
		lost = providers.UnknownOutcome
	}
	if unanswered(err) {
		return providers.TransportError(call, lost, err)
	}
	resp := minio.ToErrorResponse(err)
	e := &providers.Error{Kind: kindOf(call, resp), Call: call, Code: webapi.Code(resp.Code), Message: webapi.Words(resp.Message, told.authorization)}
	switch e.Kind {
	case providers.Throttled:
		e.RetryAfter = told.retryAfter
	case providers.Transient:
		e.Kind = lost
	case providers.Unauthorized, providers.SessionLost, providers.Rejected, providers.Mismatch, providers.UnknownOutcome:
	}
	return e
}

// unanswered reports whether the server's answer to a call did not come.
func unanswered(err error) bool {
	resp := minio.ToErrorResponse(err)
	return resp.StatusCode == 0 && resp.Code == ""
}

// kindOf judges an answer by its code, and by its status where the code tells
// nothing. Transient means that the answer does not say what became of the call.
func kindOf(call string, resp minio.ErrorResponse) providers.Kind {
	switch resp.Code {
	case "NoSuchUpload":
		if call == callComplete {
			// It may be gone because an earlier try completed it: a probe tells.
			return providers.UnknownOutcome
		}
		return providers.SessionLost
	case "InvalidPart", "InvalidPartOrder":
		return providers.SessionLost // the parts are not what the ledger says: a new session has none
	case "BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "InvalidDigest", "IncompleteBody":
		return providers.Mismatch
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AccountProblem",
		"XAdminUserNotFound": // versitygw, of a key that it does not know
		return providers.Unauthorized
	case "SlowDown", "TooManyRequests", "RequestLimitExceeded":
		if resp.StatusCode != http.StatusOK {
			return providers.Throttled
		}
	case "RequestTimeout", "RequestTimeTooSkewed", "OperationAborted", "InternalError":
		return providers.Transient
	case "NotImplemented", "QuotaExceeded": // the latter with 403: it is not the credentials
		return providers.Rejected
	}
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		return providers.Throttled
	case s == http.StatusServiceUnavailable && call != callComplete:
		return providers.Throttled
	case s >= 500 || s == http.StatusRequestTimeout || s < 300:
		return providers.Transient // with a status below 300, an error in the body of a success
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		return providers.Unauthorized
	}
	return providers.Rejected
}
