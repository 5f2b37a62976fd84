package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Whoever is called at night types what the runbook says.
func TestCommandsOfRunbooksExist(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	command := regexp.MustCompile("(?m)(?:^    |`)mediaferry ([^`\n]+)")
	root := (&app{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}).command()
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			cmd, rest, err := root.Find(strings.Fields(m[1]))
			if err != nil || !cmd.Runnable() {
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
