package uploads

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/hashing"
)

// ID identifies an upload. It is a UUIDv7 and so ordered by time of submission.
type ID = uuid.UUID

// NewID returns a fresh ID.
func NewID() (ID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return ID{}, fmt.Errorf("new upload id: %w", err)
	}
	return id, nil
}

// Object is a staging object: the bytes in the bucket. ETag pins the version:
// every read of an upload is made under If-Match with it (invariant 6).
type Object struct {
	Bucket  string `json:"bucket"`
	Key     string `json:"key"`
	Version string `json:"version,omitempty"` // "" where the bucket keeps none
	ETag    string `json:"etag"`              // without quotes
	Size    int64  `json:"size"`              // bytes
}

// URL returns the object as s3://bucket/key.
func (o Object) URL() string { return "s3://" + o.Bucket + "/" + o.Key }

// Asset is the finished media at the platform.
type Asset struct {
	ID  string `json:"id"`
	URL string `json:"url,omitempty"`
	// Detail is what else the platform said of it, such as a verification blob.
	Detail map[string]string `json:"detail,omitempty"`
	// Check is the digest that the platform named of the assembled bytes when
	// they were finished, and the one that it had to be; nil if it named none. It
	// goes to the digest chain, not into the record of the asset.
	Check *AssetCheck `json:"-"`
}

// Cause says why an upload failed. The values are stable: reports group by them.
type Cause string

// The causes.
const (
	CauseSourceMissing  Cause = "source_missing"   // the staging object is gone
	CauseSourceChanged  Cause = "source_changed"   // the staging object is another one than was submitted
	CauseSourceDenied   Cause = "source_denied"    // staging refuses our credentials
	CauseRejected       Cause = "rejected"         // the platform will never take it
	CauseUnauthorized   Cause = "unauthorized"     // the platform refuses the account's credentials
	CauseMismatch       Cause = "mismatch"         // a digest did not agree, again and again
	CauseAttempts       Cause = "attempts"         // transient failures used up the attempts
	CauseSessionLost    Cause = "session_lost"     // sessions lapse faster than the parts can be sent
	CauseNeedsHuman     Cause = "needs_human"      // the outcome of finish cannot be told
	CauseUnknownAccount Cause = "unknown_account"  // the account is no longer configured
	CauseDigestMismatch Cause = "digest_mismatch"  // the submitter's digest is not that of the object
	CauseTooLarge       Cause = "size_over_limit"  // no plan fits the provider's limits
	CauseInvalid        Cause = "invalid"          // a submission that nobody waited for is wrong in itself
	CauseInternal       Cause = "internal_failure" // our own fault
)

// Causes returns all of them.
func Causes() []Cause {
	return []Cause{
		CauseSourceMissing, CauseSourceChanged, CauseSourceDenied, CauseRejected, CauseUnauthorized, CauseMismatch, CauseAttempts,
		CauseSessionLost, CauseNeedsHuman, CauseUnknownAccount, CauseDigestMismatch, CauseTooLarge, CauseInvalid, CauseInternal,
	}
}

// Failure is why an upload is in the state failed.
type Failure struct {
	Cause   Cause  `json:"cause"`
	Code    string `json:"code,omitempty"` // the platform's own code
	Message string `json:"message"`        // for a person; holds no secret
	Part    int    `json:"part,omitempty"` // the part that it was about, 0 for none
	// Stage is where digests did not agree, "" if it was not about digests.
	Stage DigestStage `json:"stage,omitempty"`
	// Evidence is set with CauseNeedsHuman: what was asked and answered, in order.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Evidence is one call to the platform about the end of an upload.
type Evidence struct {
	At     time.Time `json:"at"`     // when the call began
	Call   string    `json:"call"`   // "finish" or "probe"
	Answer string    `json:"answer"` // for a person; holds no secret
}

// Submission is what someone asks for: one staging object bound for one
// account. Validate says what is wrong with it.
type Submission struct {
	Tenant         string
	Account        string
	IdempotencyKey string // unique per tenant; "" for none
	Source         Object // Size and ETag are filled by intake
	Name           string // file name at the platform; the key's last element if empty
	ContentType    string
	Options        map[string]string // the provider's own, validated by it
	Labels         map[string]string
	Priority       int // higher goes first, -100 to 100
	NotBefore      time.Time
	Digests        []hashing.Digest // what the submitter knows of the object
}

// FieldError is one thing that is wrong with a value that came in: which
// field, what about it, and what to do.
type FieldError struct {
	Field  string // path, such as "source.key"
	Detail string // the problem and the remedy
}

// Error returns "field: detail".
func (e *FieldError) Error() string { return e.Field + ": " + e.Detail }
