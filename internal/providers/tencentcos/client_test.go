package tencentcos

import (
	"maps"
	"slices"
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
	client, address := providertest.Serve(t, vod)
	account := providers.Account{
		Name:     "vod",
		Settings: map[string]string{"endpoint": address, "cos_endpoint": address},
		Secrets:  map[string]providers.Secret{"secret_id": dummyID, "secret_key": dummyKey},
	}
	return New(client), vod, account
}

func with(account providers.Account, name, value string) providers.Account {
	account.Settings = maps.Clone(account.Settings)
	account.Settings[name] = value
	return account
}

// smallPart is a part size, in bytes, that the local storage takes here.
const smallPart = 1000

// storageCodes are those that the storage's documents list.
func storageCodes() (refusals []providertest.Refusal) {
	add := func(want providers.Kind, actions []string, status int, codes ...string) {
		for _, code := range codes {
			refusals = append(refusals, providertest.Refusal{Actions: actions, Fault: upstreams.Fault{ErrorCode: code, Status: status}, Want: want})
		}
	}
	finish := []string{upstreams.COSComplete}
	puts := []string{upstreams.COSUploadPart, upstreams.COSPutObject}
	others := slices.Concat(puts, []string{upstreams.COSInitiate, upstreams.COSListParts, upstreams.COSAbort})
	every := slices.Concat(others, finish)
	add(providers.Rejected, every, 400, "BadRequest", "EntityTooLarge", "EntityTooSmall", "InvalidArgument", "InvalidDigest",
		"InvalidPartOrder", "InvalidURI", "KeyTooLong", "MalformedXML")
	add(providers.Mismatch, slices.Concat(puts, finish), 400, "BadDigest", "EntitySizeNotMatch", "IncompleteBody")
	add(providers.Transient, every, 400, "RequestTimeout", "UserNetworkTooSlow")
	add(providers.SessionLost, slices.Concat(puts, finish), 400, "ExpiredToken", "InvalidPart")
	add(providers.Unauthorized, every, 403, "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
	add(providers.Transient, every, 403, "RequestTimeTooSkewed")
	add(providers.Rejected, every, 404, "NoSuchBucket")
	add(providers.Rejected, puts, 404, "NoSuchKey")
	add(providers.SessionLost, slices.Concat(puts, finish), 404, "NoSuchUpload")
	add(providers.Rejected, every, 409, "PathConflict", "UploadConflict")
	add(providers.Rejected, every, 411, "MissingContentLength")
	add(providers.Rejected, every, 412, "PreconditionFailed")
	add(providers.Rejected, every, 416, "InvalidRange")
	add(providers.Transient, others, 500, "InternalError")
	add(providers.UnknownOutcome, finish, 500, "InternalError")
	add(providers.Rejected, every, 501, "NotImplemented")
	add(providers.Throttled, others, 503, "ServiceUnavailable")
	add(providers.UnknownOutcome, finish, 503, "ServiceUnavailable")
	add(providers.Throttled, every, 503, "SlowDown")
	return refusals
}

// apiCodes are those that the documents of the API list.
func apiCodes(api api) (refusals []providertest.Refusal) {
	apply, commit := []string{upstreams.ActionApply}, []string{upstreams.ActionCommit}
	both := slices.Concat(apply, commit)
	add := func(want providers.Kind, actions []string, codes ...any) {
		for _, code := range codes {
			r := providertest.Refusal{Actions: actions, Want: want}
			switch code := code.(type) {
			case int:
				r.Fault.Code = code
			case string:
				r.Fault.ErrorCode = code
			}
			refusals = append(refusals, r)
		}
	}
	if api == apiV2 {
		add(providers.Unauthorized, both, 4100, 4101, 4102, 4103, 4104, 4110, 4300)
		add(providers.Transient, both, 4200, 4500, 6200)
		add(providers.Throttled, both, 4400)
		add(providers.Rejected, both, 4000, 4600, 5000, 5200, 5300, 5400, 5500, 6100)
		add(providers.Transient, apply, 5100, 6000, 32001)
		add(providers.UnknownOutcome, commit, 5100, 6000, 32001)
		add(providers.SessionLost, commit, 31001)
		return refusals
	}
	add(providers.Unauthorized, both, "UnauthorizedOperation", "AuthFailure.SignatureFailure", "AuthFailure.SecretIdNotFound")
	add(providers.Transient, both, "AuthFailure.SignatureExpire")
	add(providers.Throttled, both, "RequestLimitExceeded")
	add(providers.Rejected, both, "InvalidParameterValue.SubAppId")
	add(providers.Rejected, apply, "InvalidParameter.ExpireTime", "InvalidParameterValue.ExpireTime",
		"InvalidParameterValue.CoverType", "InvalidParameterValue.MediaType")
	add(providers.Transient, apply, "FailedOperation", "InternalError")
	add(providers.UnknownOutcome, commit, "InternalError")
	add(providers.SessionLost, commit, "InvalidParameterValue.VodSessionKey", "ResourceNotFound")
	return refusals
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
				config.Dir, config.MinPart = t.TempDir(), smallPart
				client, vod, account := start(t, config)
				account = with(account, "api", string(tt.api))
				revoked := account
				revoked.Secrets = map[string]providers.Secret{"secret_id": dummyID, "secret_key": "another-secret-key"}
				h := providertest.Harness{
					Provider: client,
					Account:  account,
					Revoked:  revoked,
					Upstream: vod.Storage(),
					Calls: []providertest.Call{
						{By: providers.CallBegin, Action: upstreams.ActionApply},
						{By: providers.CallBegin, Action: upstreams.COSInitiate},
						{By: providers.CallPut, Action: upstreams.COSUploadPart},
						{By: providers.CallPut, Action: upstreams.COSPutObject, Single: true},
						{By: providers.CallFinish, Action: upstreams.COSComplete},
						{By: providers.CallFinish, Action: upstreams.ActionCommit},
						{By: providers.CallProbe, Action: upstreams.COSListParts},
						{By: providers.CallAbort, Action: upstreams.COSAbort},
					},
					Refusals:  append(storageCodes(), apiCodes(tt.api)...),
					SmallPart: smallPart,
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
						return providertest.Fetch(t, client.http, asset.URL)
					},
					NotApplicable: map[providertest.Case]string{
						providertest.CaseResume:       "every session has a place of its own, unless storage_path says where; see TestAdopts",
						providertest.CaseInstant:      "the platform does not know bytes that it has",
						providertest.CaseRevokedProbe: "a probe needs a session to ask about",
					},
				}
				if tt.api == apiV2 || tt.config.OwnKeys {
					h.NotApplicable[providertest.CaseMostParts] = "parts travel as they do with temporary keys, where this is shown"
					h.NotApplicable[providertest.CaseLapsedSession] = "the account's own keys do not lapse"
				}
				return h
			})
		})
	}
}

func bucketOf(s session) string {
	bucket, _, _ := strings.Cut(s.Host, ".cos.")
	return bucket
}
