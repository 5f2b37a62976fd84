package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Whoever begins, and whoever is called at night, types what the page says.
func TestCommandsOfDocumentsExist(t *testing.T) {
	t.Parallel()
	pages := []string{"../../README.md"}
	for _, folder := range []string{"docs", "docs/runbooks", "docs/providers"} {
		found, err := filepath.Glob("../../" + folder + "/*.md")
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d pages, %v", folder, len(found), err)
		}
		pages = append(pages, found...)
	}
	command := regexp.MustCompile("(?m)(?:^    (?:\\(umask 077; )?|^\\$ |`)(?:bin/)?mediaferry ([^`\n]+)")
	root := (&app{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}).command()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, page := range pages {
		if filepath.Base(page) == "cli.md" { // made of the commands themselves
			continue
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			cmd, rest, err := root.Find(strings.Fields(m[1]))
			if err != nil || !cmd.Runnable() || cmd.HasSubCommands() {
				t.Errorf("%s: mediaferry %s: %v", page, m[1], err)
				continue
			}
			for _, word := range rest {
				if name, isFlag := strings.CutPrefix(word, "--"); isFlag && cmd.Flag(name) == nil {
					t.Errorf("%s: mediaferry %s: there is no --%s", page, m[1], name)
				}
			}
		}
	}
}

// Each alert is in the table of docs/operations.md, with its severity, and has its
// page.
func TestEveryAlertIsExplained(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	operations := read("docs/operations.md")
	alert := regexp.MustCompile(`(?s)- alert: (\w+)\n.*?severity: (\w+)`)
	alerts := alert.FindAllStringSubmatch(read("deploy/prometheus/alerts.yml"), -1)
	if len(alerts) == 0 {
		t.Fatal("there are no alerts")
	}
	for _, a := range alerts {
		if row := "| [" + a[1] + "](runbooks/" + a[1] + ".md) | " + a[2] + " | "; !strings.Contains(operations, row) {
			t.Errorf("docs/operations.md has no %q", row)
		}
		if !strings.Contains(read("docs/runbooks/"+a[1]+".md"), "## What to do") {
			t.Errorf("the runbook of %s does not say what to do", a[1])
		}
	}
	if rows := strings.Count(operations, "](runbooks/Mediaferry"); rows != len(alerts) {
		t.Errorf("docs/operations.md has %d rows for %d alerts", rows, len(alerts))
	}
}
