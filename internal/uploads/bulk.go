package uploads

// MaxBulk is how many submissions one call may bring.
const MaxBulk = 100_000

// Line is one of many submissions, with its place in what was sent, from 1.
// Where ETag and Size of its Source are set they are taken at their word: every
// read is made under the ETag, and tells if they are wrong.
type Line struct {
	Number     int
	Submission Submission
}

// LineError is what is wrong with one line.
type LineError struct {
	Number int
	Err    error // one or a join of *FieldError, or ErrKeyTaken
}

// BulkResult is what became of many submissions.
type BulkResult struct {
	Batch     ID          // ties what was submitted together; zero if nothing was
	Submitted int         // new
	Known     int         // there already under their idempotency keys
	Rejected  []LineError // in the order of the lines
}

// BulkItem is one upload of many that are inserted together.
type BulkItem struct {
	IntakeItem

	Number     int
	Submission Submission
	Provider   string
	Pool       string
	KnownBy    string
}

// BulkOutcome is what became of an item that was not inserted.
type BulkOutcome struct {
	Number int
	// Equal says that the upload under its key is of an equal submission.
	Equal bool
}
