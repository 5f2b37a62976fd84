package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) listAccountsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List accounts with their windows, what is in flight and what holds them",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, _ []string) error {
			list, err := api.Accounts(cmd.Context())
			if err != nil {
				return err
			}
			return printAll(a, accountColumns(a.now), list)
		}),
	}
	return cmd
}

// heldText says which calls wait, for how long, and for what.
func heldText(held []client.HeldCall, now time.Time) string {
	text := ""
	for _, h := range held {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%s for %s", h.Call, max(h.Until.Sub(now), 0).Round(time.Second))
		if !h.DownSince.IsZero() {
			text += fmt.Sprintf(", down for %s", now.Sub(h.DownSince).Round(time.Second))
		}
		if h.Why != "" {
			text += ": " + h.Why
		}
	}
	if text == "" {
		return "-"
	}
	return text
}
