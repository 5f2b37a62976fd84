package uploads

import (
	"errors"
	"fmt"
	"time"
)

// Action is what a person may do to uploads.
type Action string

// The actions. Each may be repeated: it does nothing to an upload to which it
// was done.
const (
	ActionPause  Action = "pause"  // nothing new is done, what is in hand is given back
	ActionResume Action = "resume" // undoes the upload's own pause, not that of its account or tenant
	ActionCancel Action = "cancel"
	ActionRetry  Action = "retry" // of what has failed, from its beginning
)

// Actions lists all actions.
func Actions() []Action { return []Action{ActionPause, ActionResume, ActionCancel, ActionRetry} }

// States returns the states in which the action does something.
func (a Action) States() []State {
	switch a {
	case ActionRetry:
		return []State{Failed}
	case ActionResume:
		return []State{Queued, Digesting, Beginning, Uploading, Finishing, Failed}
	case ActionPause, ActionCancel:
		return []State{Queued, Digesting, Beginning, Uploading, Finishing}
	default:
		return nil
	}
}

// Scope is what a pause is of.
type Scope string

// The scopes.
const (
	ScopeUpload  Scope = "upload"
	ScopeAccount Scope = "account"
	ScopeTenant  Scope = "tenant"
)

// Note says why something was done and who did it, in the caller's words.
type Note struct {
	Reason string
	By     string
}

// maxNote bounds both fields of a Note, in bytes.
const maxNote = 500

// Validate reports what is wrong with a note, as a join of *FieldError.
func (n Note) Validate() error {
	var errs []error
	for _, f := range []struct{ field, value string }{{"reason", n.Reason}, {"by", n.By}} {
		switch {
		case len(f.value) > maxNote:
			errs = append(errs, &FieldError{Field: f.field, Detail: fmt.Sprintf("has %d bytes; give at most %d", len(f.value), maxNote)})
		case !storable(f.value):
			errs = append(errs, &FieldError{Field: f.field, Detail: "is not UTF-8 without NUL; leave out what is no text"})
		}
	}
	return errors.Join(errs...)
}

// Pause is one thing that holds uploads: their own pause, or that of their
// account or tenant.
type Pause struct {
	Scope Scope
	Name  string // of the account or tenant, or the upload's id
	Note
	At time.Time
}

// Changed is what an action came to.
type Changed struct {
	Matched int  // uploads to which it applied when it began
	Changed int  // of these, changed; 0 after a dry run
	First   []ID // the first of them, by age
}

// Errors of actions.
var (
	ErrEnded     = errors.New("the upload has ended, so there is nothing to pause")
	ErrNoAccount = errors.New("no such account")
	ErrNoTenant  = errors.New("no account is configured for the tenant")
)
