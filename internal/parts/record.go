package parts

import (
	"context"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/hashing"
	"mediaferry/internal/uploads"
)

// Opened is an upstream session that was opened for an upload: the start of an epoch.
type Opened struct {
	Upload  uploads.ID
	Lease   uploads.Lease
	Epoch   int
	Plan    Plan
	Session []byte    // sealed
	Expires time.Time // zero if it does not lapse
	Found   []Stored  // parts that the platform holds already
	// BucketDigest is what staging keeps of the object, if BucketAsked; zero for
	// none.
	BucketDigest hashing.Digest
	BucketAsked  bool
}

// Finished is an asset that was made or found.
type Finished struct {
	Upload  uploads.ID
	Lease   uploads.Lease
	Asset   uploads.Asset
	Instant bool   // the platform had the bytes: straight from beginning
	Reason  string // how we know, for the audit trail
	Links   []uploads.DigestLink
}

// Feedable is an upload with parts that were never handed to the queue, or,
// for the sweep, with parts in flight.
type Feedable struct {
	Upload    uploads.ID
	Account   string
	Pool      string
	Epoch     int
	Plan      Plan
	Fed       int   // parts up to this number have been handed to the queue
	FeedCount int64 // makes publish ids differ
	// Recent says that jobs of the last feed may still be on their way to the queue.
	Recent bool

	// AckedAhead says that the ledger has parts above Fed, which are not to be
	// sent: they were upstream when the epoch began, or acknowledged before
	// their runs were withdrawn. Acked is how many parts the ledger has.
	AckedAhead bool
	Acked      int
}

// FeedPass is one look at an account by its one feeder: how much is in flight
// and who is next, most urgent first.
type FeedPass struct {
	InFlight int64 // bytes
	Window   int64 // bytes; 0 if nothing is known of it
	Next     []Feedable
	// Acked returns which parts from first to last of an upload the ledger has.
	Acked func(ctx context.Context, f Feedable, first, last int) ([]int, error)
	// TakeCalls spends calls of the rate at which parts may be put, count in each
	// per, and returns 0 or how long to wait before asking again.
	TakeCalls func(ctx context.Context, calls, count int, per time.Duration) (wait time.Duration, err error)
}

// Fed is what a feeding pass takes from an upload.
type Fed struct {
	Upload    uploads.ID
	Epoch     int
	FedBefore int
	Fed       int
	Bytes     int64 // of the parts newly fed, without those that were acknowledged already
	// LedgerRead says that parts were left out since the ledger had them. It had
	// AckedBefore then, and this takes only if there are no more by now.
	LedgerRead  bool
	AckedBefore int
}

// Landed is an upload that a batch of acks touched.
type Landed struct {
	Upload  uploads.ID
	Account string
	State   uploads.State // finishing if the batch had its last part
	// Parts and Bytes are what was new in the batch.
	Parts int
	Bytes int64
}

// Publication is a job on its way to the queue. Feed differs each time a run
// is fed again, so that deduplication never swallows it.
type Publication struct {
	Job  Job
	Feed int64
}

// StreamMark tells one life of a stream from another.
type StreamMark struct {
	Stream  string
	Created time.Time // to the microsecond, as Postgres keeps it; zero if the stream is missing
	LastSeq uint64
}

// LostSince reports whether messages that were in the stream at the mark before
// may be gone without having been acked: the stream is missing, is another one
// than then, or is behind itself, as after a restore. A zero mark before means
// that the stream was never seen, and nothing is lost.
func (m StreamMark) LostSince(before StreamMark) bool {
	if before.Created.IsZero() {
		return false
	}
	return !m.Created.Equal(before.Created) || m.LastSeq < before.LastSeq
}

// RecordMark is how far the record was counted up. The queue is told of it, so
// that a record restored from an older backup is known as one.
type RecordMark struct {
	Record uuid.UUID // tells one record from another
	Tick   int64
}

// Assignable is what the record knows of an upload that a worker asks about.
type Assignable struct {
	Account  string
	Provider string
	State    uploads.State
	Epoch    int
	Source   uploads.Object
	PartSize int64 // bytes
	Known    []uploads.KnownDigest
	Session  []byte // sealed
	// SessionNumber is as in Failure.
	SessionNumber int
	Checkpoint    *hashing.Checkpoint
}

// Sealed is an upload's session as the record has it.
type Sealed struct {
	Upload  uploads.ID
	Epoch   int
	Session []byte
}
