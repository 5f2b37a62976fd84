package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) digestsCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "digests ID",
		Short: "Show what was hashed where, and compared with what",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(&output, func(cmd *cobra.Command, api *client.Client, args []string) error {
			chain, err := api.Digests(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if output == "json" {
				return a.printJSON(chain)
			}
			return a.printChain(chain)
		}),
	}
	outputFlag(cmd, &output)
	return cmd
}

// partLinks is a row of the table that stands for many parts.
type partLinks struct {
	epoch    int
	stage    string
	kind     string
	compared bool
	note     string
}

// printChain prints one line for each comparison of the whole object and each
// mismatch, and one for all parts of an epoch that fared alike.
func (a *app) printChain(chain client.DigestChain) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "EPOCH\tSTAGE\tWHAT\tKIND\tRESULT\tEXPECTED\tGOT\tNOTE")
	var order []partLinks
	counts := map[partLinks]int{}
	for _, l := range chain.Links {
		if l.Part == 0 || l.Compared && !l.Matched {
			what := "object"
			if l.Part > 0 {
				what = fmt.Sprintf("part %d", l.Part)
			}
			_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Epoch, l.Stage, what, l.Kind, resultText(l),
				saidBy(l.Expected, l.ExpectedFrom), saidBy(l.Got, l.GotFrom), l.Note)
			continue
		}
		like := partLinks{l.Epoch, l.Stage, l.Kind, l.Compared, l.Note}
		if counts[like]++; counts[like] == 1 {
			order = append(order, like)
		}
	}
	for _, like := range order {
		result := "not compared"
		if like.compared {
			result = "matched"
		}
		what := "1 part"
		if n := counts[like]; n > 1 {
			what = fmt.Sprintf("%d parts", n)
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t\t\t%s\n", like.epoch, like.stage, what, like.kind, result, like.note)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func resultText(l client.DigestLink) string {
	switch {
	case !l.Compared:
		return "not compared"
	case l.Matched:
		return "matched"
	default:
		return "MISMATCH"
	}
}

func saidBy(sum, from string) string {
	if sum == "" {
		return ""
	}
	return sum + " (" + from + ")"
}
