package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// sealKey is 32 bytes in hex.
const sealKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func rules() AccountRules {
	return AccountRules{
		Providers: []string{"s3", "tencentvod"},
		Check: func(provider string, a providers.Account) error {
			if provider != "s3" {
				return nil
			}
			var errs []error
			for _, setting := range []string{"endpoint", "bucket"} {
				if a.Settings[setting] == "" {
					errs = append(errs, &uploads.FieldError{Field: "settings." + setting, Detail: "is missing; give it"})
				}
			}
			return errors.Join(errs...)
		},
	}
}

// write puts text, with SECRETFILE replaced by the path of a file that holds
// "from-file", into a file and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	path := filepath.Join(dir, "config.yaml")
	for name, content := range map[string]string{secret: "from-file\n", path: strings.ReplaceAll(text, "SECRETFILE", secret)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func sample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/dispatcher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func environ(more ...string) []string {
	return append([]string{"LEDGER_URL=postgres://user:dsn-hidden@db/ferry", "SEAL=" + sealKey}, more...)
}

// fieldsOf lists the fields that err is about.
func fieldsOf(err error) []string {
	var list []string
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			field, _, _ := strings.Cut(line, ": ")
			list = append(list, field)
		}
	}
	return list
}

func TestDispatcher(t *testing.T) {
	t.Parallel()
	path := write(t, sample(t))
	cfg, err := LoadDispatcher([]string{"--config", path}, environ(), nil, rules())
	if err != nil {
		t.Fatal(err)
	}
	want := Dispatcher{
		NATS:           NATS{URL: "nats://10.0.0.5:4222", User: "mediaferry", Password: "from-file"},
		StreamReplicas: 1,
		Postgres:       Postgres{DSN: "postgres://user:dsn-hidden@db/ferry", MaxConns: 20},
		Staging: Staging{
			Endpoint: "http://10.0.0.7:9000", Region: "us-east-1", AccessKey: "reader", SecretKey: "s3cr3t-literal", PathStyle: true,
		},
		API:           API{Listen: "127.0.0.1:8080", Auth: AuthToken},
		Log:           Log{Level: "info", Format: "json"},
		Tracing:       Tracing{Sample: 1},
		SealKey:       sealKey,
		SweepInterval: 2 * time.Second,
		StopGrace:     20 * time.Second,
		Accounts: []Account{{
			Name: "archive", Tenant: "default", Provider: "s3", Pool: "default", Window: 256 << 20, SourceCheck: "known",
			Settings: map[string]string{"endpoint": "https://s3.example.com", "bucket": "media"},
			Secrets:  map[string]providers.Secret{"access_key": "AK-hidden", "secret_key": "from-file"},
		}, {
			Name: "vod", Tenant: "films", Provider: "tencentvod", Pool: "far", Window: 1 << 30, SourceCheck: "pass",
		}},
		Warnings: []string{
			path + " holds secrets in clear (accounts[0].secrets.access_key, staging.secret_key); give env:NAME or file:/path in their place",
		},
	}
	reveal := cmp.Transformer("Reveal", func(s providers.Secret) string { return s.Reveal() })
	if diff := cmp.Diff(want, cfg, reveal); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// The samples of the README must be taken as they stand.
func TestSamplesOfTheReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	secrets := t.TempDir()
	for name, text := range map[string]string{"staging": "s", "seal": sealKey} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	samples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(samples) != 2 {
		t.Fatalf("%d samples", len(samples))
	}
	args := func(i int) []string {
		return []string{"--config", write(t, strings.ReplaceAll(samples[i][1], "/run/secrets", secrets))}
	}
	env := []string{"NATS_PASSWORD=a", "DATABASE_URL=b", "ARCHIVE_KEY=c", "ARCHIVE_SECRET=d"}
	if _, err := LoadDispatcher(args(0), env, nil, rules()); err != nil {
		t.Errorf("dispatcher: %v", err)
	}
	if _, err := LoadWorker(args(1), env, nil); err != nil {
		t.Errorf("worker: %v", err)
	}
}

func TestPrintedSettingsHoldNoSecret(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, err := LoadDispatcher([]string{"--print-config", "--config", write(t, sample(t))}, environ(), &out, rules())
	if !errors.Is(err, ErrPrinted) {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/printed.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), out.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	if found := regexp.MustCompile("hidden|s3cr3t|from-file|0001020").FindString(out.String()); found != "" {
		t.Errorf("%q is printed", found)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	path := write(t, sample(t))
	cfg, err := LoadDispatcher(
		[]string{"--config=" + path, "--api.listen=:7070", "--staging.path_style=false"},
		environ(
			"MEDIAFERRY_API_LISTEN=:6060", "MEDIAFERRY_POSTGRES_MAX_CONNS=32", "MEDIAFERRY_STOP_GRACE=1m",
			"MEDIAFERRY_NATS_PASSWORD=env:NATSPW", "NATSPW=referred",
			"MEDIAFERRY_DISPATCHER_SERVICE_HOST=10.1.1.1", // not ours: the orchestrator's
		), nil, rules())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.API.Listen != ":7070" || cfg.Staging.PathStyle || cfg.Postgres.MaxConns != 32 || cfg.StopGrace != time.Minute ||
		cfg.NATS.Password.Reveal() != "referred" {
		t.Errorf("got %+v", cfg)
	}
}

// Whatever is wrong is told at once, in lines of "field: problem; remedy".
func TestAllProblemsTogether(t *testing.T) {
	t.Parallel()
	path := write(t, `
nats: {url: "nats://u:pw-hidden@h", token: a, creds_file: b}
postgres: {max_conns: 2, dns: "postgres://typo"}
staging: {endpoint: "ftp://x", secret_key: 12345, region: ""}
api: {listen: "8080"}
log: {level: loud, format: xml}
seal_key: "file:/does/not/exist"
sweep_interval: 5
stop_grace: soon
colour: red
accounts:
  - {name: "a b", provider: s4, window: 1MiB}
  - {name: main, provider: s3, windw: 64MiB}
  - {name: main, provider: tencentvod, window: big, secrets: {id: "env:NOT_SET"}}
`)
	_, err := LoadDispatcher([]string{"--config", path}, nil, nil, rules())
	want := []string{
		"accounts[1].windw", "colour", "postgres.dns",
		"seal_key", "staging.secret_key", "stop_grace", "accounts[2].window", "accounts[2].secrets[id]", "sweep_interval",
		"nats.url", "nats", "postgres.dsn", "postgres.max_conns",
		"staging.endpoint", "staging.region", "api.listen", "log.level", "log.format",
		"accounts[0].name", "accounts[0].window", "accounts[0].provider",
		"accounts[1] (main).settings.endpoint", "accounts[1] (main).settings.bucket",
		"accounts[2].name",
	}
	got := fieldsOf(err)
	sorted := cmp.Transformer("sorted", func(list []string) map[string]bool {
		set := map[string]bool{}
		for _, s := range list {
			set[s] = true
		}
		return set
	})
	if diff := cmp.Diff(want, got, sorted); diff != "" || len(got) != len(want) {
		t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !strings.Contains(line, "; ") && !strings.Contains(line, "may only have") {
			t.Errorf("no remedy in %q", line)
		}
	}
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("a secret is told: %v", err)
	}
}

// Credentials in a field that is no secret are refused, and so never printed.
func TestCredentialsInURLAreNotPrinted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, err := LoadWorker([]string{"--print-config", "--staging.endpoint=http://s3", "--nats.url=nats://u:hidden@h"}, nil, &out)
	if diff := cmp.Diff([]string{"nats.url"}, fieldsOf(err)); diff != "" || out.Len() > 0 || strings.Contains(err.Error(), "hidden") {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}

func TestUnusableInput(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args  []string
		field string
	}{
		"no file":       {[]string{"--config", "/does/not/exist"}, "config"},
		"not a mapping": {[]string{"--config", write(t, "hunter2-hidden")}, "config"},
		"bad YAML":      {[]string{"--config", write(t, "seal_key: [hidden")}, "config"},
		"unknown flag":  {[]string{"--colour"}, "flags"},
		"argument":      {[]string{"start"}, "flags"},
		"secret flag":   {[]string{"--seal_key=x"}, "flags"},
	} {
		_, err := LoadDispatcher(tc.args, nil, nil, rules())
		if diff := cmp.Diff([]string{tc.field}, fieldsOf(err)); diff != "" || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHelpListsEverySetting(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := LoadWorker([]string{"--help"}, nil, &out); !errors.Is(err, ErrPrinted) {
		t.Fatal(err)
	}
	for _, want := range []string{"--slots", "MEDIAFERRY_SLOTS", "--nats.url", "MEDIAFERRY_STAGING_SECRET_KEY (staging.secret_key)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "--staging.secret_key") {
		t.Errorf("a secret has a flag:\n%s", out.String())
	}
}

func TestWorker(t *testing.T) {
	t.Parallel()
	cfg, err := LoadWorker([]string{"--staging.endpoint=http://s3:9000"}, []string{"MEDIAFERRY_SLOTS=4"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Slots != 4 || cfg.Pool != "default" || cfg.StopGrace != 20*time.Second || uploads.CheckIdent(cfg.ID) != nil {
		t.Errorf("got %+v", cfg)
	}
	_, err = LoadWorker([]string{"--slots=257", "--id=a.b"}, nil, nil)
	if diff := cmp.Diff([]string{"id", "slots", "staging.endpoint"}, fieldsOf(err)); diff != "" {
		t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
	}
}

// Who listens for others asks for tokens.
func TestTokensAreAskedFor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		listen, auth string
		ok           bool
	}{
		{"0.0.0.0:8080", "token", true},
		{"127.0.0.1:8080", "none", true},
		{"[::1]:8080", "none", true},
		{"localhost:8080", "none", true},
		{"0.0.0.0:8080", "none", false},
		{":8080", "none", false},
		{"[::]:8080", "none", false},
		{"10.0.0.1:8080", "none", false},
		{"127.0.0.1.example.com:8080", "none", false},
		{"127.0.0.1:8080", "no", false},
	} {
		_, err := LoadDispatcher([]string{"--config", write(t, sample(t)), "--api.listen=" + tc.listen, "--api.auth=" + tc.auth}, environ(), nil, rules())
		if tc.ok != (err == nil) || !tc.ok && !strings.HasPrefix(err.Error(), "api.auth: ") {
			t.Errorf("%s with %s: %v", tc.listen, tc.auth, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	open := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(open, []byte("from-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() []string {
		cfg, err := LoadWorker([]string{"--staging.endpoint=http://s3", "--config", write(t, "nats: {user: u, password: 'file:"+open+"'}")}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Warnings
	}
	if got := load(); len(got) != 0 {
		t.Errorf("warnings without a reason: %q", got)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := load(); len(got) != 1 || !strings.Contains(got[0], open+" can be read by everybody") || strings.Contains(got[0], "from-file") {
		t.Errorf("warnings for a file that all can read: %q", got)
	}
}

// Old keys are keys too.
func TestOldSealKeys(t *testing.T) {
	t.Parallel()
	args := []string{"--config", write(t, sample(t))}
	cfg, err := LoadDispatcher(args, environ("MEDIAFERRY_OLD_SEAL_KEYS="+sealKey+", "+sealKey), nil, rules())
	if err != nil || len(cfg.OldSealKeyTexts()) != 2 {
		t.Errorf("%d old keys, %v", len(cfg.OldSealKeyTexts()), err)
	}
	_, err = LoadDispatcher(args, environ("MEDIAFERRY_OLD_SEAL_KEYS="+sealKey+",hidden"), nil, rules())
	if diff := cmp.Diff([]string{"old_seal_keys"}, fieldsOf(err)); diff != "" || strings.Contains(err.Error(), "hidden") {
		t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
	}
}

func TestWorkerID(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"node-7.example.com":     "node-7-example-com-42",
		"":                       "-42",
		strings.Repeat("é", 100): strings.Repeat("-", 61) + "-42",
	} {
		got := workerID(host, 42)
		if got != want || uploads.CheckIdent(got) != nil {
			t.Errorf("workerID(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestByteSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ByteSize{
		"64MiB": 64 << 20, "64 mib": 64 << 20, "1GB": 1e9, "17": 17, "0": 0, "3B": 3, "1TiB": 1 << 40,
		"8388607TiB": 8388607 << 40,
	} {
		var got ByteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1MiB", "1.5GiB", "8388608TiB", "1 M", "99999999999999999999", "1MiB2"} {
		var got ByteSize
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

func FuzzByteSize(f *testing.F) {
	for _, text := range []string{"64MiB", "1 GB", "0", "9223372036854775807", "8388608TiB", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b, again ByteSize
		if b.UnmarshalText([]byte(text)) != nil {
			return
		}
		if b < 0 {
			t.Fatalf("%q is %d", text, b)
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Fatalf("%q is %d, printed as %s and read as %d, %v", text, b, b, again, err)
		}
	})
}

// Whatever the file holds, loading ends in settings or in problems.
func FuzzFile(f *testing.F) {
	text, err := os.ReadFile("testdata/dispatcher.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, text := range []string{
		"", "a", "nats: 1", "nats: [1, 2]", "accounts: {a: b}", "accounts: [1, [2]]", "nats.url: x", "1: {2: 3}",
		"accounts: [{settings: {1: 2}, secrets: [a]}]", "a: &a [*a]", "? [a]\n: b", "seal_key: {a: b}", "nats: null\naccounts: [null]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadDispatcher([]string{"--config", path}, environ(), nil, rules())
		if err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
	})
}

// --health changes no setting, and is none itself.
func TestAskHealth(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, ask := range []bool{false, true} {
		args := []string{"--config", write(t, sample(t))}
		if ask {
			args = append(args, "--health")
		}
		d, err := LoadDispatcher(args, environ(), &out, rules())
		if err != nil || d.AskHealth != ask {
			t.Errorf("dispatcher %v: asks %v, %v", args, d.AskHealth, err)
		}
		args[1] = write(t, "staging: {endpoint: http://s3}\nhealth: {listen: 127.0.0.1:8081}\n")
		w, err := LoadWorker(args, nil, &out)
		if err != nil || w.AskHealth != ask || w.Health.Listen != "127.0.0.1:8081" {
			t.Errorf("worker %v: %+v, %v", args, w, err)
		}
	}
}
