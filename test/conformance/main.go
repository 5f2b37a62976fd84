// Command conformance runs the suite that every provider has to pass and prints
// what came of each case at each platform, with the reason for each case that a
// platform leaves out. It ends with 1 unless every case of every provider was
// run and passed, or is left out with a reason. It is run from the module's root.
//
// A provider is every package below internal/providers that is not known to be
// something else, so one that never calls the suite is seen to be missing.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if !ok || err != nil {
		stop()
		os.Exit(1) // stop was called
	}
}

func run(ctx context.Context, stdout, stderr io.Writer) (ok bool, err error) {
	list := exec.CommandContext(ctx, "go", "list", "./internal/providers/...")
	list.Stderr = stderr
	packages, err := list.Output()
	if err != nil {
		return false, fmt.Errorf("list the providers: %w", err)
	}
	test := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-run", "^TestConforms$", "./internal/providers/...")
	test.Stderr = stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return false, fmt.Errorf("run the suite: %w", err)
	}
	if err := test.Start(); err != nil {
		return false, fmt.Errorf("run the suite: %w", err)
	}
	r, err := read(events, providersOf(strings.Fields(string(packages))))
	err = errors.Join(err, ended(test.Wait()))
	return r.print(stdout) && err == nil, err
}

// ended drops the error of a go test whose tests failed: the events say so.
func ended(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("run the suite: %w", err)
	}
	return nil
}

// providersOf returns the names of those packages that are providers.
func providersOf(packages []string) []string {
	var names []string
	for _, p := range packages {
		name, below := strings.CutPrefix(p, "mediaferry/internal/providers/")
		if below && !slices.Contains([]string{"all", "lent", "providertest", "settings", "vodapi", "webapi"}, name) {
			names = append(names, path.Base(name))
		}
	}
	return names
}
