package uploads

import "time"

// What is shown of uploads beside their rows. All of it is computed when it is
// asked for, and nothing is decided by it.

// Picture is how everything stands.
type Picture struct {
	At time.Time
	// States counts the tenant's uploads by state, of those submitted since Since.
	States map[State]int
	Since  time.Time
	// Moved is what all workers moved, oldest first, in steps of MovedStep.
	Moved     []Moved
	MovedStep time.Duration
	// Queued is the runs that the queue holds of each account, waiting or in a
	// worker's hands; an account is missing while the queue cannot be asked.
	Queued map[string]int
}

// Moved is bytes that were read from staging and sent on in the time from At on.
type Moved struct {
	At    time.Time
	Bytes int64
}

// PartState is what can be said of a part.
type PartState string

// The states of parts, see docs/states.md.
const (
	PartAcked   PartState = "acked"   // in the ledger
	PartFound   PartState = "found"   // in the ledger, and was upstream before this epoch
	PartInHand  PartState = "in_hand" // a worker says that it has it
	PartQueued  PartState = "queued"  // the queue holds its run
	PartOnWay   PartState = "on_way"  // fed, and neither in the queue nor in the ledger: the sweep feeds it again
	PartNotFed  PartState = "not_fed" // its turn has not come
	PartUnknown PartState = "unknown" // fed, and the queue cannot be asked
)

// PartRange is adjacent parts of one state.
type PartRange struct {
	First, Count int
	State        PartState
}

// PartMap is where the parts of an upload are.
type PartMap struct {
	Epoch     int
	PartSize  int64
	PartCount int
	Ranges    []PartRange // they cover all parts
	Hands     []PartHand  // what workers have in hand
	Failed    []PartTries // parts with failed tries in this epoch, at most MaxFailedParts
}

// MaxFailedParts bounds PartMap.Failed.
const MaxFailedParts = 1000

// PartHand is a run that a worker has in hand, as it said last.
type PartHand struct {
	First, Count int
	Worker       string
	Stage        string // what is being done
	Bytes, Total int64  // of the run
	At           time.Time
}

// PartTries counts failed tries of a part.
type PartTries struct{ Part, Tries int }

// History is what became of an upload over time.
type History struct {
	Moves []Move // oldest first
	Tries []Try  // failed ones, newest first, at most MaxTries
	Count int    // of all failed tries
}

// MaxTries bounds History.Tries.
const MaxTries = 200

// Move is a change of state; From is "" for the submission.
type Move struct {
	From, To State
	Reason   string
	At       time.Time
}

// Try is a failed try of a part, or with part 0 of a control call.
type Try struct {
	Epoch, Part int
	Kind, Code  string
	Message     string
	Worker      string // "" for a control call
	Started     time.Time
	Failed      time.Time
	Excused     bool // the platform was down, so it does not count
}

// Failures is what fails and why.
type Failures struct {
	Since   time.Time      // of Uploads, by when they were submitted
	Uploads []FailureGroup // failed ones, the largest group first
	Tries   []TryGroup     // failed tries of the last hour, the largest group first
}

// FailureGroup is failed uploads with one cause at one account.
type FailureGroup struct {
	Cause   Cause
	Account string
	Count   int
	Last    time.Time // when the last of them failed
	Example ID        // the one that failed last
	Name    string    // of the example
	Message string    // of the example
}

// TryGroup is failed tries of one kind at one account.
type TryGroup struct {
	Account, Kind, Code string
	Count               int
	Uploads             int // how many are concerned
	Last                time.Time
	Message             string // of the last
}
