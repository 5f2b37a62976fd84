package wire

// BulkLine is one line of a bulk submission in JSON.
type BulkLine struct {
	Submission

	Size int64 `json:"size,omitempty" doc:"bytes; with the source's etag it spares a look at staging"`
}

// BulkResult is the answer to a bulk submission.
type BulkResult struct {
	Batch     string         `json:"batch,omitempty" doc:"ties the uploads together; missing if none was submitted"`
	Submitted int            `json:"submitted" doc:"new uploads"`
	Known     int            `json:"known" doc:"lines whose idempotency key and content were there already"`
	Rejected  []RejectedLine `json:"rejected" doc:"lines that were not taken"`
}

// RejectedLine is one thing that is wrong with a line.
type RejectedLine struct {
	Line  int    `json:"line" doc:"from 1; the header of CSV is line 1"`
	Field string `json:"field,omitempty"`
	Error string `json:"error"`
}
