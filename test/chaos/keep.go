package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// Names in the folder of a run.
const (
	keptLog    = "processes.log" // of all processes
	keptReport = "report.txt"    // all that the run said
)

// keptTables are dumped as they are. Sessions in them are sealed.
func keptTables() []string {
	return []string{"uploads", "part_acks", "part_failures", "state_changes", "object_digests", "digest_links", "outbox", "pauses", "record_marks"}
}

// newFolder makes the folder of a run, which must not be there: it is deleted
// with all that is in it where every invariant holds.
func newFolder(path string, o options) (string, error) {
	if path == "" {
		dir, err := os.MkdirTemp("", fmt.Sprintf("mediaferry-%s-%d-", o.scenario, o.seed))
		if err != nil {
			return "", fmt.Errorf("folder of the evidence: %w", err)
		}
		return dir, nil
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("-evidence: %w; name a folder that is not there yet", err)
	}
	return path, nil
}

// keep writes what a failed run is judged by into its folder, beside the log and
// the report: the record, the calls of every platform, and those of every gate.
// What cannot be had any more is left out, and the error says what.
func (w *world) keep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	errs := []error{w.keepRecord(ctx)}
	for _, p := range w.platforms {
		errs = append(errs, w.keepLines("calls-"+p.provider+".jsonl", lines(p.calls())))
	}
	gates := []*gate{w.gateS3}
	for _, a := range w.accounts {
		gates = append(gates, a.gate)
	}
	for _, g := range gates {
		if g != nil {
			errs = append(errs, w.keepLines("gate-"+g.name+".jsonl", lines(g.log())))
		}
	}
	return errors.Join(errs...)
}

// keepRecord copies the tables as CSV.
func (w *world) keepRecord(ctx context.Context) error {
	if w.postgres == nil {
		return nil
	}
	conn, err := pgx.Connect(ctx, w.postgres.DSN())
	if err != nil {
		return fmt.Errorf("keep the record: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var errs []error
	for _, table := range keptTables() {
		errs = append(errs, w.keepFile("record-"+table+".csv", func(out io.Writer) error {
			// A partitioned table is copied through a query.
			_, err := conn.PgConn().CopyTo(ctx, out, "COPY (SELECT * FROM "+table+") TO STDOUT (FORMAT csv, HEADER)")
			return err //nolint:wrapcheck // keepFile does
		}))
	}
	return errors.Join(errs...)
}

func lines[T any](all []T) []any {
	out := make([]any, len(all))
	for i, one := range all {
		out[i] = one
	}
	return out
}

func (w *world) keepLines(name string, all []any) error {
	return w.keepFile(name, func(out io.Writer) error {
		encoder := json.NewEncoder(out)
		for _, one := range all {
			if err := encoder.Encode(one); err != nil {
				return err //nolint:wrapcheck // keepFile does
			}
		}
		return nil
	})
}

func (w *world) keepFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(filepath.Join(w.opts.evidence, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // in our own folder
	if err == nil {
		out := bufio.NewWriter(f)
		err = errors.Join(write(out), out.Flush(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}
