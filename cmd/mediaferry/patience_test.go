package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mediaferry/internal/api/apitest"
	"mediaferry/internal/uploads"
)

// restarting is a dispatcher that goes away in the middle of requests: they take
// effect, and their answers are lost.
type restarting struct {
	next http.Handler
	lost func(*http.Request) bool
}

func (d *restarting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.lost(r) {
		d.next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	d.next.ServeHTTP(w, r)
}

func startRestarting(t *testing.T, lost func(*http.Request) bool) (uc *apitest.UseCases, getenv func(string) string) {
	t.Helper()
	uc = useCases()
	srv := httptest.NewServer(&restarting{apitest.Handler(uc), lost})
	t.Cleanup(srv.Close)
	return uc, func(name string) string { return map[string]string{"MEDIAFERRY_API_URL": srv.URL}[name] }
}

func count(uc *apitest.UseCases) int { return len(slices.Collect(uc.IDs())) }

// A push outlives a dispatcher that goes away in the middle of each of its
// requests, and brings nothing twice.
func TestPushOutlivesARestart(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"one":  {"push", "s3://inbox/one.mp4", "--to", "main", "--wait"},
		"many": {"push", "s3://inbox/one.mp4", "s3://inbox/many/1.mp4", "--to", "main", "--wait"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := map[string]bool{}
			uc, getenv := startRestarting(t, func(r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				key := r.Method + " " + r.URL.Path
				again := seen[key]
				seen[key] = true
				return !again
			})
			var out, told strings.Builder
			if err := run(t.Context(), args, getenv, &out, &told); err != nil {
				t.Fatalf("%v\n%s", err, &told)
			}
			want := len(args) - 4
			if n := strings.Count(out.String(), "completed  "); n != want || count(uc) != want {
				t.Errorf("%d are told of and %d accepted, want %d:\n%s", n, count(uc), want, &out)
			}
			for _, text := range []string{"EOF; trying again for up to 2m0s\n", "mediaferry: there is an answer again after "} {
				if !strings.Contains(told.String(), text) {
					t.Errorf("no %q in:\n%s", text, &told)
				}
			}
		})
	}
}

// A dispatcher that stays away is given up, and it is told what may go on.
func TestPushGivesUp(t *testing.T) {
	t.Parallel()
	_, getenv := startRestarting(t, func(r *http.Request) bool { return r.Method == http.MethodPost })
	var out, told strings.Builder
	err := run(t.Context(), []string{"push", "s3://inbox/one.mp4", "--to", "main", "--wait", "--patience", "300ms"}, getenv, &out, &told)
	if exitCode(err) != exitUnreachable || !strings.Contains(err.Error(), "it may have been taken: mediaferry uploads list") {
		t.Errorf("submitting: %v", err)
	}
	_, getenv = startRestarting(t, func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v1/uploads/") })
	err = run(t.Context(), []string{"push", "s3://inbox/one.mp4", "--to", "slow", "--wait", "--patience", "300ms"}, getenv, &out, &told)
	if exitCode(err) != exitUnreachable || !strings.Contains(err.Error(), "1 uploads go on; see: mediaferry uploads watch ") {
		t.Errorf("following: %v", err)
	}
	_, getenv = startRestarting(t, func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.Path == "/v1/uploads" })
	err = run(t.Context(), []string{"push", "s3://inbox/one.mp4", "s3://inbox/many/1.mp4", "--to", "slow", "--wait", "--patience", "300ms"}, getenv, &out, &told)
	if exitCode(err) != exitUnreachable {
		t.Errorf("listing a batch: %v", err)
	}
}

// What is in staging when its submission comes to nothing is told of.
func TestStagedIsToldOf(t *testing.T) {
	t.Parallel()
	store := &memory{uc: useCases()}
	store.then = func() { store.uc.Fail(&uploads.UnavailableError{What: "postgres", Err: errors.New("gone")}) }
	_, told, err := pushFile(t, store, "DIR/film.mp4", "--to", "main", "--key", "mine", "--patience", "0")
	if exitCode(err) != exitUnreachable || !strings.Contains(told, "film.mp4 is in staging and can be pushed from there: s3://staging/mine\n") {
		t.Errorf("%v, and told:\n%s", err, told)
	}
}

// Half of a file that is still being written is not submitted.
func TestFileThatGrows(t *testing.T) {
	t.Parallel()
	uc := useCases()
	var film string
	store := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		f, err := os.OpenFile(film, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("more")
			_ = f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(store.Close)
	uc.PutURL = store.URL + "/x"
	film = filepath.Join(t.TempDir(), "film.mp4")
	if err := os.WriteFile(film, []byte("sixsix"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := pushFile(t, &memory{uc: uc, byURL: true}, film, "--to", "main")
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "changed while it was read, from 6 to 10 bytes") || count(uc) != 0 {
		t.Errorf("%v, and %d uploads", err, count(uc))
	}
}
