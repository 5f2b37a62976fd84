package uploads

import "time"

// ClaimedSubmission is one that came by SQL and that a dispatcher is to take up.
type ClaimedSubmission struct {
	ID         ID // of its upload too
	Submission Submission
	// Digests are those of the submission as they came, "kind:hex".
	Digests []string
	Tries   int // to take it up, before this one
	Age     time.Duration
}

// TakenSubmission is one of which intake has found all that it needs.
type TakenSubmission struct {
	IntakeItem // with the ID that the submission has

	Account  string
	Provider string
	Pool     string
	KnownBy  string
	Digests  []string // "kind:hex", as the record has them
}

// RefusedSubmission is one that is wrong: it becomes a failed upload.
type RefusedSubmission struct {
	ID       ID
	Provider string // "" where the account is not known
	Pool     string
	Name     string
	Failure  Failure
}
