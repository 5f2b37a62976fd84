package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// referenceCommand prints docs/cli.md, which is made of the commands themselves.
func (a *app) referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "Print the reference of the command line, Markdown",
		Hidden: true,
		Args:   usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			// As it is in an environment where nothing is set, wherever it is made.
			clean := &app{getenv: func(string) string { return "" }, now: a.now}
			root := clean.command()
			root.InitDefaultHelpCmd()
			root.InitDefaultCompletionCmd()
			writeReference(a.stdout, root)
			return nil
		},
	}
}

func writeReference(w io.Writer, root *cobra.Command) {
	_, _ = fmt.Fprint(w, `# The command line

Made by `+"`make generate`"+` from the commands themselves; `+"`mediaferry COMMAND --help`"+` tells the same.

## Every command
`)
	writeFlags(w, root.PersistentFlags())
	_, _ = fmt.Fprint(w, `
Completion of commands, flags, accounts and ids of uploads, for bash:

`+"    source <(mediaferry completion bash)"+`

zsh, fish and powershell have theirs.

## Exit codes

`)
	_, _ = fmt.Fprintf(w, "```\n%s\n```\n", exitCodesText)
	writeCommands(w, root)
}

// writeCommands writes the commands below one, each before those below it.
func writeCommands(w io.Writer, parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" || cmd.IsAdditionalHelpTopicCommand() {
			continue
		}
		if !cmd.HasSubCommands() {
			writeCommand(w, cmd)
		}
		writeCommands(w, cmd)
	}
}

func writeCommand(w io.Writer, cmd *cobra.Command) {
	_, _ = fmt.Fprintf(w, "\n## %s\n\n```\n%s\n```\n\n", cmd.CommandPath(), strings.TrimSuffix(cmd.UseLine(), " [flags]"))
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	// What is indented is code in Markdown as well, from four spaces on.
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") {
			line = "  " + line
		}
		_, _ = io.WriteString(w, line)
	}
	_, _ = io.WriteString(w, "\n")
	if cmd.Example != "" {
		_, _ = io.WriteString(w, "\n")
		for line := range strings.Lines(cmd.Example) {
			_, _ = io.WriteString(w, "  "+line)
		}
		_, _ = io.WriteString(w, "\n")
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.AddFlagSet(cmd.NonInheritedFlags())
	for p := cmd.Parent(); p.HasParent(); p = p.Parent() {
		flags.AddFlagSet(p.PersistentFlags())
	}
	writeFlags(w, flags)
}

func writeFlags(w io.Writer, flags *pflag.FlagSet) {
	var rows []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind != "" {
			name += " " + kind
		}
		if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "[]" && d != "0s" {
			usage += " (default: " + d + ")"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s |\n", name, strings.ReplaceAll(usage, "|", `\|`)))
	})
	if len(rows) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "\n| flag | meaning |\n|---|---|\n%s", strings.Join(rows, ""))
}
