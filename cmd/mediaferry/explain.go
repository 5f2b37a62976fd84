package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) explainCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "explain ID",
		Short: "Say what an upload waits for, and what happens next",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(&output, func(cmd *cobra.Command, api *client.Client, args []string) error {
			e, err := api.Explain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if output == "json" {
				return a.printJSON(e)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			next := e.Next
			if !e.NextAt.IsZero() {
				next += " (" + e.NextAt.Format(time.RFC3339) + ")"
			}
			_, _ = fmt.Fprintf(w, "cause\t%s\nwhy\t%s\n", e.Cause, e.Summary)
			if e.WaitsFor != "" {
				_, _ = fmt.Fprintf(w, "waits for\t%s\n", e.WaitsFor)
			}
			if next != "" {
				_, _ = fmt.Fprintf(w, "next\t%s\n", next)
			}
			for _, f := range e.Facts {
				_, _ = fmt.Fprintf(w, "fact\t%s\n", f)
			}
			if err := w.Flush(); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		}),
	}
	outputFlag(cmd, &output)
	return cmd
}
