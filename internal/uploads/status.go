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
	Key     string `json:"key"`
	Account string `json:"account,omitempty"` // where the prefix is bound for several
	Err     string `json:"error"`             // for a person; holds no secret
}

// AccountStatus is an account as it stands; nothing here is secret.
type AccountStatus struct {
	Name      string
	Tenant    string
	Provider  string
	Pool      string
	Window    int64 // bytes that may be in flight at present
	MaxWindow int64 // bytes; as configured
	InFlight  int64 // bytes handed to workers and not yet acknowledged
	Active    int   // uploads on which work is still due
	Goodput   int64 // bytes acknowledged in a second, smoothed; 0 when idle
	CutAt     time.Time
	CutFor    string // why the window was last cut
	Held      []HeldCall
	Rates     []CallRate
	Pauses    []Pause // its own and its tenant's
}

// HeldCall is a kind of call to a platform that waits.
type HeldCall struct {
	Call  string
	Until time.Time // when the next may be made, or when one that is under way is given up
	Why   string    // what the platform said last
	Down  time.Time // since when it was not answered; zero if it asked for a pause only
	Asked int       // calls made since, to see whether it is back
}

// CallRate is what is spent of a published rate.
type CallRate struct {
	Call  string
	Count int // in each Per
	Per   time.Duration
	Spent float64 // calls that have not leaked out of the bucket yet
}

// WorkerStatus is what a worker's last heartbeat said.
type WorkerStatus struct {
	ID         string
	Pool       string
	Slots      int // jobs that it takes at once
	Busy       int // of Slots
	BytesMoved int64
	Version    string // of its program; "" if it does not say
	SeenAt     time.Time
}

// TenantStatus is a tenant as it stands.
type TenantStatus struct {
	Name     string
	Accounts []string // sorted
	Pause    *Pause   // nil if it is not paused
}

// Standing is what is open and what waits, as counted at one moment.
type Standing struct {
	Open     []OpenCount
	Events   int // that are not published yet
	SetAside int // messages that nobody could read
	InDoubt  int // uploads that wait for a probe after the record went back
}

// OpenCount counts uploads of an account in a state.
type OpenCount struct {
	Account  string
	Provider string
	State    State
	Uploads  int
	Oldest   time.Duration // since the first of them was due
}
