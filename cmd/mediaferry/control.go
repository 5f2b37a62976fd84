package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

// changeCommands are what is done to uploads that are named, or to all that a
// filter selects.
func (a *app) changeCommands() []*cobra.Command {
	plain := func(do func(*client.Client, context.Context, string) (client.Upload, error)) changeOne {
		return func(api *client.Client, ctx context.Context, id string, _ client.Note) (client.Upload, error) {
			return do(api, ctx, id)
		}
	}
	return []*cobra.Command{
		a.changeCommand("pause", "Pause uploads: nothing is done for them until they are resumed", (*client.Client).Pause, (*client.Client).PauseMatching),
		a.changeCommand("resume", "Resume uploads that were paused", plain((*client.Client).Resume), (*client.Client).ResumeMatching),
		a.changeCommand("cancel", "Cancel uploads that are not final", plain((*client.Client).Cancel), (*client.Client).CancelMatching),
		a.changeCommand("retry", "Give failed uploads another life", plain((*client.Client).Retry), (*client.Client).RetryMatching),
	}
}

type changeOne func(*client.Client, context.Context, string, client.Note) (client.Upload, error)

// changeCommand does one thing to each upload that is named, and goes on where
// one of them refuses; or to all that its flags select.
func (a *app) changeCommand(name, short string, one changeOne,
	matching func(*client.Client, context.Context, client.Change) (client.Changed, error),
) *cobra.Command {
	var change client.Change
	cmd := &cobra.Command{
		Use:               name + " ID... | " + name + " FILTER... [--dry-run]",
		Short:             short,
		ValidArgsFunction: a.uploadIDs(),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			note := client.Note{Reason: change.Reason, By: change.By}
			filtered := change.All || change.Account != "" || len(change.States) > 0 || change.Batch != "" || len(change.Causes) > 0 || len(change.Labels) > 0
			switch {
			case len(args) > 0 && (filtered || change.DryRun):
				return usagef("uploads are named, or selected by flags, not both; see %s --help", cmd.CommandPath())
			case len(args) > 0:
				return a.changeEach(args, func(id string) (client.Upload, error) { return one(api, cmd.Context(), id, note) })
			case !filtered:
				return usagef("name uploads, select them by flags, or give --all; see %s --help", cmd.CommandPath())
			}
			done, err := matching(api, cmd.Context(), change)
			if err != nil {
				return err
			}
			return printOne(a, changedColumns(), done, func(d *details) { d.text(changedText(name, done)) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&change.Account, "account", "", "uploads to this account")
	f.StringSliceVar(&change.States, "state", nil, "uploads in these states")
	f.StringVar(&change.Batch, "batch", "", "uploads of this batch")
	f.StringSliceVar(&change.Causes, "cause", nil, "failed uploads with these causes")
	f.StringToStringVar(&change.Labels, "label", nil, "uploads with this label, as key=value")
	f.BoolVar(&change.All, "all", false, "every upload of the tenant")
	f.BoolVar(&change.DryRun, "dry-run", false, "say how many uploads are selected, and the first of them")
	a.noteFlags(cmd, &change.Reason, &change.By)
	a.completeFilter(cmd)
	return cmd
}

func (a *app) noteFlags(cmd *cobra.Command, reason, by *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for whoever looks later")
	cmd.Flags().StringVar(by, "by", a.env("USER", ""), "who, also USER")
}

func (a *app) changeEach(ids []string, do func(string) (client.Upload, error)) error {
	p := newLines(a, uploadColumns(), result)
	var errs []error
	for _, id := range ids {
		u, err := do(id)
		if err == nil {
			err = p.add(u)
		}
		errs = append(errs, err)
	}
	return p.finish(errs...)
}

func changedText(action string, done client.Changed) string {
	var text strings.Builder
	if done.DryRun {
		fmt.Fprintf(&text, "%s would apply to %d uploads\n", action, done.Matched)
	} else {
		fmt.Fprintf(&text, "%s: %d of %d uploads\n", action, done.Changed, done.Matched)
	}
	for _, id := range done.First {
		fmt.Fprintf(&text, "  %s\n", id)
	}
	if more := max(done.Matched, done.Changed) - len(done.First); more > 0 && len(done.First) > 0 {
		fmt.Fprintf(&text, "  and %d more\n", more)
	}
	return text.String()
}

func (a *app) accountsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accounts",
		Short: "List, check, pause and resume accounts",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.listAccountsCommand(), a.checkAccountsCommand())
	cmd.AddCommand(holdCommands(a, "account", (*client.Client).PauseAccount, (*client.Client).ResumeAccount, accountColumns(a.now),
		func(x client.Account) string { return pausedText("account "+x.Name, x.Pauses) })...)
	return cmd
}

func (a *app) tenantsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tenants",
		Short: "Pause and resume all accounts of a tenant",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(holdCommands(a, "tenant", (*client.Client).PauseTenant, (*client.Client).ResumeTenant, tenantColumns(),
		func(t client.Tenant) string {
			if t.Pause == nil {
				return pausedText("tenant "+t.Name, nil)
			}
			return pausedText("tenant "+t.Name, []client.Pause{*t.Pause})
		})...)
	return cmd
}

// holdCommands are pause and resume of what an account or a tenant sends.
func holdCommands[T any](a *app, scope string,
	pause func(*client.Client, context.Context, string, client.Note) (T, error),
	resume func(*client.Client, context.Context, string) (T, error), columns []column[T], text func(T) string,
) []*cobra.Command {
	command := func(name, short string, do func(*client.Client, context.Context, string, client.Note) (T, error)) *cobra.Command {
		var note client.Note
		cmd := &cobra.Command{
			Use:   name + " NAME",
			Short: short,
			Args:  usageArgs(cobra.ExactArgs(1)),
			RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
				state, err := do(api, cmd.Context(), args[0], note)
				if err != nil {
					return err
				}
				return printOne(a, columns, state, func(d *details) { d.text(text(state)) })
			}),
		}
		if name == "pause" {
			a.noteFlags(cmd, &note.Reason, &note.By)
		}
		return cmd
	}
	return []*cobra.Command{
		command("pause", "Pause: nothing of the "+scope+" is sent until it is resumed", pause),
		command("resume", "Resume what was paused", func(api *client.Client, ctx context.Context, name string, _ client.Note) (T, error) {
			return resume(api, ctx, name)
		}),
	}
}

// stateText is an upload's state with what holds it.
func stateText(u client.Upload) string {
	text := u.State
	if u.Cancelling {
		text += ", cancelling"
	}
	if by := scopes(u.Pauses); by != "" {
		text += ", paused (" + by + ")"
	}
	return text
}

// scopes names what holds, "" for nothing.
func scopes(pauses []client.Pause) string {
	var names []string
	for _, p := range pauses {
		names = append(names, p.Scope)
	}
	return strings.Join(names, "+")
}

func pausedText(what string, pauses []client.Pause) string {
	if len(pauses) == 0 {
		return what + " is not paused"
	}
	var text strings.Builder
	text.WriteString(what + " is paused")
	for _, p := range pauses {
		text.WriteString("\n  " + pauseText(p))
	}
	return text.String()
}

func pauseText(p client.Pause) string {
	text := p.Scope
	if p.Scope != "upload" {
		text += " " + p.Name
	}
	text += " since " + p.At.Format(time.RFC3339)
	if p.By != "" {
		text += " by " + p.By
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}
