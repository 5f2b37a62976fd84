package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"mediaferry/client"
	"mediaferry/internal/access"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mediaferry": main})
}

// useCases has three accounts: main completes what it is given, bad fails it,
// and slow leaves it queued.
func useCases() *apitest.UseCases {
	return &apitest.UseCases{
		Names: []string{"main", "bad", "slow"},
		Objects: []uploads.Object{
			{Bucket: "inbox", Key: "one.mp4", ETag: "e1", Size: 3 << 20},
			{Bucket: "inbox", Key: "many/1.mp4", ETag: "e2", Size: 1 << 20},
			{Bucket: "inbox", Key: "many/2.mp4", ETag: "e3", Size: 1 << 20},
			{Bucket: "inbox", Key: "mixed/1.mp4", ETag: "e4", Size: 1 << 20},
			{Bucket: "inbox", Key: "mixed/bad\x01", ETag: "e5", Size: 1 << 20},
		},
		Workers: []uploads.WorkerStatus{
			{ID: "w-1", Pool: "default", Slots: 16, Busy: 3, BytesMoved: 1 << 30, Version: "v1.2.0", SeenAt: time.Now().Add(-2 * time.Minute)},
		},
		SetAside: []uploads.SetAside{
			{Number: 1, Stream: "ACKS", Subject: "mf.ack.a.b", Payload: []byte("{}"), Size: 2, Reason: "is no report", At: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)},
			{Number: 2, Stream: "SUBMIT", Subject: "mf.submit.news", Payload: []byte("x"), Size: 600_000, Reason: "is no submission", At: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)},
		},
		Links: []uploads.DigestLink{
			{Epoch: 1, Stage: uploads.StageStaging, Kind: "crc64nvme", Expected: "aa", ExpectedFrom: "bucket", Got: "bb", GotFrom: "worker", Compared: true},
			{Epoch: 2, Stage: uploads.StagePlatform, Note: "names none"},
			{Epoch: 2, Part: 1, Stage: uploads.StageTransit, Kind: "md5", Compared: true, Matched: true},
			{Epoch: 2, Part: 2, Stage: uploads.StageTransit, Compared: true, Note: "refused"},
			{Epoch: 2, Part: 2, Stage: uploads.StageTransit, Kind: "md5", Compared: true, Matched: true},
			{Epoch: 2, Part: 3, Stage: uploads.StageTransit, Note: "found"},
		},
		Answers: map[string]uploads.ReportRows{"moved": {
			Columns: []string{"hour", "account", "bytes", "share", "none"},
			Rows: [][]any{
				{time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC), "ma\tin", int64(1)<<53 + 1, 0.33333, nil},
				{time.Date(2026, 10, 2, 12, 0, 0, 0, time.UTC), "old", int64(1), 1.0, nil},
			},
		}},
		Accepted: func(u *uploads.Upload) {
			switch u.Account {
			case "main":
				u.State, u.FinishedAt = uploads.Completed, u.SubmittedAt.Add(1500*time.Millisecond)
				u.PartSize, u.PartCount, u.AckedParts, u.AckedBytes = 8<<20, 1, 1, u.Source.Size
				u.Asset = &uploads.Asset{ID: "asset-1", URL: "http://there/asset-1"}
			case "bad":
				u.State, u.FinishedAt = uploads.Failed, u.SubmittedAt
				u.Failure = &uploads.Failure{Cause: uploads.CauseRejected, Message: "the platform takes no cats"}
			}
		},
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		// Scripts run side by side, and some pause accounts: each has servers of its own.
		Setup: func(env *testscript.Env) error {
			url := apitest.Start(t, useCases())
			tokens := &apitest.Tokens{}
			_, admin := tokens.Make(t, "", access.Admin)
			guarded := useCases()
			guarded.Tokens = tokens
			// The race detector holds a program that succeeds for a second at its end otherwise.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("MEDIAFERRY_API_URL", url)
			env.Setenv("API_ADDRESS", strings.TrimPrefix(url, "http://"))
			env.Setenv("GUARDED_URL", apitest.Start(t, guarded))
			env.Setenv("ADMIN_TOKEN", admin)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "id": keepID, "keepbatch": keepBatch},
	})
}

// exits runs the program and checks its exit code: exits CODE args...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("mediaferry", args[1:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// keepBatch sets ID to that of the batch that the command before told of.
func keepBatch(ts *testscript.TestScript, _ bool, _ []string) {
	_, rest, _ := strings.Cut(ts.ReadFile("stderr"), "batch ")
	ts.Setenv("ID", strings.Fields(rest)[0])
}

// keepID sets ID to the first word that the command before printed.
func keepID(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("ID", strings.Fields(ts.ReadFile("stdout"))[0])
}

// memory is a staging store that the fake use cases know of.
type memory struct {
	uc    *apitest.UseCases
	mu    sync.Mutex
	got   map[string]string
	fail  error
	byURL bool // no credentials of staging are given
	then  func()
}

func (m *memory) Put(_ context.Context, bucket, key, contentType string, body io.Reader, size int64) (uploads.Object, error) {
	if m.fail != nil {
		return uploads.Object{}, m.fail
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return uploads.Object{}, err
	}
	m.mu.Lock()
	m.got[bucket+"/"+key+" "+contentType] = string(text)
	m.mu.Unlock()
	o := uploads.Object{Bucket: bucket, Key: key, ETag: "e", Size: size}
	m.uc.Put(o)
	if m.then != nil {
		m.then()
	}
	return o, nil
}

// pushFile runs push with staging in memory and DIR/film.mp4, a file of six bytes.
func pushFile(t *testing.T, store *memory, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	if store.got = map[string]string{}; store.uc == nil {
		store.uc = useCases()
	}
	env := map[string]string{
		"MEDIAFERRY_API_URL":            apitest.Start(t, store.uc),
		"MEDIAFERRY_STAGING_ENDPOINT":   "http://s3:9000",
		"MEDIAFERRY_STAGING_ACCESS_KEY": "reader",
		"MEDIAFERRY_STAGING_SECRET_KEY": "hidden",
	}
	if store.byURL {
		delete(env, "MEDIAFERRY_STAGING_ENDPOINT")
	}
	var out, progress strings.Builder
	a := &app{
		getenv: func(name string) string { return env[name] },
		stdout: &out, stderr: &progress, now: time.Now,
		staging: func(s stagingSettings) (putter, error) {
			if s.Endpoint != "http://s3:9000" || s.AccessKey != "reader" || s.SecretKey.Reveal() != "hidden" {
				t.Errorf("staging is reached with %+v", s)
			}
			return store, nil
		},
	}
	file := filepath.Join(t.TempDir(), "film.mp4")
	if err := os.WriteFile(file, []byte("sixsix"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "DIR", filepath.Dir(file))
	}
	cmd := a.command()
	cmd.SetArgs(append([]string{"push"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return out.String(), progress.String(), err
}

func TestPushFile(t *testing.T) {
	t.Parallel()
	store := &memory{}
	out, progress, err := pushFile(t, store, "DIR/film.mp4", "--to", "main", "--idempotency-key", "k", "--wait")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"staging/push/k/film.mp4 video/mp4": "sixsix"}
	if diff := cmp.Diff(want, store.got); diff != "" {
		t.Errorf("staged (-want +got):\n%s", diff)
	}
	if got := "completed  film.mp4 → main  asset asset-1  http://there/asset-1  (6 B in 1.5s)\n"; out != got {
		t.Errorf("printed %q, want %q", out, got)
	}
	if !strings.Contains(progress, "film.mp4: staging 100%  6 B of 6 B") || !strings.Contains(progress, "film.mp4 → main: completed") {
		t.Errorf("progress:\n%s", progress)
	}
}

// An account that is not there is found before the file goes anywhere.
func TestPushToNobody(t *testing.T) {
	t.Parallel()
	store := &memory{}
	_, _, err := pushFile(t, store, "DIR/film.mp4", "--to", "main,nobody")
	if exitCode(err) != exitUsage || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("%v", err)
	}
	if len(store.got) != 0 {
		t.Errorf("staged %v for an account that is not there", store.got)
	}
}

// Without a key of the user's, each push has a staging key of its own: another
// push of the name must not change an object that is still being read.
func TestPushFileTwice(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for range 2 {
		store := &memory{}
		if _, _, err := pushFile(t, store, "DIR/film.mp4", "--to", "main,slow"); err != nil {
			t.Fatal(err)
		}
		for key := range store.got {
			keys[key] = true
		}
	}
	if len(keys) != 2 {
		t.Errorf("staged as %v", keys)
	}
}

// A folder keeps the way to its files; hidden and empty ones are left out.
func TestPushFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.mp4": "aa", "sub/b.mov": "bbb", "sub/.c.mp4": "c", ".git/d.mp4": "d", "empty.mp4": ""} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "a.mp4"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := &memory{}
	out, progress, err := pushFile(t, store, dir, other, filepath.Join(dir, "s*", "*.mov"), "DIR/film.mp4", "--to", "main", "-o", "csv")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for key := range store.got {
		_, name, _ := strings.Cut(strings.ReplaceAll(key, " video/", " video "), "push/")
		got[path.Base(name)]++
	}
	want := map[string]int{"a.mp4 video mp4": 2, "b.mov video quicktime": 2, "film.mp4 video mp4": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("staged (-want +got):\n%s", diff)
	}
	if lines := strings.Count(out, "\n"); lines != 6 {
		t.Errorf("%d lines, want a header and five uploads:\n%s", lines, out)
	}
	for _, text := range []string{"empty.mp4 is empty", "total: 5 of 5 100%  19 B of 19 B"} {
		if !strings.Contains(progress, text) {
			t.Errorf("no %q in:\n%s", text, progress)
		}
	}
}

func TestStagingFails(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	_, _, err := pushFile(t, &memory{fail: full}, "DIR/film.mp4", "--to", "main")
	if !errors.Is(err, full) || exitCode(err) != exitFailed {
		t.Errorf("got %v, exit code %d", err, exitCode(err))
	}
}

// An interrupted wait says how to go on, and is a failure.
func TestInterruptedWait(t *testing.T) {
	t.Parallel()
	env := map[string]string{"MEDIAFERRY_API_URL": apitest.Start(t, useCases())}
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	err := run(ctx, []string{"push", "s3://inbox/one.mp4", "--to", "slow", "--wait"},
		func(name string) string { return env[name] }, &out, writerFunc(func() { cancel() }))
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "mediaferry uploads watch ") {
		t.Errorf("got %v", err)
	}
}

// writerFunc calls f whenever something is written.
type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	answer := func(status int) error { return &client.Error{Status: status} }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("it failed"), exitFailed},
		{context.Canceled, exitFailed},
		{usagef("--to is missing"), exitUsage},
		{usagef("%w", errors.Join(answer(404), answer(401))), exitUsage},
		{answer(400), exitUsage},
		{answer(422), exitUsage},
		{fmt.Errorf("show upload: %w", answer(404)), exitNotFound},
		{answer(401), exitRefused},
		{answer(403), exitRefused},
		{answer(409), exitFailed},
		{answer(500), exitFailed},
		{answer(503), exitUnreachable},
		{&url.Error{Op: "Get", URL: "http://h", Err: io.EOF}, exitUnreachable},
		{&url.Error{Op: "Get", URL: "http://h", Err: context.Canceled}, exitFailed},
		{fmt.Errorf("wait: %w", errTimedOut), exitTimedOut},
		{errors.Join(answer(404), fmt.Errorf("drop: %w", answer(404))), exitNotFound},
		{errors.Join(answer(404), answer(401)), exitFailed},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exit code of %v is %d, want %d", c.err, got, c.want)
		}
		if !strings.Contains(exitCodesText, fmt.Sprintf("\n  %d  ", c.want)) {
			t.Errorf("exit code %d is not told of", c.want)
		}
	}
}
