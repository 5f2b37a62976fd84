package providertest_test

import (
	"testing"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	const twice = "the fake makes a second asset, to show the fault of whoever calls twice"
	for name, limits := range map[string]providers.Limits{
		"streamed": {
			Limits:     parts.Limits{MinPart: 1000, MaxPart: 4000, Preferred: 2000},
			PartDigest: hashing.CRC64NVME,
		},
		"by digest": {
			Limits:     parts.Limits{MinPart: 1000, MaxPart: 4000, Preferred: 2000},
			PartDigest: hashing.MD5, DigestFirst: true, ObjectDigests: []hashing.Kind{hashing.SHA1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				fake := providertest.NewFake(limits)
				fake.Revoke("revoked", true)
				h := providertest.Harness{
					Provider: fake,
					Account:  providers.Account{Name: "good"},
					Revoked:  providers.Account{Name: "revoked"},
					FailFinish: func(apply bool) {
						fake.SetHook(func(call providers.Call, nth int) (bool, error) {
							if call == providers.CallFinish && nth == 1 {
								return apply, &providers.Error{Kind: providers.UnknownOutcome, Call: string(call)}
							}
							return true, nil
						})
					},
					LoseSession: func(_ *testing.T, media providers.Media, _ providers.Session) {
						fake.LoseSessions(media.Upload)
					},
					Content: func(t *testing.T, asset uploads.Asset) []byte {
						t.Helper()
						data, ok := fake.Content(asset.ID)
						if !ok {
							t.Errorf("no content of %q", asset.ID)
						}
						return data
					},
					NotApplicable: map[providertest.Case]string{providertest.CaseFinishRepeated: twice},
				}
				if len(limits.ObjectDigests) == 0 {
					h.NotApplicable[providertest.CaseResume] = "without a digest each begin opens a session of its own"
					h.NotApplicable[providertest.CaseInstant] = "without a digest media are not recognised"
				}
				return h
			})
		})
	}
}
