package wire

import "time"

// StateChange is the data of an event of /v1/events: an upload came to another
// state. The event's type is that state, its id orders all events.
type StateChange struct {
	Upload  string            `json:"upload"`
	Tenant  string            `json:"tenant"`
	Account string            `json:"account"`
	Batch   string            `json:"batch,omitempty"`
	Name    string            `json:"name"`
	Size    int64             `json:"size" doc:"bytes"`
	Labels  map[string]string `json:"labels,omitempty"`
	From    string            `json:"from,omitempty" doc:"the state before; missing when it was submitted"`
	State   string            `json:"state"`
	Reason  string            `json:"reason,omitempty"`
	At      time.Time         `json:"at"`
	Asset   *Asset            `json:"asset,omitempty" doc:"if it is completed"`
	Failure *Failure          `json:"failure,omitempty" doc:"if it failed, and has not been retried since"`
}
