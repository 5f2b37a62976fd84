package config

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mediaferry/internal/uploads"
)

// Whatever a file and the environment hold: the settings are read, or each
// problem names its field and says what is wrong, and no secret is repeated.
func FuzzLoad(f *testing.F) {
	sample, err := os.ReadFile("testdata/dispatcher.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sample), "")
	f.Add("accounts:\n  - name: a\n    window: 1EiB\n    secrets: {k: env:NONE}\n", "MEDIAFERRY_NATS_URL=nats://u:p@h:1\nMEDIAFERRY_LEASE=-1s")
	f.Add("accounts: {}\nnats: []\nstop_grace: 99999999999999h\n", "MEDIAFERRY_SLOTS=007")
	f.Add("a: &a [*a]\n", "MEDIAFERRY_=x\nMEDIAFERRY_STAGING_ENDPOINT=%zz")
	f.Add("{\"nats\": {\"url\": 1e309}}", "")
	f.Add("? [x]\n: y\n1: 2\nnull: 3\n", "MEDIAFERRY_POSTGRES_DSN=\x00")
	const secret = "f00dfeedf00dfeed-secret"
	f.Fuzz(func(t *testing.T, text, environ string) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		env := append(strings.Split(environ, "\n"), "MEDIAFERRY_SEAL_KEY="+secret, "MEDIAFERRY_STAGING_SECRET_KEY="+secret)
		_, err := LoadDispatcher([]string{"--config", path}, env, io.Discard, rules())
		checkProblems(t, err, secret)
		_, err = LoadWorker([]string{"--config", path}, env, io.Discard)
		checkProblems(t, err, secret)
	})
}

func checkProblems(t *testing.T, err error, secret string) {
	t.Helper()
	if err == nil {
		return
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("a secret is repeated: %v", err)
	}
	problems := []error{err}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		problems = all.Unwrap()
	}
	for _, p := range problems {
		f, ok := errors.AsType[*uploads.FieldError](p)
		if !ok || f.Field == "" || f.Detail == "" {
			t.Errorf("%T names no field and problem: %v", p, p)
		}
	}
}
