package uploads

import "time"

// CheckResult says what a check of an account's credentials came to.
type CheckResult string

// The results of a check.
const (
	CheckTaken       CheckResult = "taken"        // the platform takes them
	CheckRefused     CheckResult = "refused"      // the platform does not
	CheckUnknown     CheckResult = "unknown"      // nobody can tell: Detail says why
	CheckNotPossible CheckResult = "not_possible" // the platform has no call that would tell and begin nothing
)

// AccountCheck is what a harmless call with an account's credentials came to.
type AccountCheck struct {
	Account  string
	Provider string
	Result   CheckResult
	Detail   string // what was asked and answered; no secret
	At       time.Time
	Took     time.Duration
}
