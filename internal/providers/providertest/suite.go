package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// Case names a case of the suite that a platform may have no answer to.
type Case string

// The cases that Harness.NotApplicable may name.
const (
	CaseResume         Case = "resume lists the parts found"
	CaseInstant        Case = "media that is there is an instant upload"
	CaseFinishRepeated Case = "finish may be repeated"
	CaseLostSession    Case = "a session that is gone is lost"
	CaseLapsedSession  Case = "a session past its time is renewed or lost"
	CaseMostParts      Case = "as many parts as there may be"
	CaseAbort          Case = "abort leaves nothing"
	CaseAbortApplied   Case = "abort that took effect and said nothing"
	CaseAbortLost      Case = "abort that was lost on its way"
	CaseRevokedProbe   Case = "a probe with refused credentials"
	CaseAmiss          Case = "answers that are amiss"
	CaseEndless        Case = "answers without an end"
)

// Harness is one platform, fresh for each case, as the suite needs it.
type Harness struct {
	Provider providers.Provider
	Account  providers.Account
	// Options go with all media.
	Options map[string]string
	// Revoked is an account whose credentials the platform refuses.
	Revoked providers.Account
	// Upstream is the platform's local server, Calls are what it sees of each
	// method, in the order in which a method makes them, and Refusals its
	// documented errors.
	Upstream Upstream
	Calls    []Call
	Refusals []Refusal
	// SmallPart is a part size, in bytes, that the local server takes although
	// the platform would not, so that the greatest number of parts is soon sent;
	// 0 if it takes none.
	SmallPart int64
	// LoseSession makes the platform forget the unfinished upload.
	LoseSession func(t *testing.T, media providers.Media, session providers.Session)
	// Lapse, if set, makes the platform refuse the session for its age; else the
	// session's own time is set to one that has passed.
	Lapse func(t *testing.T, session providers.Session) providers.Session
	// FlipBit, if set, makes the platform flip a bit of the next part that comes
	// in. It stands in for a body that claims the digest of other bytes where the
	// platform's answer to a part is proved by another digest than
	// Limits.PartDigest, which it confirms at Finish only.
	FlipBit func()
	// Content fetches the bytes of finished media.
	Content func(t *testing.T, asset uploads.Asset) []byte
	// NotApplicable has the reason for each case that the platform leaves out.
	NotApplicable map[Case]string
}

// Attributes of the tests that Run makes, for those who read the events of
// go test -json: what has been checked, and what has not and why.
const (
	AttrCases         = "conformance-cases"          // of whoever calls Run: all cases, parted by "; "
	AttrNotApplicable = "conformance-not-applicable" // of a case that is left out: the reason
	AttrNote          = "conformance-note"           // of a case that was run: how much it looked at
)

// suiteCase is a row of what the suite shows.
type suiteCase struct {
	name  Case
	check func(t *testing.T, s *subject)
}

// allCases are the suite.
func allCases() []suiteCase {
	return slices.Concat([]suiteCase{{"an empty object has no plan", testEmpty}}, sizes(), []suiteCase{
		{CaseMostParts, testMostParts},
		{"parts repeated and out of order", testRepeated},
		{CaseFinishRepeated, testFinishRepeated},
		{CaseResume, testResume},
		{CaseInstant, testInstant},
		{"begin that took effect and said nothing", testLost(providers.CallBegin, true)},
		{"begin that was lost on its way", testLost(providers.CallBegin, false)},
		{"a part that took effect and said nothing", testLost(providers.CallPut, true)},
		{"a part that was lost on its way", testLost(providers.CallPut, false)},
		{"finish that took effect and said nothing", testLost(providers.CallFinish, true)},
		{"finish that was lost on its way", testLost(providers.CallFinish, false)},
		{"probe whose answer was lost", testLost(providers.CallProbe, true)},
		{"probe that was lost on its way", testLost(providers.CallProbe, false)},
		{CaseAbortApplied, testLost(providers.CallAbort, true)},
		{CaseAbortLost, testLost(providers.CallAbort, false)},
		{"throttled calls say how long to wait", testThrottled},
		{"each documented code has its kind", testRefusals},
		{CaseAmiss, testAmiss},
		{CaseEndless, testEndless},
		{"a wrong digest is a mismatch", testMismatch},
		{"a cancelled part returns at once", testCancelled},
		{CaseLostSession, testLostSession},
		{CaseLapsedSession, testLapsedSession},
		{CaseAbort, testAbort},
		{"refused credentials", testRevoked},
		{CaseRevokedProbe, testRevokedProbe},
	})
}

// Run runs the suite: what every provider promises to those who call it.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	cases := allCases()
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = string(c.name)
	}
	t.Attr(AttrCases, strings.Join(names, "; "))
	for _, c := range cases {
		t.Run(string(c.name), func(t *testing.T) {
			t.Parallel()
			h := open(t)
			if reason := h.NotApplicable[c.name]; reason != "" {
				t.Attr(AttrNotApplicable, reason)
				t.Skipf("not applicable: %s", reason)
			}
			c.check(t, &subject{Harness: h, limits: h.Provider.Limits()})
		})
	}
}

// subject is a harness and what the cases do with it.
type subject struct {
	Harness
	limits providers.Limits
}

// media returns fresh media of the size, with the digests that the platform needs.
func (s *subject) media(t *testing.T, size int64) (providers.Media, []byte) {
	t.Helper()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte(append(id[:], id[:]...))).Read(data) // no two media alike; it never fails
	data[0] = id[15]                                                     // a single byte differs between media as well as it can
	media := providers.Media{
		Upload: id, Epoch: 1, Name: fmt.Sprintf("%x.mp4", id[8:]), ContentType: "video/mp4",
		Size: size, PartSize: s.partSize(), Options: s.Options,
	}
	for _, kind := range s.limits.ObjectDigests {
		d, err := hashing.Sum(kind, data)
		if err != nil {
			t.Fatal(err)
		}
		media.Digests = append(media.Digests, d)
	}
	return media, data
}

// partSize returns the smallest part size that the platform takes.
func (s *subject) partSize() int64 {
	if len(s.limits.Sizes) > 0 {
		return s.limits.Sizes[0]
	}
	return max(s.limits.MinPart, 1)
}

func (s *subject) begin(t *testing.T, media providers.Media) providers.Begun {
	t.Helper()
	begun, err := s.Provider.Begin(t.Context(), s.Account, media)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return begun
}

func (s *subject) open(t *testing.T, media providers.Media) providers.Session {
	t.Helper()
	begun := s.begin(t, media)
	if begun.Asset != nil {
		t.Fatalf("begin of fresh media answered with asset %q", begun.Asset.ID)
	}
	return begun.Session
}

func planOf(media providers.Media) parts.Plan {
	return parts.Plan{Size: media.Size, PartSize: media.PartSize}
}

func (s *subject) put(t *testing.T, session providers.Session, media providers.Media, data []byte, n int) parts.Stored {
	t.Helper()
	part := planOf(media).Part(n)
	body := NewBody(s.limits, data[part.Offset:part.Offset+part.Length])
	receipt, err := s.Provider.PutPart(t.Context(), session, part, body)
	if err != nil {
		t.Fatalf("put part %d: %v", n, err)
	}
	return parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()}
}

// bare returns the parts without their digests, which a platform need not list.
func bare(stored []parts.Stored) []parts.Stored {
	out := slices.Clone(stored)
	for i := range out {
		out[i].Digest = hashing.Digest{}
	}
	return out
}

func (s *subject) putAll(t *testing.T, session providers.Session, media providers.Media, data []byte) []parts.Stored {
	t.Helper()
	stored := make([]parts.Stored, planOf(media).Count())
	for n := range stored {
		stored[n] = s.put(t, session, media, data, n+1)
	}
	return stored
}

func (s *subject) finish(t *testing.T, session providers.Session, stored []parts.Stored) uploads.Asset {
	t.Helper()
	asset, err := s.Provider.Finish(t.Context(), session, stored)
	if err != nil {
		t.Fatalf("finish: %v", err)
	}
	if asset.ID == "" {
		t.Fatal("finish named no asset")
	}
	return asset
}

func (s *subject) probe(t *testing.T, session providers.Session, media providers.Media, want providers.Holding) providers.Outcome {
	t.Helper()
	out, err := s.Provider.Probe(t.Context(), s.Account, media, session)
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	if out.Holding != want {
		t.Fatalf("probe says %s (%s), want %s", out.Holding, out.Evidence, want)
	}
	if out.Evidence == "" {
		t.Error("probe gives no evidence")
	}
	return out
}

func (s *subject) check(t *testing.T, asset uploads.Asset, data []byte) {
	t.Helper()
	if got := s.Content(t, asset); !bytes.Equal(got, data) {
		t.Errorf("the platform holds %d bytes that are not the %d sent", len(got), len(data))
	}
}

// wantKind fails unless err is a *providers.Error of the kind that shows no secret.
func (s *subject) wantKind(t *testing.T, err error, want providers.Kind) {
	t.Helper()
	s.hides(t, err)
	e, ok := errors.AsType[*providers.Error](err)
	if !ok || e.Kind != want {
		t.Errorf("error %v, want a *providers.Error of kind %s", err, want)
	}
}

func testRepeated(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, 3*s.partSize()+1)
	session := s.open(t, media)
	stored := make([]parts.Stored, planOf(media).Count())
	var mu sync.Mutex
	var sending sync.WaitGroup
	for _, n := range []int{4, 2, 3, 1, 2, 4} {
		part := planOf(media).Part(n)
		sending.Go(func() {
			body := NewBody(s.limits, data[part.Offset:part.Offset+part.Length])
			receipt, err := s.Provider.PutPart(t.Context(), session, part, body)
			if err != nil {
				t.Errorf("put part %d: %v", n, err)
			}
			mu.Lock()
			defer mu.Unlock()
			stored[n-1] = parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()}
		})
	}
	sending.Wait()
	s.check(t, s.finish(t, session, stored), data)
}

func testFinishRepeated(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, s.partSize()+1)
	session := s.open(t, media)
	stored := s.putAll(t, session, media, data)
	first, second := s.finish(t, session, stored), s.finish(t, session, stored)
	if first.ID != second.ID {
		t.Errorf("a repeated finish made asset %q beside %q", second.ID, first.ID)
	}
}

func testResume(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, 3*s.partSize()+1)
	session := s.open(t, media)
	want := []parts.Stored{s.put(t, session, media, data, 1), s.put(t, session, media, data, 4)}
	out := s.probe(t, session, media, providers.HoldsSession)
	if !slices.Equal(bare(out.Found), bare(want)) {
		t.Errorf("probe found %+v, want %+v", out.Found, want)
	}
	media.Epoch++
	begun := s.begin(t, media)
	if !slices.Equal(bare(begun.Found), bare(want)) {
		t.Fatalf("begin found %+v, want %+v", begun.Found, want)
	}
	if begun.PartSize != 0 && begun.PartSize != media.PartSize {
		t.Errorf("the part size became %d", begun.PartSize)
	}
	before := len(s.Upstream.Calls())
	stored := []parts.Stored{want[0], s.put(t, begun.Session, media, data, 2), s.put(t, begun.Session, media, data, 3), want[1]}
	s.check(t, s.finish(t, begun.Session, stored), data)
	s.wantParts(t, s.Upstream.Calls()[before:], media, 2, 3)
}

// wantParts fails unless the calls put just these parts, each once: what the
// platform listed does not travel again.
func (s *subject) wantParts(t *testing.T, calls []upstreams.Call, media providers.Media, want ...int) {
	t.Helper()
	var got []int
	for _, c := range calls {
		for action := range s.callsOf(providers.CallPut) {
			switch {
			case c.Action != action:
			case c.Part > 0:
				got = append(got, c.Part)
			default:
				got = append(got, int(c.Offset/media.PartSize)+1)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("after the resume parts %v were put, want %v", got, want)
	}
}

func testInstant(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, s.partSize()+1)
	session := s.open(t, media)
	asset := s.finish(t, session, s.putAll(t, session, media, data))
	again := media
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	again.Upload = id
	if begun := s.begin(t, again); begun.Asset == nil || begun.Asset.ID != asset.ID {
		t.Errorf("begin answered %+v, want asset %q", begun.Asset, asset.ID)
	}
}

func testMismatch(t *testing.T, s *subject) {
	t.Helper()
	for _, count := range []int64{1, 2} { // a single part may travel another way
		media, data := s.media(t, count*s.partSize())
		session := s.open(t, media)
		part := planOf(media).Part(1)
		other, err := hashing.Sum(s.limits.PartDigest, []byte("other bytes"))
		if err != nil {
			t.Fatal(err)
		}
		body := NewBody(s.limits, data[:part.Length])
		if s.FlipBit != nil {
			s.FlipBit()
		} else {
			body.Forge(other)
		}
		_, err = s.Provider.PutPart(t.Context(), session, part, body)
		s.wantKind(t, err, providers.Mismatch)
		s.check(t, s.finish(t, session, s.putAll(t, session, media, data)), data)
	}
}

// stalled is a body that stops after its first bytes until the part is cancelled.
type stalled struct {
	*Body
	ctx    context.Context // as a body that reads from staging holds that of its read
	cancel context.CancelCauseFunc
	after  int
}

func (b *stalled) Read(p []byte) (int, error) {
	if b.after <= 0 {
		b.cancel(errors.New("the worker stops"))
		<-b.ctx.Done()
		return 0, context.Cause(b.ctx)
	}
	n, err := b.Body.Read(p[:min(len(p), b.after)])
	b.after -= n
	return n, err
}

func testCancelled(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, 2*s.partSize())
	session := s.open(t, media)
	part := planOf(media).Part(1)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var body providers.Body = &stalled{Body: NewBody(s.limits, data[:part.Length]), ctx: ctx, cancel: cancel, after: 1000}
	if s.limits.DigestFirst {
		body = NewBody(s.limits, data[:part.Length]) // it is in memory and cannot stall
		cancel(errors.New("the worker stops"))
	}
	start := time.Now()
	_, err := s.Provider.PutPart(ctx, session, part, body)
	if !errors.Is(err, context.Canceled) && (err == nil || !errors.Is(err, context.Cause(ctx))) {
		t.Errorf("error %v, want the cancellation in its chain", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %s to return", took)
	}
	s.check(t, s.finish(t, session, s.putAll(t, session, media, data)), data)
}

func testLostSession(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, 2*s.partSize())
	session := s.open(t, media)
	s.put(t, session, media, data, 1)
	s.LoseSession(t, media, session)
	part := planOf(media).Part(2)
	_, err := s.Provider.PutPart(t.Context(), session, part, NewBody(s.limits, data[part.Offset:]))
	s.wantKind(t, err, providers.SessionLost)
	s.probe(t, session, media, providers.HoldsNothing)
}

// testLapsedSession puts a part under a session whose time is over: what comes
// of it leads to a session that is good.
func testLapsedSession(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, 2*s.partSize())
	old := s.open(t, media)
	first := s.put(t, old, media, data, 1)
	if s.Lapse != nil {
		old = s.Lapse(t, old)
	} else {
		if old.Expires.IsZero() {
			t.Fatal("the session does not say when it lapses")
		}
		old.Expires = time.Now().Add(-time.Minute)
	}
	part := planOf(media).Part(2)
	_, err := s.Provider.PutPart(t.Context(), old, part, NewBody(s.limits, data[part.Offset:]))
	renewer, renews := s.Provider.(providers.Renewer)
	var session providers.Session
	switch kind := providers.KindOf(err); {
	case err == nil:
		t.Fatal("a part was put past the session's time")
	case renews && (kind == providers.Unauthorized || kind == providers.SessionLost):
		if session, err = renewer.Renew(t.Context(), s.Account, media, old); err != nil && providers.KindOf(err) != providers.Rejected {
			t.Fatalf("renew: %v", err)
		}
	default:
		s.wantKind(t, err, providers.SessionLost)
	}
	if session.Data == nil { // a new epoch, which may find what is there
		media.Epoch++
		session = s.open(t, media)
		first = s.put(t, session, media, data, 1)
	}
	s.check(t, s.finish(t, session, []parts.Stored{first, s.put(t, session, media, data, 2)}), data)
}

func testAbort(t *testing.T, s *subject) {
	t.Helper()
	media, data := s.media(t, 2*s.partSize())
	session := s.open(t, media)
	s.put(t, session, media, data, 1)
	for range 2 { // it may be repeated
		if err := s.Provider.Abort(t.Context(), session); err != nil {
			t.Fatalf("abort: %v", err)
		}
	}
	s.probe(t, session, media, providers.HoldsNothing)

	finished, content := s.media(t, 2*s.partSize())
	session = s.open(t, finished)
	asset := s.finish(t, session, s.putAll(t, session, finished, content))
	if err := s.Provider.Abort(t.Context(), session); err != nil {
		t.Errorf("abort of a finished upload: %v", err)
	}
	s.check(t, asset, content)
}

func testRevoked(t *testing.T, s *subject) {
	t.Helper()
	media, _ := s.media(t, 2*s.partSize())
	_, err := s.Provider.Begin(t.Context(), s.Revoked, media)
	s.wantKind(t, err, providers.Unauthorized)
}

func testRevokedProbe(t *testing.T, s *subject) {
	t.Helper()
	media, _ := s.media(t, 2*s.partSize())
	_, err := s.Provider.Probe(t.Context(), s.Revoked, media, providers.Session{})
	s.wantKind(t, err, providers.Unauthorized)
}

// hides fails if the error shows a secret of the accounts, or what authorised a
// call: the local servers quote that when they refuse, in << and >>.
func (s *subject) hides(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, account := range []providers.Account{s.Account, s.Revoked} {
		for name, secret := range account.Secrets {
			if secret != "" && strings.Contains(err.Error(), secret.Reveal()) {
				t.Errorf("the error shows %s: %v", name, err)
			}
		}
	}
	for _, quoted := range strings.Split(err.Error(), "<<")[1:] {
		if !strings.HasPrefix(quoted, "[redacted]>>") {
			t.Errorf("the error shows what authorised the call: %v", err)
		}
	}
}
