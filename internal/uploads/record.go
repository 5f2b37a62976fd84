package uploads

import (
	"errors"
	"fmt"
	"time"
)

// Upload is the record of an upload as its readers see it. Postgres owns it;
// nothing here is secret.
type Upload struct {
	ID             ID
	Tenant         string
	Account        string
	Provider       string
	Batch          ID // zero if it was submitted alone
	IdempotencyKey string
	Source         Object
	Name           string
	ContentType    string
	Options        map[string]string
	Labels         map[string]string
	Priority       int
	NotBefore      time.Time

	State      State
	Epoch      int   // 0 until the first session is opened
	PartSize   int64 // bytes; 0 until planned
	PartCount  int
	AckedParts int
	AckedBytes int64
	FoundBytes int64 // of AckedBytes: already upstream when the session was opened
	// DigestedBytes is how far the digest pass has come, live and approximate.
	DigestedBytes int64
	Asset         *Asset
	Failure       *Failure

	// Milestones; zero while not reached.
	SubmittedAt  time.Time
	BegunAt      time.Time
	FirstAckAt   time.Time
	LastAckAt    time.Time
	FinishedAt   time.Time // any final or failed state
	NextActionAt time.Time // when a control step that waits is due

	// Pauses is what holds the upload: its own pause, that of its account, that
	// of its tenant. What is completed or cancelled is held by nothing.
	Pauses []Pause
	// CancelDue says that it was cancelled while a finishing call may have taken
	// effect; it ends as completed if that made an asset, else as cancelled.
	CancelDue bool
	// WaitsFor is the upload that brings the same bytes to the account, which
	// this one lets go first; zero if there is none.
	WaitsFor ID
}

// Instant reports whether the platform had the bytes already, so that none were sent.
func (u Upload) Instant() bool { return u.State == Completed && u.PartCount == 0 }

// Filter selects uploads. Zero fields select all.
type Filter struct {
	Tenant  string
	Account string
	States  []State
	Batch   ID
	Causes  []Cause           // of failed uploads: only those of one of these
	Labels  map[string]string // an upload has them all
	Paused  *bool             // by a pause of their own
	// Search is part of the name or of the source's key, in whatever case.
	Search string
	// After is the last ID of the page before; the list runs from newest to oldest.
	After ID
	Limit int // 1 to 1000; 0 means 100
}

// SelectsAll reports whether every upload of the tenant is selected.
func (f Filter) SelectsAll() bool {
	return f.Account == "" && len(f.States) == 0 && f.Batch == ID{} && len(f.Causes) == 0 && len(f.Labels) == 0 && f.Paused == nil
}

// Errors that callers of the use cases decide by.
var (
	ErrNotFound  = errors.New("no such upload")
	ErrFinal     = errors.New("the upload is in a final state")
	ErrNotFailed = errors.New("only a failed upload can be retried, once its old session is discarded")
	ErrRefused   = errors.New("the submission was refused and nothing of it is kept to be retried; mend what its failure names, then submit it again")
	ErrKeyTaken  = errors.New("the idempotency key belongs to another submission")
)

// UnavailableError says that a part of the system that is needed cannot be
// reached, or cannot do now what it is asked. It will be there again.
type UnavailableError struct {
	What string // "staging", "postgres", "nats"
	// Full says that it answers, but has no room left on its disk.
	Full bool
	// Busy says that it answers, but gave up: others were in the way, or it took
	// longer than it may.
	Busy bool
	Err  error
}

// Error names what is not reachable, full or busy.
func (e *UnavailableError) Error() string {
	switch {
	case e.Full:
		return fmt.Sprintf("%s has no room left: %v", e.What, e.Err)
	case e.Busy:
		return fmt.Sprintf("%s is busy: %v", e.What, e.Err)
	default:
		return fmt.Sprintf("%s is not reachable: %v", e.What, e.Err)
	}
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }
