package providertest_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	const twice = "the fake makes a second asset, to show the fault of whoever calls twice"
	for name, limits := range map[string]providers.Limits{
		"streamed": {
			Limits:     parts.Limits{MinPart: 1000, MaxPart: 4000, Preferred: 2000, MaxParts: 500},
			PartDigest: hashing.CRC64NVME,
		},
		"by digest": {
			Limits:     parts.Limits{MinPart: 1000, MaxPart: 4000, Preferred: 2000, MaxParts: 500},
			PartDigest: hashing.MD5, DigestFirst: true, ObjectDigests: []hashing.Kind{hashing.SHA1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				fake := providertest.NewFake(limits)
				fake.Revoke("revoked", true)
				upstream := newHooked(fake)
				h := providertest.Harness{
					Provider:  logged{fake, upstream},
					Account:   providers.Account{Name: "good"},
					Revoked:   providers.Account{Name: "revoked"},
					Upstream:  upstream,
					Calls:     methods(),
					Refusals:  kinds(),
					SmallPart: 10,
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
					NotApplicable: map[providertest.Case]string{
						providertest.CaseFinishRepeated: twice,
						providertest.CaseLapsedSession:  "the fake's sessions end when they are lost",
						providertest.CaseAmiss:          "the fake makes no calls",
						providertest.CaseEndless:        "the fake makes no calls",
					},
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

// hooked is the Fake as the suite disturbs a local server.
type hooked struct {
	mu     sync.Mutex
	faults []upstreams.Fault
	calls  []upstreams.Call
}

func newHooked(fake *providertest.Fake) *hooked {
	h := new(hooked)
	fake.SetHook(h.hook)
	return h
}

func (h *hooked) AddFaults(faults ...upstreams.Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, faults...)
}

func (h *hooked) Calls() []upstreams.Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func (h *hooked) hook(call providers.Call, _ int) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := slices.IndexFunc(h.faults, func(f upstreams.Fault) bool { return f.Action == string(call) })
	if at < 0 {
		return true, nil
	}
	f := h.faults[at]
	h.faults = slices.Delete(h.faults, at, at+1)
	h.calls = append(h.calls, upstreams.Call{Action: string(call), Outcome: "fault"})
	e := &providers.Error{Kind: providers.Kind(f.ErrorCode), Call: string(call), Code: f.ErrorCode}
	switch {
	case f.Status != 0:
		e.Kind, e.RetryAfter = providers.Throttled, time.Duration(f.RetryAfter)*time.Second
	case f.Reset && call == providers.CallFinish:
		e.Kind = providers.UnknownOutcome
	case f.Reset:
		e.Kind = providers.Transient
	}
	return f.Apply, e
}

// logged is the Fake with its parts in the log of calls, where a hook is not
// told of them.
type logged struct {
	*providertest.Fake

	upstream *hooked
}

func (l logged) PutPart(ctx context.Context, session providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	l.upstream.mu.Lock()
	l.upstream.calls = append(l.upstream.calls, upstreams.Call{Action: string(providers.CallPut), Part: part.Number, Outcome: "ok"})
	l.upstream.mu.Unlock()
	return l.Fake.PutPart(ctx, session, part, body)
}

func all() []providers.Call {
	return []providers.Call{providers.CallBegin, providers.CallPut, providers.CallFinish, providers.CallProbe, providers.CallAbort}
}

func methods() (calls []providertest.Call) {
	for _, by := range all() {
		calls = append(calls, providertest.Call{By: by, Action: string(by)})
	}
	return calls
}

func kinds() (refusals []providertest.Refusal) {
	for _, kind := range []providers.Kind{
		providers.Transient, providers.Throttled, providers.Unauthorized, providers.SessionLost, providers.Rejected, providers.Mismatch,
	} {
		r := providertest.Refusal{Fault: upstreams.Fault{ErrorCode: string(kind)}, Want: kind}
		for _, by := range all() {
			r.Actions = append(r.Actions, string(by))
		}
		refusals = append(refusals, r)
	}
	return refusals
}
