// Command worker is the data process: it takes part jobs off the queue, reads the
// bytes from staging and pushes them upstream. It holds no database connection and
// no secret at rest; any number of them run side by side.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"mediaferry/internal/config"
	"mediaferry/internal/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), service.StopSignals()...)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

// run works until ctx ends.
func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	cfg, err := config.LoadWorker(args, environ, stdout)
	if errors.Is(err, config.ErrPrinted) {
		return nil
	}
	if err != nil {
		return err
	}
	if cfg.AskHealth {
		return service.AskWorker(ctx, cfg)
	}
	service.TuneMemory(os.Getenv, cfg.Slots)
	log, err := service.NewLogger(cfg.Log)
	if err != nil {
		return err
	}
	defer log.Sync() //nolint:errcheck // standard error cannot be synced everywhere
	return service.RunWorker(ctx, cfg, service.Providers(), log)
}
