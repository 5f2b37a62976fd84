package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) batchesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batches",
		Short: "List and show batches",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.listBatchesCommand(), a.showBatchCommand())
	return cmd
}

func (a *app) listBatchesCommand() *cobra.Command {
	var filter client.BatchFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List batches, newest first",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, _ []string) error {
			page, err := api.Batches(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if err := printAll(a, batchColumns(), page.Batches); err != nil {
				return err
			}
			a.more("--after", page.Next)
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&filter.Account, "account", "", "only batches with uploads to this account")
	f.StringVar(&filter.After, "after", "", "go on after this batch")
	f.IntVar(&filter.Limit, "limit", 100, "at most so many, 1 to 1000")
	a.completeAccounts(cmd, "account")
	return cmd
}

func (a *app) showBatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a batch and how its uploads stand",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			b, err := api.Batch(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printOne(a, batchColumns(), b, func(d *details) { describeBatch(d, b) })
		}),
	}
}

func batchColumns() []column[client.Batch] {
	return []column[client.Batch]{
		{"ID", "id", nil},
		{"ACCOUNTS", "accounts", nil},
		{"UPLOADS", "uploads", nil},
		{"SIZE", "bytes", func(b client.Batch) string { return bytesText(b.Bytes) }},
		{"REJECTED", "rejected", nil},
		{"", "acked_bytes", nil},
		{"", "open", nil},
		{"", "states", nil},
		{"SUBMITTED", "submitted_at", func(b client.Batch) string { return timeText(b.SubmittedAt, "") }},
	}
}

func describeBatch(d *details, b client.Batch) {
	d.row("id", b.ID)
	d.row("key", b.IdempotencyKey)
	d.row("accounts", strings.Join(b.Accounts, ", "))
	if s := b.Source; s != nil {
		where := "s3://" + s.Bucket + "/" + s.Key
		if s.Prefix != nil {
			where += *s.Prefix + " and below"
		}
		d.row("source", where)
	}
	d.row("uploads", fmt.Sprintf("%d, of which %d have not come to rest", b.Uploads, b.Open))
	d.row("sent", fmt.Sprintf("%s of %s", bytesText(b.AckedBytes), bytesText(b.Bytes)))
	for _, state := range slices.Sorted(maps.Keys(b.States)) {
		d.row(state, fmt.Sprintf("%d, %s", b.States[state].Uploads, bytesText(b.States[state].Bytes)))
	}
	if b.Rejected > 0 {
		d.row("rejected", fmt.Sprint(b.Rejected))
	}
	for _, r := range b.FirstRejected {
		d.row("rejected", strings.TrimSpace(r.Account+" "+r.Key)+": "+r.Error)
	}
	d.at("submitted", b.SubmittedAt)
}
