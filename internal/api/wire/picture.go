package wire

import "time"

// Overview is how everything stands.
type Overview struct {
	At           time.Time      `json:"at"`
	States       map[string]int `json:"states" doc:"uploads by state, of those submitted since counted_since"`
	CountedSince time.Time      `json:"counted_since"`
	Moved        []Moved        `json:"moved" doc:"by all workers of all tenants in the last hour, as this dispatcher has heard since it started, oldest first; steps in which none was heard are left out"`
	MovedStep    float64        `json:"moved_step_seconds"`
	Queued       map[string]int `json:"queued" doc:"runs that the queue holds of each account, waiting or in hand; an account is missing while the queue cannot be asked"`
}

// Moved is bytes that workers read and sent on in a step of time.
type Moved struct {
	At    time.Time `json:"at" doc:"when the step began"`
	Bytes int64     `json:"bytes"`
}

// PartMap is where the parts of an upload are.
type PartMap struct {
	Epoch     int         `json:"epoch"`
	PartSize  int64       `json:"part_size" doc:"bytes; 0 until planned"`
	PartCount int         `json:"part_count"`
	Ranges    []PartRange `json:"ranges" doc:"adjacent parts of one state; they cover all parts"`
	InHand    []PartHand  `json:"in_hand" doc:"runs that workers have in hand, as they said last"`
	Failed    []PartTries `json:"failed" doc:"parts with failed tries in this epoch, at most 1000"`
}

// PartRange is adjacent parts of one state.
type PartRange struct {
	First int    `json:"first"`
	Count int    `json:"count"`
	State string `json:"state" enum:"acked,found,in_hand,queued,on_way,not_fed,unknown" doc:"acked: in the ledger; found: in the ledger, upstream before this epoch; in_hand: a worker has it; queued: the queue holds it; on_way: fed, and in neither; not_fed: its turn has not come; unknown: fed, and the queue cannot be asked"`
}

// PartHand is a run that a worker has in hand.
type PartHand struct {
	First  int       `json:"first"`
	Count  int       `json:"count"`
	Worker string    `json:"worker"`
	Stage  string    `json:"stage" doc:"what is being done"`
	Bytes  int64     `json:"bytes" doc:"of the run, moved so far"`
	Total  int64     `json:"total" doc:"of the run"`
	At     time.Time `json:"at"`
}

// PartTries counts failed tries of a part.
type PartTries struct {
	Part  int `json:"part"`
	Tries int `json:"tries"`
}

// History is what became of an upload over time.
type History struct {
	Moves      []Move `json:"moves" doc:"oldest first"`
	Tries      []Try  `json:"tries" doc:"failed tries, newest first, at most 200"`
	TriesCount int    `json:"tries_count" doc:"of all failed tries"`
}

// Move is a change of state.
type Move struct {
	From   string    `json:"from,omitempty" doc:"empty for the submission"`
	To     string    `json:"to"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Try is a failed try.
type Try struct {
	Epoch     int       `json:"epoch"`
	Part      int       `json:"part,omitempty" doc:"missing for a control call"`
	Kind      string    `json:"kind"`
	Code      string    `json:"code,omitempty" doc:"the platform's own code"`
	Message   string    `json:"message"`
	Worker    string    `json:"worker,omitempty" doc:"missing for a control call"`
	StartedAt time.Time `json:"started_at"`
	FailedAt  time.Time `json:"failed_at"`
	Excused   bool      `json:"excused,omitempty" doc:"the platform was down, so it does not count"`
}

// Failures is what fails and why.
type Failures struct {
	Since   time.Time      `json:"since" doc:"uploads that were submitted before are left out"`
	Uploads []FailureGroup `json:"uploads" doc:"failed uploads by cause and account, the largest group first"`
	Tries   []TryGroup     `json:"tries" doc:"failed tries of the last hour, at most the last 10,000, the largest group first"`
}

// FailureGroup is failed uploads with one cause at one account.
type FailureGroup struct {
	Cause   string    `json:"cause"`
	Account string    `json:"account"`
	Count   int       `json:"count"`
	LastAt  time.Time `json:"last_at"`
	Example string    `json:"example" doc:"id of the upload that failed last"`
	Name    string    `json:"name" doc:"of the example"`
	Message string    `json:"message" doc:"of the example"`
}

// TryGroup is failed tries of one kind at one account.
type TryGroup struct {
	Account string    `json:"account"`
	Kind    string    `json:"kind"`
	Code    string    `json:"code,omitempty" doc:"the platform's own code"`
	Count   int       `json:"count"`
	Uploads int       `json:"uploads" doc:"how many are concerned"`
	LastAt  time.Time `json:"last_at"`
	Message string    `json:"message" doc:"of the last"`
}

// Access is what the caller may do, and of whom.
type Access struct {
	Version string   `json:"version" doc:"of the dispatcher's program"`
	Name    string   `json:"name" doc:"of the token"`
	Scopes  []string `json:"scopes"`
	Tenants []string `json:"tenants" doc:"that have accounts, of those that the token is good for"`
}
