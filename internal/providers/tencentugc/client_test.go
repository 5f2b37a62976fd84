package tencentugc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The vendor's published dummy pair.
const (
	dummyID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	dummyKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
)

// start returns a client and a platform for it.
func start(t *testing.T, config upstreams.VODConfig) (*Client, *upstreams.VOD, providers.Account) {
	t.Helper()
	config.Keys = map[string]string{dummyID: dummyKey}
	vod := upstreams.NewVOD(config)
	server, err := upstreams.Serve(t.Context(), "", vod)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	account := providers.Account{
		Name:     "vod",
		Settings: map[string]string{"endpoint": server.URL},
		Secrets:  map[string]providers.Secret{"secret_id": dummyID, "secret_key": dummyKey},
	}
	return New(&http.Client{Transport: transport}), vod, account
}

const noAbort = "the platform has no call to discard an upload"

// lapse returns the session under a signature whose time is over.
func lapse(t *testing.T, ps providers.Session) providers.Session {
	t.Helper()
	var s session
	if err := json.Unmarshal(ps.Data, &s); err != nil {
		t.Fatal(err)
	}
	issued := time.Now().Add(-2 * signatureLife)
	g := grant{secretID: dummyID, name: "a.mp4", fileSHA: s.FileSHA, fileType: "mp4", issued: issued, expires: issued.Add(signatureLife), uid: "vod"}
	s.Signature = g.sign(dummyKey)
	old := encode(t, s)
	old.Expires = g.expires
	return old
}

// documentedCodes are those of the platform's documents, as a call is answered
// with them: those of the upload itself for each call, the general ones of the
// API for all of them too, though the documents name them for parts only.
func documentedCodes() (refusals []providertest.Refusal) {
	calls := []string{upstreams.ActionInit, upstreams.ActionPart, upstreams.ActionFinish}
	begin, part, finish := calls[:1], calls[1:2], calls[2:]
	for _, c := range []struct {
		code, canRetry int
		actions        []string
		want           providers.Kind
	}{
		{-10001, 0, calls, providers.Rejected},
		{-10002, 0, calls, providers.Unauthorized},
		{-10003, 0, calls[:2], providers.Rejected},
		{-10003, 0, finish, providers.Mismatch},
		{-10004, 1, calls, providers.Transient},
		{-10005, 1, begin, providers.Transient},
		{-10005, 1, calls[1:], providers.SessionLost},
		{-10006, 1, begin, providers.Transient},
		{-10006, 1, part, providers.Mismatch},
		{-10006, 1, finish, providers.Transient},
		{-10999, 1, calls, providers.Transient}, // of any other, canRetry tells
		{-10999, 0, calls, providers.Rejected},
		{4000, 0, calls, providers.Rejected},
		{4100, 0, calls, providers.Unauthorized},
		{4101, 0, calls, providers.Unauthorized},
		{4102, 0, calls, providers.Unauthorized},
		{4103, 0, calls, providers.Unauthorized},
		{4104, 0, calls, providers.Unauthorized},
		{4110, 0, calls, providers.Unauthorized},
		{4200, 0, begin, providers.Transient},
		{4200, 0, calls[1:], providers.SessionLost},
		{4300, 0, calls, providers.Unauthorized},
		{4400, 0, calls, providers.Throttled},
		{4500, 0, begin, providers.Transient},
		{4500, 0, calls[1:], providers.SessionLost},
		{4600, 0, calls, providers.Rejected},
		{5000, 0, calls, providers.Rejected},
		{5100, 1, calls, providers.Transient},
		{5200, 0, calls, providers.Rejected},
		{5300, 0, calls, providers.Rejected},
		{5400, 0, calls, providers.Rejected},
		{5500, 0, calls, providers.Rejected},
		{6000, 1, calls, providers.Transient},
		{6100, 0, calls, providers.Rejected},
		{6200, 1, calls, providers.Transient},
	} {
		refusals = append(refusals, providertest.Refusal{Actions: c.actions, Fault: upstreams.Fault{Code: c.code, CanRetry: c.canRetry}, Want: c.want})
	}
	return refusals
}

func TestConforms(t *testing.T) {
	t.Parallel()
	for _, s := range []style{styleDocumented, styleSDK} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				client, vod, account := start(t, upstreams.VODConfig{Dir: t.TempDir(), Strict: s == styleDocumented})
				account.Settings["param_style"] = string(s)
				revoked := account
				revoked.Secrets = map[string]providers.Secret{"secret_id": dummyID, "secret_key": "another-secret-key"}
				return providertest.Harness{
					Provider: client,
					Account:  account,
					Revoked:  revoked,
					Upstream: vod,
					Calls: []providertest.Call{
						{By: providers.CallBegin, Action: upstreams.ActionInit},
						{By: providers.CallPut, Action: upstreams.ActionPart},
						{By: providers.CallFinish, Action: upstreams.ActionFinish},
						{By: providers.CallProbe, Action: upstreams.ActionInit},
					},
					Refusals: documentedCodes(),
					Lapse: func(t *testing.T, ps providers.Session) providers.Session {
						t.Helper()
						return lapse(t, ps)
					},
					LoseSession: func(t *testing.T, media providers.Media, _ providers.Session) {
						t.Helper()
						sha, err := objectSHA(media)
						if err != nil {
							t.Fatal(err)
						}
						vod.Forget(dummyID, sha)
					},
					Content: func(t *testing.T, asset uploads.Asset) []byte {
						t.Helper()
						req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, asset.URL, nil)
						if err != nil {
							t.Fatal(err)
						}
						resp, err := client.http.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						defer func() { _ = resp.Body.Close() }()
						data, err := io.ReadAll(resp.Body)
						if err != nil {
							t.Fatal(err)
						}
						return data
					},
					NotApplicable: map[providertest.Case]string{
						providertest.CaseMostParts:    "the platform publishes no bound on the number of parts",
						providertest.CaseAbort:        noAbort,
						providertest.CaseAbortApplied: noAbort,
						providertest.CaseAbortLost:    noAbort,
					},
				}
			})
		})
	}
}

func TestSignVectors(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	base := grant{
		secretID: dummyID, name: "tencent_test.mp4", fileSHA: "a9993e364706816aba3e25717850c26c9cd0d89d", fileType: "mp4",
		issued: time.Unix(1488160000, 0), expires: time.Unix(1488246400, 0), random: 1234567890, uid: "1234",
	}
	encoded := base
	encoded.name = "my video+1"
	encoded.options = options{transcode: &yes, screenshot: &yes, watermark: &no, classID: "12", tags: []string{"foo", "bar"}}
	for name, tt := range map[string]struct {
		grant grant
		want  string
	}{
		"U1": {base, "AzVxBVk625VuUTun3dx8jBiTRNpzPUFLSUR6OGtyYnNKNXlLQlpRcG43NFdGa21MUHgzZ25QaEVTQSZmPXRlbmNlbnRfdGVzdC5tcDQmZnM9YTk5OTNlMzY0NzA2ODE2YWJhM2UyNTcxNzg1MGMyNmM5Y2QwZDg5ZCZmdD1tcDQmdD0xNDg4MTYwMDAwJmU9MTQ4ODI0NjQwMCZyPTEyMzQ1Njc4OTAmdWlkPTEyMzQ="},
		"U2": {encoded, "IS6A3N1mgFAOd+I0RKAScpGcuFdzPUFLSUR6OGtyYnNKNXlLQlpRcG43NFdGa21MUHgzZ25QaEVTQSZmPW15JTIwdmlkZW8lMkIxJmZzPWE5OTkzZTM2NDcwNjgxNmFiYTNlMjU3MTc4NTBjMjZjOWNkMGQ4OWQmZnQ9bXA0JnQ9MTQ4ODE2MDAwMCZlPTE0ODgyNDY0MDAmcj0xMjM0NTY3ODkwJnVpZD0xMjM0JnRjPTEmc3M9MSZ3bT0wJmNpZD0xMiZ0YWcuMT1mb28mdGFnLjI9YmFy"},
	} {
		if got := tt.grant.sign(dummyKey); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		action   string
		code     int
		canRetry int
		want     providers.Kind
	}{
		{actionInit, -10001, 0, providers.Rejected},
		{actionInit, -10002, 0, providers.Unauthorized},
		{actionInit, -10003, 0, providers.Rejected},
		{actionInit, -10004, 1, providers.Transient},
		{actionInit, -10005, 1, providers.Transient},
		{actionInit, -1, 0, providers.Rejected},
		{actionInit, 7, 0, providers.Rejected},
		{actionPart, -10002, 1, providers.Unauthorized},
		{actionPart, -10004, 1, providers.Transient},
		{actionPart, -10005, 0, providers.SessionLost},
		{actionPart, -10005, 1, providers.SessionLost},
		{actionPart, -10006, 1, providers.Mismatch},
		{actionPart, -77, 1, providers.Transient},
		{actionPart, 4100, 0, providers.Unauthorized},
		{actionPart, 4104, 0, providers.Unauthorized},
		{actionPart, 4400, 0, providers.Throttled},
		{actionPart, 5000, 0, providers.Rejected},
		{actionPart, 6000, 0, providers.Transient},
		{actionFinish, -10003, 0, providers.Mismatch},
		{actionFinish, -10004, 1, providers.Transient},
		{actionFinish, -10005, 0, providers.SessionLost},
	} {
		a := answer{Code: &tt.code, CanRetry: tt.canRetry, Message: "bad SIGNED thing"}
		got := a.refusal(tt.action, "SIGNED")
		if got.Kind != tt.want {
			t.Errorf("%s %d, canRetry %d: %s, want %s", tt.action, tt.code, tt.canRetry, got.Kind, tt.want)
		}
		if strings.Contains(got.Error(), "SIGNED") {
			t.Errorf("the signature shows in %q", got)
		}
	}
}

// TestFailures runs each call into a fault and looks at the kind, and that no
// error shows the signature.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault           upstreams.Fault
		begin, put, fin providers.Kind
		wantRetryAfter  time.Duration
	}{
		"reset":        {upstreams.Fault{Reset: true}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"500":          {upstreams.Fault{Status: 500}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"503":          {upstreams.Fault{Status: 503, RetryAfter: 7}, providers.Throttled, providers.Throttled, providers.UnknownOutcome, 7 * time.Second},
		"429":          {upstreams.Fault{Status: 429, RetryAfter: 7}, providers.Throttled, providers.Throttled, providers.Throttled, 7 * time.Second},
		"403":          {upstreams.Fault{Status: 403}, providers.Unauthorized, providers.Unauthorized, providers.Unauthorized, 0},
		"404":          {upstreams.Fault{Status: 404}, providers.Rejected, providers.Rejected, providers.Rejected, 0},
		"no JSON":      {upstreams.Fault{Text: "<html>"}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"no code":      {upstreams.Fault{Text: "{}"}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"no fileId":    {upstreams.Fault{Text: `{"code":0}`, Action: actionFinish}, "", "", providers.UnknownOutcome, 0},
		"stored, none": {upstreams.Fault{Text: `{"code":2}`, Action: actionInit}, providers.Transient, "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, vod, account := start(t, upstreams.VODConfig{})
			media := testMedia(t, 3)
			begun, err := client.Begin(t.Context(), account, media)
			if err != nil {
				t.Fatal(err)
			}
			vod.AddFaults(tt.fault)
			check := func(call string, err error, want providers.Kind) {
				if want == "" {
					return
				}
				e, ok := asError(err)
				if !ok || e.Kind != want || e.RetryAfter != tt.wantRetryAfter {
					t.Errorf("%s: %v, want kind %s and retry after %s", call, err, want, tt.wantRetryAfter)
				}
				if err != nil && (strings.Contains(err.Error(), "ignature=") || strings.Contains(err.Error(), "fileSha")) {
					t.Errorf("%s: the query shows in %q", call, err)
				}
			}
			_, err = client.Begin(t.Context(), account, media)
			check("begin", err, tt.begin)
			_, err = client.PutPart(t.Context(), begun.Session, planOf(media).Part(1), providertest.NewBody(client.Limits(), []byte("abc")))
			check("put part", err, tt.put)
			_, err = client.Finish(t.Context(), begun.Session, nil)
			check("finish", err, tt.fin)
		})
	}
}

func TestLapsedSignatureIsALostSession(t *testing.T) {
	t.Parallel()
	client, _, account := start(t, upstreams.VODConfig{})
	media := testMedia(t, 3)
	s := session{Endpoint: account.Settings["endpoint"], Path: defaultPath, Style: styleDocumented, FileSHA: media.Digests[0].Sum, Signature: "x"}
	ps := encode(t, s)
	ps.Expires = time.Now().Add(-time.Minute)
	_, err := client.Finish(t.Context(), ps, nil)
	if providers.KindOf(err) != providers.SessionLost {
		t.Errorf("past its time: %v, want session_lost", err)
	}
	ps.Expires = time.Now().Add(time.Minute)
	_, err = client.Finish(t.Context(), ps, nil)
	if providers.KindOf(err) != providers.Unauthorized {
		t.Errorf("before its time: %v, want unauthorized", err)
	}
}

// TestCancelledWhileThePlatformIsSilent cancels a part whose answer does not come.
func TestCancelledWhileThePlatformIsSilent(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	server, err := upstreams.Serve(t.Context(), "", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the part is all there
		close(arrived)
		<-r.Context().Done()
	}))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	client := New(&http.Client{Transport: transport})
	ps := encode(t, session{Endpoint: server.URL, Path: defaultPath, Style: styleDocumented, FileSHA: "f", Signature: "SIGNED"})
	stopped := errors.New("the worker stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(stopped)
	}()
	_, err = client.PutPart(ctx, ps, parts.Part{Number: 1, Length: 3}, providertest.NewBody(client.Limits(), []byte("abc")))
	if !errors.Is(err, context.Canceled) && !errors.Is(err, stopped) {
		t.Errorf("error %v, want the cancellation in its chain", err)
	}
	if err != nil && strings.Contains(err.Error(), "SIGNED") {
		t.Errorf("the signature shows in %q", err)
	}
}
