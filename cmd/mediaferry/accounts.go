package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) listAccountsCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List accounts with their windows, what is in flight and what holds them",
		Args:  usageArgs(cobra.NoArgs),
		RunE: a.withAPI(&output, func(cmd *cobra.Command, api *client.Client, _ []string) error {
			list, err := api.Accounts(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return a.printJSON(struct {
					Accounts []client.Account `json:"accounts"`
				}{list})
			}
			return a.printAccounts(list)
		}),
	}
	outputFlag(cmd, &output)
	return cmd
}

func (a *app) printAccounts(list []client.Account) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ACCOUNT\tPROVIDER\tPOOL\tACTIVE\tIN FLIGHT\tWINDOW\tOF\tPER SECOND\tHELD\tPAUSED")
	for _, acc := range list {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", acc.Name, acc.Provider, acc.Pool, acc.Active,
			bytesText(acc.InFlight), bytesText(acc.Window), bytesText(acc.MaxWindow), bytesText(acc.Goodput), heldText(acc.Held, time.Now()), scopes(acc.Pauses))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print accounts: %w", err)
	}
	return nil
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
