package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"mediaferry/client"
)

func (a *app) digestsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "digests ID",
		ValidArgsFunction: a.uploadIDs(),
		Short:             "Show what was hashed where, and compared with what",
		Args:              usageArgs(cobra.ExactArgs(1)),
		RunE: a.withAPI(func(cmd *cobra.Command, api *client.Client, args []string) error {
			chain, err := api.Digests(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.output == asTable {
				return a.printChain(chain)
			}
			return printAll(a, linkColumns(), chain.Links)
		}),
	}
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
	p := newPrinter(a, linkColumns())
	var order []partLinks
	counts := map[partLinks]int{}
	for _, l := range chain.Links {
		if l.Part == 0 || l.Compared && !l.Matched {
			if err := p.add(l); err != nil {
				return err
			}
			continue
		}
		like := partLinks{l.Epoch, l.Stage, l.Kind, l.Compared, l.Note}
		if counts[like]++; counts[like] == 1 {
			order = append(order, like)
		}
	}
	for _, like := range order {
		what := "1 part"
		if n := counts[like]; n > 1 {
			what = fmt.Sprintf("%d parts", n)
		}
		result := resultText(client.DigestLink{Compared: like.compared, Matched: true})
		if err := p.cells(strconv.Itoa(like.epoch), like.stage, what, like.kind, result, "", "", like.note); err != nil {
			return err
		}
	}
	return p.end()
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
