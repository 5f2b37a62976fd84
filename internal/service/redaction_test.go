package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"mediaferry/client"
	"mediaferry/internal/access"
	"mediaferry/internal/config"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/sealing"
	"mediaferry/internal/service"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// secrets are what must not be seen, by what they are.
type secrets struct {
	mu  sync.Mutex
	all map[string]string // value to name
}

func (s *secrets) add(name, value string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(value) >= 12 { // shorter ones are found anywhere
		s.all[value] = name
	}
	return value
}

// seen names the secrets that the text shows, in any of the forms that text takes.
func (s *secrets) seen(text string) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for value, name := range s.all {
		quoted, _ := json.Marshal(value)
		for _, form := range []string{
			value, url.QueryEscape(value), url.PathEscape(value), strings.Trim(string(quoted), `"`), fmt.Sprintf("%+q", value),
			base64.StdEncoding.EncodeToString([]byte(value)), hex.EncodeToString([]byte(value)),
		} {
			if strings.Contains(text, form) {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// issued matches what platforms hand out in their answers.
var issued = regexp.MustCompile(`(?i)["<]([a-z-]*(?:token|secret|secretkey|authorization|signature|confirmkey)[a-z-]*)[">]\s*:?\s*"?([^"<]{12,})["<]`)

// front puts a proxy before a platform that takes down what it is shown and
// what it hands out.
func (s *secrets) front(t *testing.T, name string, platform http.Handler) string {
	t.Helper()
	inside, err := upstreams.Serve(t.Context(), "", platform)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			s.add(name+": Authorization", r.In.Header.Get("Authorization"))
			for key, values := range r.In.URL.Query() {
				if regexp.MustCompile(`(?i)signature|token|secret`).MatchString(key) {
					s.add(name+": query "+key, values[0])
				}
			}
		},
		ModifyResponse: func(res *http.Response) error {
			body, err := io.ReadAll(res.Body)
			if err != nil {
				return err
			}
			_ = res.Body.Close()
			res.Body = io.NopCloser(bytes.NewReader(body))
			for _, m := range issued.FindAllStringSubmatch(string(body), -1) {
				s.add(name+": "+m[1], m[2])
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		Transport:    transport,
	})
	t.Cleanup(func() {
		proxy.Close()
		transport.CloseIdleConnections()
		if err := inside.Close(); err != nil {
			t.Error(err)
		}
	})
	return proxy.URL
}

// notes keep what was logged, told or sent, with where.
type notes struct {
	mu   sync.Mutex
	text map[string]*strings.Builder
}

func (n *notes) write(where, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.text == nil {
		n.text = map[string]*strings.Builder{}
	}
	if n.text[where] == nil {
		n.text[where] = &strings.Builder{}
	}
	n.text[where].WriteString(text + "\n")
}

func (n *notes) logger(where string) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(noteWriter{n, where}), zapcore.DebugLevel), zap.AddCaller())
}

type noteWriter struct {
	notes *notes
	where string
}

func (w noteWriter) Write(p []byte) (int, error) {
	w.notes.write(w.where, string(p))
	return len(p), nil
}

// A pipeline to every platform, with failures of all sorts and logs at their
// most verbose, and then a search for every secret in whatever it left.
func TestNoSecretIsSeen(t *testing.T) {
	t.Parallel()
	hidden := &secrets{all: map[string]string{}}
	said := &notes{}
	odd := func(name string) string { return hidden.add(name, `s3cr3t "`+name+`" +/%=&<ö>'\`) }
	b := setup(t, limits())

	// A NATS server that lets us listen to everything.
	natsPassword := hidden.add("NATS password", `s3cr3t-n@ts/pass word"`)
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Username: "ferry", Password: natsPassword,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(testPatience) {
		t.Fatal("NATS is not ready")
	}
	b.cfg.NATS = config.NATS{URL: "nats://" + s.Addr().String(), User: "ferry", Password: providers.Secret(natsPassword)}
	listener, err := nats.Connect(b.cfg.NATS.URL, nats.UserInfo("ferry", natsPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if _, err := listener.Subscribe(">", func(msg *nats.Msg) {
		said.write("NATS", fmt.Sprintf("%s %v %s", msg.Subject, msg.Header, msg.Data))
	}); err != nil {
		t.Fatal(err)
	}

	dsn, err := url.Parse(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if password, ok := dsn.User.Password(); ok {
		hidden.add("Postgres password", password)
	}
	hidden.add("staging key", b.cfg.Staging.SecretKey.Reveal())
	hidden.add("seal key", b.cfg.SealKey.Reveal())
	b.cfg.OldSealKeys = providers.Secret(hidden.add("old seal key", sealing.NewKey()))

	vod := upstreams.NewVOD(upstreams.VODConfig{Keys: map[string]string{"ugc-id": odd("ugc")}, Dir: t.TempDir()})
	cos := upstreams.NewVODApply(upstreams.VODApplyConfig{Keys: map[string]string{"cos-id": odd("cos")}, Dir: t.TempDir()})
	cdn := upstreams.NewWCS(upstreams.WCSConfig{Keys: map[string]string{"cdn-id": odd("cdn")}, Dir: t.TempDir()})
	smh := upstreams.NewSMH(upstreams.SMHConfig{Libraries: map[string]string{"smh1": odd("smh")}, Dir: t.TempDir()})
	urls := map[string]string{}
	for name, handler := range map[string]http.Handler{"vod": vod, "cos": cos, "cdn": cdn, "smh": smh} {
		urls[name] = hidden.front(t, name, handler)
	}
	for _, platform := range []interface{ AddFaults(...upstreams.Fault) }{vod, cos.Storage(), cdn, smh} {
		platform.AddFaults(upstreams.Fault{From: 2, Times: 1, Status: 503}, upstreams.Fault{From: 3, Times: 1, Reset: true},
			upstreams.Fault{From: 5, Times: 1, Status: 500, Apply: true})
	}
	account := func(name, provider, endpoint string, settings, secret map[string]string) config.Account {
		a := config.Account{
			Name: name, Tenant: "default", Provider: provider, Pool: "default", Window: 64 * mib,
			Settings: map[string]string{"endpoint": endpoint}, Secrets: map[string]providers.Secret{},
			AllowNetworks: []string{"127.0.0.0/8"},
		}
		maps.Copy(a.Settings, settings)
		for key, value := range secret {
			a.Secrets[key] = providers.Secret(value)
		}
		return a
	}
	type m = map[string]string
	s3 := b.s3.Config()
	b.cfg.Accounts = []config.Account{
		account("ugc", "tencentugc", urls["vod"], nil, m{"secret_id": "ugc-id", "secret_key": odd("ugc")}),
		account("cos", "tencentcos", urls["cos"], m{"cos_endpoint": urls["cos"]}, m{"secret_id": "cos-id", "secret_key": odd("cos")}),
		account("cdn", "cdnetworks", urls["cdn"], nil, m{"access_key": "cdn-id", "secret_key": odd("cdn")}),
		account("smh", "tencentsmh", urls["smh"], m{"library_id": "smh1"}, m{"library_secret": odd("smh")}),
		account("s3", "s3", s3.Endpoint, m{"bucket": "staging", "region": "us-east-1", "path_style": "true"},
			m{"access_key": s3.AccessKey.Reveal(), "secret_key": s3.SecretKey.Reveal()}),
	}
	good := len(b.cfg.Accounts)
	// The same with secrets that the platforms refuse.
	for _, a := range b.cfg.Accounts[:good] {
		a.Name = "bad-" + a.Name
		wrong := map[string]providers.Secret{}
		for key, value := range a.Secrets {
			wrong[key] = value
			if strings.HasPrefix(key, "secret_key") || key == "library_secret" {
				wrong[key] = providers.Secret(odd("wrong secret of " + a.Name))
			}
		}
		a.Secrets = wrong
		b.cfg.Accounts = append(b.cfg.Accounts, a)
	}

	// Starts that fail say why, and no more than that.
	attempt := func(what string, change func(*config.Dispatcher)) {
		cfg := b.cfg
		change(&cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := service.RunDispatcher(ctx, cfg, service.Providers(), said.logger("log of a start with "+what), nil)
		said.write("error of a start with "+what, fmt.Sprintf("%v %+v %#v", err, err, err))
	}
	attempt("a wrong staging key", func(c *config.Dispatcher) { c.Staging.SecretKey = providers.Secret(odd("wrong staging key")) })
	attempt("a wrong NATS password", func(c *config.Dispatcher) { c.NATS.Password = providers.Secret(odd("wrong NATS password")) })
	attempt("an address of Postgres that is none", func(c *config.Dispatcher) {
		c.Postgres.DSN = providers.Secret("postgres://u:" + hidden.add("broken DSN", "s3cr3t-br0ken-dsn") + "@:x:y/db")
	})
	attempt("a Postgres that is not there", func(c *config.Dispatcher) {
		c.Postgres.DSN = providers.Secret("postgres://u:" + hidden.add("unused DSN", "s3cr3t-unused-dsn") + "@127.0.0.1:1/db")
	})
	attempt("a wrong seal key", func(c *config.Dispatcher) {
		c.SealKey = providers.Secret(hidden.add("wrong seal key", "s3cr3t-seal-key-that-is-none"))
	})

	b.cfg.API.Auth = config.AuthToken
	ready := make(chan string, 1)
	stop := background(t, func(ctx context.Context) error {
		return service.RunDispatcher(ctx, b.cfg, service.Providers(), said.logger("dispatcher's log"), func(addr string) { ready <- addr })
	})
	worker := config.Worker{ID: "w1", Pool: "default", Slots: 4, NATS: b.cfg.NATS, Staging: b.cfg.Staging, StopGrace: time.Second}
	stopWorker := background(t, func(ctx context.Context) error {
		return service.RunWorker(ctx, worker, service.Providers(), said.logger("worker's log"))
	})
	base := "http://" + <-ready
	store, err := postgres.Open(t.Context(), b.dsn, 1, said.logger("another store's log"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	token, text, hash, err := access.New(access.Token{Name: "all", Scopes: []access.Scope{access.Admin}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	hidden.add("API token", text)
	if err := store.AddToken(t.Context(), token, hash); err != nil {
		t.Fatal(err)
	}
	if b.api, err = client.New(base, "default", client.WithToken(text)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.api.Close)
	stranger, err := client.New(base, "default", client.WithToken(hidden.add("unknown API token", "mf_s3cr3t-that-nobody-knows")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Close)
	_, err = stranger.Workers(t.Context())
	said.write("answer to a stranger", fmt.Sprint(err))

	b.put(t, "film.mp4", 5*mib)
	ended := map[string]string{}
	var ids []string
	for _, a := range b.cfg.Accounts {
		u, _, err := b.api.Submit(t.Context(), client.Submission{
			Account: a.Name, Source: client.Source{Bucket: "staging", Key: "film.mp4"}, Name: "copy-" + a.Name + ".mp4",
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, u.ID)
	}
	for i, a := range b.cfg.Accounts {
		ended[a.Name] = b.wait(t, ids[i]).State
	}
	for i, a := range b.cfg.Accounts {
		want := uploads.Completed
		if i >= good {
			want = uploads.Failed
		}
		if ended[a.Name] != string(want) {
			t.Errorf("%s: %s, want %s", a.Name, ended[a.Name], want)
		}
	}
	paths := []string{"/v1/uploads", "/v1/accounts", "/v1/workers", "/v1/tokens"}
	for _, id := range ids {
		paths = append(paths, "/v1/uploads/"+id)
	}
	for _, path := range paths {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		req.Header.Set("Authorization", "Bearer "+text)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		said.write("answer to GET "+path, fmt.Sprint(res.Header)+string(body))
	}
	said.write("settings printed", fmt.Sprintf("%v %+v %#v", b.cfg, b.cfg, b.cfg))
	readRecord(t, b.dsn, said)
	readStreams(t, listener, said)
	stopWorker()
	stop()

	listener.Close()
	said.mu.Lock() // a message may still be on its way
	defer said.mu.Unlock()
	if n := len(hidden.all); n < 40 {
		t.Errorf("only %d secrets were taken down", n)
	}
	for _, form := range []string{"a=" + url.QueryEscape(odd("ugc")), fmt.Sprintf(`{"a":%q}`, text), "\\x" + hex.EncodeToString([]byte(text))} {
		if len(hidden.seen(form)) != 1 {
			t.Errorf("a secret is not found in %s", form)
		}
	}
	for where, text := range said.text {
		for _, name := range hidden.seen(text.String()) {
			t.Errorf("%s shows: %s", where, name)
		}
	}
	for _, where := range []string{"dispatcher's log", "worker's log", "NATS", "table uploads", "table part_failures", "stream EVENTS"} {
		if said.text[where] == nil {
			t.Errorf("nothing was heard of: %s", where)
		}
	}
	t.Logf("%d secrets, %d places", len(hidden.all), len(said.text))
}

// readRecord takes down every column of every row.
func readRecord(t *testing.T, dsn string, said *notes) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // read only
	list := func(sql string) []string {
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		out, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, table := range list(`SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'`) {
		for _, row := range list(`SELECT t::text FROM ` + pgx.Identifier{table}.Sanitize() + ` t`) {
			said.write("table "+table, row+" "+strings.ReplaceAll(row, `""`, `"`))
		}
	}
}

// readStreams takes down every message that is kept.
func readStreams(t *testing.T, conn *nats.Conn, said *notes) {
	t.Helper()
	for _, stream := range []string{"JOBS", "ACKS", "SUBMIT", "EVENTS"} {
		for seq := uint64(1); seq < 10_000; seq++ {
			reply, err := conn.Request("$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">"}`, seq), testPatience)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Message *struct {
					Seq     uint64
					Subject string
					Data    []byte
					Hdrs    []byte
				}
			}
			if err := json.Unmarshal(reply.Data, &got); err != nil || got.Message == nil {
				break
			}
			seq = got.Message.Seq
			said.write("stream "+stream, fmt.Sprintf("%s %s %s", got.Message.Subject, got.Message.Hdrs, got.Message.Data))
		}
	}
}
