package tencentcos

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

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
func start(t *testing.T, config upstreams.VODApplyConfig) (*Client, *upstreams.VODApply, providers.Account) {
	t.Helper()
	config.Keys = map[string]string{dummyID: dummyKey}
	vod := upstreams.NewVODApply(config)
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
		Settings: map[string]string{"endpoint": server.URL, "cos_endpoint": server.URL},
		Secrets:  map[string]providers.Secret{"secret_id": dummyID, "secret_key": dummyKey},
	}
	return New(&http.Client{Transport: transport}), vod, account
}

func with(account providers.Account, name, value string) providers.Account {
	account.Settings = maps.Clone(account.Settings)
	account.Settings[name] = value
	return account
}

// fetch returns what is at an address of the local platform.
func fetch(t *testing.T, client *Client, address string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return data
}

func TestConforms(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		api    api
		config upstreams.VODApplyConfig
	}{
		"API v2":                      {apiV2, upstreams.VODApplyConfig{Strict: true}},
		"API 3.0":                     {apiV3, upstreams.VODApplyConfig{Strict: true}},
		"API 3.0, the account's keys": {apiV3, upstreams.VODApplyConfig{OwnKeys: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				config := tt.config
				config.Dir = t.TempDir()
				client, vod, account := start(t, config)
				account = with(account, "api", string(tt.api))
				revoked := account
				revoked.Secrets = map[string]providers.Secret{"secret_id": dummyID, "secret_key": "another-secret-key"}
				return providertest.Harness{
					Provider: client,
					Account:  account,
					Revoked:  revoked,
					// A finish that took effect is one that was committed, one that was
					// lost on its way left the parts as they were.
					FailFinish: func(apply bool) {
						action := upstreams.COSComplete
						if apply {
							action = upstreams.ActionCommit
						}
						vod.Storage().AddFaults(upstreams.Fault{Action: action, Times: 1, Apply: apply, Reset: true})
					},
					LoseSession: func(t *testing.T, _ providers.Media, session providers.Session) {
						t.Helper()
						s, err := readSession(callPart, session)
						if err != nil {
							t.Fatal(err)
						}
						vod.Storage().Forget(bucketOf(s), s.Key)
					},
					Content: func(t *testing.T, asset uploads.Asset) []byte {
						t.Helper()
						return fetch(t, client, asset.URL)
					},
					NotApplicable: map[providertest.Case]string{
						providertest.CaseResume:       "every session has a place of its own, unless storage_path says where; see TestAdopts",
						providertest.CaseInstant:      "the platform does not know bytes that it has",
						providertest.CaseRevokedProbe: "a probe needs a session to ask about",
					},
				}
			})
		})
	}
}

func bucketOf(s session) string {
	bucket, _, _ := strings.Cut(s.Host, ".cos.")
	return bucket
}
