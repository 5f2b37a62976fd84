package service

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"mediaferry/internal/config"
	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/staging"
)

func resultsOf(found []Finding) map[string]string {
	results := map[string]string{}
	for _, f := range found {
		results[f.Check] = f.Result
	}
	return results
}

// What the doctor finds: new servers first, then as a dispatcher leaves them, then
// in want of this and that.
func TestInspect(t *testing.T) {
	t.Parallel()
	server := devtest.S3(t, "staging")
	s3 := server.Config()
	nats := devtest.NATS(t)
	cfg := config.Dispatcher{
		NATS: config.NATS{URL: nats.URL()},
		Postgres: config.Postgres{DSN: providers.Secret(devtest.Postgres(t, func(ctx context.Context, dsn string) error {
			_, err := postgres.MigrateUp(ctx, dsn)
			return err
		}))},
		Staging: config.Staging{
			Endpoint: s3.Endpoint, Region: s3.Region, PathStyle: s3.PathStyle, AccessKey: s3.AccessKey.Reveal(), SecretKey: s3.SecretKey,
		},
	}
	worker := config.Worker{Pool: "default", NATS: cfg.NATS, Staging: cfg.Staging}
	want := map[string]string{
		"postgres": LookOK, "postgres migrations": LookOK, "postgres clock": LookOK,
		"nats": LookOK, "nats messages": LookOK, "nats jetstream": LookWarning,
		"staging": LookSkipped, "staging clock": LookOK,
	}
	check := func(what string, found []Finding) {
		t.Helper()
		got := resultsOf(found)
		delete(got, "postgres durability") // the tests' server has none
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s%+v", what, diff, found)
		}
	}
	check("new servers", InspectDispatcher(t.Context(), cfg, "staging"))

	conn, err := connect(t.Context(), cfg.NATS, "test", "dispatcher", 1, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t.Context(), conn) //nolint:errcheck // the server goes as well
	if err := conn.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := staging.New(s3)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Put(t.Context(), "staging", "film.mp4", "video/mp4", strings.NewReader("film"), 4); err != nil {
		t.Fatal(err)
	}
	want["nats jetstream"], want["staging"] = LookOK, LookOK
	check("as a dispatcher leaves them", InspectDispatcher(t.Context(), cfg, "staging"))

	if _, err := postgres.MigrateDown(t.Context(), cfg.Postgres.DSN.Reveal()); err != nil {
		t.Fatal(err)
	}
	cfg.Staging.SecretKey = "not-the-secret"
	want["postgres migrations"], want["staging"] = LookWarning, LookFailed
	check("a wrong secret, and a migration taken back", InspectDispatcher(t.Context(), cfg, "staging"))

	// A worker's pool, which the first worker makes.
	want = map[string]string{"nats": LookOK, "nats messages": LookOK, "nats jetstream": LookWarning, "staging": LookOK, "staging clock": LookOK}
	check("a worker of a new pool", InspectWorker(t.Context(), worker, "staging"))
	if err := conn.EnsurePool(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	want["nats jetstream"], want["staging"] = LookOK, LookFailed
	check("a worker of a pool, and a bucket that is not there", InspectWorker(t.Context(), worker, "nothere"))

	want = map[string]string{"nats": LookFailed, "staging": LookFailed}
	worker.NATS.URL, worker.Staging.Endpoint = "nats://127.0.0.1:1", "http://127.0.0.1:1"
	check("nobody at home", InspectWorker(t.Context(), worker, "staging"))
}

// What the server said is told, not only that it was waited for.
func TestInspectSaysWhatPostgresSaid(t *testing.T) {
	t.Parallel()
	dsn := devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	address.Path = "/nosuch"
	found := inspectPostgres(t.Context(), config.Postgres{DSN: providers.Secret(address.String())})
	if len(found) != 1 || found[0].Result != LookFailed || !strings.Contains(found[0].Found, `database "nosuch" does not exist`) {
		t.Errorf("got %+v", found)
	}
}

func TestInspectClock(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for off, want := range map[time.Duration]string{
		0: LookOK, -4 * time.Second: LookOK, 4 * time.Second: LookOK, -7 * time.Second: LookFailed, time.Hour: LookFailed,
	} {
		if f := InspectClock("clock", now.Add(off), now, time.Second); f.Result != want {
			t.Errorf("off by %s: %+v", off, f)
		}
	}
}
