package uploads

import "errors"

// ErrNoReport says that no report has the name.
var ErrNoReport = errors.New("there is no such report")

// Report is a ready question to the record.
type Report struct {
	Name     string
	Question string
	SQL      string // for psql, which is given since
}

// ReportRows answers a report. A value is nil, a string, a bool, an int64, a
// float64 or a time.Time.
type ReportRows struct {
	Columns []string
	Rows    [][]any
}

// Pruned is what was done, or is to be done, about one month of the ledger.
type Pruned struct {
	Month   string // YYYYMM
	Uploads int    // deleted, or to be deleted
	Bytes   int64  // of the ledger's month, on disk
	Kept    string // why the month stays; empty if it does not
}
