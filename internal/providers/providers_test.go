package providers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
)

func TestSecretsAreNotSeen(t *testing.T) {
	t.Parallel()
	const value = "hunter2"
	secret := providers.Secret(value)
	account := providers.Account{Name: "a", Secrets: map[string]providers.Secret{"key": secret}}
	for _, v := range []any{secret, &secret, account, &account, []providers.Secret{secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%08.3f", "%c"} {
			got := fmt.Sprintf(verb, v)
			if strings.Contains(got, value) || strings.Contains(strings.ToLower(got), fmt.Sprintf("%x", value)) {
				t.Errorf("%s of %T prints %q", verb, v, got)
			}
		}
		text, err := json.Marshal(v)
		if err != nil || strings.Contains(string(text), value) {
			t.Errorf("JSON of %T is %s, %v", v, text, err)
		}
		core, logs := observer.New(zapcore.DebugLevel)
		zap.New(core).Sugar().Infow("m", "v", v)
		if got := fmt.Sprint(logs.All()); strings.Contains(got, value) {
			t.Errorf("the log line has %q", got)
		}
	}
	if got := fmt.Sprintf("%v %s", secret, fmt.Errorf("with %w and %v", errors.ErrUnsupported, secret)); strings.Count(got, "[redacted]") != 2 {
		t.Errorf("printed as %q", got)
	}
	if secret.Reveal() != value || secret.String() == value {
		t.Error("Reveal is the one way to the value")
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	throttled := &providers.Error{Kind: providers.Throttled}
	for name, tt := range map[string]struct {
		err  error
		want providers.Kind
	}{
		"bare":         {throttled, providers.Throttled},
		"wrapped":      {fmt.Errorf("put part 3: %w", throttled), providers.Throttled},
		"joined":       {errors.Join(errors.ErrUnsupported, throttled), providers.Throttled},
		"outermost":    {&providers.Error{Kind: providers.Rejected, Err: throttled}, providers.Rejected},
		"unclassified": {errors.ErrUnsupported, providers.Transient},
		"a timeout":    {context.DeadlineExceeded, providers.Transient},
	} {
		if got := providers.KindOf(tt.err); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestErrorSaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]providers.Error{
		"Finish: transient":                     {Kind: providers.Transient, Call: "Finish"},
		"Finish: rejected (400)":                {Kind: providers.Rejected, Call: "Finish", Code: "400"},
		"Finish: rejected (400): no such class": {Kind: providers.Rejected, Call: "Finish", Code: "400", Message: "no such class"},
		"Finish: transient: context deadline exceeded": {
			Kind: providers.Transient, Call: "Finish", Err: context.DeadlineExceeded, RetryAfter: time.Second,
		},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if e.Err != nil && !errors.Is(&e, e.Err) {
			t.Errorf("%q does not lead to its cause", want)
		}
	}
}

// transportError makes a real request that gets no answer.
func transportError(ctx context.Context, t *testing.T, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/part?X-Signature=topsecret&token=topsecret", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("there is an answer")
	}
	return err
}

func TestTransportErrorKeepsNoURL(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler) // reset without an answer
	}))
	t.Cleanup(server.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler()) // whose certificate nobody trusts
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(secure.Close)
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("the worker stops")
	stopped, stop := context.WithCancelCause(t.Context())
	stop(cause)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()

	for name, tt := range map[string]struct {
		err  error
		want providers.Kind
		host bool
	}{
		"reset":     {transportError(t.Context(), t, server.URL), providers.UnknownOutcome, true},
		"refused":   {transportError(t.Context(), t, "http://"+closed.Addr().String()), providers.Transient, true},
		"wrapped":   {fmt.Errorf("put: %w", transportError(t.Context(), t, server.URL)), providers.UnknownOutcome, true},
		"untrusted": {transportError(t.Context(), t, secure.URL), providers.Transient, true},
		"cancelled": {transportError(cancelled, t, server.URL), providers.UnknownOutcome, false},
		"no URL":    {errors.ErrUnsupported, providers.UnknownOutcome, false},
	} {
		e := providers.TransportError("PutIt", providers.UnknownOutcome, tt.err)
		if e.Kind != tt.want || e.Call != "PutIt" {
			t.Errorf("%s: %+v, want kind %s", name, e, tt.want)
		}
		for _, text := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%v", e.Err), e.Message} {
			if strings.Contains(text, "topsecret") || strings.Contains(text, "X-Signature") {
				t.Errorf("%s: the error reads %q", name, text)
			}
		}
		if strings.Contains(e.Message, "127.0.0.1") != tt.host {
			t.Errorf("%s: the message is %q", name, e.Message)
		}
	}
	e := providers.TransportError("PutIt", providers.Transient, transportError(stopped, t, server.URL))
	if !errors.Is(e, cause) {
		t.Errorf("%v does not lead to its cause", e)
	}
}

func TestMediaDigest(t *testing.T) {
	t.Parallel()
	sha := hashing.Digest{Kind: hashing.SHA1, Sum: "da39a3ee5e6b4b0d3255bfef95601890afd80709"}
	m := providers.Media{Digests: []hashing.Digest{{Kind: hashing.MD5, Sum: "d41d8cd98f00b204e9800998ecf8427e"}, sha}}
	if got := m.Digest(hashing.SHA1); got != sha {
		t.Errorf("SHA-1 is %v", got)
	}
	if got := m.Digest(hashing.SHA256); !got.IsZero() {
		t.Errorf("an unknown digest is %v", got)
	}
}
