package uploads

import "time"

// PrefixResult is what became of the objects below a prefix: those that were
// taken are tied by Batch, the others are listed with the reason.
type PrefixResult struct {
	Batch     ID // zero if nothing was submitted
	Submitted int
	Rejected  []Rejected
}

// Rejected is one object of a prefix that was not taken.
type Rejected struct {
	Key string
	Err string // for a person; holds no secret
}

// AccountStatus is an account as it stands; nothing here is secret.
type AccountStatus struct {
	Name     string
	Tenant   string
	Provider string
	Pool     string
	Window   int64 // bytes that may be in flight at once
	InFlight int64 // bytes handed to workers and not yet acknowledged
	Active   int   // uploads on which work is still due
}

// WorkerStatus is what a worker's last heartbeat said.
type WorkerStatus struct {
	ID         string
	Pool       string
	Slots      int // jobs that it takes at once
	Busy       int // of Slots
	BytesMoved int64
	SeenAt     time.Time
}
