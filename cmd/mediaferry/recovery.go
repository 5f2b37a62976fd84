package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) reconcileCommand() *cobra.Command {
	var (
		r      client.Reconciliation
		output string
	)
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
		RunE: a.withAPI(&output, func(cmd *cobra.Command, api *client.Client, _ []string) error {
			given := 0
			for _, name := range []string{"upload", "account", "all"} {
				if cmd.Flags().Changed(name) {
					given++
				}
			}
			if given != 1 {
				return usagef("give exactly one of --upload, --account and --all")
			}
			return a.reconcile(cmd.Context(), api, r, output)
		}),
	}
	outputFlag(cmd, &output)
	f := cmd.Flags()
	f.StringVar(&r.Upload, "upload", "", "only this upload")
	f.StringVar(&r.Account, "account", "", "uploads to this account")
	f.BoolVar(&r.All, "all", false, "uploads to every account of the tenant")
	f.BoolVar(&r.DryRun, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&r.Restored, "restored", false, "the record is an older backup and the queue is lost too: uploads of which nobody can tell need a human")
	return cmd
}

// reconcile prints the findings.
func (a *app) reconcile(ctx context.Context, api *client.Client, r client.Reconciliation, output string) error {
	all := []client.Finding{}
	err := api.Reconcile(ctx, r, func(page []client.Finding) { all = append(all, page...) })
	if output == "json" {
		return errors.Join(a.printJSON(all), err)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "UPLOAD\tACCOUNT\tSTATE\tLEDGER\tPLATFORM\tACTION\tEVIDENCE")
	for _, f := range all {
		holding := f.Holding
		if f.Listed {
			holding += fmt.Sprintf(", %d parts", f.PlatformParts)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\n",
			f.Upload, f.Account, f.State, f.LedgerParts, f.PartCount, holding, f.Action, f.Evidence)
	}
	if ferr := w.Flush(); ferr != nil {
		err = errors.Join(err, fmt.Errorf("print: %w", ferr))
	}
	return err
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
		output string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List messages that were set aside, newest first",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(&output, func(cmd *cobra.Command, api *client.Client, _ []string) error {
			page, err := api.ListSetAside(cmd.Context(), before, limit)
			if err != nil {
				return err
			}
			if output == "json" {
				return a.printJSON(page)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NUMBER\tAT\tSTREAM\tSUBJECT\tBYTES\tREASON")
			for _, m := range page.Messages {
				_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\n", m.Number, m.At.Format(time.RFC3339), m.Stream, m.Subject, m.Size, m.Reason)
			}
			if page.Next > 0 {
				_, _ = fmt.Fprintf(w, "more with --before %d\n", page.Next)
			}
			if err := w.Flush(); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		}),
	}
	outputFlag(cmd, &output)
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
		Short: "Show a message with its headers and payload, as JSON",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(nil, func(cmd *cobra.Command, api *client.Client, args []string) error {
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
			return a.printJSON(shown)
		}),
	}
}

func (a *app) setAsideEachCommand(use, short, done string, do func(*client.Client, context.Context, int64) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: a.withAPI(nil, func(cmd *cobra.Command, api *client.Client, args []string) error {
			var errs []error
			for _, arg := range args {
				number, err := messageNumber(arg)
				if err == nil {
					err = do(api, cmd.Context(), number)
				}
				if err != nil {
					errs = append(errs, err)
					continue
				}
				a.printf("%d %s\n", number, done)
			}
			return errors.Join(errs...)
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
