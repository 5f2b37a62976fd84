// Package migrations holds the numbered changes of the database. Code must run
// correctly before a change, after it, and while another version runs beside it.
package migrations

import "embed"

// FS has the files NNNNN_name.sql, in the format of goose.
//
//go:embed *.sql
var FS embed.FS
