package uploads

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// MaxBatchAccounts is how many accounts one batch may be bound for.
const MaxBatchAccounts = 32

// MaxBatchSources is how many objects and prefixes one batch may name.
const MaxBatchSources = 10_000

// BatchSource is one of several things that a batch is made of.
type BatchSource struct {
	Source      Object
	Prefix      bool   // Source.Key is what the keys begin with; "" is the whole bucket
	Match       string // pattern for whole keys of a prefix, as path.Match has it; "" for all
	Name        string // at the platforms, of one object; the key's last element if empty
	ContentType string // that of the batch if empty
}

// BatchSubmission asks for one staging object, or for each one below a prefix,
// or for several of both, to be brought to several accounts: an upload for each.
type BatchSubmission struct {
	// Submission is what all of them have in common. Its Account is empty, its
	// idempotency key is the batch's.
	Submission

	Prefix  bool          // Source.Key is what the keys begin with; "" is the whole bucket
	Match   string        // as that of a BatchSource
	Sources []BatchSource // instead of Source

	Accounts       []string
	AccountOptions map[string]map[string]string // by account, beside Options and before them
}

// Of returns the submission of one of its sources: of every account, without one.
func (s BatchSubmission) Of(source BatchSource) BatchSubmission {
	s.Source, s.Prefix, s.Match, s.Name, s.Sources = source.Source, source.Prefix, source.Match, source.Name, nil
	if source.ContentType != "" {
		s.ContentType = source.ContentType
	}
	return s
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
	switch n := len(s.Sources); {
	case n == 0:
	case n > MaxBatchSources:
		bad("sources", "has %d entries; at most %d are possible: submit the rest as another batch", n, MaxBatchSources)
	case s.Source != Object{} || s.Prefix || s.Match != "":
		bad("sources", "goes without source; give one of both")
	case s.Name != "" || len(s.Digests) > 0:
		bad("sources", "goes without name and digests, which are of one object; give each source its name, and leave digests out")
	}
	if _, err := path.Match(s.Match, ""); err != nil {
		bad("source.match", "is not a complete pattern; close its brackets, and end it with something after a backslash")
	}
	if s.Match != "" && !s.Prefix {
		bad("source.match", "goes with a prefix; give one, or leave it out")
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
	s.Sources = slices.Clone(s.Sources)
	for i := range s.Sources {
		s.Sources[i].Source.ETag = strings.Trim(s.Sources[i].Source.ETag, `"`)
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
	Source         Object // bucket and key, or prefix; zero where several were named, or it was not submitted as a batch
	Prefix         bool
	Accounts       []string
	Uploads        int   // as submitted
	Bytes          int64 // of their objects, each counted for each account
	SubmittedAt    time.Time
	Rejected       int        // objects that were not taken, counted for each account
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
