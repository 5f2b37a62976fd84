// Command mediaferry is the command line: it submits files and follows them to
// the end.
//
// Its exit codes are in exit.go, and told by: mediaferry help exit-codes.
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
	"mediaferry/internal/api"
	"mediaferry/internal/build"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
)

func main() {
	devstack.ChildMain()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once; the kernel ends its children
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		for line := range strings.Lines("mediaferry: " + err.Error()) { // one for each error that is joined
			fmt.Fprintln(os.Stderr, printable(strings.TrimSuffix(line, "\n")))
		}
	}
	os.Exit(exitCode(err))
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	a := &app{getenv: getenv, stdout: stdout, stderr: stderr, now: time.Now, staging: newStaging}
	root := a.command() //nolint:contextcheck // commands have theirs from ExecuteContext
	root.SetArgs(args)
	return root.ExecuteContext(ctx) //nolint:wrapcheck // the commands say what they were doing
}

// app is what every command needs of the process around it.
type app struct {
	getenv         func(string) string
	stdout, stderr io.Writer // results; progress and problems
	now            func() time.Time
	staging        func(stagingSettings) (putter, error)

	apiURL, tenant string // flags of every command
	token, caFile  string
	output         string
	patience       time.Duration

	mu  sync.Mutex
	bar *progress // that is being drawn on stderr; nil where none is
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "mediaferry",
		Short:         "Bring media files to video platforms",
		Version:       build.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),

		PersistentPreRunE: a.checkOutput,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVar(&a.apiURL, "api", a.env("MEDIAFERRY_API_URL", "http://127.0.0.1:8080"),
		"URL of the dispatcher's API, also MEDIAFERRY_API_URL")
	flags.StringVar(&a.tenant, "tenant", a.getenv("MEDIAFERRY_TENANT"),
		"whose uploads these are, also MEDIAFERRY_TENANT (default: that of the token, or \"default\")")
	flags.StringVar(&a.token, "token", "",
		"where the token of the API is, env:NAME or file:PATH, also MEDIAFERRY_TOKEN, which may hold the token itself")
	flags.StringVar(&a.caFile, "ca-file", a.getenv("MEDIAFERRY_CA_FILE"),
		"PEM file with the authorities to trust in place of the system's, also MEDIAFERRY_CA_FILE")
	flags.DurationVar(&a.patience, "patience", defaultPatience,
		"how long to wait for a dispatcher that does not answer; 0 for not at all")
	flags.StringVarP(&a.output, "output", "o", asTable, "how records are printed: table, json (an array), jsonl (an object per line) or csv")
	mustComplete(root, "output", cobra.FixedCompletions(outputs(), cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		a.pushCommand(),
		a.uploadsCommand(),
		a.explainCommand(),
		a.doctorCommand(),
		a.accountsCommand(),
		a.tenantsCommand(),
		a.batchesCommand(),
		a.workersCommand(),
		a.reconcileCommand(),
		a.setAsideCommand(),
		a.reportCommand(),
		a.tokensCommand(),
		a.webhooksCommand(),
		a.devCommand(),
		a.demoCommand(),
		a.migrateCommand(),
		a.pruneCommand(),
		a.openAPICommand(),
		a.referenceCommand(),
		exitCodesCommand(),
		a.settingsCommand(),
	)
	root.AddCommand(a.processCommands()...)
	return root
}

func (a *app) openAPICommand() *cobra.Command {
	return &cobra.Command{
		Use:   "openapi",
		Short: "Print the description of the HTTP API, OpenAPI 3.1",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			text, err := api.OpenAPI()
			if err != nil {
				return err
			}
			a.printf("%s", text)
			return nil
		},
	}
}

func (a *app) env(name, fallback string) string {
	if v := a.getenv(name); v != "" {
		return v
	}
	return fallback
}

// defaultPatience is longer than a dispatcher takes to start again.
const defaultPatience = 2 * time.Minute

// connect returns a client of the API that waits for it as long as the user has
// patience, and says so.
func (a *app) connect() (*client.Client, error) {
	return a.connectWith(client.WithPatience(a.patience, a.tellAway()))
}

func (a *app) connectWith(options ...client.Option) (*client.Client, error) {
	token, err := a.apiToken()
	if err != nil {
		return nil, err
	}
	if token != "" {
		options = append(options, client.WithToken(token))
	}
	if a.caFile != "" {
		pem, err := os.ReadFile(a.caFile)
		if err != nil {
			return nil, usagef("--ca-file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, usagef("--ca-file: %s holds no certificate; give PEM", a.caFile)
		}
		options = append(options, client.WithRootCAs(pool))
	}
	c, err := client.New(a.apiURL, a.tenant, options...)
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

// tellAway says that the API, or staging, is waited for, and why, and when it
// answers again.
func (a *app) tellAway() func(why error) {
	var since time.Time
	return func(why error) {
		if why == nil {
			a.note(fmt.Sprintf("there is an answer again after %s", a.now().Sub(since).Round(time.Second)))
			return
		}
		since = a.now()
		a.note(fmt.Sprintf("%v; trying again for up to %s", why, a.patience))
	}
}

// note writes a line to standard error, above the progress that is drawn there.
func (a *app) note(text string) {
	text = printable("mediaferry: " + text)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bar != nil {
		a.bar.note(text)
		return
	}
	_, _ = fmt.Fprintln(a.stderr, text)
}

// progress begins to draw on standard error; it is over when end is called.
func (a *app) progress() (bar *progress, end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bar = newProgress(a.stderr, a.now)
	return a.bar, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.bar.close()
		a.bar = nil
	}
}

// apiToken finds the token of the API, "" if none is given.
func (a *app) apiToken() (string, error) {
	name, text := "MEDIAFERRY_TOKEN", a.getenv("MEDIAFERRY_TOKEN")
	if a.token != "" {
		if !config.IsReference(a.token) {
			return "", usagef("--token is not a reference; give env:NAME or file:PATH, since others can read the flags of a process")
		}
		name, text = "--token", a.token
	}
	token, err := a.secret(text)
	if err != nil {
		return "", usagef("%s: %w", name, err)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usagef("%s: is no token, which has neither spaces nor lines; give the one word that tokens create printed", name)
	}
	return token, nil
}

// secret reads a secret that may be a reference.
func (a *app) secret(text string) (string, error) {
	secret, err := config.ReadSecret(text, a.getenv, func(warning string) {
		_, _ = fmt.Fprintln(a.stderr, "mediaferry: warning:", warning)
	})
	return secret.Reveal(), err
}

// usageError says that the command itself is wrong.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// usageArgs makes the complaints of a check of arguments usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}
