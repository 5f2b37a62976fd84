package uploads

import (
	"errors"
	"time"
)

// SettingsSpread is how long dispatchers may have other settings than each other
// while these are changed: what names an account that a dispatcher does not have
// is left to the others for as long, where nobody waits for an answer.
const SettingsSpread = 3 * time.Minute

// UnknownAccountError says that a request names an account that its tenant does
// not have by the settings of this dispatcher. Another may have other settings.
type UnknownAccountError struct{ Field *FieldError }

// Error names the field, the problem and the accounts that there are.
func (e *UnknownAccountError) Error() string { return e.Field.Error() }

// Unwrap returns the *FieldError.
func (e *UnknownAccountError) Unwrap() error { return e.Field }

// OnlyUnknownAccount reports whether nothing is wrong with a request but that this
// dispatcher does not have its account.
func OnlyUnknownAccount(err error) bool {
	_, unknown := errors.AsType[*UnknownAccountError](err)
	return unknown && len(FieldErrors(err)) == 1
}
