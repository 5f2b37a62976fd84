package wire

import "time"

// Explanation says why an upload is where it is.
type Explanation struct {
	Upload   string    `json:"upload"`
	State    string    `json:"state" enum:"queued,digesting,beginning,uploading,finishing,completed,failed,cancelled"`
	Cause    string    `json:"cause" doc:"one word, stable: what it waits for, or the cause of its failure"`
	Summary  string    `json:"summary" doc:"the same as a sentence"`
	WaitsFor string    `json:"waits_for,omitempty" doc:"who or what has to act; missing if nobody has"`
	Next     string    `json:"next,omitempty" doc:"what happens next; missing if nothing does"`
	NextAt   time.Time `json:"next_at,omitzero" doc:"when that is, where it is known"`
	Facts    []string  `json:"facts" doc:"what was looked at"`
}
