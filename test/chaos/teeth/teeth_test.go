package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A fault whose place has changed is found here, not only by the next long run.
func TestEveryFaultCanBePlanted(t *testing.T) {
	t.Parallel()
	for _, tooth := range teeth() {
		root := t.TempDir()
		for _, e := range tooth.edits {
			path := filepath.Join(root, e.file)
			text, err := os.ReadFile(filepath.Join("../../..", e.file))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := tooth.plant(root); err != nil {
			t.Error(err)
		}
		tooth.edits[0].find += " that is gone"
		if err := tooth.plant(root); err == nil {
			t.Errorf("%s was planted though its place is gone", tooth.name)
		}
	}
}
