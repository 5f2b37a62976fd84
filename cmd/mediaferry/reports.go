package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"mediaferry/client"
	"mediaferry/internal/postgres"
	"mediaferry/internal/uploads"
)

func (a *app) reportCommand() *cobra.Command {
	var since, output string
	cmd := &cobra.Command{
		Use:   "report list|NAME",
		Short: "Answer a ready question about what was moved; list names them",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("tenant") {
				return usagef("reports are about all tenants; leave out --tenant")
			}
			switch output {
			case "table", "json", "jsonl", "csv":
			default:
				return usagef("--output %q is not known; give table, json, jsonl or csv", output)
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
				return a.listReports(cmd.Context(), api, output)
			}
			return a.report(cmd.Context(), api, args[0], from, output)
		},
	}
	cmd.Flags().StringVar(&since, "since", "7d", "about the time from then on: how long ago (36h, 7d) or when (2026-11-01, RFC 3339)")
	cmd.Flags().StringVar(&output, "output", "table", "table, json, jsonl or csv")
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

func (a *app) listReports(ctx context.Context, api *client.Client, output string) error {
	list, err := api.Reports(ctx)
	if err != nil {
		return err
	}
	switch output {
	case "json":
		return a.printJSON(list)
	case "table":
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "NAME\tQUESTION")
		for _, r := range list {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", r.Name, r.Question)
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	default:
		return usagef("--output %s is for the reports; give table or json", output)
	}
}

func (a *app) report(ctx context.Context, api *client.Client, name string, since time.Time, output string) error {
	if output == "csv" {
		text, err := api.ReportCSV(ctx, name, since)
		if err != nil {
			return err
		}
		a.printf("%s", text)
		return nil
	}
	found, err := api.Report(ctx, name, since)
	if err != nil {
		return err
	}
	switch output {
	case "json":
		return a.printJSON(found)
	case "jsonl":
		return a.printRows(found)
	default:
		return a.printReport(found)
	}
}

// printRows prints an object for each row, its fields in the order of the columns.
func (a *app) printRows(found client.ReportRows) error {
	for _, row := range found.Rows {
		var line bytes.Buffer
		for i, v := range row {
			name, err := json.Marshal(found.Columns[i])
			if err != nil {
				return fmt.Errorf("print: %w", err)
			}
			fmt.Fprintf(&line, ",%s:%s", name, v)
		}
		a.printf("{%s}\n", bytes.TrimPrefix(line.Bytes(), []byte(",")))
	}
	return nil
}

func (a *app) printReport(found client.ReportRows) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, strings.ToUpper(strings.Join(found.Columns, "\t")))
	for _, row := range found.Rows {
		texts := make([]string, len(row))
		for i, v := range row {
			texts[i] = cellText(v)
		}
		_, _ = fmt.Fprintln(w, strings.Join(texts, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// cellText is a value for a person: texts without quotes and control characters,
// fractions to three decimals.
func cellText(v json.RawMessage) string {
	var value any
	d := json.NewDecoder(bytes.NewReader(v))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return string(v)
	}
	switch value := value.(type) {
	case nil:
		return "-"
	case string:
		return strings.Map(func(r rune) rune {
			if strconv.IsPrint(r) {
				return r
			}
			return '?'
		}, value)
	case json.Number:
		if f, err := value.Float64(); err == nil && strings.ContainsAny(value.String(), ".e") {
			return strconv.FormatFloat(f, 'f', 3, 64)
		}
		return value.String()
	default:
		return string(v)
	}
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
	done, months, kept := "pruned", 0, false
	if dryRun {
		done = "would be pruned"
	}
	err = store.Prune(ctx, cutoff, withFailed, dryRun, func(p uploads.Pruned) {
		months++
		if p.Kept != "" {
			kept = true
			a.printf("%s  kept: %s\n", p.Month, p.Kept)
			return
		}
		a.printf("%s  %s: %d uploads, %s of the ledger\n", p.Month, done, p.Uploads, bytesText(p.Bytes))
	})
	switch {
	case err != nil:
		return err
	case kept:
		return errKept
	case months == 0:
		a.printf("no month of the ledger had ended before %s\n", cutoff.UTC().Format(time.DateOnly))
	}
	return nil
}
