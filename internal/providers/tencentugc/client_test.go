package tencentugc

import (
	"encoding/json"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/providers/vodapi"
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
	client, address := providertest.Serve(t, vod)
	account := providers.Account{
		Name:     "vod",
		Settings: map[string]string{"endpoint": address},
		Secrets:  map[string]providers.Secret{"secret_id": dummyID, "secret_key": dummyKey},
	}
	return New(client), vod, account
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
	for _, s := range []vodapi.Style{vodapi.StyleDocumented, vodapi.StyleSDK} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				client, vod, account := start(t, upstreams.VODConfig{Dir: t.TempDir(), Strict: s == vodapi.StyleDocumented})
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
						vod.Forget(dummyID, media.Digest(hashing.SHA1).Sum)
					},
					Content: func(t *testing.T, asset uploads.Asset) []byte {
						t.Helper()
						return providertest.Fetch(t, client.HTTP, asset.URL)
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

// TestAnotherTry obeys canRetry, and takes none for no but where the platform
// is in trouble.
func TestAnotherTry(t *testing.T) {
	t.Parallel()
	no, yes := 0, 1
	for _, tt := range []struct {
		code     int
		canRetry *int
		want     bool
	}{
		{-10004, &yes, true},
		{-10004, &no, false},
		{-10004, nil, false},
		{-77, &yes, true},
		{7, nil, false},
		{5100, &yes, true},
		{5100, nil, false},
		{6000, nil, true},
		{6000, &no, true},
		{6200, &no, true},
	} {
		if got := retryable(tt.code, tt.canRetry); got != tt.want {
			t.Errorf("%d: %t", tt.code, got)
		}
	}
}

func TestLapsedSignatureIsALostSession(t *testing.T) {
	t.Parallel()
	client, _, account := start(t, upstreams.VODConfig{})
	media := testMedia(t, 3)
	s := session{
		Target:    vodapi.Target{Endpoint: account.Settings["endpoint"], Path: vodapi.DefaultPath, Style: vodapi.StyleDocumented, FileSHA: media.Digests[0].Sum},
		Signature: "x",
	}
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
