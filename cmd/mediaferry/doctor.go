package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mediaferry/client"
	"mediaferry/internal/backoff"
	"mediaferry/internal/build"
	"mediaferry/internal/config"
	"mediaferry/internal/service"
)

// doctorPatience bounds what is asked of the API.
const doctorPatience = 2 * time.Minute

// Workers tell of themselves every two seconds: a dispatcher that has just started
// has heard of all that are there after heardWithin.
const (
	heardWithin = 6 * time.Second
	heardAgain  = 500 * time.Millisecond
)

// errUnwell says that a check failed.
var errUnwell = errors.New("something is wrong: see above")

func (a *app) doctorCommand() *cobra.Command {
	var look doctorLook
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything that mediaferry needs, and say what to do",
		Long: `Look at everything that mediaferry needs, and say what to do.

It checks that the dispatcher at --api is reachable and ready, what the token allows,
clocks, versions, that every account's pool has workers (for up to six seconds, since a
dispatcher that has just started has heard of none), and the accounts' credentials, by a
call without side effects. With --config or --worker-config, the file of a
dispatcher or worker, it checks that configuration, and Postgres, NATS and staging as
that process would use them; the environment counts as it does for the process. It
changes nothing. Each result is ok, warning (it works, but could be better), failed or
skipped; the exit code is 1 if one failed.`,
		Example: `  mediaferry doctor
  mediaferry doctor --config dispatcher.yaml -o json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDoctor(cmd.Context(), look) },
	}
	f := cmd.Flags()
	f.StringVar(&look.dispatcherFile, "config", "", "configuration file of a dispatcher, to check it and the servers that it names")
	f.StringVar(&look.workerFile, "worker-config", "", "the same of a worker")
	f.StringVar(&look.bucket, "bucket", a.env("MEDIAFERRY_STAGING_BUCKET", "staging"), "staging bucket to try reads on, also MEDIAFERRY_STAGING_BUCKET")
	return cmd
}

// doctorLook is what the doctor looks at besides the API.
type doctorLook struct {
	dispatcherFile, workerFile string // "" for none
	bucket                     string
}

// runDoctor makes all checks and prints each result. It returns errUnwell if one
// failed.
func (a *app) runDoctor(ctx context.Context, look doctorLook) error {
	p := newPrinter(a, findingsColumns())
	if a.output == asTable {
		a.printf(findingLine, "CHECK", "RESULT", "FOUND")
	}
	failed := false
	add := func(found ...service.Finding) {
		for _, f := range found {
			failed = failed || f.Result == service.LookFailed
			if a.output == asTable {
				a.printFinding(f) // at once: some take their time
				continue
			}
			_ = p.add(f) // end tells of an output that is gone
		}
	}
	if look.dispatcherFile != "" {
		add(a.inspectDispatcher(ctx, look.dispatcherFile, look.bucket)...)
	}
	if look.workerFile != "" {
		add(a.inspectWorker(ctx, look.workerFile, look.bucket)...)
	}
	if api, err := a.connectWith(); err != nil {
		add(service.Finding{
			Check: "api", Result: service.LookFailed, Found: err.Error(),
			Remedy: "mend --api, MEDIAFERRY_TOKEN or --ca-file, whichever is named",
		})
	} else {
		defer api.Close()
		a.inspectAPI(ctx, api, add)
	}
	if look.dispatcherFile == "" && look.workerFile == "" {
		add(service.Finding{
			Check: "servers", Result: service.LookSkipped, Found: "Postgres, NATS and staging were not looked at",
			Remedy: "give --config with the file of a dispatcher, or --worker-config with that of a worker",
		})
	}
	if a.output != asTable {
		if err := p.end(); err != nil {
			return err
		}
	}
	if failed {
		return errUnwell
	}
	return nil
}

// findingsColumns are for CSV.
func findingsColumns() []column[service.Finding] {
	return []column[service.Finding]{
		{"", "check", nil},
		{"", "result", nil},
		{"", "found", nil},
		{"", "remedy", nil},
	}
}

// findingLine is what a person sees of a check.
const findingLine = "%-23s  %-7s  %s\n"

// printFinding has what to do on a line of its own: beside what was found it would
// be out of sight.
func (a *app) printFinding(f service.Finding) {
	a.printf(findingLine, printable(f.Check), f.Result, printable(f.Found))
	if f.Remedy != "" {
		a.printf(findingLine, "", "", "→ "+printable(f.Remedy))
	}
}

func (a *app) inspectDispatcher(ctx context.Context, file, bucket string) []service.Finding {
	cfg, err := config.LoadDispatcher([]string{"--config", file}, os.Environ(), a.stdout, service.AccountRules(service.Providers()))
	all := configFindings("configuration", file, cfg.Warnings, err)
	if err != nil {
		return all
	}
	return append(all, service.InspectDispatcher(ctx, cfg, bucket)...)
}

func (a *app) inspectWorker(ctx context.Context, file, bucket string) []service.Finding {
	cfg, err := config.LoadWorker([]string{"--config", file}, os.Environ(), a.stdout)
	all := configFindings("worker configuration", file, cfg.Warnings, err)
	if err != nil {
		return all
	}
	return append(all, service.InspectWorker(ctx, cfg, bucket)...)
}

// configFindings has a line for each problem of a configuration.
func configFindings(check, file string, warnings []string, err error) []service.Finding {
	var all []service.Finding
	if err != nil {
		for problem := range strings.Lines(err.Error()) {
			found, remedy, _ := strings.Cut(strings.TrimSuffix(problem, "\n"), "; ")
			all = append(all, service.Finding{Check: check, Result: service.LookFailed, Found: found, Remedy: remedy})
		}
		return all
	}
	all = []service.Finding{{Check: check, Result: service.LookOK, Found: file}}
	for _, w := range warnings {
		found, remedy, _ := strings.Cut(w, "; ")
		all = append(all, service.Finding{Check: check, Result: service.LookWarning, Found: found, Remedy: remedy})
	}
	return all
}

// inspectAPI looks at the dispatcher, and through it at workers and accounts.
func (a *app) inspectAPI(ctx context.Context, api *client.Client, add func(...service.Finding)) {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	asked := a.now()
	now, err := api.Ready(ctx)
	switch {
	case err != nil && exitCode(err) == exitUnreachable && now.IsZero():
		add(service.Finding{Check: "api", Result: service.LookFailed, Found: err.Error(), Remedy: "start a dispatcher, or give its address as --api or MEDIAFERRY_API_URL"})
		return
	case err != nil:
		add(service.Finding{Check: "api", Result: service.LookFailed, Found: a.apiURL + " is not ready", Remedy: "see the dispatcher's log, which says what it cannot reach; --config looks at it from here"})
	default:
		add(service.Finding{Check: "api", Result: service.LookOK, Found: a.apiURL + " is ready"})
	}
	if !now.IsZero() {
		add(service.InspectClock("api clock", now, asked, time.Second))
	}
	may, err := api.Access(ctx)
	if err != nil {
		remedy := "see the dispatcher's log"
		if exitCode(err) == exitRefused {
			remedy = "give a token with the scope read as MEDIAFERRY_TOKEN; mediaferry tokens create makes one"
		}
		add(service.Finding{Check: "token", Result: service.LookFailed, Found: err.Error(), Remedy: remedy})
		return
	}
	add(service.Finding{Check: "token", Result: service.LookOK, Found: "allows " + strings.Join(may.Scopes, ", ")}, versionFinding("dispatcher", may.Version))
	accounts, err := api.Accounts(ctx)
	if err != nil {
		add(service.Finding{Check: "accounts", Result: service.LookFailed, Found: err.Error(), Remedy: "see the dispatcher's log"})
		return
	}
	workers, err := heardWorkers(ctx, api, accounts)
	if err != nil {
		add(service.Finding{Check: "workers", Result: service.LookFailed, Found: err.Error(), Remedy: "see the dispatcher's log"})
	} else {
		add(workerFindings(workers, accounts)...)
	}
	if len(accounts) == 0 {
		add(service.Finding{Check: "accounts", Result: service.LookWarning, Found: "the tenant has none", Remedy: "name one in the dispatcher's configuration, or give another --tenant"})
	}
	if !slices.Contains(may.Scopes, "operate") {
		add(service.Finding{Check: "accounts", Result: service.LookSkipped, Found: "the token may not try their credentials", Remedy: "give one with the scope operate"})
		return
	}
	for _, account := range accounts {
		add(accountFinding(ctx, api, account.Name))
	}
}

func versionFinding(of, version string) service.Finding {
	f := service.Finding{Check: of + " version", Result: service.LookOK, Found: version}
	if version == "unknown" || version == "" || build.Version() == "unknown" {
		f.Result, f.Found = service.LookSkipped, fmt.Sprintf("%s, and %s here: not built from a commit", cmp.Or(version, "unknown"), build.Version())
		return f
	}
	if version != build.Version() {
		f.Result, f.Found = service.LookWarning, fmt.Sprintf("%s, and %s here", version, build.Version())
		f.Remedy = "bring all to one version; two side by side are for the time of a deploy"
	}
	return f
}

// heardWorkers returns the workers as soon as some are heard of every account's
// pool, else those that are after a while.
func heardWorkers(ctx context.Context, api *client.Client, accounts []client.Account) ([]client.Worker, error) {
	soon, cancel := context.WithTimeout(ctx, heardWithin)
	defer cancel()
	for {
		workers, err := api.Workers(ctx)
		unheard := slices.ContainsFunc(accounts, func(account client.Account) bool {
			return !slices.ContainsFunc(workers, func(w client.Worker) bool { return w.Pool == account.Pool })
		})
		if err != nil || !unheard || !backoff.Pause(soon, heardAgain) {
			return workers, err
		}
	}
}

// workerFindings sees that every account's pool has a worker, and that all are of
// this version.
func workerFindings(workers []client.Worker, accounts []client.Account) []service.Finding {
	slots, versions := map[string]int{}, map[string]int{}
	for _, w := range workers {
		slots[w.Pool] += w.Slots
		versions[w.Version]++
	}
	var all []service.Finding
	pools := map[string]bool{}
	for _, account := range accounts {
		pools[account.Pool] = true
	}
	for _, pool := range slices.Sorted(maps.Keys(pools)) {
		f := service.Finding{Check: "workers of pool " + pool, Result: service.LookOK, Found: fmt.Sprintf("%d slots", slots[pool])}
		if slots[pool] == 0 {
			f.Result, f.Found, f.Remedy = service.LookFailed, fmt.Sprintf("none was heard for %s", heardWithin), "start one with this pool, and see that it reaches the same NATS"
		}
		all = append(all, f)
	}
	for _, version := range slices.Sorted(maps.Keys(versions)) {
		f := versionFinding("worker", version)
		f.Found = fmt.Sprintf("%d of %s", versions[version], f.Found)
		all = append(all, f)
	}
	return all
}

func accountFinding(ctx context.Context, api *client.Client, name string) service.Finding {
	f := service.Finding{Check: "account " + name, Result: service.LookFailed}
	check, err := api.CheckAccount(ctx, name)
	if err != nil {
		f.Found, f.Remedy = err.Error(), "see the dispatcher's log"
		return f
	}
	f.Found = check.Result + ": " + check.Detail
	switch check.Result {
	case "taken":
		f.Result = service.LookOK
	case "not_possible":
		f.Result, f.Found = service.LookSkipped, check.Detail
	case "refused":
		f.Remedy = "put the right credentials into the dispatcher's configuration, and start it again"
	default:
		f.Remedy = "see that the dispatcher reaches the platform, and the account's settings"
	}
	return f
}
