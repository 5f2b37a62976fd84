package jobs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap/zaptest"
)

// An nkey lets in, another one does not.
func TestLoginByNKey(t *testing.T) {
	t.Parallel()
	seedFile := func() (public, path string) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		if public, err = pair.PublicKey(); err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), "user.nk")
		if err := os.WriteFile(path, seed, 0o600); err != nil {
			t.Fatal(err)
		}
		return public, path
	}
	public, path := seedFile()
	_, stranger := seedFile()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Nkeys: []*server.NkeyUser{{Nkey: public}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS is not ready")
	}
	for key, want := range map[string]bool{path: true, stranger: false} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if !want {
			cancel() // it would try for as long as it may
			ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		}
		conn, err := Connect(ctx, Config{URL: s.ClientURL(), Name: "test", NKeyFile: key}, zaptest.NewLogger(t))
		cancel()
		if (err == nil) != want {
			t.Errorf("let in %v: %v", err == nil, err)
		}
		if conn != nil {
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// A file that cannot be used is told at once, not tried again for ever.
func TestFilesOfTheLogin(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	noPEM := filepath.Join(t.TempDir(), "no.pem")
	if err := os.WriteFile(noPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for field, cfg := range map[string]Config{
		"nats.ca_file: open":                {CAFile: none},
		"nats.ca_file: " + noPEM:            {CAFile: noPEM},
		"nats.cert_file and nats.key_file:": {CertFile: noPEM, KeyFile: noPEM},
		"nats.creds_file:":                  {CredsFile: none},
		"nats.nkey_file:":                   {NKeyFile: none},
	} {
		cfg.URL = "nats://127.0.0.1:1"
		if _, err := Connect(t.Context(), cfg, zaptest.NewLogger(t)); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%v, want it to begin with %s", err, field)
		}
	}
}
