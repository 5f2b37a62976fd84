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

func (a *app) checkAccountsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Try the credentials of accounts by a call that begins nothing",
		Long: `Try the credentials of accounts by a call that begins nothing.

The dispatcher makes one harmless call to the platform of each account that is
named, or of all. The result is taken, refused, unknown (the platform could not be
asked, and why), or not_possible: the platform has no call that would tell and begin
no upload. It fails if credentials are refused or nobody can tell.`,
		ValidArgsFunction: a.accountNames(),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			names := args
			if len(names) == 0 {
				list, err := api.Accounts(cmd.Context())
				if err != nil {
					return err
				}
				for _, account := range list {
					names = append(names, account.Name)
				}
			}
			p := newPrinter(a, checkColumns())
			var errs []error
			for _, name := range names {
				check, err := api.CheckAccount(cmd.Context(), name)
				if err == nil {
					err = p.add(check)
				}
				if check.Result == "refused" || check.Result == "unknown" {
					err = fmt.Errorf("account %s: %s", name, check.Result)
				}
				errs = append(errs, err)
			}
			return p.finish(errs...)
		}),
	}
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
