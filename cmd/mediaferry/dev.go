package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mediaferry/internal/config"
	"mediaferry/internal/postgres"
	"mediaferry/internal/service"
)

// devCommand starts everything on this machine.
func (a *app) devCommand() *cobra.Command {
	opts := stackOptions{logs: a.stderr}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Start everything on this machine: servers, local platforms, dispatcher and workers",
		Long: "Start NATS, Postgres, an S3 server, local platforms, a dispatcher and workers, all on loopback,\n" +
			"and stop them on Ctrl-C. Without --data nothing is left behind. The local platforms keep what\n" +
			"they know in memory, also with --data.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := startStack(cmd.Context(), opts)
			if err != nil {
				return err
			}
			a.describe(s)
			<-cmd.Context().Done()
			a.printf("stopping\n")
			return s.stop()
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&opts.workers, "workers", 3, "worker processes")
	flags.IntVar(&opts.slots, "slots", 8, "jobs that a worker takes at once")
	flags.StringVar(&opts.data, "data", "", "folder to keep everything in; a temporary one that is removed if empty")
	flags.StringVar(&opts.api, "listen", "127.0.0.1:8080", "address of the API; port 0 takes a free one")
	flags.StringVar(&opts.level, "log", "info", "level of the logs: debug, info, warn or error")
	return cmd
}

// describe tells how other programs reach the stack.
func (a *app) describe(s *stack) {
	s3 := s.s3.Config()
	a.printf(`mediaferry is ready; Ctrl-C stops it.

  API        %s
  NATS       %s
  Postgres   %s
  S3         %s   access key %s   secret key %s
             buckets %s (staging) and %s (a destination, through a meter); what is put below
             %s in %s goes to %s by itself

  Accounts, each at a local platform. Other clients reach it by the same settings and secrets, and
  GET /_local/files at its endpoint tells what it received:

`, s.apiURL, s.nats.URL(), s.postgres.DSN(), s3.Endpoint, s3.AccessKey.Reveal(), s3.SecretKey.Reveal(), stagingBucket, destBucket,
		autoPrefix, stagingBucket, s.destinations[0].account)
	var names []string
	for _, d := range s.destinations {
		names = append(names, d.account)
		a.printf("  %-10s %s\n", d.account, d.provider)
		for _, name := range slices.Sorted(maps.Keys(d.settings)) {
			a.printf("             %-14s %s\n", name, d.settings[name])
		}
		for _, name := range slices.Sorted(maps.Keys(d.secrets)) {
			a.printf("             %-14s %s\n", name, d.secrets[name].Reveal())
		}
	}
	a.printf(`
In another terminal:

  export MEDIAFERRY_API_URL=%s
  export MEDIAFERRY_STAGING_ENDPOINT=%s MEDIAFERRY_STAGING_ACCESS_KEY=%s MEDIAFERRY_STAGING_SECRET_KEY=%s
  %s push FILE --to %s --wait

`, s.apiURL, s3.Endpoint, s3.AccessKey.Reveal(), s3.SecretKey.Reveal(), os.Args[0], strings.Join(names, ","))
}

// processCommands are the two processes as `dev` starts them: the code of the
// dispatcher and worker binaries, in this one.
func (a *app) processCommands() []*cobra.Command {
	hidden := func(name string, run func(ctx context.Context, args []string) error) *cobra.Command {
		return &cobra.Command{
			Use: name, Hidden: true, DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error {
				err := run(cmd.Context(), args)
				if errors.Is(err, config.ErrPrinted) {
					return nil
				}
				return err
			},
		}
	}
	known := service.Providers()
	return []*cobra.Command{
		hidden("dispatcher", func(ctx context.Context, args []string) error {
			cfg, err := config.LoadDispatcher(args, os.Environ(), a.stdout, service.AccountRules(known))
			if err != nil {
				return &usageError{err}
			}
			service.TuneMemory(a.getenv, 0)
			log, err := service.NewLogger(cfg.Log)
			if err != nil {
				return &usageError{err}
			}
			return service.RunDispatcher(ctx, cfg, known, log, nil)
		}),
		hidden("worker", func(ctx context.Context, args []string) error {
			cfg, err := config.LoadWorker(args, os.Environ(), a.stdout)
			if err != nil {
				return &usageError{err}
			}
			service.TuneMemory(a.getenv, cfg.Slots)
			log, err := service.NewLogger(cfg.Log)
			if err != nil {
				return &usageError{err}
			}
			return service.RunWorker(ctx, cfg, known, log)
		}),
	}
}

// migrateCommand brings the database to a version.
func (a *app) migrateCommand() *cobra.Command {
	var dsn string
	cmd := &cobra.Command{
		Use:       "migrate up|status|down",
		Short:     "Apply the database's changes, list them, or take the newest one back",
		Args:      usageArgs(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"up", "status", "down"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if dsn == "" {
				return usagef("--dsn or MEDIAFERRY_POSTGRES_DSN is missing; give postgres://user:password@host:5432/database")
			}
			return a.migrate(cmd.Context(), args[0], dsn)
		},
	}
	cmd.Flags().StringVar(&dsn, "dsn", a.getenv("MEDIAFERRY_POSTGRES_DSN"), "address of the database, also MEDIAFERRY_POSTGRES_DSN")
	cmd.Flags().Lookup("dsn").DefValue = "" // help must not show a password
	return cmd
}

// migrate tells of each change to the database, one line each.
func (a *app) migrate(ctx context.Context, what, dsn string) error {
	p := newLines(a, outcomeColumns(), func(o outcome) string { return fmt.Sprintf("%-8s %s", o.Result, o.Name) })
	var (
		told []outcome
		err  error
	)
	switch what {
	case "up":
		var names []string
		names, err = postgres.MigrateUp(ctx, dsn)
		for _, name := range names {
			told = append(told, outcome{name, "applied"})
		}
		if err == nil && len(names) == 0 {
			_, _ = fmt.Fprintln(a.stderr, "nothing to apply")
		}
	case "down":
		var name string
		if name, err = postgres.MigrateDown(ctx, dsn); err == nil {
			told = []outcome{{name, "taken back"}}
		}
	default:
		var all []postgres.MigrationStatus
		all, err = postgres.Migrations(ctx, dsn)
		for _, m := range all {
			state := "missing"
			if m.Applied {
				state = "applied"
			}
			told = append(told, outcome{m.Name, state})
		}
	}
	errs := []error{err}
	for _, o := range told {
		errs = append(errs, p.add(o))
	}
	return p.finish(errs...)
}
