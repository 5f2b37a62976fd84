package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"mediaferry/client"
	"mediaferry/internal/postgres"
	"mediaferry/internal/uploads"
)

func (a *app) reportCommand() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "report list|NAME",
		Short: "Answer a ready question about what was moved; list names them",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("tenant") {
				return usagef("reports are about all tenants; leave out --tenant")
			}
			from, err := parseSince(since, a.now())
			if err != nil {
				return err
			}
			api, err := a.connect()
			if err != nil {
				return err
			}
			defer api.Close()
			if args[0] == "list" {
				return a.listReports(cmd.Context(), api)
			}
			return a.report(cmd.Context(), api, args[0], from)
		},
	}
	cmd.Flags().StringVar(&since, "since", "7d", "about the time from then on: how long ago (36h, 7d) or when (2026-11-01, RFC 3339)")
	return cmd
}

// parseSince reads how long ago, or when.
func parseSince(text string, now time.Time) (time.Time, error) {
	if ago, err := parseAge(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usagef("--since %q is no time; give how long ago, such as 36h or 7d, or when, such as 2026-11-01", text)
}

// parseAge reads a duration, of which days are the longest unit.
func parseAge(text string) (time.Duration, error) {
	age, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		age = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || age <= 0 {
		return 0, fmt.Errorf("%q is no age; give one such as 36h or 90d", text)
	}
	return age, nil
}

func (a *app) listReports(ctx context.Context, api *client.Client) error {
	list, err := api.Reports(ctx)
	if err != nil {
		return err
	}
	return printAll(a, reportColumns(), list)
}

func (a *app) report(ctx context.Context, api *client.Client, name string, since time.Time) error {
	found, err := api.Report(ctx, name, since)
	if err != nil {
		return err
	}
	rows := make([]object, len(found.Rows))
	for i, values := range found.Rows {
		rows[i] = object{found.Columns, values}
	}
	return printAll(a, rowColumns(found.Columns), rows)
}

const pruneConnect = 15 * time.Second // how long the database is waited for

func (a *app) pruneCommand() *cobra.Command {
	var (
		dsn, olderThan     string
		withFailed, dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "prune --older-than 90d",
		Short: "Delete months of uploads that have ended; reports keep their numbers",
		Long: `Delete months of uploads that have ended; reports keep their numbers.

A month of the ledger is dropped once it is over for so long and all its uploads
have ended before. It is kept if work is due on one of them, or if one has failed
and may be retried, unless --with-failed says that these may go too. Idempotency
keys of deleted uploads are forgotten. It may be repeated, and goes on where it was
cut short. The exit code is 1 if a month was kept.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dsn == "" {
				return usagef("--dsn or MEDIAFERRY_POSTGRES_DSN is missing; give postgres://user:password@host:5432/database")
			}
			age, err := parseAge(olderThan)
			if err != nil {
				return usagef("--older-than: %w", err)
			}
			return a.prune(cmd.Context(), dsn, a.now().Add(-age), withFailed, dryRun)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dsn, "dsn", a.getenv("MEDIAFERRY_POSTGRES_DSN"), "address of the database as the owner of its tables, also MEDIAFERRY_POSTGRES_DSN")
	f.Lookup("dsn").DefValue = "" // help must not show a password
	f.StringVar(&olderThan, "older-than", "", "how long ago the month must have ended, such as 90d")
	f.BoolVar(&withFailed, "with-failed", false, "delete failed uploads too, which cannot be retried then")
	f.BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

// prunedMonth is what was done, or would be, about a month of the ledger.
type prunedMonth struct {
	Month   string `json:"month"`
	Uploads int    `json:"uploads"`
	Bytes   int64  `json:"bytes"`
	Kept    string `json:"kept,omitempty"` // why it stays
	DryRun  bool   `json:"dry_run"`
}

func prunedText(m prunedMonth) string {
	done := "pruned"
	switch {
	case m.Kept != "":
		return fmt.Sprintf("%s  kept: %s", m.Month, m.Kept)
	case m.DryRun:
		done = "would be pruned"
	}
	return fmt.Sprintf("%s  %s: %d uploads, %s of the ledger", m.Month, done, m.Uploads, bytesText(m.Bytes))
}

// errKept says that not all was pruned that is old enough.
var errKept = errors.New("a month was kept: see above")

func (a *app) prune(ctx context.Context, dsn string, cutoff time.Time, withFailed, dryRun bool) error {
	connecting, cancel := context.WithTimeout(ctx, pruneConnect)
	defer cancel()
	store, err := postgres.Open(connecting, dsn, 2, zap.NewNop())
	if err != nil {
		return err
	}
	defer store.Close()
	months, kept := 0, false
	out := newLines(a, []column[prunedMonth]{{field: "month"}, {field: "uploads"}, {field: "bytes"}, {field: "kept"}, {field: "dry_run"}}, prunedText)
	err = store.Prune(ctx, cutoff, withFailed, dryRun, func(p uploads.Pruned) {
		months++
		kept = kept || p.Kept != ""
		_ = out.add(prunedMonth{Month: p.Month, Uploads: p.Uploads, Bytes: p.Bytes, Kept: p.Kept, DryRun: dryRun}) // end tells of an output that is gone
	})
	switch err = out.finish(err); {
	case err != nil:
		return err
	case kept:
		return errKept
	case months == 0:
		_, _ = fmt.Fprintf(a.stderr, "no month of the ledger had ended before %s\n", cutoff.UTC().Format(time.DateOnly))
	}
	return nil
}
