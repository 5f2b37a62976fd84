package wire

import "time"

// Reconciliation asks that the record be compared with what the platforms hold.
// Exactly one of upload, account and all is given.
type Reconciliation struct {
	Upload   string `json:"upload,omitempty" doc:"only this upload"`
	Account  string `json:"account,omitempty" doc:"uploads to this account on which work is due"`
	All      bool   `json:"all,omitempty" doc:"uploads of the tenant on which work is due"`
	DryRun   bool   `json:"dry_run,omitempty" doc:"say what would be done, and do nothing"`
	Restored bool   `json:"restored,omitempty" doc:"the record may be older than what the platforms hold: an upload of which neither can tell needs a human"`
	After    string `json:"after,omitempty" doc:"next of the page before"`
}

// ReconciliationResult is a page of findings.
type ReconciliationResult struct {
	Findings []Finding `json:"findings"`
	Next     string    `json:"next,omitempty" doc:"give it as after to go on; empty on the last page"`
}

// Finding is what the comparison of one upload found.
type Finding struct {
	Upload        string `json:"upload"`
	Account       string `json:"account"`
	State         string `json:"state" doc:"in the record, before the action"`
	Epoch         int    `json:"epoch"`
	LedgerParts   int    `json:"ledger_parts" doc:"parts that the ledger has"`
	PartCount     int    `json:"part_count" doc:"of how many; 0 until planned"`
	Holding       string `json:"holding,omitempty" doc:"what the platform says that it holds: asset, session, nothing or unknown; empty if it was not asked"`
	Listed        bool   `json:"listed" doc:"the platform lists its parts"`
	PlatformParts int    `json:"platform_parts" doc:"how many it lists"`
	Action        string `json:"action" enum:"none,goes_on,adopts_parts,begins_again,completes,waits,needs_human,in_hand" doc:"what was done, or would be"`
	Evidence      string `json:"evidence,omitempty" doc:"what was asked and answered"`
}

// SetAside is a message that could not be read or was refused for good, taken off
// its stream and kept.
type SetAside struct {
	Number    int64               `json:"number"`
	Stream    string              `json:"stream"`
	Subject   string              `json:"subject"`
	Seq       uint64              `json:"seq" doc:"in the stream"`
	Published time.Time           `json:"published"`
	Headers   map[string][]string `json:"headers,omitempty"`
	Payload   []byte              `json:"payload,omitempty" doc:"base64; not in lists"`
	Size      int64               `json:"size" doc:"bytes of the whole payload"`
	Reason    string              `json:"reason"`
	Worker    string              `json:"worker,omitempty" doc:"that met it; empty for a dispatcher"`
	At        time.Time           `json:"at"`
}

// SetAsideList is a page of messages, newest first.
type SetAsideList struct {
	Messages []SetAside `json:"messages"`
	Next     int64      `json:"next,omitempty" doc:"give it as before to have the next page; 0 on the last"`
}
