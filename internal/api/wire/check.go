package wire

import "time"

// AccountCheck is what a harmless call with an account's credentials came to.
type AccountCheck struct {
	Account     string    `json:"account"`
	Provider    string    `json:"provider"`
	Result      string    `json:"result" enum:"taken,refused,unknown,not_possible" doc:"taken: the platform takes the credentials; refused: it does not; unknown: nobody can tell, detail says why; not_possible: the platform has no call that would tell and begin nothing"`
	Detail      string    `json:"detail" doc:"what was asked and answered"`
	At          time.Time `json:"at"`
	TookSeconds float64   `json:"took_seconds"`
}
