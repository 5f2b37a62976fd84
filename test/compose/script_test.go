package compose_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The script runs Compose wherever the tree lies, from whichever folder it is
// called, with the arguments as they are.
func TestScriptInAPathWithSpaces(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../scripts/compose.sh")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "a tree with 'spaces'")
	for name, text := range map[string]string{
		"scripts/compose.sh":     string(script),
		"scripts/compose/go.mod": "require github.com/docker/compose/v2 v2.0.0 // indirect\n",
		"bin/docker-compose":     "#!/bin/sh\nprintf '<%s>' \"$PWD\" \"$@\"\n",
		"programs/docker":        "#!/bin/sh\nexit 1\n", // it has no compose
		// What is there is of the version in go.mod, and nothing is built.
		"programs/go": "#!/bin/sh\nif [ $1 = version ]; then printf '\\tdep\\tgithub.com/docker/compose/v2\\tv2.0.0\\n'; else exit 1; fi\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	run := func() string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts/compose.sh"), "--file", "a b.yaml", "up")
		cmd.Dir = filepath.Join(root, "programs")
		cmd.Env = append(os.Environ(), "PATH="+cmd.Dir+":"+os.Getenv("PATH"), "PWD="+cmd.Dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got, want := run(), "<"+root+"/programs><--file><a b.yaml><up>"; got != want {
		t.Errorf("ran %s, want %s", got, want)
	}
	if err := os.WriteFile(filepath.Join(root, "programs/docker"), []byte("#!/bin/sh\nprintf '<%s>' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, want := run(), "<compose><--file><a b.yaml><up>"; got != want {
		t.Errorf("with a docker that has it, ran %s, want %s", got, want)
	}
}
