package wire

import (
	"encoding/json"
	"time"
)

// Report is a ready question to the record.
type Report struct {
	Name     string `json:"name"`
	Question string `json:"question"`
	SQL      string `json:"sql" doc:"what answers it, for psql with the variable since"`
}

// ReportList is the ready questions.
type ReportList struct {
	Reports []Report `json:"reports"`
}

// ReportRows answers a report.
type ReportRows struct {
	Report  string              `json:"report"`
	Since   time.Time           `json:"since" doc:"it is about the time from then on"`
	Columns []string            `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows" doc:"a value for each column: null, a text, a number, true or false; times are texts (RFC 3339), durations seconds"`
}
