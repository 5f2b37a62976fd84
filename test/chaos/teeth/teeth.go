package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// edit replaces one place of a file. The text must be there exactly once, so
// that a tooth whose code has changed is noticed and not skipped.
type edit struct{ file, find, replace string }

// focus is a run of the harness in which a fault would show. The code as it is
// must pass it.
type focus struct {
	name string
	args []string
}

// tooth is one fault in the code that the harness is to find.
type tooth struct {
	name  string
	what  string
	edits []edit
	focus focus
}

const (
	ledgerSQL = "internal/postgres/db/ledger.sql.go" // what sqlc made of queries/ledger.sql
	finishGo  = "internal/dispatch/finish.go"
	runnerGo  = "internal/jobs/runner.go"
	stagingGo = "internal/staging/store.go"
)

// late has reports arrive after their upload was cancelled, sent by somebody
// else, or begun again.
func late() focus {
	return focus{"late", []string{"-faults", "worker_late", "-duration", "26s", "-uploads", "170"}}
}

// again has parts sent by a second worker while the first stands still, and
// reports delivered once more.
func again() focus {
	return focus{"again", []string{"-faults", "worker_stop,nats_consumer", "-duration", "32s", "-uploads", "200"}}
}

// unheard has calls carried out whose caller hears of a failure.
func unheard() focus {
	return focus{"unheard", []string{"-faults", "upstream_applied,staging_slow", "-duration", "25s", "-uploads", "120"}}
}

// slow has staging take its time, and objects replaced meanwhile.
func slow() focus {
	return focus{"slow", []string{"-faults", "staging_slow,staging_changed", "-duration", "30s", "-uploads", "120"}}
}

func teeth() []tooth {
	return []tooth{
		{
			name: "repeated-acks", what: "the ledger counts an ack that is repeated", focus: again(),
			edits: []edit{{
				ledgerSQL, "    ON CONFLICT DO NOTHING\n    RETURNING upload_id, part, length, found",
				"    ON CONFLICT (upload_id, epoch, part) DO UPDATE SET worker = excluded.worker\n    RETURNING upload_id, part, length, found",
			}},
		},
		{
			name: "any-epoch", what: "the ledger takes acks of an epoch that is over", focus: late(),
			edits: []edit{{ledgerSQL, "ON l.id = a.upload_id AND l.epoch = a.epoch\n        AND a.part >= 1", "ON l.id = a.upload_id\n        AND a.part >= 1"}},
		},
		{
			name: "any-state", what: "the ledger takes acks of an upload that has ended", focus: late(),
			edits: []edit{{
				ledgerSQL, "WHERE u.id = ANY($1::uuid[]) AND u.state::text = 'uploading' -- text: by primary key, see store.go\n    ORDER BY u.id FOR UPDATE",
				"WHERE u.id = ANY($1::uuid[])\n    ORDER BY u.id FOR UPDATE",
			}},
		},
		{
			name: "no-probe", what: "finish is called again after an unknown outcome, and nobody asks", focus: unheard(),
			edits: []edit{{finishGo, "	if !step.Intent.IsZero() {\n		// Before all else", "	if step.CancelDue {\n		// Before all else"}},
		},
		{
			name: "ack-first", what: "a worker takes its job off the queue before the report on it is stored", focus: slow(),
			edits: []edit{{runnerGo, "	settlement := r.handle(ctx, job, delivery, alive, log)\n", "	_ = r.Conn.ack(msg)\n	settlement := r.handle(ctx, job, delivery, alive, log)\n"}},
		},
		{
			name: "no-if-match", what: "objects are read whatever their version", focus: slow(),
			edits: []edit{
				{stagingGo, "	opts.Set(\"If-Match\", `\"`+obj.ETag+`\"`)\n	if length > 0 {", "	if length > 0 {"},
				{stagingGo, "	case info.ETag != obj.ETag:\n", "	case false:\n"},
			},
		},
	}
}

// plant applies the tooth to the tree at root.
func (t tooth) plant(root string) error {
	for _, e := range t.edits {
		path := filepath.Join(root, e.file)
		text, err := os.ReadFile(path) //nolint:gosec // of a copy of our own
		if err != nil {
			return fmt.Errorf("plant %s: %w", t.name, err)
		}
		if n := bytes.Count(text, []byte(e.find)); n != 1 {
			return fmt.Errorf("plant %s: %s has this %d times, want once; say anew where the fault goes:\n%s", t.name, e.file, n, e.find)
		}
		if err := os.WriteFile(path, bytes.Replace(text, []byte(e.find), []byte(e.replace), 1), 0o600); err != nil { //nolint:gosec // of a copy of our own
			return fmt.Errorf("plant %s: %w", t.name, err)
		}
	}
	return nil
}
