package uploads

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// MaxBatchAccounts is how many accounts one batch may be bound for.
const MaxBatchAccounts = 32

// BatchSubmission asks for one staging object, or for each one below a prefix,
// to be brought to several accounts: an upload for each.
type BatchSubmission struct {
	// Submission is what all of them have in common. Its Account is empty, its
	// idempotency key is the batch's.
	Submission

	Prefix         bool // Source.Key is what the keys begin with; "" is the whole bucket
	Accounts       []string
	AccountOptions map[string]map[string]string // by account, beside Options and before them
}

// For returns the submission of one of the accounts, without a key.
func (s BatchSubmission) For(account string) Submission {
	one := s.Submission
	one.Account, one.IdempotencyKey = account, ""
	if own := s.AccountOptions[account]; len(own) > 0 {
		one.Options = maps.Clone(one.Options)
		if one.Options == nil {
			one.Options = map[string]string{}
		}
		maps.Copy(one.Options, own)
	}
	return one
}

// Validate brings what means the same into one form, and reports what is wrong
// with the batch itself, as a join of *FieldError; what is wrong with a submission
// of it, Submission.Validate does.
func (s *BatchSubmission) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	switch n := len(s.Accounts); {
	case n == 0:
		bad("accounts", "is empty; name the configured accounts that the uploads are bound for")
	case n > MaxBatchAccounts:
		bad("accounts", "has %d entries; at most %d are possible", n, MaxBatchAccounts)
	}
	for i, account := range s.Accounts {
		if slices.Contains(s.Accounts[:i], account) {
			bad(fmt.Sprintf("accounts[%d]", i), "%q is there twice; leave one out", account)
		}
	}
	for _, account := range slices.Sorted(maps.Keys(s.AccountOptions)) {
		if !slices.Contains(s.Accounts, account) {
			bad("account_options."+account, "is of no account of the batch; name it in accounts, or leave its options out")
		}
	}
	if s.Prefix && s.Name != "" {
		bad("name", "is for one object, not for a prefix; leave it out")
	}
	if s.Prefix && len(s.Digests) > 0 {
		bad("digests", "are of one object, not of a prefix; leave them out")
	}
	name := s.Name
	s.normalize()
	if s.Prefix {
		s.Name = name // each object has its own
	}
	own := maps.Clone(s.AccountOptions)
	maps.DeleteFunc(own, func(_ string, options map[string]string) bool { return len(options) == 0 })
	if s.AccountOptions = own; len(own) == 0 {
		s.AccountOptions = nil
	}
	return errors.Join(errs...)
}

// Batch is uploads that were submitted together.
type Batch struct {
	ID             ID
	Tenant         string
	IdempotencyKey string
	Source         Object // bucket and key, or prefix; zero where it was not submitted as a batch
	Prefix         bool
	Accounts       []string
	Uploads        int   // as submitted
	Bytes          int64 // of their objects, each counted for each account
	SubmittedAt    time.Time
	Rejected       int        // objects of the prefix that were not taken, counted for each account
	FirstRejected  []Rejected // the first of them
	// States is how the uploads stand, by state; nil in lists.
	States map[State]BatchPart
}

// BatchPart is those uploads of a batch that are in one state.
type BatchPart struct {
	Uploads    int
	Bytes      int64
	AckedBytes int64
}

// MaxRejected is how many rejected objects are kept with a batch.
const MaxRejected = 100

// NewBatch is a batch as intake hands it to the record.
type NewBatch struct {
	Batch

	RequestHash []byte
	Items       []BulkItem
}

// BatchFilter selects batches. Zero fields select all.
type BatchFilter struct {
	Tenant  string
	Account string
	After   ID // the last ID of the page before; the list runs from newest to oldest
	Limit   int
}

// ErrNoBatch says that the tenant has no such batch.
var ErrNoBatch = errors.New("no such batch")
