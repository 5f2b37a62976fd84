package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

// completionPatience bounds what a person waits for a proposal.
const completionPatience = 2 * time.Second

// proposals asks the API for what an argument may be; nothing, if it does not
// answer at once.
func (a *app) proposals(ask func(ctx context.Context, api *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		api, err := a.connectWith()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer api.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		found, err := ask(ctx, api)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		given, last := "", begun // of a list with commas, the last is completed
		if i := strings.LastIndexByte(begun, ','); i >= 0 {
			given, last = begun[:i+1], begun[i+1:]
		}
		var proposed []cobra.Completion
		for _, text := range found {
			if word, _, _ := strings.Cut(text, "\t"); strings.HasPrefix(word, last) && !slices.Contains(args, word) {
				proposed = append(proposed, given+text)
			}
		}
		return proposed, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) accountNames() cobra.CompletionFunc {
	return a.proposals(func(ctx context.Context, api *client.Client) ([]string, error) {
		list, err := api.Accounts(ctx)
		names := make([]string, len(list))
		for i, account := range list {
			names[i] = cobra.CompletionWithDesc(account.Name, account.Provider)
		}
		return names, err
	})
}

// uploadIDs proposes the uploads that were submitted last.
func (a *app) uploadIDs() cobra.CompletionFunc {
	return a.proposals(func(ctx context.Context, api *client.Client) ([]string, error) {
		page, err := api.List(ctx, client.Filter{Limit: 50})
		ids := make([]string, len(page.Uploads))
		for i, u := range page.Uploads {
			ids[i] = cobra.CompletionWithDesc(u.ID, printable(u.Name+" → "+u.Account+", "+u.State))
		}
		return ids, err
	})
}

func (a *app) completeAccounts(cmd *cobra.Command, flag string) {
	mustComplete(cmd, flag, a.accountNames())
}

// completeFilter completes the flags that select uploads.
func (a *app) completeFilter(cmd *cobra.Command) {
	a.completeAccounts(cmd, "account")
	mustComplete(cmd, "state", cobra.FixedCompletions(
		[]cobra.Completion{"queued", "digesting", "beginning", "uploading", "finishing", "completed", "failed", "cancelled"}, cobra.ShellCompDirectiveNoFileComp))
}

// mustComplete panics for a flag that the command does not have.
func mustComplete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}
