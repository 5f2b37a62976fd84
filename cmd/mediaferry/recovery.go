package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) reconcileCommand() *cobra.Command {
	var r client.Reconciliation
	cmd := &cobra.Command{
		Use:   "reconcile --upload ID | --account NAME | --all",
		Short: "Compare the record with what the platforms hold, and put right what differs",
		Long: `Compare the record with what the platforms hold, and put right what differs.

Each upload on which work is due is asked about at its platform. If the asset is
there, the upload is completed, and finish is not called. Parts that the platform
has and the ledger lacks are adopted; if it lacks parts that the ledger has, the
upload begins again. Runs in hand are withdrawn and fed again. With --dry-run
nothing is changed.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, _ []string) error {
			given := 0
			for _, name := range []string{"upload", "account", "all"} {
				if cmd.Flags().Changed(name) {
					given++
				}
			}
			if given != 1 {
				return usagef("give exactly one of --upload, --account and --all")
			}
			return a.reconcile(cmd.Context(), api, r)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&r.Upload, "upload", "", "only this upload")
	f.StringVar(&r.Account, "account", "", "uploads to this account")
	f.BoolVar(&r.All, "all", false, "uploads to every account of the tenant")
	f.BoolVar(&r.DryRun, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&r.Restored, "restored", false, "the record is an older backup and the queue is lost too: uploads of which nobody can tell need a human")
	return cmd
}

// reconcile prints the findings, those before an error too.
func (a *app) reconcile(ctx context.Context, api *client.Client, r client.Reconciliation) error {
	p := newPrinter(a, findingColumns())
	var errs []error
	err := api.Reconcile(ctx, r, func(page []client.Finding) {
		for _, f := range page {
			errs = append(errs, p.add(f))
		}
	})
	return p.finish(append(errs, err)...)
}

func (a *app) setAsideCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "setaside",
		Short: "List, show, drop and replay messages that could not be read",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.setAsideListCommand(), a.setAsideShowCommand(),
		a.setAsideEachCommand("drop NUMBER...", "Forget messages", "dropped", (*client.Client).DropSetAside),
		a.setAsideEachCommand("replay NUMBER...", "Put messages back on their streams", "put back", (*client.Client).ReplaySetAside))
	return cmd
}

func (a *app) setAsideListCommand() *cobra.Command {
	var (
		before int64
		limit  int
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List messages that were set aside, newest first",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, _ []string) error {
			page, err := api.ListSetAside(cmd.Context(), before, limit)
			if err != nil {
				return err
			}
			if err := printAll(a, setAsideColumns(), page.Messages); err != nil {
				return err
			}
			if page.Next > 0 {
				a.more("--before", strconv.FormatInt(page.Next, 10))
			}
			return nil
		}),
	}
	cmd.Flags().Int64Var(&before, "before", 0, "go on before this message")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, 1 to 1000")
	return cmd
}

// shownMessage is a message with a payload that a person can read, if it is text.
type shownMessage struct {
	client.SetAside

	Text json.RawMessage `json:"json,omitempty"` // the payload, where it is JSON
}

func (a *app) setAsideShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NUMBER",
		Short: "Show a message with its headers and payload",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			number, err := messageNumber(args[0])
			if err != nil {
				return err
			}
			m, err := api.ShowSetAside(cmd.Context(), number)
			if err != nil {
				return err
			}
			shown := shownMessage{SetAside: m}
			if json.Valid(m.Payload) {
				shown.Text = m.Payload
			}
			return printOne(a, []column[shownMessage]{
				{field: "number"}, {field: "at"}, {field: "stream"}, {field: "subject"}, {field: "size"}, {field: "reason"}, {field: "payload"},
			}, shown, func(d *details) { describeMessage(d, shown) })
		}),
	}
}

func describeMessage(d *details, m shownMessage) {
	d.row("number", strconv.FormatInt(m.Number, 10))
	d.at("at", m.At)
	d.row("stream", m.Stream)
	d.row("subject", m.Subject)
	d.row("sequence", strconv.FormatUint(m.Seq, 10))
	d.at("published", m.Published)
	d.row("size", bytesText(m.Size))
	d.row("reason", m.Reason)
	d.row("worker", m.Worker)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		d.row("header", name+": "+strings.Join(m.Headers[name], ", "))
	}
	d.row("payload", string(m.Payload))
}

func (a *app) setAsideEachCommand(use, short, done string, do func(*client.Client, context.Context, int64) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			p := a.outcomes()
			var errs []error
			for _, arg := range args {
				number, err := messageNumber(arg)
				if err == nil {
					err = do(api, cmd.Context(), number)
				}
				if err == nil {
					err = p.add(outcome{arg, done})
				}
				errs = append(errs, err)
			}
			return p.finish(errs...)
		}),
	}
}

func messageNumber(text string) (int64, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return 0, usagef("%q is not the number of a message; setaside list shows them", text)
	}
	return number, nil
}
