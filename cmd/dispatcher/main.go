// Command dispatcher is the control process: it takes submissions, opens
// upstream sessions, feeds the queue, keeps the ledger and finishes uploads.
// Any number of them run side by side.
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
	service.TuneMemory(os.Getenv, 0)
	ctx, stop := signal.NotifyContext(context.Background(), service.StopSignals()...)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dispatcher:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args, environ []string, stdout io.Writer) error {
	known := service.Providers()
	cfg, err := config.LoadDispatcher(args, environ, stdout, service.AccountRules(known))
	if errors.Is(err, config.ErrPrinted) {
		return nil
	}
	if err != nil {
		return err
	}
	if cfg.AskHealth {
		return service.AskDispatcher(ctx, cfg)
	}
	log, err := service.NewLogger(cfg.Log)
	if err != nil {
		return err
	}
	defer log.Sync() //nolint:errcheck // standard error cannot be synced everywhere
	return service.RunDispatcher(ctx, cfg, known, log, nil)
}
