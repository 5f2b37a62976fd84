package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"mediaferry/client"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/uploads"
)

// flaky passes requests on to the API and loses the first answers.
type flaky struct {
	next http.Handler

	mu     sync.Mutex
	lose   int
	called int
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	lost := f.called < f.lose
	f.called++
	f.mu.Unlock()
	if lost {
		f.next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	f.next.ServeHTTP(w, r)
}

func (f *flaky) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.called
}

// heard is what the client told of waiting.
type heard struct {
	mu   sync.Mutex
	told []error
}

func (h *heard) tell(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, why)
}

func (h *heard) all() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}

func losing(t *testing.T, lose int, options ...client.Option) (*flaky, *client.Client) {
	t.Helper()
	uc := &apitest.UseCases{Names: []string{"main"}, Objects: []uploads.Object{{Bucket: "inbox", Key: "a/1.mp4", Size: 10}}}
	f := &flaky{next: apitest.Handler(uc), lose: lose}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return f, connectWith(t, srv.URL, options...)
}

func connectWith(t *testing.T, url string, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(url, "", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// What took effect and lost its answer is made again where that changes nothing,
// and it is told of once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	unkeyed := first()
	unkeyed.IdempotencyKey = ""
	keyed := client.BatchSubmission{Accounts: []string{"main"}, Source: client.BatchSource{Bucket: "inbox", Key: "a/1.mp4"}, IdempotencyKey: "b"}
	for name, tc := range map[string]struct {
		call    func(context.Context, *client.Client) error
		calls   int
		succeed bool
	}{
		"a question": {func(ctx context.Context, c *client.Client) error { _, err := c.Accounts(ctx); return err }, 3, true},
		"a submission with a key": {func(ctx context.Context, c *client.Client) error {
			_, created, err := c.Submit(ctx, first())
			if err == nil && created {
				err = errors.New("it is another upload")
			}
			return err
		}, 3, true},
		"a batch with a key": {func(ctx context.Context, c *client.Client) error {
			_, created, err := c.SubmitBatch(ctx, keyed)
			if err == nil && created {
				err = errors.New("it is another batch")
			}
			return err
		}, 3, true},
		"many, one without a key": {func(ctx context.Context, c *client.Client) error {
			_, err := c.SubmitBulk(ctx, []client.BulkLine{{Submission: first()}, {Submission: unkeyed}})
			return err
		}, 1, false},
		"a submission without": {func(ctx context.Context, c *client.Client) error { _, _, err := c.Submit(ctx, unkeyed); return err }, 1, false},
		"a prefix": {func(ctx context.Context, c *client.Client) error {
			_, err := c.SubmitPrefix(ctx, client.PrefixSubmission{Account: "main", Bucket: "inbox", Prefix: "a/"})
			return err
		}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h heard
			f, c := losing(t, 2, client.WithPatience(time.Minute, h.tell))
			err := tc.call(t.Context(), c)
			if (err == nil) != tc.succeed || f.calls() != tc.calls {
				t.Errorf("%v after %d calls, want success %t after %d", err, f.calls(), tc.succeed, tc.calls)
			}
			told := h.all()
			if tc.succeed && (len(told) != 2 || !client.IsAway(told[0]) || told[1] != nil) {
				t.Errorf("told of %v, want a reason and then nothing", told)
			}
			if !tc.succeed && len(told) > 0 {
				t.Errorf("told of %v", told)
			}
		})
	}
}

// Without patience there is one try.
func TestNoPatience(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]client.Option{"none": nil, "zero": {client.WithPatience(0, nil)}} {
		f, c := losing(t, 2, options...)
		if _, err := c.Accounts(t.Context()); !client.IsAway(err) || f.calls() != 1 {
			t.Errorf("%s: %v after %d calls", name, err, f.calls())
		}
	}
}

// A request that found nobody to take it was not made, so any may be made again.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f := &flaky{next: apitest.Handler(&apitest.UseCases{Names: []string{"main"}, Objects: []uploads.Object{{Bucket: "inbox", Key: "a/1.mp4", Size: 10}}})}
	srv := httptest.NewUnstartedServer(f)
	c := connectWith(t, "http://"+address, client.WithPatience(time.Minute, func(why error) {
		if why == nil {
			return
		}
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address) // the dispatcher is started
		if err != nil {
			t.Error(err)
			return
		}
		_ = srv.Listener.Close()
		srv.Listener = l
		srv.Start()
	}))
	t.Cleanup(srv.Close)
	s := first()
	s.IdempotencyKey = ""
	if _, created, err := c.Submit(t.Context(), s); err != nil || !created || f.calls() != 1 {
		t.Errorf("created %t, %v after %d calls", created, err, f.calls())
	}
}

// Patience ends, and whoever asks then does not wait again; so does Wait.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	var h heard
	_, c := losing(t, 1000, client.WithPatience(400*time.Millisecond, h.tell))
	begun := time.Now()
	if _, err := c.Accounts(t.Context()); !client.IsAway(err) || time.Since(begun) < 400*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	if _, err := c.Wait(t.Context(), uuid.NewString(), nil); !client.IsAway(err) {
		t.Errorf("wait: %v", err)
	}
	if told := h.all(); len(told) != 1 || told[0] == nil {
		t.Errorf("told of %v, want one reason", told)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	_, c = losing(t, 1000, client.WithPatience(time.Hour, func(error) { cancel(why) }))
	if _, err := c.Accounts(ctx); !errors.Is(err, why) {
		t.Errorf("a call that is cancelled while it waits: %v", err)
	}
}

// A certificate that is not trusted stays so.
func TestWrongCertificate(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	c := connectWith(t, srv.URL, client.WithPatience(time.Hour, func(why error) { t.Errorf("waits after %v", why) }))
	if _, err := c.Accounts(t.Context()); err == nil || client.IsAway(err) {
		t.Errorf("a certificate that is not trusted: %v", err)
	}
}

// A file is put again from its beginning; one that cannot be read is not.
func TestPutFileAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	tries, stored := 0, ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		tries++
		switch tries {
		case 1:
			_, _ = io.ReadFull(r.Body, make([]byte, 3))
			panic(http.ErrAbortHandler)
		case 2:
			http.Error(w, "SlowDown", http.StatusServiceUnavailable)
			return
		}
		text, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		stored = string(text)
	}))
	t.Cleanup(srv.Close)
	c := connectWith(t, "http://127.0.0.1:1", client.WithPatience(time.Minute, nil))
	to := client.Presigned{Method: http.MethodPut, URL: srv.URL + "/x?signature=hidden"}
	if err := c.PutFile(t.Context(), to, strings.NewReader("sixsix and more"), 6); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if stored != "sixsix" || tries != 3 {
		t.Errorf("stored %q after %d tries", stored, tries)
	}
	mu.Unlock()
	err := c.PutFile(t.Context(), to, bytes.NewReader([]byte("short")), 6)
	if err == nil || !strings.Contains(err.Error(), "the file ended at 5 bytes of 6") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a short file: %v", err)
	}
}
