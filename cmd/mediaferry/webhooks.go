package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) webhooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhooks",
		Short: "List, test, enable and replay the endpoints of webhooks",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.webhooksListCommand(), a.webhooksTestCommand(), a.webhooksEnableCommand(), a.webhooksReplayCommand())
	return cmd
}

func (a *app) webhooksListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tenant's endpoints as they stand",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, _ []string) error {
			all, err := api.Webhooks(cmd.Context())
			if err != nil {
				return err
			}
			return printAll(a, webhookColumns(), all)
		}),
	}
	return cmd
}

func (a *app) webhooksTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test NAME",
		Short: "Send an endpoint a webhook.test, and say what it answers",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			why, err := api.TestWebhook(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if why != "" {
				return errors.New(why)
			}
			return a.done(args[0], "took the message")
		}),
	}
}

func (a *app) webhooksEnableCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "enable NAME",
		Short: "Try an endpoint again that was disabled",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			if err := api.EnableWebhook(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.done(args[0], "is tried again")
		}),
	}
}

func (a *app) webhooksReplayCommand() *cobra.Command {
	var (
		r     client.WebhookReplay
		since time.Duration
	)
	cmd := &cobra.Command{
		Use:   "replay NAME --since DURATION | --upload ID | --all",
		Short: "Send an endpoint messages again, under their old ids",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			if r.All == (since > 0 || r.Upload != "") {
				return usagef("give --since or --upload, or --all")
			}
			if since > 0 {
				r.Since = a.now().Add(-since)
			}
			n, err := api.ReplayWebhook(cmd.Context(), args[0], r)
			if err != nil {
				return err
			}
			return a.done(args[0], fmt.Sprintf("is sent %d messages again", n))
		}),
	}
	f := cmd.Flags()
	f.DurationVar(&since, "since", 0, "of events of so long ago or later, such as 24h")
	f.StringVar(&r.Upload, "upload", "", "about this upload alone")
	f.BoolVar(&r.All, "all", false, "all that are kept, of two weeks")
	f.BoolVar(&r.Undelivered, "undelivered", false, "leave out what was delivered")
	return cmd
}
