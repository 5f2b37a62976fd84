// Package compose_test brings deploy/compose.yaml up, moves a file through it
// while workers come and go, and takes it down again with all that it kept.
// `make test-compose` says what it needs, and runs it.
package compose_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mediaferry/client"
	"mediaferry/internal/providers"
	"mediaferry/internal/staging"
	"mediaferry/internal/uploads"
)

// composeEnv is the environment variable with the program that is Docker Compose.
const composeEnv = "MEDIAFERRY_TEST_COMPOSE"

const (
	mib      = 1 << 20
	patience = 2 * time.Minute       // for one step
	pause    = 50 * time.Millisecond // between looks
	fileSize = 512 * mib
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stack is compose.yaml under a project name of the test's own.
type stack struct {
	command []string
	env     []string // added to ours
}

// up starts the stack, and takes it down when the test ends.
func up(t *testing.T, env []string, options ...string) *stack {
	t.Helper()
	program := os.Getenv(composeEnv)
	if program == "" {
		t.Skip(composeEnv + " is not set; make test-compose sets it")
	}
	s := &stack{env: env}
	s.command = []string{
		program, "--project-name", "mf-test-" + strings.ToLower(rand.Text()[:8]), "--env-file", "../../deploy/local.env",
		"--file", "../../deploy/compose.yaml", "--file", "testdata/one-slot.yaml",
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if t.Failed() {
			logs, err := s.output(ctx, s.command, "logs", "--tail=30", "--no-color", "dispatcher", "worker")
			t.Logf("%s (%v)", logs, err)
		}
		if _, err := s.output(ctx, s.command, "--profile", "*", "down", "--volumes", "--timeout", "5"); err != nil {
			t.Error(err)
		}
	})
	s.run(t, append([]string{"up", "--detach", "--wait", "--wait-timeout", "100"}, options...)...)
	return s
}

// output runs a command and returns what it prints.
func (s *stack) output(ctx context.Context, command []string, args ...string) (string, error) {
	args = append(command[1:len(command):len(command)], args...)
	cmd := exec.CommandContext(ctx, command[0], args...)
	cmd.Env = append(os.Environ(), s.env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, problems.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (s *stack) do(t *testing.T, command []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := s.output(ctx, command, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *stack) run(t *testing.T, args ...string) string {
	t.Helper()
	return s.do(t, s.command, args...)
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	return (&stack{}).do(t, []string{"docker"}, args...)
}

// addresses returns where the containers of a service are found from outside.
func (s *stack) addresses(t *testing.T, service, port string, containers int) []string {
	t.Helper()
	var all []string
	for i := range containers {
		all = append(all, s.run(t, "port", "--index", fmt.Sprint(i+1), service, port))
	}
	return all
}

// token makes a token for the API in the database.
func (s *stack) token(t *testing.T) string {
	t.Helper()
	return s.run(t, "run", "--rm", "--no-TTY", "mediaferry", "tokens", "create",
		"--dsn", "env:MEDIAFERRY_POSTGRES_DSN", "--name", "test", "--scope", "admin", "--all-tenants")
}

var id = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// push has the stack's own command line put a file into staging and submit it.
func (s *stack) push(t *testing.T, file string) (upload string) {
	t.Helper()
	out := s.run(t, "run", "--rm", "--no-TTY", "--volume", file+":/film.mp4:ro", "--env", "MEDIAFERRY_TOKEN", "mediaferry",
		"push", "/film.mp4", "--to", "archive")
	if upload = id.FindString(out); upload == "" {
		t.Fatalf("push printed no id: %q", out)
	}
	return upload
}

// film makes a file that everybody may read, and returns its SHA-256.
func film(t *testing.T) (file, digest string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "film.mp4")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, sum), rand.Reader, fileSize)
	if err = errorOr(err, f.Chmod(0o644)); errorOr(err, f.Close()) != nil {
		t.Fatal(err)
	}
	return file, hex.EncodeToString(sum.Sum(nil))
}

func errorOr(err, next error) error {
	if err != nil {
		return err
	}
	return next
}

// sum returns the SHA-256 of what the destination holds.
func sum(t *testing.T, endpoint, key string) string {
	t.Helper()
	store, err := staging.New(staging.Config{
		Endpoint: "http://" + endpoint, AccessKey: "mediaferry", SecretKey: providers.Secret("trial-only"), PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	obj, err := store.Stat(t.Context(), "archive", key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := store.Open(t.Context(), obj, 0, obj.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, body); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// eventually looks until it is so.
func eventually(t *testing.T, what string, so func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		ok, err := so()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s (%v)", patience, what, err)
		case <-ticker.C:
		}
	}
}

// freePorts returns n ports in a row on which nobody listens.
func freePorts(t *testing.T, n int) (first, last int) {
	t.Helper()
	for range 100 {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		first = l.Addr().(*net.TCPAddr).Port
		all := []net.Listener{l}
		for i := 1; i < n; i++ {
			if l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", first+i)); err != nil {
				break
			}
			all = append(all, l)
		}
		for _, l := range all {
			_ = l.Close()
		}
		if len(all) == n {
			return first, first + n - 1
		}
	}
	t.Fatal("there are no free ports in a row")
	return 0, 0
}

// A worker that holds parts of an upload is killed after three others have come.
func TestWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	first, last := freePorts(t, 3)
	s := up(t, []string{
		fmt.Sprintf("MEDIAFERRY_API_PORTS=%d-%d", first, last-1), fmt.Sprintf("STAGING_PORT=%d", last),
	}, "--scale", "worker=1")

	token := s.token(t)
	var apis []*client.Client
	for _, address := range s.addresses(t, "dispatcher", "8080", 2) {
		api, err := client.New("http://"+address, "default", client.WithToken(token))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		apis = append(apis, api)
	}
	file, want := film(t)
	s.env = append(s.env, "MEDIAFERRY_TOKEN="+token)
	upload := s.push(t, file)
	api := apis[0]
	show := func() client.Upload {
		u, err := api.Show(t.Context(), upload)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	eventually(t, "the only worker has brought a part", func() (bool, error) { return show().AckedParts > 0, nil })
	// It stops in its tracks: what it has in hand stays there until it is killed.
	victim := s.run(t, "ps", "--quiet", "worker")
	docker(t, "kill", "--signal", "STOP", victim)
	before := show()
	if before.State != string(uploads.Uploading) {
		t.Fatalf("the upload is %s already: the file is too small for this machine", before.State)
	}

	s.run(t, "up", "--detach", "--no-recreate", "--no-deps", "--scale", "worker=4", "worker")
	eventually(t, "four workers are known", func() (bool, error) {
		workers, err := api.Workers(t.Context())
		return len(workers) == 4, err
	})
	docker(t, "kill", victim)
	eventually(t, "the upload has ended", func() (bool, error) {
		u, err := apis[1].Show(t.Context(), upload)
		return u.State == string(uploads.Completed) || u.State == string(uploads.Failed), err
	})
	u := show()
	if u.State != string(uploads.Completed) || u.Asset == nil {
		t.Fatalf("the upload is %s: %+v", u.State, u.Failure)
	}
	_, key, _ := strings.Cut(u.Asset.ID, "/")
	if got := sum(t, s.addresses(t, "s3", "7070", 1)[0], key); got != want {
		t.Errorf("the asset has SHA-256 %s, want %s", got, want)
	}
	if docker(t, "inspect", "--format", "{{.State.Running}}", victim) != "false" {
		t.Error("the worker that was killed runs")
	}
	t.Logf("%d of %d parts were there when the worker was stopped", before.AckedParts, before.PartCount)
}
