package uploads

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/hashing"
)

// Lease is the token of a claimed control step. Whoever records the step's
// result names it; once the lease has run out and another process has claimed
// the step, the record no longer takes.
type Lease = uuid.UUID

// Step is a claimed control step: what is due for an upload that is queued,
// beginning or finishing, or whose upstream session is to be discarded.
type Step struct {
	ID          ID
	Lease       Lease
	Tenant      string
	Account     string
	Provider    string
	Pool        string
	State       State
	Epoch       int // of the last session, 0 before the first
	Source      Object
	Name        string
	ContentType string
	Options     map[string]string
	Digests     []hashing.Digest
	// PassDigests are those of Digests that a digest pass made; the others are
	// the submitter's. BucketDigest is what staging keeps of the object: zero
	// if it keeps none, or, where BucketAsked is false, if it was not asked yet.
	PassDigests  []hashing.Digest
	BucketDigest hashing.Digest
	BucketAsked  bool
	Session      []byte // sealed; nil if there is none
	PartSize     int64  // bytes; 0 until planned
	Tries        int    // of this step, before this one
	// Intent is when finish was first intended in this epoch, before this claim.
	// If it is set, an earlier call may have taken effect and a probe comes first.
	Intent    time.Time
	AbortDue  bool
	CancelDue bool // cancelled meanwhile: finish is not called any more
	// FinishLog is what was asked about the end of this epoch, and answered.
	FinishLog []Evidence
	// ClaimedAt is a time before the claim, so that the lease lasts at least from here.
	ClaimedAt time.Time
}

// Known returns what is known of the object's bytes, and from whom.
func (s Step) Known() []KnownDigest { return Known(s.Digests, s.PassDigests, s.BucketDigest) }

// Known puts together what is known of an object's bytes: the bucket's own
// digest first, which is of the bytes as they were stored.
func Known(digests, pass []hashing.Digest, bucket hashing.Digest) []KnownDigest {
	var known []KnownDigest
	if !bucket.IsZero() {
		known = append(known, KnownDigest{bucket, FromBucket})
	}
	for _, d := range digests {
		from := FromSubmitter
		if slices.Contains(pass, d) {
			from = FromPass
		}
		known = append(known, KnownDigest{d, from})
	}
	return known
}

// Intake is submissions of one tenant to one account that share everything but
// the object: what one insert takes.
type Intake struct {
	Tenant, Account, Provider, Pool string
	Batch                           ID // zero for none
	Bucket                          string
	Options, Labels                 map[string]string
	Digests                         []hashing.Digest
	// BucketDigest is as in Step, and of use where there is one item.
	BucketDigest hashing.Digest
	BucketAsked  bool
	KnownBy      hashing.Kind // by which the platform tells media apart, "" if it does not
	Priority     int
	NotBefore    time.Time
	Items        []IntakeItem
}

// IntakeItem is one upload of an Intake.
type IntakeItem struct {
	ID             ID
	IdempotencyKey string // "" for none
	RequestHash    []byte // of everything that the submitter said
	Source         Object // Bucket is that of the Intake
	Name           string
	ContentType    string
}

// AccountLoad is what an account has in hand.
type AccountLoad struct {
	Active      int   // uploads
	Opening     int   // uploads that are digesting or beginning
	Outstanding int64 // bytes of open uploads that are not acknowledged
	InFlight    int64 // bytes handed to the queue that are not acknowledged
}

// DigestWait is an upload in state digesting, for the sweep.
type DigestWait struct {
	ID        ID
	Account   string
	Pool      string
	FeedCount int64
	Due       bool // no job was published for it lately
}

// Withdrawal is an upload whose jobs are to be taken off the queue.
type Withdrawal struct {
	ID        ID
	Account   string
	FeedCount int64 // when the withdrawal was looked up; nothing is fed before it is done
}

// Event is something that happened to an upload, on its way to subscribers.
type Event struct {
	Number  int64 // of the outbox; makes its publish id
	Tenant  string
	Type    string
	Payload []byte // JSON
}
