package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) uploadsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uploads",
		Short: "List, show, watch, check, pause, resume, cancel and retry uploads",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.listCommand(), a.showCommand(), a.watchCommand(), a.digestsCommand())
	cmd.AddCommand(a.changeCommands()...)
	return cmd
}

func (a *app) listCommand() *cobra.Command {
	var (
		filter client.Filter
		output string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List uploads, newest first",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(&output, func(cmd *cobra.Command, api *client.Client, _ []string) error {
			page, err := api.List(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if output == "json" {
				return a.printJSON(page)
			}
			return a.printTable(page)
		}),
	}
	outputFlag(cmd, &output)
	f := cmd.Flags()
	f.StringVar(&filter.Account, "account", "", "only uploads to this account")
	f.StringSliceVar(&filter.States, "state", nil, "only uploads in these states")
	f.StringVar(&filter.Batch, "batch", "", "only uploads of this batch")
	f.StringSliceVar(&filter.Causes, "cause", nil, "only failed uploads with these causes")
	f.StringToStringVar(&filter.Labels, "label", nil, "only uploads with this label, as key=value")
	f.StringVar(&filter.Paused, "paused", "", "true or false: only uploads that are paused themselves, or are not")
	f.StringVar(&filter.After, "after", "", "go on after this upload")
	f.IntVar(&filter.Limit, "limit", 100, "at most so many, 1 to 1000")
	return cmd
}

func (a *app) showCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show an upload",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(&output, func(cmd *cobra.Command, api *client.Client, args []string) error {
			u, err := api.Show(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if output == "json" {
				return a.printJSON(u)
			}
			return a.printUpload(u)
		}),
	}
	outputFlag(cmd, &output)
	return cmd
}

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch ID...",
		Short: "Follow uploads to the end; fails if one of them does",
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: a.withAPI(nil, func(cmd *cobra.Command, api *client.Client, args []string) error {
			return a.follow(cmd.Context(), api, args)
		}),
	}
}

// withAPI checks the output flag, where there is one, and runs the command with
// a client.
func (a *app) withAPI(output *string, run func(*cobra.Command, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if output != nil && *output != "table" && *output != "json" {
			return usagef("--output %q is not known; give table or json", *output)
		}
		api, err := a.connect()
		if err != nil {
			return err
		}
		defer api.Close()
		return run(cmd, api, args)
	}
}

func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVar(output, "output", "table", "table or json")
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (a *app) printTable(page client.UploadList) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tSTATE\tACCOUNT\tSENT\tSIZE\tNAME\tSUBMITTED")
	for _, u := range page.Uploads {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", u.ID, stateText(u), u.Account,
			bytesText(u.AckedBytes), bytesText(u.Source.Size), u.Name, u.SubmittedAt.Format(time.RFC3339))
	}
	if page.Next != "" {
		_, _ = fmt.Fprintf(w, "more with --after %s\n", page.Next)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printUpload prints what is set of an upload, one line each.
func (a *app) printUpload(u client.Upload) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			row(name, t.Format(time.RFC3339))
		}
	}
	row("id", u.ID)
	row("state", stateText(u))
	for _, p := range u.Pauses {
		row("paused", pauseText(p))
	}
	row("account", u.Account+" ("+u.Provider+")")
	row("batch", u.Batch)
	row("name", u.Name)
	row("source", "s3://"+u.Source.Bucket+"/"+u.Source.Key)
	row("size", bytesText(u.Source.Size))
	if u.PartCount > 0 {
		row("sent", fmt.Sprintf("%s, %d of %d parts of %s", bytesText(u.AckedBytes), u.AckedParts, u.PartCount, bytesText(u.PartSize)))
	}
	if u.FoundBytes > 0 {
		row("found", bytesText(u.FoundBytes)+" were upstream already")
	}
	if u.Priority != 0 {
		row("priority", strconv.Itoa(u.Priority))
	}
	for _, k := range slices.Sorted(maps.Keys(u.Labels)) {
		row("label", k+"="+u.Labels[k])
	}
	if u.Asset != nil {
		row("asset", u.Asset.ID)
		row("url", u.Asset.URL)
	}
	if u.Failure != nil {
		row("failure", u.Failure.Cause+": "+u.Failure.Message)
		row("stage", u.Failure.Stage)
		for _, n := range u.Failure.Evidence {
			row(n.Call, n.At.Format(time.RFC3339)+"  "+n.Answer)
		}
		row("code", u.Failure.Code)
	}
	at("submitted", u.SubmittedAt)
	at("begun", u.BegunAt)
	at("first ack", u.FirstAckAt)
	at("last ack", u.LastAckAt)
	at("finished", u.FinishedAt)
	at("next action", u.NextActionAt)
	row("waits for", u.WaitsFor)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
