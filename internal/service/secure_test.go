package service_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap/zaptest"

	"mediaferry/client"
	"mediaferry/internal/access"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/service"
	"mediaferry/internal/staging"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // of its own certificate
	made int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	var der []byte
	a.key, der = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// sign completes the template and signs it, with its own key if there is no other yet.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.made++
	template.SerialNumber = big.NewInt(a.made)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func (a *authority) write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue makes a certificate under the name and returns its files.
func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, der := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		a.write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func (a *authority) pool(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// natsOverTLS starts a server with the users and permissions of deploy/nats.
func (a *authority) natsOverTLS(t *testing.T) (url string) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := string(text)
	for _, user := range []string{"DISPATCHER", "WORKER", "SUBMITTER", "NOTIFIER"} {
		conf = strings.ReplaceAll(conf, "$NATS_"+user+"_PASSWORD", strings.ToLower(user)+"-password")
	}
	certFile, keyFile := a.issue(t, "nats")
	conf += fmt.Sprintf("\nport: -1\nhost: 127.0.0.1\njetstream: {store_dir: %q}\ntls: {cert_file: %q, key_file: %q, ca_file: %q, verify: true}\n",
		t.TempDir(), certFile, keyFile, a.file)
	opts, err := server.ProcessConfigFile(a.write(t, "nats.conf", []byte(conf)))
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(testPatience) {
		t.Fatal("NATS is not ready")
	}
	return "tls://" + s.Addr().String()
}

// postgresOverTLS starts a server with the roles of deploy/postgres and returns
// a function that makes the address for one of them.
func (a *authority) postgresOverTLS(t *testing.T) (super string, as func(role string) string) {
	t.Helper()
	dir, err := devstack.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	pg, err := devstack.StartPostgres(t.Context(), dir.Join("postgres"), devstack.PostgresOptions{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pg.Stop()
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	certFile, keyFile := a.issue(t, "postgres")
	// The server reads its key only from a file of its own.
	for name, file := range map[string]string{"server.crt": certFile, "server.key": keyFile} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		execSQL(t, pg.DSN(), fmt.Sprintf(`COPY (SELECT regexp_split_to_table('%s', E'\n')) TO PROGRAM 'umask 077; cat >%s'`,
			strings.TrimSpace(string(text)), name))
	}
	for _, statement := range []string{`ALTER SYSTEM SET ssl = on`, `SELECT pg_reload_conf()`} {
		execSQL(t, pg.DSN(), statement)
	}
	roles, err := os.ReadFile("../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	execSQL(t, pg.DSN(), string(roles))
	for _, role := range []string{"migrate", "service", "report", "submit"} {
		execSQL(t, pg.DSN(), fmt.Sprintf(`ALTER ROLE mediaferry_%s PASSWORD '%s-password'`, role, role))
	}
	as = func(role string) string {
		u, err := url.Parse(pg.DSN())
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("mediaferry_"+role, role+"-password")
		u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {a.file}}.Encode()
		return u.String()
	}
	if _, err := postgres.MigrateUp(t.Context(), as("migrate")); err != nil {
		t.Fatal(err)
	}
	execSQL(t, pg.DSN(), string(roles)) // now the views are there
	return pg.DSN(), as
}

// execSQL runs statements, and fails the test if one of them fails.
func execSQL(t *testing.T, dsn, statements string) {
	t.Helper()
	if err := trySQL(t.Context(), dsn, statements); err != nil {
		t.Fatalf("%.60s: %v", statements, err)
	}
}

func trySQL(ctx context.Context, dsn, statements string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending
	_, err = conn.PgConn().Exec(ctx, statements).ReadAll()
	return err
}

// stagingOverTLS puts TLS in front of the test's S3 server.
func (a *authority) stagingOverTLS(t *testing.T, endpoint string) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := a.issue(t, "staging")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		// The host stays, since it is signed.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", target.Host, r.In.Host
		},
		Transport: transport,
	})
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	front.StartTLS()
	t.Cleanup(front.Close)
	return front.URL
}

// Every process does its work over TLS, as the least that it can be: the
// dispatcher as a role that owns nothing, each with a NATS user of its own, the
// client with a token. And each of them is refused what is not its business.
func TestLeastPrivilegeOverTLS(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 5*mib)
	ca, other := newAuthority(t), newAuthority(t)
	super, as := ca.postgresOverTLS(t)
	natsURL := ca.natsOverTLS(t)
	certFile, keyFile := ca.issue(t, "process")
	connection := func(user string) config.NATS {
		return config.NATS{
			URL: natsURL, User: user, Password: providers.Secret(user + "-password"), CAFile: ca.file, CertFile: certFile, KeyFile: keyFile,
		}
	}
	b.dsn = as("service")
	b.cfg.Postgres.DSN = providers.Secret(b.dsn)
	b.cfg.NATS = connection("dispatcher")
	b.cfg.Staging.Endpoint, b.cfg.Staging.CAFile = ca.stagingOverTLS(t, b.cfg.Staging.Endpoint), ca.file
	b.cfg.API.Auth = config.AuthToken
	b.cfg.API.CertFile, b.cfg.API.KeyFile = ca.issue(t, "api")

	ready := make(chan string, 1)
	background(t, func(ctx context.Context) error {
		return service.RunDispatcher(ctx, b.cfg, b.known(), zaptest.NewLogger(t).Named("dispatcher"), func(addr string) { ready <- addr })
	})
	worker := config.Worker{ID: "w1", Pool: "default", Slots: 4, NATS: connection("worker"), Staging: b.cfg.Staging, StopGrace: time.Second}
	background(t, func(ctx context.Context) error {
		return service.RunWorker(ctx, worker, b.known(), zaptest.NewLogger(t).Named("worker"))
	})
	var address string
	select {
	case address = <-ready:
	case <-time.After(testPatience):
		t.Fatal("the dispatcher is not ready")
	}
	// The first token goes straight to the record, as `tokens create --dsn` does it.
	store, err := postgres.Open(t.Context(), b.dsn, 1, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	token, text, hash, err := access.New(access.Token{
		Name: "test", Tenant: "default", Scopes: []access.Scope{access.Submit, access.Read},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.AddToken(t.Context(), token, hash); err != nil {
		t.Fatal(err)
	}
	connect := func(options ...client.Option) *client.Client {
		t.Helper()
		api, err := client.New("https://"+address, "", options...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		return api
	}
	b.api = connect(client.WithToken(text), client.WithRootCAs(ca.pool(t)))
	b.mustComplete(t, b.submit(t, "film.mp4").ID, data)

	t.Run("wrong authorities", func(t *testing.T) {
		t.Parallel()
		unknownAuthority := func(what string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%s: %v, want it refused for its certificate", what, err)
			}
		}
		_, err := connect(client.WithToken(text), client.WithRootCAs(other.pool(t))).Workers(t.Context())
		unknownAuthority("API", err)
		unknownAuthority("Postgres", trySQL(t.Context(), strings.Replace(as("service"), url.QueryEscape(ca.file), url.QueryEscape(other.file), 1), `SELECT 1`))
		s3, err := staging.New(staging.Config{
			Endpoint: b.cfg.Staging.Endpoint, AccessKey: providers.Secret(b.cfg.Staging.AccessKey), SecretKey: b.cfg.Staging.SecretKey,
			PathStyle: true, CAFile: other.file,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s3.Close()
		unknownAuthority("staging", s3.Check(t.Context()))
		_, err = nats.Connect(natsURL, nats.UserInfo("worker", "worker-password"), nats.RootCAs(other.file), nats.ClientCert(certFile, keyFile))
		unknownAuthority("NATS", err)
		otherCert, otherKey := other.issue(t, "process")
		_, err = nats.Connect(natsURL, nats.UserInfo("worker", "worker-password"), nats.RootCAs(ca.file), nats.ClientCert(otherCert, otherKey))
		if err == nil {
			t.Error("NATS takes a client certificate of another authority")
		}
	})
	t.Run("roles", func(t *testing.T) {
		t.Parallel()
		roles(t, super, as)
	})
	t.Run("NATS users", func(t *testing.T) {
		t.Parallel()
		natsUsers(t, connection)
	})
}

func roles(t *testing.T, super string, as func(string) string) {
	t.Helper()
	forbidden := func(role string, statements ...string) {
		t.Helper()
		for _, statement := range statements {
			if err := trySQL(t.Context(), as(role), statement); err == nil || !strings.Contains(err.Error(), "SQLSTATE 42501") {
				t.Errorf("%s, %s: %v, want it forbidden", role, statement, err)
			}
		}
	}
	forbidden("report", `SELECT id FROM public.uploads`, `SELECT hash FROM public.api_tokens`, `SELECT count(*) FROM public.part_acks`,
		`INSERT INTO public.outbox (tenant, type, upload_id, payload) VALUES ('a', 'b', gen_random_uuid(), '{}')`,
		`CREATE TABLE public.mine (a int)`, `CREATE TEMP TABLE mine (a int)`, `CREATE SCHEMA mine`,
		`SELECT public.make_part_acks_partition('part_acks_209901', gen_random_uuid(), gen_random_uuid())`)
	forbidden("service", `CREATE TABLE mine (a int)`, `DROP TABLE uploads`, `TRUNCATE uploads`, `ALTER TABLE uploads DISABLE TRIGGER ALL`,
		`DROP VIEW report.upload_summary`, `CREATE SCHEMA mine`)
	forbidden("submit", `SELECT id FROM public.uploads`, `SELECT id FROM public.submissions`, `INSERT INTO public.submitters VALUES ('a', '*')`,
		`SELECT * FROM report.upload_summary`, `CREATE FUNCTION mediaferry.f() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
		`SELECT mediaferry.submit('acc', 'staging', 'k', tenant => 'films')`)
	forbidden("report", `SELECT mediaferry.submit('acc', 'staging', 'k')`, `SELECT * FROM mediaferry.upload(gen_random_uuid())`)
	execSQL(t, as("submit"), `SELECT state FROM mediaferry.upload(mediaferry.submit('acc', 'staging', 'film.mp4'))`)
	conn, err := pgx.Connect(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // nothing is pending
	rows, err := conn.Query(t.Context(), `SELECT format('SELECT * FROM report.%I', viewname) FROM pg_views WHERE schemaname = 'report'`)
	if err != nil {
		t.Fatal(err)
	}
	views, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(views) < 3 {
		t.Fatalf("%d views, %v", len(views), err)
	}
	for _, view := range views {
		if err := trySQL(t.Context(), as("report"), view); err != nil {
			t.Errorf("report, %s: %v", view, err)
		}
	}
	// What later migrations make is granted without running the file again.
	execSQL(t, as("migrate"), `CREATE TABLE later (a int); CREATE VIEW report.later AS SELECT a FROM later`)
	execSQL(t, as("service"), `INSERT INTO later VALUES (1)`)
	execSQL(t, as("report"), `SELECT a FROM report.later`)
	forbidden("report", `SELECT a FROM public.later`)
}

func natsUsers(t *testing.T, connection func(user string) config.NATS) {
	t.Helper()
	users := map[string]*nats.Conn{}
	for _, tc := range []struct {
		user, subject string
		publish       bool // else subscribe
		ok            bool
	}{
		{"worker", "mf.ack.acc.x", true, true},
		{"worker", "mf.submit.default", true, false},
		{"worker", "mf.job.default.digest.x", true, false},
		{"worker", "mf.event.default.completed", true, false},
		{"worker", "mf.cancel.x", true, false},
		{"worker", "$JS.API.STREAM.PURGE.JOBS", true, false},
		{"worker", "$JS.API.STREAM.DELETE.JOBS", true, false},
		{"worker", "$JS.API.STREAM.MSG.GET.SUBMIT", true, false},
		{"worker", "$JS.API.CONSUMER.MSG.NEXT.SUBMIT.intake", true, false},
		{"worker", "$JS.API.CONSUMER.DELETE.JOBS.default", true, false},
		{"worker", "_INBOX.dispatcher.x", true, false},
		{"worker", "mf.session", false, false},
		{"worker", "_INBOX.>", false, false},
		{"worker", "_INBOX.dispatcher.>", false, false},
		{"worker", "mf.submit.>", false, false},
		{"submitter", "mf.submit.default", true, true},
		{"submitter", "mf.submit.films", true, false},
		{"submitter", "mf.ack.acc.x", true, false},
		{"submitter", "mf.session", true, false},
		{"submitter", "$JS.API.STREAM.PURGE.JOBS", true, false},
		{"submitter", "mf.event.default.>", false, true},
		{"submitter", "mf.event.>", false, false},
		{"submitter", "mf.submit.>", false, false},
		{"submitter", "_INBOX.>", false, false},
		{"notifier", "mf.notify.staging", true, true},
		{"notifier", "mf.submit.default", true, false},
		{"notifier", "$JS.API.STREAM.PURGE.NOTIFY", true, false},
		{"notifier", "mf.event.>", false, false},
		{"notifier", "_INBOX.dispatcher.x", false, false},
		{"notifier", "_INBOX.>", false, false},
		{"notifier", "_INBOX.abc.*", false, true},
		{"dispatcher", "mf.notify.staging", true, true},
		{"dispatcher", "mf.submit.default", true, true}, // what was set aside is put back
		{"dispatcher", "mf.ack.acc.x", true, true},
		{"dispatcher", "_INBOX.worker.>", false, false},
	} {
		conn := users[tc.user]
		if conn == nil {
			cfg := connection(tc.user)
			var err error
			conn, err = nats.Connect(cfg.URL, nats.UserInfo(cfg.User, cfg.Password.Reveal()), nats.RootCAs(cfg.CAFile),
				nats.ClientCert(cfg.CertFile, cfg.KeyFile), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			users[tc.user] = conn
		}
		violation, err := "Subscription to %q", error(nil)
		if tc.publish {
			// Not a message that anything could be made of; where it is allowed it is
			// told what it lacks.
			violation, err = "Publish to %q", conn.Publish(tc.subject, nil)
		} else {
			_, err = conn.SubscribeSync(tc.subject)
		}
		if err := errors.Join(err, conn.Flush()); err != nil { // the answer comes before the flush's
			t.Fatal(err)
		}
		last := conn.LastError()
		refused := errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), fmt.Sprintf(violation, tc.subject))
		if refused == tc.ok {
			t.Errorf("%s, %s: refused %t (%v)", tc.user, fmt.Sprintf(violation, tc.subject), refused, last)
		}
	}
}

// The API goes on with a certificate that was replaced under it, and with the
// one before while the new one is half written.
func TestTheCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	ca := newAuthority(t)
	b.cfg.API.CertFile, b.cfg.API.KeyFile = ca.issue(t, "api")
	ready := make(chan string, 1)
	background(t, func(ctx context.Context) error {
		return service.RunDispatcher(ctx, b.cfg, b.known(), zaptest.NewLogger(t), func(addr string) { ready <- addr })
	})
	address := <-ready
	dial := func(cfg *tls.Config) (net.Conn, error) {
		return (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", address)
	}
	serial := func() *big.Int {
		t.Helper()
		conn, err := dial(&tls.Config{RootCAs: ca.pool(t), MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // nothing was sent
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber
	}
	first := serial()
	good, err := os.ReadFile(b.cfg.API.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	ca.write(t, "api.pem", good[:len(good)/2])
	time.Sleep(1100 * time.Millisecond) // the files are looked at once a second
	if got := serial(); got.Cmp(first) != 0 {
		t.Errorf("certificate %s while the file is half written, want %s", got, first)
	}
	ca.issue(t, "api")
	eventually(t, "the new certificate is in use", func() bool { return serial().Cmp(first) != 0 })
	if _, err := dial(&tls.Config{RootCAs: ca.pool(t), MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is taken")
	}
}
