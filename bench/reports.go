package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"mediaferry/bench/figures"
	"mediaferry/bench/movers"
	"mediaferry/internal/postgres"
)

const (
	ledgerDays   = 60 // that the made-up record goes back
	reportMonths = 4  // of the ledger, more than enough for the days
)

// runReports measures the reports over a made-up ledger, and what folding costs
// those who fill it.
func runReports(ctx context.Context, env movers.Env, c settings, stdout io.Writer) (err error) {
	m := newMediaferry(env)
	m.keep = c.keep
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.Prepare(ctx); err != nil {
		return err
	}
	// They have made the tables, and would fold while others are measured.
	if err := m.stopProcesses(); err != nil {
		return err
	}
	conns, err := sql.Open("pgx", m.postgres.DSN())
	if err != nil {
		return fmt.Errorf("reports: %w", err)
	}
	defer conns.Close() //nolint:errcheck // nothing is pending on them
	store, err := postgres.Open(ctx, m.postgres.DSN(), 4, zap.NewNop())
	if err != nil {
		return err
	}
	defer store.Close()
	sheet := &figures.Sheet{}
	since := time.Now().AddDate(0, 0, -ledgerDays)

	if err := store.MakePartitions(ctx, since, reportMonths); err != nil {
		return err
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(stdout, format+"\n", args...) }
	if err := fillLedger(ctx, conns, store, c.ledger, sheet, say); err != nil {
		return err
	}
	if err := timeReports(ctx, store, since, c.rounds, sheet, say); err != nil {
		return err
	}
	if err := foldSlowdown(ctx, m, conns, store, sheet, say); err != nil {
		return err
	}
	if err := sheet.Print(stdout); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// fillLedger makes the ledger and folds it, unless it is there already.
func fillLedger(ctx context.Context, conns *sql.DB, store *postgres.Store, want int, sheet *figures.Sheet, say func(string, ...any)) error {
	var there bool
	if err := conns.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM part_acks)`).Scan(&there); err != nil {
		return fmt.Errorf("look for a ledger: %w", err)
	}
	if there {
		say("the ledger that was kept is used")
		_, err := store.FoldLedger(ctx, 0)
		return err
	}
	start := time.Now()
	rows, err := makeLedger(ctx, conns, want)
	if err != nil {
		return fmt.Errorf("make a ledger: %w", err)
	}
	say("made %d ledger rows in %v", rows, time.Since(start).Round(time.Second))
	start = time.Now()
	folded, err := store.FoldLedger(ctx, 0)
	if err != nil {
		return err
	}
	if folded != rows {
		return fmt.Errorf("%d of %d rows were folded", folded, rows)
	}
	sheet.Set("report_fold_rows_per_second", float64(folded)/time.Since(start).Seconds(), "1/s")
	return nil
}

// timeReports runs each report over the whole record, and keeps the slowest run of
// all.
func timeReports(ctx context.Context, store *postgres.Store, since time.Time, rounds int, sheet *figures.Sheet, say func(string, ...any)) error {
	all, err := store.Reports(ctx)
	if err != nil {
		return err
	}
	var slowest time.Duration
	for _, r := range all {
		var took []string
		rows := 0
		for range rounds {
			start := time.Now()
			found, err := store.Report(ctx, r.Name, since)
			if err != nil {
				return err
			}
			elapsed := time.Since(start)
			slowest, rows = max(slowest, elapsed), len(found.Rows)
			took = append(took, elapsed.Round(time.Millisecond).String())
		}
		say("report %-16s %5d rows  %s", r.Name, rows, strings.Join(took, "  "))
	}
	sheet.Set("report_slowest_ms", float64(slowest)/float64(time.Millisecond), "ms")
	return nil
}
