package main

import (
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "explain ID",
		ValidArgsFunction: a.uploadIDs(),
		Short:             "Say what an upload waits for, and what happens next",
		Args:              usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			e, err := api.Explain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printOne(a, explanationColumns(), e, func(d *details) { describeExplanation(d, e) })
		}),
	}
	return cmd
}

func describeExplanation(d *details, e client.Explanation) {
	next := e.Next
	if !e.NextAt.IsZero() {
		next += " (" + e.NextAt.Format(time.RFC3339) + ")"
	}
	d.row("cause", e.Cause)
	d.row("why", e.Summary)
	d.row("waits for", e.WaitsFor)
	d.row("next", next)
	for _, f := range e.Facts {
		d.row("fact", f)
	}
}
