package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
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
	var filter client.Filter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List uploads, newest first",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, _ []string) error {
			page, err := api.List(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if err := printAll(a, uploadColumns(), page.Uploads); err != nil {
				return err
			}
			a.more("--after", page.Next)
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&filter.Account, "account", "", "only uploads to this account")
	f.StringSliceVar(&filter.States, "state", nil, "only uploads in these states")
	f.StringVar(&filter.Batch, "batch", "", "only uploads of this batch")
	f.StringSliceVar(&filter.Causes, "cause", nil, "only failed uploads with these causes")
	f.StringToStringVar(&filter.Labels, "label", nil, "only uploads with this label, as key=value")
	f.StringVar(&filter.Paused, "paused", "", "true or false: only uploads that are paused themselves, or are not")
	f.StringVar(&filter.After, "after", "", "go on after this upload")
	f.IntVar(&filter.Limit, "limit", 100, "at most so many, 1 to 1000")
	a.completeFilter(cmd)
	return cmd
}

func (a *app) showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show ID",
		ValidArgsFunction: a.uploadIDs(),
		Short:             "Show an upload",
		Args:              usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			u, err := api.Show(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printOne(a, uploadColumns(), u, func(d *details) { describeUpload(d, u) })
		}),
	}
	return cmd
}

func (a *app) watchCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "watch ID...",
		ValidArgsFunction: a.uploadIDs(),
		Short:             "Follow uploads to the end; fails if one of them does",
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			found := make([]client.Upload, len(args))
			for i, id := range args {
				found[i].ID = id
			}
			out := newLines(a, uploadColumns(), result)
			return out.finish(a.follow(cmd.Context(), api, found, out, timeout))
		}),
	}
	timeoutFlag(cmd, &timeout)
	return cmd
}

// withAPI runs the command with a client.
func (a *app) withAPI(run func(*cobra.Command, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		api, err := a.connect()
		if err != nil {
			return err
		}
		defer api.Close()
		return run(cmd, api, args)
	}
}

// more says beside the results that they go on.
func (a *app) more(flag, next string) {
	if next != "" {
		_, _ = fmt.Fprintf(a.stderr, "more with %s %s\n", flag, next)
	}
}

// describeUpload tells what is set of an upload.
func describeUpload(d *details, u client.Upload) {
	d.row("id", u.ID)
	d.row("state", stateText(u))
	for _, p := range u.Pauses {
		d.row("paused", pauseText(p))
	}
	d.row("account", u.Account+" ("+u.Provider+")")
	d.row("batch", u.Batch)
	d.row("name", u.Name)
	d.row("source", "s3://"+u.Source.Bucket+"/"+u.Source.Key)
	d.row("size", bytesText(u.Source.Size))
	if u.PartCount > 0 {
		d.row("sent", fmt.Sprintf("%s, %d of %d parts of %s", bytesText(u.AckedBytes), u.AckedParts, u.PartCount, bytesText(u.PartSize)))
	}
	if u.FoundBytes > 0 {
		d.row("found", bytesText(u.FoundBytes)+" were upstream already")
	}
	if u.Priority != 0 {
		d.row("priority", strconv.Itoa(u.Priority))
	}
	for _, k := range slices.Sorted(maps.Keys(u.Labels)) {
		d.row("label", k+"="+u.Labels[k])
	}
	if u.Asset != nil {
		d.row("asset", u.Asset.ID)
		d.row("url", u.Asset.URL)
	}
	if u.Failure != nil {
		d.row("failure", u.Failure.Cause+": "+u.Failure.Message)
		d.row("stage", u.Failure.Stage)
		for _, n := range u.Failure.Evidence {
			d.row(n.Call, n.At.Format(time.RFC3339)+"  "+n.Answer)
		}
		d.row("code", u.Failure.Code)
	}
	d.at("submitted", u.SubmittedAt)
	d.at("begun", u.BegunAt)
	d.at("first ack", u.FirstAckAt)
	d.at("last ack", u.LastAckAt)
	d.at("finished", u.FinishedAt)
	d.at("next action", u.NextActionAt)
	d.row("waits for", u.WaitsFor)
}
