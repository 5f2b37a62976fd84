// Command minio runs a MinIO server as package devstack has servers run in place
// of its own: MEDIAFERRY_TEST_S3="minio PATH", with the path of MinIO's program.
// `make test-minio` uses it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"mediaferry/internal/devstack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "minio:", err)
		os.Exit(1)
	}
}

// run serves until ctx or stdin ends.
func run(ctx context.Context, args []string, stdin io.Reader) error {
	if len(args) != 1 {
		return errors.New("give the path of MinIO's program")
	}
	decoder := json.NewDecoder(stdin)
	var config devstack.S3Config
	if err := decoder.Decode(&config); err != nil {
		return fmt.Errorf("read the config: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin) // what matters is that it ends
	}()
	// It is killed: what it has answered is stored.
	cmd := exec.CommandContext(ctx, args[0], "server", "--quiet", "--address", config.Address, config.Root) //nolint:gosec // the caller's choice
	cmd.Env = append(os.Environ(),
		"MINIO_ROOT_USER="+config.AccessKey, "MINIO_ROOT_PASSWORD="+config.SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=on") // the last allows the disk of the system
	if config.NATSURL != "" { // for the buckets that are told to
		at, err := url.Parse(config.NATSURL)
		if err != nil {
			return fmt.Errorf("read where events go: %w", err)
		}
		cmd.Env = append(cmd.Env, "MINIO_NOTIFY_NATS_ENABLE=on", "MINIO_NOTIFY_NATS_ADDRESS="+at.Host, "MINIO_NOTIFY_NATS_SUBJECT="+config.Subject)
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); ctx.Err() == nil {
		return fmt.Errorf("MinIO ended: %w", err)
	}
	return nil
}
