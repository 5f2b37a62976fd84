package uploads

import (
	"errors"
	"time"
)

// StateChange is a move of an upload for those who follow: what the record says
// of it, and what of the upload they would ask next.
type StateChange struct {
	Number  int64 // orders all moves; those of one upload are numbered as they were made
	Upload  ID
	Tenant  string
	Account string
	Batch   ID
	Name    string
	Size    int64
	Labels  map[string]string
	From    State // "" when it was submitted
	To      State
	Reason  string
	At      time.Time
	Asset   *Asset   // if it is completed
	Failure *Failure // if it failed, and has not been retried since
}

// FollowFilter selects state changes of a tenant. Zero fields select all.
type FollowFilter struct {
	Tenant  string
	Account string
	Upload  ID
	Batch   ID
	To      []State
}

// ErrUnsettled says that moves may still come that belong before the beginning.
var ErrUnsettled = errors.New("the record cannot be read, or a transaction in it stays open")
