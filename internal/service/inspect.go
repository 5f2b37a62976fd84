package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/config"
	"mediaferry/internal/postgres"
	"mediaferry/internal/staging"
)

// What a look at something came to.
const (
	LookOK      = "ok"
	LookWarning = "warning" // it works, and could be better
	LookFailed  = "failed"
	LookSkipped = "skipped" // something before it failed, or nothing was there to look at
)

// Finding is what one look came to.
type Finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

// errNotInTime goes before what the server said last, which may be that it refuses.
var errNotInTime = fmt.Errorf("not ready within %s", lookPatience)

const (
	lookPatience = 5 * time.Second // for one server

	oldestPostgres = 15
	leastPayload   = 1 << 20 // bytes; NATS's default, which messages that are set aside need
	mostSkew       = 5 * time.Second
)

// InspectDispatcher looks at what a dispatcher of this configuration needs, as it
// would itself, and changes nothing. bucket is one that uploads are read from.
func InspectDispatcher(ctx context.Context, cfg config.Dispatcher, bucket string) []Finding {
	all := inspectPostgres(ctx, cfg.Postgres)
	all = append(all, inspectNATS(ctx, cfg.NATS, "dispatcher", "")...)
	return append(all, inspectStaging(ctx, cfg.Staging, bucket)...)
}

// InspectWorker is InspectDispatcher for a worker.
func InspectWorker(ctx context.Context, cfg config.Worker, bucket string) []Finding {
	return append(inspectNATS(ctx, cfg.NATS, "worker", cfg.Pool), inspectStaging(ctx, cfg.Staging, bucket)...)
}

func inspectPostgres(ctx context.Context, cfg config.Postgres) []Finding {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*lookPatience, errNotInTime)
	defer cancel()
	open, stop := context.WithTimeoutCause(ctx, lookPatience, errNotInTime)
	defer stop()
	store, err := postgres.Open(open, cfg.DSN.Reveal(), 1, zap.NewNop())
	if err != nil {
		return []Finding{{"postgres", LookFailed, oneLine(err), "see that it runs, and that postgres.dsn has its address, the database, a user and the password"}}
	}
	defer store.Close()
	asked := time.Now()
	state, err := store.Inspect(ctx)
	if err != nil {
		return []Finding{{"postgres", LookFailed, oneLine(err), "see its log"}}
	}
	all := []Finding{{"postgres", LookOK, "version " + state.Text, ""}}
	if state.Version < oldestPostgres {
		all[0].Result, all[0].Remedy = LookFailed, fmt.Sprintf("upgrade it to %d or later", oldestPostgres)
	}
	if !state.Durable {
		all = append(all, Finding{"postgres durability", LookWarning, "fsync or synchronous_commit is off", "turn both on: what is acknowledged must outlive a power cut"})
	}
	return append(all, inspectMigrations(ctx, cfg), InspectClock("postgres clock", state.Now, asked, 0))
}

func inspectMigrations(ctx context.Context, cfg config.Postgres) Finding {
	list, err := postgres.Migrations(ctx, cfg.DSN.Reveal())
	if err != nil {
		return Finding{"postgres migrations", LookFailed, oneLine(err), "run deploy/postgres/roles.sql again, or as the owner: mediaferry migrate status"}
	}
	var missing []string
	for _, m := range list {
		if !m.Applied {
			missing = append(missing, m.Name)
		}
	}
	if len(missing) > 0 {
		return Finding{
			"postgres migrations", LookWarning, fmt.Sprintf("%d of %d are missing, the first is %s", len(missing), len(list), missing[0]),
			"run: mediaferry migrate up; or start a dispatcher that owns the tables, which does",
		}
	}
	return Finding{"postgres migrations", LookOK, fmt.Sprintf("all %d are applied", len(list)), ""}
}

// inspectNATS looks at the server, and at the streams or, of a worker, at the
// consumer of its pool.
func inspectNATS(ctx context.Context, cfg config.NATS, role, pool string) []Finding {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*lookPatience, errNotInTime)
	defer cancel()
	open, stop := context.WithTimeoutCause(ctx, lookPatience, errNotInTime)
	defer stop()
	conn, err := connect(open, cfg, "mediaferry-doctor", role, 0, zap.NewNop())
	if err != nil {
		return []Finding{{"nats", LookFailed, oneLine(err), "see that it runs, and that nats.url and the login of " + role + " are right"}}
	}
	defer closeConn(ctx, conn) //nolint:errcheck // nothing is pending on it
	state, err := conn.Inspect(ctx, role == "dispatcher")
	if err != nil {
		return []Finding{{"nats", LookFailed, oneLine(err), "see its log"}}
	}
	all := []Finding{
		{"nats", LookOK, fmt.Sprintf("version %s, %s away", state.Version, state.RoundTrip.Round(10*time.Microsecond)), ""},
		{"nats messages", LookOK, fmt.Sprintf("up to %d bytes", state.MaxPayload), ""},
	}
	if state.MaxPayload < leastPayload {
		all[1].Result, all[1].Remedy = LookFailed, fmt.Sprintf("set max_payload to %d or more", leastPayload)
	}
	const permissions = "turn JetStream on, and give the user the permissions of docs/security.md"
	if pool != "" {
		f := Finding{"nats jetstream", LookOK, "pool " + pool + " has a consumer", ""}
		switch found, err := conn.InspectPool(ctx, pool); {
		case err != nil:
			f.Result, f.Found, f.Remedy = LookFailed, oneLine(err), permissions
		case !found:
			f.Result, f.Found = LookWarning, "pool "+pool+" has no consumer"
			f.Remedy = "start a dispatcher with an account of the pool, or mend the worker's pool; the first worker makes it otherwise"
		}
		return append(all, f)
	}
	f := Finding{"nats jetstream", LookOK, "all streams are there", ""}
	switch {
	case state.JetStream != nil:
		f.Result, f.Found, f.Remedy = LookFailed, oneLine(state.JetStream), permissions
	case len(state.Missing) > 0:
		f.Result, f.Found, f.Remedy = LookWarning, "streams are missing: "+strings.Join(state.Missing, ", "), "start a dispatcher, which makes them"
	}
	return append(all, f)
}

func inspectStaging(ctx context.Context, cfg config.Staging, bucket string) []Finding {
	ctx, cancel := context.WithTimeoutCause(ctx, 4*lookPatience, errNotInTime)
	defer cancel()
	clock := inspectStagingClock(ctx, cfg)
	if clock.Result == LookFailed && clock.Check == "staging" {
		return []Finding{clock}
	}
	store, err := openStaging(cfg)
	if err != nil {
		return []Finding{{"staging", LookFailed, oneLine(err), "mend the settings of staging"}}
	}
	defer store.Close()
	if err := store.Check(ctx); err != nil {
		return []Finding{{"staging", LookFailed, oneLine(err), "see that staging.access_key and staging.secret_key are those of the store"}, clock}
	}
	object, err := store.Inspect(ctx, bucket)
	f := Finding{"staging", LookOK, fmt.Sprintf("bucket %s is listed, read in ranges, and If-Match is heeded", bucket), ""}
	switch {
	case errors.Is(err, staging.ErrEmpty):
		f.Result, f.Found, f.Remedy = LookSkipped, fmt.Sprintf("bucket %s is listed, and has no object to read", bucket), "put one there, and look again"
	case errors.Is(err, staging.ErrNotPinned):
		f.Result, f.Found, f.Remedy = LookWarning, oneLine(err), "use a store that does; until then reads rely on the ETag of the answer"
	case err != nil:
		f.Result, f.Found = LookFailed, oneLine(err)
		f.Remedy = "see that bucket " + bucket + " is there (--bucket names another), and grant listing and reading it"
		if object.Key != "" {
			f.Remedy = "grant reading objects, with ranges, in bucket " + bucket
		}
	}
	return []Finding{f, clock}
}

// inspectStagingClock asks for nothing, for the date of the answer.
func inspectStagingClock(ctx context.Context, cfg config.Staging) Finding {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return Finding{"staging", LookFailed, oneLine(err), "mend staging.ca_file"}
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Endpoint, nil)
	if err != nil {
		return Finding{"staging", LookFailed, oneLine(err), "mend staging.endpoint"}
	}
	asked := time.Now()
	res, err := transport.RoundTrip(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return Finding{"staging", LookFailed, fmt.Sprintf("%s does not answer: %v", cfg.Endpoint, err), "see that it runs, and that staging.endpoint is right"}
	}
	_ = res.Body.Close()
	now, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return Finding{"staging clock", LookSkipped, "its answers have no date", ""}
	}
	return InspectClock("staging clock", now, asked, time.Second)
}

// InspectClock compares a clock, told to a grain in the answer to what was asked at
// asked, with ours.
func InspectClock(check string, told, asked time.Time, grain time.Duration) Finding {
	answered := time.Now()
	var off time.Duration
	switch {
	case told.Add(grain).Before(asked):
		off = asked.Sub(told.Add(grain))
	case told.After(answered):
		off = told.Sub(answered)
	}
	f := Finding{check, LookOK, "agrees with the one here", ""}
	if off > mostSkew {
		f.Result, f.Found = LookFailed, fmt.Sprintf("is off from the one here by %s", off.Round(time.Second))
		f.Remedy = "keep both by NTP: platforms refuse what is signed minutes early or late, and leases end at the wrong time"
	}
	return f
}

// oneLine is the text of an error that may be several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", ": ") }
