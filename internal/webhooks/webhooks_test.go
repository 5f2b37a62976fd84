package webhooks_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zaptest"

	"mediaferry/client"
	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
	"mediaferry/internal/webhooks"
)

func TestMain(m *testing.M) { devtest.Main(m) }

const (
	secret   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	next     = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	patience = time.Minute
)

// bundle is the record on a database of the test's own.
type bundle struct {
	*postgres.Store

	conn *pgx.Conn
}

func setup(t *testing.T) *bundle {
	t.Helper()
	dsn := devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	store, err := postgres.Open(t.Context(), dsn, 8, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return &bundle{Store: store, conn: conn}
}

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// event puts one event into the outbox, as the end of an upload does.
func (b *bundle) event(t *testing.T, tenant, typ, name string) {
	t.Helper()
	b.exec(t, `INSERT INTO outbox (tenant, type, upload_id, payload) VALUES ($1, $2, gen_random_uuid(), jsonb_build_object('name', $3::text))`, tenant, typ, name)
}

// eventually asks the record until it answers what is wanted.
func (b *bundle) eventually(t *testing.T, want, sql string) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var got string
		if err := b.conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got == want {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %s, want %s", sql, got, want)
		case <-tick.C:
		}
	}
}

// run sends to the endpoints until the test ends or stop is called.
func (b *bundle) run(t *testing.T, endpoints ...webhooks.Endpoint) (hooks *webhooks.Webhooks, stop func()) {
	t.Helper()
	guard := reach.NewGuard(&http.Transport{})
	hooks = webhooks.New(endpoints, b.Store, guard, zaptest.NewLogger(t))
	if err := hooks.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); hooks.Run(ctx) }()
	stop = func() {
		cancel()
		<-ended
		guard.CloseIdleConnections()
	}
	t.Cleanup(stop)
	return hooks, stop
}

// receiver answers each try with the status that is next, 204 after the last.
type receiver struct {
	url   string
	open  chan struct{} // unless nil, no 204 is answered before it is closed
	got   chan client.WebhookEvent
	tries chan string // ids, of all tries
}

func receive(t *testing.T, statuses ...int) *receiver {
	t.Helper()
	r := &receiver{got: make(chan client.WebhookEvent, 100), tries: make(chan string, 100)}
	next := make(chan int, len(statuses))
	for _, s := range statuses {
		next <- s
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		text, _ := io.ReadAll(req.Body)
		e, err := client.VerifyWebhook(req.Header, text, secret)
		if err != nil {
			t.Error(err)
		}
		r.tries <- e.ID
		select {
		case s := <-next:
			w.WriteHeader(s)
		default:
			if r.open != nil {
				select {
				case <-r.open:
				case <-req.Context().Done():
					return
				}
			}
			r.got <- e
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

func (r *receiver) await(t *testing.T) client.WebhookEvent {
	t.Helper()
	select {
	case e := <-r.got:
		return e
	case <-time.After(patience):
		t.Fatal("nothing arrives")
		return client.WebhookEvent{}
	}
}

func local() reach.Reach {
	return reach.Reach{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

func endpoint(name, url string, types ...string) webhooks.Endpoint {
	return webhooks.Endpoint{
		Name: name, Tenant: "default", URL: url, Types: types, Secrets: []providers.Secret{next, secret}, Reach: local(),
	}
}

// An endpoint is told of its tenant's events of the types that it asked for,
// also of those that were committed while nobody sent.
func TestEventsArriveSigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all, some := receive(t), receive(t)
	endpoints := []webhooks.Endpoint{endpoint("all", all.url), endpoint("some", some.url, "upload.failed")}
	_, stop := b.run(t, endpoints...)
	stop()
	b.event(t, "other", "completed", "not ours")
	b.event(t, "default", "completed", "a")
	b.event(t, "default", "failed", "b")
	b.run(t, endpoints...)
	got := map[string]string{}
	for range 2 {
		e := all.await(t)
		var data struct{ Name string }
		if err := json.Unmarshal(e.Data, &data); err != nil || e.Timestamp.IsZero() || !strings.HasPrefix(e.ID, "msg_") {
			t.Errorf("%+v, %v", e, err)
		}
		got[data.Name] = e.Type
	}
	if got["a"] != "upload.completed" || got["b"] != "upload.failed" {
		t.Errorf("%v arrived", got)
	}
	if e := some.await(t); e.Type != "upload.failed" {
		t.Errorf("%s arrived at who wants upload.failed", e.Type)
	}
	b.eventually(t, "3", `SELECT count(*)::text FROM webhook_messages WHERE delivered_at IS NOT NULL AND due_at IS NULL`)
	if n := len(all.tries) + len(some.tries); n != 3 {
		t.Errorf("%d tries, want 3", n)
	}
}

// What is rolled back was no event.
func TestAnEventThatIsRolledBackIsNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, stop := b.run(t, endpoint("all", "https://pipeline.example.com"))
	stop()
	b.exec(t, `BEGIN`)
	b.event(t, "default", "completed", "a")
	b.exec(t, `ROLLBACK`)
	b.eventually(t, "0", `SELECT count(*)::text FROM webhook_messages`)
}

// A refused message is tried again under the same id, and one endpoint that
// fails does not hold up another.
func TestARefusedMessageIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dead, well := receive(t, 500), receive(t)
	dead.open = make(chan struct{})
	b.run(t, endpoint("dead", dead.url), endpoint("well", well.url))
	b.event(t, "default", "completed", "a")
	well.await(t)
	id := <-dead.tries
	b.eventually(t, "the endpoint answers 500", `SELECT last_error FROM webhook_endpoints WHERE name = 'dead'`)
	close(dead.open)
	if e := dead.await(t); e.ID != id {
		t.Errorf("tried again as %s, was %s", e.ID, id)
	}
	b.eventually(t, "2 f", `SELECT concat_ws(' ', m.tries, e.failing_since IS NOT NULL)
		FROM webhook_messages m JOIN webhook_endpoints e ON e.name = m.endpoint WHERE endpoint = 'dead' AND delivered_at IS NOT NULL
		UNION ALL SELECT 'not yet' LIMIT 1`)
}

// An endpoint that is gone, or fails for three days, is sent nothing more until it
// is enabled; the others of its tenant are told. Nothing is lost meanwhile.
func TestAnEndpointIsDisabledAndEnabled(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"gone": http.StatusGone, "fails for long": http.StatusBadGateway} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			dead, well := receive(t, status), receive(t)
			hooks, _ := b.run(t, endpoint("dead", dead.url), endpoint("well", well.url, "webhook.disabled"))
			if status != http.StatusGone {
				b.exec(t, `UPDATE webhook_endpoints SET failing_since = now() - interval '73 hours' WHERE name = 'dead'`)
			}
			b.event(t, "default", "completed", "a")
			e := well.await(t)
			var data struct{ Endpoint, Reason string }
			if err := json.Unmarshal(e.Data, &data); err != nil || e.Type != "webhook.disabled" || data.Endpoint != "dead" || data.Reason == "" {
				t.Errorf("%+v %+v, %v", e, data, err)
			}
			b.event(t, "default", "completed", "b")
			b.exec(t, `UPDATE webhook_messages SET due_at = now() WHERE endpoint = 'dead'`)
			all, err := hooks.ListWebhooks(t.Context(), "default")
			if err != nil || len(all) != 2 || all[0].DisabledAt.IsZero() || all[0].Pending != 3 || !all[1].DisabledAt.IsZero() {
				t.Errorf("%+v, %v", all, err)
			}
			if m, err := b.ClaimWebhookMessages(t.Context(), "default", "dead", 8, time.Minute); err != nil || len(m) != 0 {
				t.Errorf("%d messages are claimed for an endpoint that is disabled, %v", len(m), err)
			}
			if err := hooks.EnableWebhook(t.Context(), "default", "dead"); err != nil {
				t.Fatal(err)
			}
			for range 3 { // a, b and that it was disabled itself
				dead.await(t)
			}
		})
	}
}

// A message is given up after five days, and replayed under its id.
func TestGivenUpAndReplayed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, http.StatusTeapot)
	hooks, stop := b.run(t, endpoint("all", r.url))
	stop()
	b.event(t, "default", "completed", "a")
	b.exec(t, `UPDATE webhook_messages SET first_tried_at = now() - interval '121 hours', tries = 20`)
	b.run(t, endpoint("all", r.url))
	id := <-r.tries
	b.eventually(t, "1", `SELECT count(*)::text FROM webhook_messages WHERE gave_up_at IS NOT NULL AND due_at IS NULL`)
	replay := uploads.WebhookReplay{Tenant: "default", Endpoint: "all", Since: time.Now().Add(time.Hour)}
	if n, err := hooks.ReplayWebhook(t.Context(), replay); err != nil || n != 0 {
		t.Errorf("replayed %d of later events, %v", n, err)
	}
	replay.Since, replay.Undelivered = time.Time{}, true
	if n, err := hooks.ReplayWebhook(t.Context(), replay); err != nil || n != 1 {
		t.Errorf("replayed %d, %v", n, err)
	}
	if e := r.await(t); e.ID != id {
		t.Errorf("replayed as %s, was %s", e.ID, id)
	}
	b.eventually(t, "1", `SELECT count(*)::text FROM webhook_messages WHERE delivered_at IS NOT NULL`)
	if n, err := hooks.ReplayWebhook(t.Context(), replay); err != nil || n != 0 {
		t.Errorf("replayed %d that were delivered, %v", n, err)
	}
	replay.Tenant = "other"
	if _, err := hooks.ReplayWebhook(t.Context(), replay); err == nil {
		t.Error("another tenant replays")
	}
}

// An endpoint that is given to another tenant gets nothing of the one before.
func TestAnEndpointChangesItsTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t)
	_, stop := b.run(t, endpoint("all", r.url))
	stop()
	b.event(t, "default", "completed", "ours")
	moved := endpoint("all", r.url)
	moved.Tenant = "other"
	b.run(t, moved)
	b.event(t, "other", "completed", "theirs")
	if e := r.await(t); !strings.Contains(string(e.Data), "theirs") {
		t.Errorf("%s arrived", e.Data)
	}
	b.eventually(t, "1", `SELECT count(*)::text FROM webhook_messages WHERE due_at IS NOT NULL AND tenant = 'default'`)
}

// A try that a stop cuts short counts for nothing and is made again at once.
func TestAStopCountsNoTry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reached, release := make(chan struct{}, 10), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		reached <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	_, stop := b.run(t, endpoint("all", srv.URL))
	b.event(t, "default", "completed", "a")
	<-reached
	stop()
	b.eventually(t, "0 t", `SELECT concat_ws(' ', tries, due_at <= now()) FROM webhook_messages`)
	close(release)
	b.run(t, endpoint("all", srv.URL))
	b.eventually(t, "1 t", `SELECT concat_ws(' ', tries, delivered_at IS NOT NULL) FROM webhook_messages`)
}

// Addresses that are not public are not dialled unless their network is allowed,
// and a test says so without the address.
func TestReach(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := receive(t, http.StatusFound)
	inside := endpoint("inside", r.url+"/?key=hidden")
	closed := inside
	closed.Name, closed.Reach = "closed", reach.Reach{}
	hooks, _ := b.run(t, inside, closed)
	if why, err := hooks.TestWebhook(t.Context(), "default", "inside"); err != nil || !strings.Contains(why, "302: redirects are not followed") {
		t.Errorf("redirected: %q, %v", why, err)
	}
	if why, err := hooks.TestWebhook(t.Context(), "default", "inside"); err != nil || why != "" {
		t.Errorf("allowed: %q, %v", why, err)
	}
	if e := r.await(t); e.Type != "webhook.test" {
		t.Errorf("%s arrived", e.Type)
	}
	why, err := hooks.TestWebhook(t.Context(), "default", "closed")
	if err != nil || !strings.Contains(why, "allow_networks") || strings.Contains(why, "hidden") {
		t.Errorf("not allowed: %q, %v", why, err)
	}
	if n := len(r.tries); n != 2 {
		t.Errorf("%d requests arrived, want 2", n)
	}
	if _, err := hooks.TestWebhook(t.Context(), "other", "inside"); err == nil {
		t.Error("another tenant tests")
	}
}
