// Command gateway serves a folder as S3 on a port of 127.0.0.1: the source of
// the benchmark. It is a process of its own because the gateway changes the
// working directory and keeps global state, and because its CPU time must not
// be counted with a mover's.
//
// It prints its address as one line, before it answers there, and stops when
// its standard input ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Getenv, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	folder := flags.String("folder", "", "folder whose subfolders are the buckets")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	// posix.New changes into the folder, so a relative path would mean another one later.
	root, err := filepath.Abs(*folder)
	if err != nil {
		return fmt.Errorf("folder: %w", err)
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	store, err := posix.New(root, meta.XattrMeta{}, posix.PosixOpts{})
	if err != nil {
		return fmt.Errorf("open %s: %w", root, err)
	}

	// First, since the gateway has words of its own for standard output.
	if _, err := fmt.Fprintln(stdout, address); err != nil {
		return fmt.Errorf("print address: %w", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- embedgw.RunVersityGW(ctx, store, &embedgw.Config{
			RootUserAccess: getenv("BENCH_ACCESS_KEY"),
			RootUserSecret: getenv("BENCH_SECRET_KEY"),
			Ports:          []string{address},
			MaxConnections: 4096, MaxRequests: 4096, MultipartMaxParts: 10_000,
			KeepAlive: true, // off by default, and then every request pays for a connection
			Quiet:     true,
		})
	}()

	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // its end, of whatever kind, is the signal
		close(ended)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("gateway ended by itself: %w", err)
	case <-ended:
	}
	cancel()
	if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("stop gateway: %w", err)
	}
	return nil
}

// freeAddress finds a port; the gateway takes no listener and tells no port.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", fmt.Errorf("release port: %w", err)
	}
	return address, nil
}
