package tencentcos

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// world is one upload on its way.
type world struct {
	client  *Client
	vod     *upstreams.VODApply
	account providers.Account
	media   providers.Media
	data    []byte
	session providers.Session
	stored  []parts.Stored
}

// open begins an upload of size bytes in parts of 1 MiB.
func open(t *testing.T, config upstreams.VODApplyConfig, size int, settings ...string) *world {
	t.Helper()
	w := &world{data: make([]byte, size)}
	w.client, w.vod, w.account = start(t, config)
	for i := 0; i < len(settings); i += 2 {
		w.account = with(w.account, settings[i], settings[i+1])
	}
	_, _ = rand.Read(w.data) // never fails
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	w.media = providers.Media{Upload: id, Epoch: 1, Name: "my film.mp4", ContentType: "video/mp4", Size: int64(size), PartSize: 1 << 20}
	w.begin(t)
	return w
}

func (w *world) begin(t *testing.T) providers.Begun {
	t.Helper()
	begun, err := w.client.Begin(t.Context(), w.account, w.media)
	if err != nil {
		t.Fatal(err)
	}
	w.session, w.stored = begun.Session, begun.Found
	return begun
}

// put sends part n; the ledger keeps its digest.
func (w *world) put(ctx context.Context, n int) error {
	part := planOf(w.media).Part(n)
	body := providertest.NewBody(w.client.Limits(), w.data[part.Offset:part.Offset+part.Length])
	receipt, err := w.client.PutPart(ctx, w.session, part, body)
	if err != nil {
		return err
	}
	w.stored = append(w.stored, parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()})
	return nil
}

func (w *world) putAll(t *testing.T) {
	t.Helper()
	for n := range planOf(w.media).Count() {
		if err := w.put(t.Context(), n+1); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) finish(t *testing.T) uploads.Asset {
	t.Helper()
	asset, err := w.client.Finish(t.Context(), w.session, w.stored)
	if err != nil {
		t.Fatal(err)
	}
	return asset
}

func (w *world) probe(t *testing.T) providers.Outcome {
	t.Helper()
	out, err := w.client.Probe(t.Context(), w.account, w.media, w.session)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// count returns how many calls of the action the platform has seen.
func (w *world) count(action string) int {
	n := 0
	for _, c := range w.vod.Storage().Calls() {
		if c.Action == action {
			n++
		}
	}
	return n
}

func wantKind(t *testing.T, err error, want providers.Kind) {
	t.Helper()
	if e, ok := errors.AsType[*providers.Error](err); !ok || e.Kind != want {
		t.Errorf("error %v, want a *providers.Error of kind %s", err, want)
	}
}

// TestFailures runs each call into a fault and looks at the kind, and that no
// error shows a secret.
func TestFailures(t *testing.T) {
	t.Parallel()
	const apply, part, complete, commit = upstreams.ActionApply, upstreams.COSUploadPart, upstreams.COSComplete, upstreams.ActionCommit
	lost := map[string]providers.Kind{
		apply: providers.Transient, part: providers.Transient, complete: providers.UnknownOutcome, commit: providers.UnknownOutcome,
	}
	same := func(kind providers.Kind) map[string]providers.Kind {
		return map[string]providers.Kind{apply: kind, part: kind, complete: kind, commit: kind}
	}
	busy := map[string]providers.Kind{
		apply: providers.Throttled, part: providers.Throttled, complete: providers.UnknownOutcome, commit: providers.UnknownOutcome,
	}
	storage := func(kinds ...providers.Kind) map[string]providers.Kind {
		return map[string]providers.Kind{part: kinds[0], complete: kinds[1]}
	}
	for name, tt := range map[string]struct {
		fault upstreams.Fault
		want  map[string]providers.Kind
	}{
		"reset":           {upstreams.Fault{Reset: true}, lost},
		"reset in mid":    {upstreams.Fault{Reset: true, AfterBytes: 100}, lost},
		"500":             {upstreams.Fault{Status: 500}, lost},
		"503":             {upstreams.Fault{Status: 503, RetryAfter: 7}, busy},
		"429":             {upstreams.Fault{Status: 429, RetryAfter: 7}, same(providers.Throttled)},
		"404":             {upstreams.Fault{Status: 404}, same(providers.Rejected)},
		"no document":     {upstreams.Fault{Text: "<html>", Action: apply}, lost},
		"no document, 2":  {upstreams.Fault{Text: "<html>", Action: complete}, lost},
		"no document, 3":  {upstreams.Fault{Text: "<html>", Action: commit}, lost},
		"no file id":      {upstreams.Fault{Text: `{"Response":{"RequestId":"r"},"code":0}`, Action: commit}, lost},
		"lacks a bucket":  {upstreams.Fault{Text: `{"Response":{"RequestId":"r"},"code":0,"storageAppId":1,"storageRegionV5":"r"}`, Action: apply}, lost},
		"slow down":       {upstreams.Fault{ErrorCode: "SlowDown", RetryAfter: 7}, storage(providers.Throttled, providers.Throttled)},
		"internal error":  {upstreams.Fault{ErrorCode: "InternalError"}, storage(providers.Transient, providers.UnknownOutcome)},
		"expired token":   {upstreams.Fault{ErrorCode: "ExpiredToken"}, storage(providers.SessionLost, providers.SessionLost)},
		"invalid part":    {upstreams.Fault{ErrorCode: "InvalidPart", Action: complete}, storage("", providers.SessionLost)},
		"denied":          {upstreams.Fault{ErrorCode: "AccessDenied"}, storage(providers.Unauthorized, providers.Unauthorized)},
		"error in a 200":  {upstreams.Fault{Text: "\n \n" + errorDocument("InternalError"), Action: complete}, lost},
		"error in a 200'": {upstreams.Fault{Text: errorDocument("EntityTooSmall"), Action: complete}, storage("", providers.Rejected)},
		"no CRC":          {upstreams.Fault{Text: " ", Action: part}, storage(providers.Mismatch, "")},
	} {
		for _, generation := range []api{apiV2, apiV3} {
			t.Run(name+", "+string(generation), func(t *testing.T) {
				t.Parallel()
				w := open(t, upstreams.VODApplyConfig{}, 1<<20+1, "api", string(generation))
				check := func(action string, call func() error) {
					want, ok := tt.want[action]
					if !ok || want == "" || (tt.fault.Action != "" && tt.fault.Action != action) {
						return
					}
					fault := tt.fault
					fault.Action, fault.Times = action, 1
					w.vod.Storage().ClearFaults()
					w.vod.Storage().AddFaults(fault)
					err := call()
					wantKind(t, err, want)
					if e, ok := errors.AsType[*providers.Error](err); ok && e.RetryAfter != time.Duration(fault.RetryAfter)*time.Second {
						t.Errorf("%s: retry after %s", action, e.RetryAfter)
					}
					w.noSecret(t, err)
				}
				check(apply, func() error { _, err := w.client.Begin(t.Context(), w.account, w.media); return err })
				check(part, func() error { return w.put(t.Context(), 1) })
				finish := func() error { _, err := w.client.Finish(t.Context(), w.session, w.stored); return err }
				w.stored = nil
				w.putAll(t)
				check(complete, finish)
				check(commit, finish)
			})
		}
	}
}

func (w *world) noSecret(t *testing.T, err error) {
	t.Helper()
	s, rerr := readSession(callPart, w.session)
	if rerr != nil {
		t.Fatal(rerr)
	}
	for _, secret := range []string{dummyKey, s.COSKey, s.COSToken, s.SessionKey, "q-signature", "Signature="} {
		if err != nil && secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%q shows in %v", secret, err)
		}
	}
}

// TestEchoedSecrets has the platform repeat what it was sent.
func TestEchoedSecrets(t *testing.T) {
	t.Parallel()
	for _, generation := range []api{apiV2, apiV3} {
		w := open(t, upstreams.VODApplyConfig{}, 3, "api", string(generation))
		w.putAll(t)
		s, err := readSession(callPart, w.session)
		if err != nil {
			t.Fatal(err)
		}
		words := fmt.Sprintf("%s of %s is bad; %s", s.SessionKey, dummyID, strings.Repeat("x", 5000))
		w.vod.Storage().AddFaults(upstreams.Fault{
			Action: upstreams.ActionCommit,
			Text:   fmt.Sprintf(`{"code":4000,"message":%q,"Response":{"RequestId":"r","Error":{"Code":"InvalidParameter","Message":%q}}}`, words, words),
		})
		_, err = w.client.Finish(t.Context(), w.session, w.stored)
		wantKind(t, err, providers.Rejected)
		w.noSecret(t, err)
		if err == nil || strings.Contains(err.Error(), dummyID) || len(err.Error()) > 2*webapi.MaxWords {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestFlippedBits damages bytes on their way: in a part, in a file that is put
// in one call, and when the parts are put together.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 2 << 20} {
		w := open(t, upstreams.VODApplyConfig{Dir: t.TempDir()}, size)
		w.vod.Storage().AddFaults(
			upstreams.Fault{Action: upstreams.COSPutObject, Times: 1, FlipBit: true},
			upstreams.Fault{Action: upstreams.COSUploadPart, Times: 1, FlipBit: true},
		)
		wantKind(t, w.put(t.Context(), 1), providers.Mismatch)
		w.putAll(t)
		if asset := w.finish(t); !bytes.Equal(providertest.Fetch(t, w.client.http, asset.URL), w.data) {
			t.Errorf("%d bytes: the media is not what was sent", size)
		}
	}
	for _, config := range []upstreams.VODApplyConfig{{}, {Dir: t.TempDir()}} {
		w := open(t, config, 2<<20)
		w.putAll(t)
		w.vod.Storage().AddFaults(upstreams.Fault{Action: upstreams.COSComplete, FlipBit: true})
		for range 2 { // the second finds the object there, and is not taken in either
			_, err := w.client.Finish(t.Context(), w.session, w.stored)
			wantKind(t, err, providers.Mismatch)
		}
		if n := w.count(upstreams.ActionCommit); n != 0 {
			t.Errorf("a damaged object was committed %d times", n)
		}
	}
}

func TestKnownDigestMustAgree(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{}, 2<<20)
	other, err := hashing.Sum(hashing.CRC64ECMA, []byte("another object"))
	if err != nil {
		t.Fatal(err)
	}
	w.media.Digests = []hashing.Digest{other}
	w.begin(t)
	w.putAll(t)
	_, err = w.client.Finish(t.Context(), w.session, w.stored)
	wantKind(t, err, providers.Mismatch)
	if n := w.count(upstreams.COSComplete); n != 0 {
		t.Errorf("%d completions of an object that is another one", n)
	}
	w.stored[0].Digest = hashing.Digest{} // so that nothing can be combined
	_, err = w.client.Finish(t.Context(), w.session, w.stored)
	wantKind(t, err, providers.Mismatch)
	if n := w.count(upstreams.ActionCommit); n != 0 {
		t.Errorf("%d commits of an object that is another one", n)
	}
}

// attach gives the media a cover.
func (w *world) attach(image []byte, name string) {
	w.media.Options = map[string]string{"cover": "covers/" + name}
	w.media.Attachments = map[string]providers.Attachment{"cover": {
		Name: name, Size: int64(len(image)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(image)), nil },
	}}
}

func TestCover(t *testing.T) {
	t.Parallel()
	for _, generation := range []api{apiV2, apiV3} {
		for _, size := range []int{3, 2<<20 + 1} {
			w := open(t, upstreams.VODApplyConfig{Dir: t.TempDir(), Strict: true}, size, "api", string(generation))
			image := []byte("the picture of " + string(generation))
			w.attach(image, "cover.jpg")
			w.vod.Storage().AddFaults(upstreams.Fault{Action: upstreams.COSPutObject, Times: 1, FlipBit: true})
			_, err := w.client.Begin(t.Context(), w.account, w.media)
			wantKind(t, err, providers.Mismatch)
			w.begin(t)
			w.putAll(t)
			asset := w.finish(t)
			if !bytes.Equal(providertest.Fetch(t, w.client.http, asset.URL), w.data) {
				t.Error("the media is not what was sent")
			}
			if got := providertest.Fetch(t, w.client.http, asset.Detail["cover_url"]); !bytes.Equal(got, image) {
				t.Errorf("the cover is %q", got)
			}
		}
	}
	w := open(t, upstreams.VODApplyConfig{}, 3)
	w.attach(nil, "cover")
	_, err := w.client.Begin(t.Context(), w.account, w.media)
	wantKind(t, err, providers.Rejected)
	w.media.Options = nil
	_, err = w.client.Begin(t.Context(), w.account, w.media)
	if fault, ok := errors.AsType[*uploads.FieldError](err); !ok || fault.Field != "options.cover" {
		t.Errorf("a cover without a type: %v", err)
	}
	w.attach(nil, "cover.jpg")
	w.media.Attachments = nil
	_, err = w.client.Begin(t.Context(), w.account, w.media)
	wantKind(t, err, providers.Rejected)
}

func TestOptionsReachThePlatform(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{Strict: true}, 3, "sub_app_id", "1500000001", "region", "ap-beijing")
	w.media.Options = map[string]string{
		"procedure": "QCVB_SimpleProcessFile(1,1)", "class_id": "7", "source_context": "a&b=c", "file_type": "mkv",
		"session_context": "s", "expire_time": "2030-01-31T12:00:00Z",
	}
	w.begin(t)
	s, err := readSession(callPart, w.session)
	if err != nil || !strings.HasSuffix(s.Key, "/f0.mkv") {
		t.Errorf("the key is %q, %v", s.Key, err)
	}
	w.account = with(w.account, "api", "v2")
	_, err = w.client.Begin(t.Context(), w.account, w.media)
	wantKind(t, err, providers.Rejected)
	delete(w.media.Options, "session_context")
	delete(w.media.Options, "expire_time")
	w.begin(t)
}

// TestLatestV2Answer takes the answer of the latest page, which does not say
// where the bucket is.
func TestLatestV2Answer(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{}, 3, "api", "v2")
	w.vod.Storage().AddFaults(upstreams.Fault{Action: upstreams.ActionApply, Text: v2AppliedLatest})
	_, err := w.client.Begin(t.Context(), w.account, w.media)
	wantKind(t, err, providers.Rejected)
	w.account = with(with(w.account, "cos_app_id", "10022853"), "cos_region", "ap-guangzhou-2")
	w.begin(t)
	if s, err := readSession(callPart, w.session); err != nil || s.Host != "6c0f1c00vodgzp251000333-10022853.cos.ap-guangzhou-2.myqcloud.com" {
		t.Errorf("the host is %q, %v", s.Host, err)
	}
}

func TestFinishGoesOn(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]upstreams.Fault{
		"commit was throttled":      {Action: upstreams.ActionCommit, ErrorCode: "RequestLimitExceeded"},
		"HEAD failed":               {Action: upstreams.COSHeadObject, Status: 500},
		"commit gave an odd answer": {Action: upstreams.ActionCommit, Text: "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t, upstreams.VODApplyConfig{Dir: t.TempDir()}, 2<<20)
			w.putAll(t)
			fault.Times = 1
			// The CRC is not in the header, so HEAD is asked for it.
			early := upstreams.Fault{Action: upstreams.COSComplete, Times: 1, Apply: true, Text: "\n \n" + completed}
			w.vod.Storage().AddFaults(fault, early)
			if _, err := w.client.Finish(t.Context(), w.session, w.stored); err == nil {
				t.Fatal("finish succeeded")
			}
			if asset := w.finish(t); !bytes.Equal(providertest.Fetch(t, w.client.http, asset.URL), w.data) {
				t.Error("the media is not what was sent")
			}
		})
	}
	w := open(t, upstreams.VODApplyConfig{}, 2<<20)
	w.putAll(t)
	s, err := readSession(callPart, w.session)
	if err != nil {
		t.Fatal(err)
	}
	w.vod.Storage().Forget(bucketOf(s), s.Key)
	_, err = w.client.Finish(t.Context(), w.session, w.stored)
	wantKind(t, err, providers.SessionLost)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	lostCommit := func(apply bool) upstreams.Fault {
		return upstreams.Fault{Action: upstreams.ActionCommit, Times: 1, Apply: apply, Reset: true}
	}
	lostComplete := upstreams.Fault{Action: upstreams.COSComplete, Times: 1, Apply: true, Reset: true}
	for name, tt := range map[string]struct {
		config   upstreams.VODApplyConfig
		settings []string
		fault    upstreams.Fault
		lapse    bool
		want     providers.Holding
	}{
		"commit took effect":            {upstreams.VODApplyConfig{}, nil, lostCommit(true), false, providers.HoldsAsset},
		"commit was lost":               {upstreams.VODApplyConfig{}, nil, lostCommit(false), false, providers.HoldsAsset},
		"complete took effect":          {upstreams.VODApplyConfig{}, nil, lostComplete, false, providers.HoldsAsset},
		"API v2":                        {upstreams.VODApplyConfig{}, []string{"api", "v2"}, lostCommit(true), false, providers.HoldsAsset},
		"a commit may not be repeated":  {upstreams.VODApplyConfig{}, []string{"repeat_commit", "false"}, lostCommit(true), false, providers.HoldsUnknown},
		"a repeated commit is refused":  {upstreams.VODApplyConfig{CommitsOnce: true}, nil, lostCommit(true), false, providers.HoldsUnknown},
		"the same in API v2":            {upstreams.VODApplyConfig{CommitsOnce: true}, []string{"api", "v2"}, lostCommit(true), false, providers.HoldsUnknown},
		"the keys lapsed":               {upstreams.VODApplyConfig{}, nil, lostCommit(true), true, providers.HoldsAsset},
		"the keys lapsed, not complete": {upstreams.VODApplyConfig{}, nil, upstreams.Fault{Action: upstreams.COSComplete, Times: 1, Reset: true}, true, providers.HoldsNothing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t, tt.config, 2<<20, tt.settings...)
			w.putAll(t)
			w.vod.Storage().AddFaults(tt.fault)
			_, err := w.client.Finish(t.Context(), w.session, w.stored)
			wantKind(t, err, providers.UnknownOutcome)
			if tt.lapse {
				w.vod.Storage().ExpireKeys()
			}
			out := w.probe(t)
			if out.Holding != tt.want || out.Evidence == "" || (out.Asset.ID == "") != (tt.want != providers.HoldsAsset) {
				t.Errorf("probe says %+v, want %s", out, tt.want)
			}
			if n := len(slices.DeleteFunc(w.vod.Files(), func(f upstreams.AppliedFile) bool { return f.FileID == "" })); n > 1 {
				t.Errorf("there are %d assets", n)
			}
		})
	}
}

// TestProbeOfOnePart has the keys lapse of a file that was put in one call, so
// that the object is looked for and not its parts: the platform tells.
func TestProbeOfOnePart(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{}, 1000)
	w.putAll(t)
	w.vod.Storage().AddFaults(upstreams.Fault{Action: upstreams.ActionCommit, Times: 1, Apply: true, Reset: true})
	_, err := w.client.Finish(t.Context(), w.session, w.stored)
	wantKind(t, err, providers.UnknownOutcome)
	w.vod.Storage().ExpireKeys()
	if out := w.probe(t); out.Holding != providers.HoldsAsset || out.Asset.ID == "" {
		t.Errorf("probe says %+v, want %s", out, providers.HoldsAsset)
	}
}

// TestProbeSeesWhatIsListed has the storage hide a part.
func TestProbeSeesWhatIsListed(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{}, 3<<20)
	w.putAll(t)
	w.vod.Storage().AddFaults(upstreams.Fault{Action: upstreams.COSListParts, HidePart: 2})
	out := w.probe(t)
	want := []parts.Stored{w.stored[0], w.stored[2]}
	want[0].Digest, want[1].Digest = hashing.Digest{}, hashing.Digest{} // a list names no CRC
	if diff := cmp.Diff(want, out.Found); out.Holding != providers.HoldsSession || diff != "" {
		t.Errorf("probe says %s, found (-want +got):\n%s", out.Holding, diff)
	}
}

func TestLapsedKeysAreALostSession(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{}, 2<<20)
	if life := time.Until(w.session.Expires); life < time.Hour || life > 3*time.Hour {
		t.Errorf("the session lapses in %s", life)
	}
	if err := w.put(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.vod.Storage().ExpireKeys()
	wantKind(t, w.put(t.Context(), 2), providers.SessionLost)
	calls := len(w.vod.Storage().Calls())
	w.session.Expires = time.Now().Add(-time.Second)
	wantKind(t, w.put(t.Context(), 2), providers.SessionLost)
	_, err := w.client.Finish(t.Context(), w.session, w.stored)
	wantKind(t, err, providers.SessionLost)
	if err := w.client.Abort(t.Context(), w.session); err != nil {
		t.Errorf("abort of a session that is gone: %v", err)
	}
	if n := len(w.vod.Storage().Calls()); n != calls {
		t.Errorf("%d calls with keys that are known to have lapsed", n-calls)
	}
	own := open(t, upstreams.VODApplyConfig{OwnKeys: true}, 3)
	if !own.session.Expires.IsZero() {
		t.Errorf("a session with the account's own key lapses at %s", own.session.Expires)
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{Renews: true, Dir: t.TempDir()}, 2<<20)
	w.attach([]byte("image"), "cover.jpg")
	sum, err := hashing.Sum(hashing.CRC64ECMA, w.data)
	if err != nil {
		t.Fatal(err)
	}
	w.media.Digests = []hashing.Digest{sum}
	w.begin(t)
	if err := w.put(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.vod.Storage().ExpireKeys()
	wantKind(t, w.put(t.Context(), 2), providers.SessionLost)
	w.media.Attachments = nil // only Begin is given them
	fresh, err := w.client.Renew(t.Context(), w.account, w.media, w.session)
	if err != nil {
		t.Fatal(err)
	}
	w.session = fresh
	if s, err := readSession(callPart, fresh); err != nil || s.CRC != sum {
		t.Errorf("the object's digest became %q, %v", s.CRC, err)
	}
	if err := w.put(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if asset := w.finish(t); !bytes.Equal(providertest.Fetch(t, w.client.http, asset.URL), w.data) {
		t.Error("the media is not what was sent")
	}

	for name, w := range map[string]*world{
		"the platform knows no such parameter": open(t, upstreams.VODApplyConfig{}, 2<<20),
		"not wanted":                           open(t, upstreams.VODApplyConfig{Renews: true}, 2<<20, "renew", "false"),
	} {
		if _, err := w.client.Renew(t.Context(), w.account, w.media, w.session); providers.KindOf(err) != providers.Rejected {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.put(t.Context(), 1); err != nil {
			t.Errorf("%s: the session does not work any more: %v", name, err)
		}
	}
	other := open(t, upstreams.VODApplyConfig{}, 2<<20)
	other.vod.Storage().AddFaults(upstreams.Fault{Action: upstreams.ActionApply, Text: v3Applied})
	_, err = other.client.Renew(t.Context(), other.account, other.media, other.session)
	wantKind(t, err, providers.Rejected)
	own := open(t, upstreams.VODApplyConfig{OwnKeys: true}, 2<<20)
	if same, err := own.client.Renew(t.Context(), own.account, own.media, own.session); err != nil || !bytes.Equal(same.Data, own.session.Data) {
		t.Errorf("a session that does not lapse became another one: %v", err)
	}
}

// TestAdopts loses a session and finds its parts in the next epoch.
func TestAdopts(t *testing.T) {
	t.Parallel()
	for _, generation := range []api{apiV2, apiV3} {
		for name, tt := range map[string]struct {
			takes, known bool
			want         int // parts found
		}{
			"found":                   {true, true, 2},
			"the place is another":    {false, true, 0},
			"no digest to prove them": {true, false, 0},
		} {
			t.Run(string(generation)+", "+name, func(t *testing.T) {
				t.Parallel()
				w := open(t, upstreams.VODApplyConfig{TakesPaths: tt.takes, Dir: t.TempDir()}, 3<<20+5,
					"api", string(generation), "storage_path", "/films/")
				if tt.known {
					sum, err := hashing.Sum(hashing.CRC64ECMA, w.data)
					if err != nil {
						t.Fatal(err)
					}
					w.media.Digests = []hashing.Digest{sum}
				}
				w.begin(t)
				for _, n := range []int{1, 3} {
					if err := w.put(t.Context(), n); err != nil {
						t.Fatal(err)
					}
				}
				w.vod.Storage().ExpireKeys()
				w.media.Epoch++
				if found := w.begin(t).Found; len(found) != tt.want {
					t.Fatalf("found %+v, want %d parts", found, tt.want)
				}
				if asked := w.count(upstreams.COSListUploads) > 0; asked != (tt.takes && tt.known) {
					t.Errorf("it was asked for open uploads: %t", asked)
				}
				for n := range planOf(w.media).Count() {
					if !slices.ContainsFunc(w.stored, func(s parts.Stored) bool { return s.Number == n+1 }) {
						if err := w.put(t.Context(), n+1); err != nil {
							t.Fatal(err)
						}
					}
				}
				slices.SortFunc(w.stored, func(a, b parts.Stored) int { return a.Number - b.Number })
				if asset := w.finish(t); !bytes.Equal(providertest.Fetch(t, w.client.http, asset.URL), w.data) {
					t.Error("the media is not what was sent")
				}
			})
		}
	}
}

// against returns a client and the session of an open upload at a storage that
// is no more than the handler.
func against(t *testing.T, handler http.HandlerFunc) (*Client, providers.Session) {
	t.Helper()
	client, address := providertest.Serve(t, handler)
	ps, err := session{COS: address, Host: "b-1.cos.r.myqcloud.com", Key: "k", COSToken: "SECRET", UploadID: "u"}.encode(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return New(client), ps
}

func putABC(ctx context.Context, client *Client, ps providers.Session) error {
	_, err := client.PutPart(ctx, ps, parts.Part{Number: 1, Length: 3}, providertest.NewBody(client.Limits(), []byte("abc")))
	return err
}

// TestRefusalBeforeTheBodyWasRead has the storage close on a part: the reason
// is asked for by a call without a body.
func TestRefusalBeforeTheBodyWasRead(t *testing.T) {
	t.Parallel()
	client, ps := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, refused)
	})
	wantKind(t, putABC(t.Context(), client, ps), providers.SessionLost)
}

func TestPartsAreOfTheirLength(t *testing.T) {
	t.Parallel()
	client, ps := against(t, func(http.ResponseWriter, *http.Request) { t.Error("a part of another length was sent") })
	_, err := client.PutPart(t.Context(), ps, parts.Part{Number: 1, Length: 4}, providertest.NewBody(client.Limits(), []byte("abc")))
	wantKind(t, err, providers.Mismatch)
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	client, ps := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("the redirect was followed")
		}
		_, _ = io.Copy(io.Discard, r.Body)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	_, err := client.Finish(t.Context(), ps, nil)
	wantKind(t, err, providers.UnknownOutcome)
	wantKind(t, putABC(t.Context(), client, ps), providers.Transient)
}

func TestStorageEchoesItsToken(t *testing.T) {
	t.Parallel()
	client, ps := against(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, "<Error><Code>InvalidArgument</Code><Message>%s %s</Message></Error>",
			r.Header.Get(headerToken), strings.ReplaceAll(r.Header.Get("Authorization"), "&", "&amp;"))
	})
	err := putABC(t.Context(), client, ps)
	wantKind(t, err, providers.Rejected)
	if err == nil || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "q-signature") {
		t.Errorf("a secret shows in %v", err)
	}
}

// TestListsInPages has the storage list in pages, and then repeat itself.
func TestListsInPages(t *testing.T) {
	t.Parallel()
	client, ps := against(t, func(w http.ResponseWriter, r *http.Request) {
		marker, _ := strconv.Atoi(r.URL.Query().Get("part-number-marker"))
		next := min(marker+1, 3) // the last page says that there are more, and leads nowhere
		w.Header().Set(headerRequestID, "r")
		_, _ = fmt.Fprintf(w, "<ListPartsResult><Part><PartNumber>%d</PartNumber><ETag>e</ETag><Size>1</Size></Part>"+
			"<NextPartNumberMarker>%d</NextPartNumberMarker><IsTruncated>true</IsTruncated></ListPartsResult>", marker+1, next)
	})
	s, err := readSession(callList, ps)
	if err != nil {
		t.Fatal(err)
	}
	found, err := client.listParts(t.Context(), s, parts.Plan{Size: 3, PartSize: 1})
	if err != nil || len(found) != 3 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestOpenUploadIsOfTheKey lists uploads of keys that begin alike.
func TestOpenUploadIsOfTheKey(t *testing.T) {
	t.Parallel()
	client, ps := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(headerRequestID, "r")
		_, _ = io.WriteString(w, "<ListMultipartUploadsResult><Upload><Key>k</Key><UploadId>1</UploadId></Upload>"+
			"<Upload><Key>k</Key><UploadId>2</UploadId></Upload><Upload><Key>kk</Key><UploadId>3</UploadId></Upload></ListMultipartUploadsResult>")
	})
	s, err := readSession(callList, ps)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := client.openUpload(t.Context(), s); err != nil || id != "2" {
		t.Errorf("the upload is %q, %v", id, err)
	}
}

// TestChangedKey goes on with a session of before the account's key was changed.
func TestChangedKey(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{}, 2<<20, "api", "v2")
	s, err := readSession(callPart, w.session)
	if err != nil {
		t.Fatal(err)
	}
	s.SecretKey, s.COSKey = "before", "before"
	if w.session, err = s.encode(time.Time{}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.put(t.Context(), 1), providers.Unauthorized)
	if out := w.probe(t); out.Holding != providers.HoldsSession {
		t.Errorf("probe says %+v", out)
	}
	if w.session, err = w.client.Renew(t.Context(), w.account, w.media, w.session); err != nil {
		t.Fatal(err)
	}
	if err := w.put(t.Context(), 1); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
}

// TestAnswerFromElsewhere has something answer that is not the storage, with the
// right CRC.
func TestAnswerFromElsewhere(t *testing.T) {
	t.Parallel()
	client, ps := against(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set(headerCRC, "3231342946509354535") // that of abc
	})
	wantKind(t, putABC(t.Context(), client, ps), providers.Transient)
}

// TestCancelledWhileTheStorageIsSilent cancels a part whose answer does not come.
func TestCancelledWhileTheStorageIsSilent(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	client, ps := against(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the part is all there
		close(arrived)
		<-r.Context().Done()
	})
	stopped := errors.New("the worker stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(stopped)
	}()
	err := putABC(ctx, client, ps)
	if !errors.Is(err, context.Canceled) && !errors.Is(err, stopped) {
		t.Errorf("error %v, want the cancellation in its chain", err)
	}
	if err != nil && strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the token shows in %q", err)
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	client := New(http.DefaultClient)
	for name, tt := range map[string]struct {
		media providers.Media
		want  string // fields, joined
	}{
		"fine": {providers.Media{Name: "a.mp4", Options: map[string]string{
			"procedure": "p", "class_id": "7", "source_context": "x", "session_context": "y", "expire_time": "2030-01-31T12:00:00Z", "cover": "c/x.JPG",
		}}, ""},
		"no extension":   {providers.Media{Name: "film"}, "options.file_type"},
		"type given":     {providers.Media{Name: "film", Options: map[string]string{"file_type": "mkv"}}, ""},
		"unknown option": {providers.Media{Name: "a.mp4", Options: map[string]string{"wm": "1"}}, "options.wm"},
		"everything at once": {providers.Media{Name: "a", Options: map[string]string{
			"class_id": "x", "source_context": strings.Repeat("x", 251), "session_context": strings.Repeat("x", 1001), "expire_time": "soon", "cover": "image",
		}}, "options.class_id options.cover options.expire_time options.session_context options.source_context options.file_type"},
	} {
		if got := providertest.Fields(client.CheckMedia(tt.media)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	good := map[string]providers.Secret{"secret_id": "a", "secret_key": "b"}
	for name, tt := range map[string]struct {
		account providers.Account
		want    string
	}{
		"fine": {providers.Account{Secrets: good, Settings: map[string]string{
			"api": "v2", "endpoint": "https://a.b/", "cos_endpoint": "http://c:1", "cos_suffix": "tencentcos.cn", "cos_app_id": "1", "cos_region": "r",
			"region": "gz", "sub_app_id": "1500", "storage_path": "/a/b/", "repeat_commit": "false", "renew": "false",
		}}, ""},
		"no secrets": {providers.Account{}, "secrets.secret_id secrets.secret_key"},
		"bad": {providers.Account{Secrets: good, Settings: map[string]string{
			"api": "v3", "endpoint": "a.b", "cos_endpoint": "https://c/d", "cos_suffix": "a/b", "sub_app_id": "x", "storage_path": "/",
			"repeat_commit": "no way", "renew": "", "z": "",
		}}, "settings.api settings.cos_endpoint settings.cos_suffix settings.endpoint settings.renew settings.repeat_commit " +
			"settings.storage_path settings.sub_app_id settings.z"},
		"odd secrets": {providers.Account{Secrets: map[string]providers.Secret{"secret_id": "a", "secret_key": "b", "token": "c"}}, "secrets.token"},
	} {
		if got := providertest.Fields(client.CheckAccount(tt.account)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestSessionKeyTravelsWhole has the characters that a form must escape.
func TestSessionKeyTravelsWhole(t *testing.T) {
	t.Parallel()
	w := open(t, upstreams.VODApplyConfig{}, 3, "api", "v2")
	s, err := readSession(callPart, w.session)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := base64.StdEncoding.DecodeString(s.SessionKey); err != nil || !strings.ContainsAny(s.SessionKey, "+") || !strings.Contains(s.SessionKey, "=") {
		t.Errorf("the local platform's key %q tests nothing", s.SessionKey)
	}
	w.putAll(t)
	w.finish(t)
}
