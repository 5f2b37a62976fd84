package cdnetworks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey    = "AKIDEXAMPLE0001"
	testSecret = "SecretKeyExample0001"
)

// clock is a time that moves by hand, the same for client and platform.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// bench is a client and a platform for it.
type bench struct {
	client  *Client
	wcs     *upstreams.WCS
	account providers.Account
	clock   *clock
}

func start(t *testing.T, config upstreams.WCSConfig) bench {
	t.Helper()
	b := bench{clock: &clock{at: time.Now()}}
	config.Keys, config.Now = map[string]string{testKey: testSecret}, b.clock.now
	b.wcs = upstreams.NewWCS(config)
	transport, url := serve(t, b.wcs)
	b.account = providers.Account{
		Name:     "cdn",
		Settings: map[string]string{"endpoint": url, "playback_url": url + "/media"},
		Secrets:  map[string]providers.Secret{"access_key": testKey, "secret_key": testSecret},
	}
	b.client = New(&http.Client{Transport: providertest.Altering(transport)})
	b.client.now = b.clock.now
	return b
}

func serve(t *testing.T, handler http.Handler) (*http.Transport, string) {
	t.Helper()
	server, err := upstreams.Serve(t.Context(), "", handler)
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
	return transport, server.URL
}

func (b bench) content(t *testing.T, asset uploads.Asset) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, asset.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.client.http.Do(req)
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

// overwriting is the provider for submissions that let files be replaced, so
// that those of one block go by form upload.
type overwriting struct{ *Client }

func (o overwriting) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	media.Options = map[string]string{"overwrite": "true"}
	return o.Client.Begin(ctx, account, media)
}

const noAbort = "the platform has no call to discard blocks"

// documentedCodes are those of the platform's documents: codes of the control
// API, which come with status 200, and statuses of the storage.
func documentedCodes() (refusals []providertest.Refusal) {
	token, list := upstreams.ActionGetUploadToken, upstreams.ActionGetVideoList
	block, chunk, form, file := upstreams.ActionMakeBlock, upstreams.ActionPutChunk, upstreams.ActionForm, upstreams.ActionMakeFile
	add := func(want providers.Kind, actions []string, codes ...int) {
		for _, code := range codes {
			refusals = append(refusals, providertest.Refusal{Actions: actions, Fault: upstreams.Fault{Code: code}, Want: want})
		}
	}
	add(providers.Rejected, []string{token}, 1500, 1604, 1605, 1606, 1607, 1608, 1609, 1610)
	add(providers.Rejected, []string{list}, 1503, 1504) // 1502 is the answer that there is no such video
	add(providers.Rejected, []string{token, list}, 1000, 1004, 24112000)
	add(providers.Unauthorized, []string{token, list}, 401, 1301)
	add(providers.Throttled, []string{token, list}, 429)

	parts := []string{block, chunk, form}
	add(providers.Rejected, slices.Concat(parts, []string{file}), 400, 404, 405, 413, 631)
	add(providers.SessionLost, []string{block, form}, 401)
	add(providers.Transient, []string{chunk}, 401) // the token, or a chunk that does not follow: mkblk tells
	add(providers.UnknownOutcome, []string{file}, 401)
	add(providers.Mismatch, []string{block, chunk}, 406)
	add(providers.Rejected, []string{form}, 406)
	add(providers.UnknownOutcome, []string{file}, 406)
	add(providers.Transient, parts, 408, 412, 500, 501, 502, 504, 579, 599)
	add(providers.Throttled, parts, 503)
	add(providers.UnknownOutcome, []string{file}, 408, 500, 501, 502, 503, 504, 579, 599)
	add(providers.SessionLost, []string{file}, 412, 701)
	add(providers.Mismatch, parts, 701)
	return refusals
}

func TestConforms(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		settings  map[string]string
		strict    bool
		overwrite bool
	}{
		"strict, whole blocks":     {strict: true},
		"lenient, whole blocks":    {settings: map[string]string{"auth_scheme": "cnc", "key_header": "plain"}},
		"strict, in chunks":        {strict: true, settings: map[string]string{"chunk_size": "1048576"}},
		"strict, form and replace": {strict: true, overwrite: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				b := start(t, upstreams.WCSConfig{Dir: t.TempDir(), Strict: tt.strict})
				maps.Copy(b.account.Settings, tt.settings)
				revoked := b.account
				revoked.Secrets = map[string]providers.Secret{"access_key": testKey, "secret_key": "another-secret-key"}
				h := providertest.Harness{
					Provider: b.client,
					Account:  b.account,
					Revoked:  revoked,
					Upstream: b.wcs,
					Calls: []providertest.Call{
						{By: providers.CallBegin, Action: upstreams.ActionGetUploadToken},
						{By: providers.CallPut, Action: upstreams.ActionMakeBlock},
						{By: providers.CallFinish, Action: upstreams.ActionMakeFile},
						{By: providers.CallProbe, Action: upstreams.ActionGetVideoList},
					},
					Refusals: documentedCodes(),
					FlipBit: func() {
						for _, action := range []string{upstreams.ActionMakeBlock, upstreams.ActionForm} {
							b.wcs.AddFaults(upstreams.Fault{Action: action, Times: 1, FlipBit: true})
						}
					},
					Lapse: func(_ *testing.T, ps providers.Session) providers.Session {
						b.clock.advance(2 * time.Hour)
						return ps
					},
					LoseSession: func(*testing.T, providers.Media, providers.Session) { b.clock.advance(2 * time.Hour) },
					Content:     b.content,
					NotApplicable: map[providertest.Case]string{
						providertest.CaseMostParts:      "the platform publishes no bound on the number of blocks",
						providertest.CaseAbort:          noAbort,
						providertest.CaseAbortApplied:   noAbort,
						providertest.CaseAbortLost:      noAbort,
						providertest.CaseResume:         "the platform lists no blocks",
						providertest.CaseInstant:        "the platform recognises no bytes",
						providertest.CaseFinishRepeated: "a second mkfile is refused unless it may overwrite",
					},
				}
				if tt.settings["chunk_size"] != "" {
					h.Calls = append(h.Calls, providertest.Call{By: providers.CallPut, Action: upstreams.ActionPutChunk})
				}
				if tt.overwrite {
					h.Calls = append(h.Calls, providertest.Call{By: providers.CallPut, Action: upstreams.ActionForm, Single: true})
					h.Provider = overwriting{b.client}
					delete(h.NotApplicable, providertest.CaseFinishRepeated)
				}
				return h
			})
		})
	}
}

func testMedia(t *testing.T, size int64) providers.Media {
	t.Helper()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return providers.Media{Upload: id, Epoch: 1, Name: "a.mp4", Size: size, PartSize: blockSize}
}

func (b bench) begin(t *testing.T, media providers.Media) providers.Session {
	t.Helper()
	begun, err := b.client.Begin(t.Context(), b.account, media)
	if err != nil {
		t.Fatal(err)
	}
	return begun.Session
}

// put sends data as the media's parts.
func (b bench) put(t *testing.T, ps providers.Session, data []byte) []parts.Stored {
	t.Helper()
	plan := parts.Plan{Size: int64(len(data)), PartSize: blockSize}
	stored := make([]parts.Stored, plan.Count())
	for i := range stored {
		part := plan.Part(i + 1)
		body := providertest.NewBody(b.client.Limits(), data[part.Offset:part.Offset+part.Length])
		receipt, err := b.client.PutPart(t.Context(), ps, part, body)
		if err != nil {
			t.Fatal(err)
		}
		stored[i] = parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()}
	}
	return stored
}

func (b bench) probe(t *testing.T, media providers.Media, ps providers.Session) providers.Outcome {
	t.Helper()
	out, err := b.client.Probe(t.Context(), b.account, media, ps)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantKind(t *testing.T, call string, err error, want providers.Kind) {
	t.Helper()
	if e, ok := errors.AsType[*providers.Error](err); !ok || e.Kind != want {
		t.Errorf("%s: %v, want kind %s", call, err, want)
	}
}

// TestFileThatIsNotOurs has mkfile answer 200 with another hash: it proves nothing.
func TestFileThatIsNotOurs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(stored []parts.Stored) []parts.Stored
		want  providers.Kind
	}{
		"a block is left out":  {func(s []parts.Stored) []parts.Stored { s[1].Receipt = s[0].Receipt; return s }, providers.Mismatch},
		"no digest to compare": {func(s []parts.Stored) []parts.Stored { s[1].Digest = hashing.Digest{}; return s }, providers.SessionLost},
		"nothing at all":       {func([]parts.Stored) []parts.Stored { return nil }, providers.SessionLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, upstreams.WCSConfig{}) // lenient, as traced
			data := make([]byte, 2*blockSize)
			data[0] = 1
			ps := b.begin(t, testMedia(t, int64(len(data))))
			_, err := b.client.Finish(t.Context(), ps, tt.spoil(b.put(t, ps, data)))
			wantKind(t, "finish", err, tt.want)
			made := b.wcs.Files()[0].FinishCount
			if wantMade := tt.want == providers.Mismatch; (made > 0) != wantMade {
				t.Errorf("%d files were made", made)
			}
		})
	}
}

// TestPurgedBlocksAreALostSession: mkfile alone tells.
func TestPurgedBlocksAreALostSession(t *testing.T) {
	t.Parallel()
	b := start(t, upstreams.WCSConfig{Strict: true})
	ps := b.begin(t, testMedia(t, 3))
	stored := b.put(t, ps, []byte("abc"))
	b.wcs.Purge(b.wcs.Files()[0].Key)
	_, err := b.client.Finish(t.Context(), ps, stored)
	wantKind(t, "finish", err, providers.SessionLost)
}

// TestRenew outlives the first token: blocks put before and after make one file.
func TestRenew(t *testing.T) {
	t.Parallel()
	b := start(t, upstreams.WCSConfig{Dir: t.TempDir(), Strict: true})
	data := make([]byte, blockSize+1)
	data[blockSize] = 7
	media := testMedia(t, int64(len(data)))
	first := b.begin(t, media)
	b.clock.advance(30 * time.Minute)
	second, err := b.client.Renew(t.Context(), b.account, media, first)
	if err != nil {
		t.Fatal(err)
	}
	if d := second.Expires.Sub(first.Expires); d != 30*time.Minute {
		t.Errorf("renewed by %s", d)
	}
	stored := b.put(t, first, data)[:1] // the old token is good for what is in hand
	b.clock.advance(40 * time.Minute)
	part := parts.Part{Number: 2, Offset: blockSize, Length: 1}
	_, err = b.client.PutPart(t.Context(), first, part, providertest.NewBody(b.client.Limits(), data[blockSize:]))
	wantKind(t, "put part by the lapsed token", err, providers.SessionLost)
	_, err = b.client.Finish(t.Context(), first, stored)
	wantKind(t, "finish by the lapsed token", err, providers.SessionLost)
	body := providertest.NewBody(b.client.Limits(), data[blockSize:])
	receipt, err := b.client.PutPart(t.Context(), second, part, body)
	if err != nil {
		t.Fatal(err)
	}
	stored = append(stored, parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()})
	asset, err := b.client.Finish(t.Context(), second, stored)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.content(t, asset); string(got) != string(data) {
		t.Errorf("the platform holds %d bytes that are not the %d sent", len(got), len(data))
	}
	// The breakpoint id of a finished video stands for another one from now on.
	_, err = b.client.Renew(t.Context(), b.account, media, second)
	wantKind(t, "renew after the end", err, providers.SessionLost)
}

// TestEpochsAreVideosOfTheirOwn: begin repeated is the same video, another epoch another.
func TestEpochsAreVideosOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := start(t, upstreams.WCSConfig{})
	media := testMedia(t, 3)
	ids := make([]string, 3)
	for i, epoch := range []int{1, 1, 2} {
		media.Epoch = epoch
		s, err := readSession("", b.begin(t, media))
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = s.VideoID
		if len(s.FileID) > 32 {
			t.Errorf("breakpoint id %q has %d characters", s.FileID, len(s.FileID))
		}
	}
	if ids[0] != ids[1] || ids[1] == ids[2] {
		t.Errorf("videos %q", ids)
	}
	if id := fileID(media.Upload, 99_999); len(id) > 32 {
		t.Errorf("breakpoint id %q has %d characters", id, len(id))
	}
}

// TestProbeWhileTheListLags follows what is not listed through the token's life.
func TestProbeWhileTheListLags(t *testing.T) {
	t.Parallel()
	b := start(t, upstreams.WCSConfig{Dir: t.TempDir(), Strict: true, ListDelay: 5 * time.Minute})
	media := testMedia(t, 3)
	ps := b.begin(t, media)
	stored := b.put(t, ps, []byte("abc"))
	want := func(when string, holding providers.Holding) {
		t.Helper()
		if out := b.probe(t, media, ps); out.Holding != holding {
			t.Errorf("%s: %s (%s), want %s", when, out.Holding, out.Evidence, holding)
		}
	}
	want("open", providers.HoldsSession)
	b.clock.advance(time.Hour - 30*time.Second)
	want("the token is about to lapse", providers.HoldsUnknown)
	if _, err := b.client.Finish(t.Context(), ps, stored); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(4 * time.Minute)
	want("finished, not listed yet", providers.HoldsUnknown)
	// mkfile once more, as after an unknown outcome: refused, and nothing is lost.
	_, err := b.client.Finish(t.Context(), b.begun(t, ps), stored)
	wantKind(t, "finish again", err, providers.UnknownOutcome)
	b.clock.advance(2 * time.Minute)
	want("listed", providers.HoldsAsset)
	if n := b.wcs.Files()[0].FinishCount; n != 1 {
		t.Errorf("%d files were made", n)
	}

	never := testMedia(t, 3)
	ps, media = b.begin(t, never), never
	b.clock.advance(time.Hour + defaultListDelay)
	want("never finished", providers.HoldsNothing)

	wrong := testMedia(t, 3)
	ps, media = b.begin(t, wrong), wrong
	if _, err := b.client.Finish(t.Context(), ps, b.put(t, ps, []byte("abc"))); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(5 * time.Minute)
	media.Size = 4
	want("of another size", providers.HoldsUnknown)
}

// begun returns the session as if its token had much time left.
func (b bench) begun(t *testing.T, ps providers.Session) providers.Session {
	t.Helper()
	ps.Expires = b.clock.now().Add(time.Hour)
	return ps
}

// TestFailures runs each call into a fault and looks at the kind, and that no
// error shows the token or a secret.
func TestFailures(t *testing.T) {
	t.Parallel()
	const (
		transient = providers.Transient
		throttled = providers.Throttled
		rejected  = providers.Rejected
		lost      = providers.SessionLost
		denied    = providers.Unauthorized
		unknown   = providers.UnknownOutcome
		mismatch  = providers.Mismatch
	)
	for name, tt := range map[string]struct {
		fault                        upstreams.Fault
		begin, block, form, fin, pro providers.Kind
	}{
		"reset":         {upstreams.Fault{Reset: true}, transient, transient, transient, unknown, transient},
		"500":           {upstreams.Fault{Status: 500}, transient, transient, transient, unknown, transient},
		"503":           {upstreams.Fault{Status: 503, RetryAfter: 7}, throttled, throttled, throttled, unknown, throttled},
		"429":           {upstreams.Fault{Status: 429, RetryAfter: 7}, throttled, throttled, throttled, throttled, throttled},
		"408":           {upstreams.Fault{Status: 408}, transient, transient, transient, unknown, transient},
		"401":           {upstreams.Fault{Status: 401}, denied, lost, lost, unknown, denied},
		"404":           {upstreams.Fault{Status: 404}, rejected, rejected, rejected, rejected, rejected},
		"413":           {upstreams.Fault{Status: 413}, rejected, rejected, rejected, rejected, rejected},
		"406":           {upstreams.Fault{Status: 406}, rejected, mismatch, rejected, unknown, rejected},
		"412":           {upstreams.Fault{Status: 412}, rejected, transient, transient, lost, rejected},
		"579":           {upstreams.Fault{Status: 579}, transient, transient, transient, unknown, transient},
		"599":           {upstreams.Fault{Status: 599}, transient, transient, transient, unknown, transient},
		"631":           {upstreams.Fault{Status: 631}, transient, rejected, rejected, rejected, transient},
		"701":           {upstreams.Fault{Status: 701}, transient, mismatch, mismatch, lost, transient},
		"no JSON":       {upstreams.Fault{Text: "<html>"}, transient, transient, transient, unknown, transient},
		"no code":       {upstreams.Fault{Text: "{}"}, transient, transient, transient, unknown, transient},
		"no data":       {upstreams.Fault{Text: `{"code":200}`}, transient, transient, transient, unknown, transient},
		"no address":    {upstreams.Fault{Action: callToken, Text: `{"code":200,"data":{"uploadToken":"t","fileKey":"k","videoId":"v"}}`}, transient, "", "", "", ""},
		"code 1500":     {upstreams.Fault{Action: callToken, Code: 1500}, rejected, "", "", "", ""},
		"code 1301":     {upstreams.Fault{Action: callToken, Code: 1301}, denied, "", "", "", ""},
		"code 429":      {upstreams.Fault{Action: callToken, Code: 429}, throttled, "", "", "", ""},
		"code 24112000": {upstreams.Fault{Action: callToken, Code: 24112000}, rejected, "", "", "", ""},
		"another hash":  {upstreams.Fault{Action: callFile, Text: `{"key":"k","hash":"Fto5o-5ea0sNMlW_75VgGJCv2AcJ"}`}, "", "", "", mismatch, ""},
		"another ctx":   {upstreams.Fault{Action: callBlock, Text: `{"ctx":"a,b","crc32":891568578,"offset":3}`}, "", transient, "", "", ""},
		"another crc":   {upstreams.Fault{Action: callBlock, Text: `{"ctx":"a","crc32":1,"offset":3}`}, "", mismatch, "", "", ""},
		"another end":   {upstreams.Fault{Action: callBlock, Text: `{"ctx":"a","crc32":891568578,"offset":2}`}, "", mismatch, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, upstreams.WCSConfig{})
			media, replaced := testMedia(t, 3), testMedia(t, 3)
			replaced.Options = map[string]string{"overwrite": "1"}
			byBlock, byForm := b.begin(t, media), b.begin(t, replaced)
			stored := b.put(t, byBlock, []byte("abc"))
			b.wcs.AddFaults(tt.fault)
			s, err := readSession("", byBlock)
			if err != nil {
				t.Fatal(err)
			}
			check := func(call string, err error, want providers.Kind) {
				t.Helper()
				if want == "" {
					return
				}
				wantKind(t, call, err, want)
				e, ok := errors.AsType[*providers.Error](err)
				if ok && e.RetryAfter != time.Duration(tt.fault.RetryAfter)*time.Second {
					t.Errorf("%s: retry after %s", call, e.RetryAfter)
				}
				if ok && (strings.Contains(err.Error(), s.Token) || strings.Contains(err.Error(), testSecret)) {
					t.Errorf("%s: a secret shows in %q", call, err)
				}
			}
			part := parts.Part{Number: 1, Length: 3}
			_, err = b.client.Begin(t.Context(), b.account, media)
			check("begin", err, tt.begin)
			_, err = b.client.PutPart(t.Context(), byBlock, part, providertest.NewBody(b.client.Limits(), []byte("abc")))
			check("put block", err, tt.block)
			_, err = b.client.PutPart(t.Context(), byForm, part, providertest.NewBody(b.client.Limits(), []byte("abc")))
			check("put form", err, tt.form)
			_, err = b.client.Finish(t.Context(), byBlock, stored)
			check("finish", err, tt.fin)
			_, err = b.client.Probe(t.Context(), b.account, media, byBlock)
			check("probe", err, tt.pro)
		})
	}
}

// TestRefusedChunkStartsTheBlockAgain: 401 on bput is about the ctx while the token is good.
func TestRefusedChunkStartsTheBlockAgain(t *testing.T) {
	t.Parallel()
	b := start(t, upstreams.WCSConfig{Dir: t.TempDir()})
	b.account.Settings["chunk_size"] = "65536"
	data := make([]byte, 200_000)
	data[150_000] = 9
	media := testMedia(t, int64(len(data)))
	ps := b.begin(t, media)
	b.wcs.AddFaults(upstreams.Fault{Action: callChunk, From: 2, Times: 1, Code: 401})
	part := parts.Part{Number: 1, Length: media.Size}
	_, err := b.client.PutPart(t.Context(), ps, part, providertest.NewBody(b.client.Limits(), data))
	wantKind(t, "put part", err, providers.Transient)
	asset, err := b.client.Finish(t.Context(), ps, b.put(t, ps, data))
	if err != nil {
		t.Fatal(err)
	}
	if got := b.content(t, asset); string(got) != string(data) {
		t.Error("the platform holds other bytes")
	}
	var calls []string
	for _, c := range b.wcs.Calls() {
		calls = append(calls, fmt.Sprintf("%s@%d %d", c.Action, c.Offset, c.Received))
	}
	want := []string{
		"getUploadToken@0 " + fmt.Sprint(b.wcs.Calls()[0].Received),
		"mkblk@0 65536", "bput@65536 65536", "bput@131072 65536",
		"mkblk@0 65536", "bput@65536 65536", "bput@131072 65536", "bput@196608 3392", "mkfile@0 32",
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestFormUploadOnlyWhereItMayBeRepeated: a form upload is a finished video at once.
func TestFormUploadOnlyWhereItMayBeRepeated(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size    int64
		options map[string]string
		want    string
	}{
		"small, may be replaced": {3, map[string]string{"overwrite": "true"}, callForm},
		"a block, the same":      {blockSize, map[string]string{"overwrite": "true"}, callForm},
		"small, may not":         {3, map[string]string{"overwrite": "false"}, callBlock},
		"small, nothing said":    {3, nil, callBlock},
		"more than a block":      {blockSize + 1, map[string]string{"overwrite": "true"}, callBlock},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, upstreams.WCSConfig{Dir: t.TempDir()})
			media := testMedia(t, tt.size)
			media.Options = tt.options
			media.Name = `film "é".mp4`
			ps := b.begin(t, media)
			data := make([]byte, tt.size)
			stored := b.put(t, ps, data)
			if got := b.wcs.Calls()[1].Action; got != tt.want {
				t.Errorf("%s was called, want %s", got, tt.want)
			}
			asset, err := b.client.Finish(t.Context(), ps, stored)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.content(t, asset); string(got) != string(data) {
				t.Error("the platform holds other bytes")
			}
			f := b.wcs.Files()[0]
			want := uploads.Asset{ID: f.VideoID, URL: f.URL, Detail: map[string]string{"file_key": f.Key, "bucket": "local-cloudv", "hash": f.Hash}}
			want.Check = &uploads.AssetCheck{Kind: "wcs hash", Expected: f.Hash, Got: f.Hash}
			if diff := cmp.Diff(want, asset); diff != "" {
				t.Errorf("asset (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTokenStaysWhereItBelongs: it is not sent on, and not shown where it is echoed.
func TestTokenStaysWhereItBelongs(t *testing.T) {
	t.Parallel()
	var calls []string
	transport, url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		calls = append(calls, r.URL.Path)
		if r.URL.Path == "/mkfile/3" {
			http.Redirect(w, r, "/elsewhere", http.StatusSeeOther)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"code":"400","message":"odd token %s"}`, r.Header.Get("Authorization"))
	}))
	client := New(&http.Client{Transport: transport})
	ps, err := session{UploadURL: url, Token: "SIGNED", Chunk: blockSize}.encode(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	part := parts.Part{Number: 1, Length: 3}
	sum, err := hashing.Sum(hashing.SHA1, []byte("abc"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.PutPart(t.Context(), ps, part, providertest.NewBody(client.Limits(), []byte("abc")))
	wantKind(t, "put part", err, providers.Rejected)
	if err == nil || strings.Contains(err.Error(), "SIGNED") || !strings.Contains(err.Error(), "odd token [redacted]") {
		t.Errorf("the error is %q", err)
	}
	_, err = client.Finish(t.Context(), ps, []parts.Stored{{Part: part, Receipt: parts.Receipt{Tag: "0"}, Digest: sum}})
	wantKind(t, "finish", err, providers.UnknownOutcome)
	_, err = client.PutPart(t.Context(), ps, part, providertest.NewBody(client.Limits(), []byte("abcd")))
	wantKind(t, "put part with another length", err, providers.Mismatch)
	if diff := cmp.Diff([]string{"/mkblk/3/0", "/mkfile/3"}, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestCancelledWhileThePlatformIsSilent cancels a part whose answer does not come.
func TestCancelledWhileThePlatformIsSilent(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	transport, url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the part is all there
		close(arrived)
		<-r.Context().Done()
	}))
	client := New(&http.Client{Transport: transport})
	ps, err := session{UploadURL: url, Token: "SIGNED", Chunk: blockSize}.encode(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
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
		t.Errorf("the token shows in %q", err)
	}
}

// once is a transport that refuses requests that a transport may send again by itself.
type once struct{ http.RoundTripper }

var errTwice = errors.New("the body can be had twice")

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.GetBody != nil && strings.HasPrefix(r.URL.Path, "/mkfile/") {
		return nil, errTwice
	}
	return o.RoundTripper.RoundTrip(r)
}

// TestFinishIsSentOnce breaks a kept connection under mkfile.
func TestFinishIsSentOnce(t *testing.T) {
	t.Parallel()
	b := start(t, upstreams.WCSConfig{})
	b.client.http.Transport = once{b.client.http.Transport}
	ps := b.begin(t, testMedia(t, 3))
	stored := b.put(t, ps, []byte("abc")) // leaves a connection behind
	b.wcs.AddFaults(upstreams.Fault{Action: callFile, Reset: true})
	_, err := b.client.Finish(t.Context(), ps, stored)
	wantKind(t, "finish", err, providers.UnknownOutcome)
	if errors.Is(err, errTwice) {
		t.Error(err)
	}
	var n int
	for _, c := range b.wcs.Calls() {
		if c.Action == callFile {
			n++
		}
	}
	if n != 1 {
		t.Errorf("mkfile was called %d times", n)
	}
}
