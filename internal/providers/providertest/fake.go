// Package providertest holds an in-memory platform for the tests of what calls
// providers, and the conformance suite that every provider passes.
package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Hook is asked before each call of a Fake; nth counts the calls of that kind
// from 1. apply says whether the call takes effect, err what the caller is
// told, so a call can be refused (false, err), carried out (true, nil), or
// carried out and reported as failed (true, err). It is called without a lock
// held, by many goroutines, and may block.
type Hook func(call providers.Call, nth int) (apply bool, err error)

// Fake is a platform in memory. It keeps real state, and it is harsh where
// platforms differ: a second Finish of one session makes a second asset, a
// part of a wrong length or offset is rejected, a body is read to its end and
// checked against its digest. Where Limits.ObjectDigests is set, media are
// recognised by account and digest, so Begin resumes and answers with the
// asset of bytes that are there already; else each Begin opens a session of
// its own. It is safe for use by many goroutines.
type Fake struct {
	limits providers.Limits

	mu       sync.Mutex
	hook     Hook
	discard  bool
	revoked  map[string]bool
	calls    map[providers.Call]int
	sessions map[string]*session // by session id
	assets   map[string]*asset   // by asset id
	seen     map[uploads.ID]*Seen
	serial   int
}

// Seen counts what reached the platform for one upload.
type Seen struct {
	Begins   int
	Puts     map[int]int // calls of PutPart, by part number, refused ones included
	Bytes    int64       // of all bodies, repeats included
	Finishes int
	Probes   int
	Aborts   int
	Assets   []uploads.Asset // made by Finish
}

type session struct {
	id      string
	account string
	media   providers.Media
	parts   map[int]storedPart
	asset   *asset // set once finished
	gone    bool   // lost or aborted; kept so that late calls are counted for their upload
}

type storedPart struct {
	parts.Stored
	data []byte // nil when bytes are discarded
	crc  hashing.Digest
}

type asset struct {
	uploads.Asset
	account string
	digests []hashing.Digest
	upload  uploads.ID
	content []storedPart // in the order of the file
}

// sessionData is the encoding of Session.Data.
type sessionData struct {
	ID string `json:"id"`
}

var _ providers.Provider = (*Fake)(nil)

// NewFake returns an empty platform with the limits.
func NewFake(limits providers.Limits) *Fake {
	return &Fake{
		limits:   limits,
		revoked:  make(map[string]bool),
		calls:    make(map[providers.Call]int),
		sessions: make(map[string]*session),
		assets:   make(map[string]*asset),
		seen:     make(map[uploads.ID]*Seen),
	}
}

// SetHook replaces the hook; nil carries out every call.
func (f *Fake) SetHook(hook Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Discard makes the platform forget the bytes of parts that come in from now
// on and keep only their length and CRC-64/NVME; Content then has no answer.
func (f *Fake) Discard() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.discard = true
}

// Revoke makes every call of the account, by name, fail as Unauthorized, or
// takes that back.
func (f *Fake) Revoke(account string, revoked bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked[account] = revoked
}

// LoseSessions forgets the open sessions of the upload and the parts in them,
// as a platform does when they lapse.
func (f *Fake) LoseSessions(upload uploads.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.media.Upload == upload {
			s.discard()
		}
	}
}

// AddAsset makes the platform hold finished media with the digest in the
// account, so that Begin for the same bytes answers with it at once.
func (f *Fake) AddAsset(account string, digest hashing.Digest) uploads.Asset {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.newAsset(account, []hashing.Digest{digest})
	return a.Asset
}

// Seen returns a copy of what reached the platform for the upload.
func (f *Fake) Seen(upload uploads.ID) Seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	got := *f.seenOf(upload)
	got.Puts = maps.Clone(got.Puts)
	got.Assets = slices.Clone(got.Assets)
	return got
}

// UploadOf returns the upload whose Begin opened the session, the zero ID of a
// session that is not known.
func (f *Fake) UploadOf(ps providers.Session) uploads.ID { return f.uploadOf(sessionID(ps)) }

// Calls returns how often the call was made, for all uploads.
func (f *Fake) Calls(call providers.Call) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

// Content returns the bytes of an asset that Finish made; false if there is no
// such asset or its bytes were discarded.
func (f *Fake) Content(assetID string) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.assets[assetID]
	if !ok {
		return nil, false
	}
	var out []byte
	for _, p := range a.content {
		if p.data == nil {
			return nil, false
		}
		out = append(out, p.data...)
	}
	return out, true
}

// PartCRCs returns the CRC-64/NVME of each part of an asset, in order; it is
// known for discarded bytes too.
func (f *Fake) PartCRCs(assetID string) []hashing.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.assets[assetID]
	if !ok {
		return nil
	}
	sums := make([]hashing.Digest, len(a.content))
	for i, p := range a.content {
		sums[i] = p.crc
	}
	return sums
}

// Limits returns what NewFake was given.
func (f *Fake) Limits() providers.Limits { return f.limits }

// Begin opens a session, takes up that of the same media, or answers with its
// asset.
func (f *Fake) Begin(ctx context.Context, account providers.Account, media providers.Media) (providers.Begun, error) {
	var begun providers.Begun
	err := f.call(ctx, providers.CallBegin, media.Upload, func(s *Seen) { s.Begins++ }, func() error {
		if f.revoked[account.Name] {
			return refuse(providers.CallBegin, providers.Unauthorized, "account is revoked")
		}
		if a := f.findAsset(account.Name, media); a != nil {
			found := a.Asset
			begun = providers.Begun{Asset: &found}
			return nil
		}
		if s := f.findSession(account.Name, media); s != nil {
			begun = providers.Begun{Session: f.sealed(s), PartSize: s.media.PartSize, Found: s.found()}
			return nil
		}
		f.serial++
		s := &session{
			id:      fmt.Sprintf("session-%d", f.serial),
			account: account.Name,
			media:   media,
			parts:   make(map[int]storedPart),
		}
		f.sessions[s.id] = s
		begun = providers.Begun{Session: f.sealed(s)}
		return nil
	})
	return begun, err
}

// PutPart reads the body to its end, checks its length and digest, and keeps
// it in place of what the session had under the part's number.
func (f *Fake) PutPart(ctx context.Context, ps providers.Session, part parts.Part, body providers.Body) (parts.Receipt, error) {
	id := sessionID(ps)
	apply, told := f.enter(providers.CallPut, f.uploadOf(id), func(s *Seen) { s.Puts[part.Number]++ })
	if !apply {
		return parts.Receipt{}, told
	}
	stored, err := f.drain(ctx, id, part, body)
	if err != nil {
		return parts.Receipt{}, err
	}
	err = f.keep(id, stored)
	if told != nil {
		err = told
	}
	if err != nil {
		return parts.Receipt{}, err
	}
	return stored.Receipt, nil
}

// Finish assembles the parts that stored names, which must cover the media,
// into a new asset.
func (f *Fake) Finish(ctx context.Context, ps providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	var made uploads.Asset
	id := sessionID(ps)
	err := f.call(ctx, providers.CallFinish, f.uploadOf(id), func(s *Seen) { s.Finishes++ }, func() error {
		s, err := f.open(providers.CallFinish, id)
		if err != nil {
			return err
		}
		content, err := s.assemble(stored)
		if err != nil {
			return err
		}
		a := f.newAsset(s.account, s.media.Digests)
		a.upload, a.content = s.media.Upload, content
		s.asset = a
		made = a.Asset
		seen := f.seenOf(s.media.Upload)
		seen.Assets = append(seen.Assets, a.Asset)
		return nil
	})
	return made, err
}

// Probe answers from the session, or by digest where the session is not known.
func (f *Fake) Probe(ctx context.Context, account providers.Account, media providers.Media, ps providers.Session) (providers.Outcome, error) {
	var out providers.Outcome
	err := f.call(ctx, providers.CallProbe, media.Upload, func(s *Seen) { s.Probes++ }, func() error {
		if f.revoked[account.Name] {
			return refuse(providers.CallProbe, providers.Unauthorized, "account is revoked")
		}
		s := f.sessions[sessionID(ps)]
		if s == nil || s.gone {
			s = f.findSession(account.Name, media)
		}
		switch {
		case s != nil && s.asset != nil:
			out = providers.Outcome{Holding: providers.HoldsAsset, Asset: s.asset.Asset}
		case f.findAsset(account.Name, media) != nil:
			out = providers.Outcome{Holding: providers.HoldsAsset, Asset: f.findAsset(account.Name, media).Asset}
		case s != nil:
			out = providers.Outcome{Holding: providers.HoldsSession, Found: s.found(), Listed: true}
		default:
			out = providers.Outcome{Holding: providers.HoldsNothing}
		}
		out.Evidence = "the fake holds: " + string(out.Holding)
		return nil
	})
	return out, err
}

// Abort forgets the session unless it is finished.
func (f *Fake) Abort(ctx context.Context, ps providers.Session) error {
	id := sessionID(ps)
	return f.call(ctx, providers.CallAbort, f.uploadOf(id), func(s *Seen) { s.Aborts++ }, func() error {
		if s := f.sessions[id]; s != nil {
			s.discard()
		}
		return nil
	})
}

// call runs one call without a body: the hook, then apply under the lock.
func (f *Fake) call(ctx context.Context, name providers.Call, upload uploads.ID, count func(*Seen), apply func() error) error {
	ok, told := f.enter(name, upload, count)
	if ctx.Err() != nil {
		return cut(name, context.Cause(ctx))
	}
	if !ok {
		return told
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := apply(); err != nil {
		return err
	}
	return told
}

// enter counts the call and asks the hook.
func (f *Fake) enter(name providers.Call, upload uploads.ID, count func(*Seen)) (apply bool, err error) {
	f.mu.Lock()
	f.calls[name]++
	nth := f.calls[name]
	count(f.seenOf(upload))
	hook := f.hook
	f.mu.Unlock()
	if hook == nil {
		return true, nil
	}
	return hook(name, nth)
}

// drain reads the body without the lock, and judges it.
func (f *Fake) drain(ctx context.Context, id string, part parts.Part, body providers.Body) (storedPart, error) {
	f.mu.Lock()
	discard := f.discard
	upload := f.uploadOfLocked(id)
	f.mu.Unlock()

	stored := storedPart{Stored: parts.Stored{Part: part}}
	crc, err := hashing.NewHash(hashing.CRC64NVME)
	if err != nil {
		return stored, refuse(providers.CallPut, providers.Rejected, err.Error())
	}
	sums := []hash.Hash{crc}
	if f.limits.PartDigest != "" {
		sum, err := hashing.NewHash(f.limits.PartDigest)
		if err != nil {
			return stored, refuse(providers.CallPut, providers.Rejected, err.Error())
		}
		sums = append(sums, sum)
	}
	var length int64
	for buf := make([]byte, 64<<10); ; {
		if ctx.Err() != nil {
			return stored, cut(providers.CallPut, context.Cause(ctx))
		}
		n, err := body.Read(buf)
		length += int64(n)
		f.received(upload, n)
		for _, s := range sums {
			_, _ = s.Write(buf[:n]) // a hash never returns an error
		}
		if !discard {
			stored.data = append(stored.data, buf[:n]...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return stored, cut(providers.CallPut, err)
		}
	}
	stored.crc = hashing.New(hashing.CRC64NVME, crc.Sum(nil))
	stored.Receipt = parts.Receipt{Tag: fmt.Sprintf("%d-%s", part.Number, stored.crc.Sum)}
	if length != part.Length || body.Len() != part.Length {
		return stored, refuse(providers.CallPut, providers.Mismatch, fmt.Sprintf("part of %d bytes came with %d", part.Length, length))
	}
	if len(sums) > 1 {
		if got := hashing.New(f.limits.PartDigest, sums[1].Sum(nil)); got != body.Digest() {
			return stored, refuse(providers.CallPut, providers.Mismatch, fmt.Sprintf("digest is %s, the body says %s", got, body.Digest()))
		}
	}
	return stored, nil
}

func (f *Fake) received(upload uploads.ID, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seenOf(upload).Bytes += int64(n)
}

// keep stores a part whose body was right.
func (f *Fake) keep(id string, stored storedPart) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.open(providers.CallPut, id)
	if err != nil {
		return err
	}
	plan := parts.Plan{Size: s.media.Size, PartSize: s.media.PartSize}
	if n := stored.Number; n < 1 || n > plan.Count() || plan.Part(n) != stored.Part {
		return refuse(providers.CallPut, providers.Rejected, fmt.Sprintf("part %+v is not of the plan %+v", stored.Part, plan))
	}
	s.parts[stored.Number] = stored
	return nil
}

// open returns the session of the id. The caller holds the lock.
func (f *Fake) open(call providers.Call, id string) (*session, error) {
	s := f.sessions[id]
	if s == nil || s.gone {
		return nil, refuse(call, providers.SessionLost, "no session "+id)
	}
	if f.revoked[s.account] {
		return nil, refuse(call, providers.Unauthorized, "account is revoked")
	}
	return s, nil
}

// findSession returns the open session of the same media. The caller holds the lock.
func (f *Fake) findSession(account string, media providers.Media) *session {
	for _, s := range f.sessions {
		if s.account == account && s.asset == nil && !s.gone && f.same(s.media.Digests, media) {
			return s
		}
	}
	return nil
}

// findAsset returns the asset of the same bytes. The caller holds the lock.
func (f *Fake) findAsset(account string, media providers.Media) *asset {
	for _, a := range f.assets {
		if a.account == account && f.same(a.digests, media) {
			return a
		}
	}
	return nil
}

// same reports whether the platform recognises media by the digests.
func (f *Fake) same(digests []hashing.Digest, media providers.Media) bool {
	if len(f.limits.ObjectDigests) == 0 {
		return false
	}
	for _, kind := range f.limits.ObjectDigests {
		d := media.Digest(kind)
		if d.IsZero() || !slices.Contains(digests, d) {
			return false
		}
	}
	return true
}

// newAsset makes an asset without content. The caller holds the lock.
func (f *Fake) newAsset(account string, digests []hashing.Digest) *asset {
	f.serial++
	id := fmt.Sprintf("asset-%d", f.serial)
	a := &asset{
		Asset:   uploads.Asset{ID: id, URL: "https://media.example/" + id},
		account: account,
		digests: digests,
	}
	f.assets[id] = a
	return a
}

func (f *Fake) sealed(s *session) providers.Session {
	data, err := json.Marshal(sessionData{ID: s.id})
	if err != nil {
		panic(err) // a string always encodes
	}
	ps := providers.Session{Data: data}
	if f.limits.SessionLife > 0 {
		ps.Expires = time.Now().Add(f.limits.SessionLife)
	}
	return ps
}

func (f *Fake) seenOf(upload uploads.ID) *Seen {
	s := f.seen[upload]
	if s == nil {
		s = &Seen{Puts: make(map[int]int)}
		f.seen[upload] = s
	}
	return s
}

func (f *Fake) uploadOf(id string) uploads.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.uploadOfLocked(id)
}

// uploadOfLocked returns the upload that a session belongs to; calls for an
// unknown session are counted under the zero ID.
func (f *Fake) uploadOfLocked(id string) uploads.ID {
	if s := f.sessions[id]; s != nil {
		return s.media.Upload
	}
	return uploads.ID{}
}

// discard drops the session and its parts unless it is finished.
func (s *session) discard() {
	if s.asset == nil {
		s.gone, s.parts = true, nil
	}
}

func (s *session) found() []parts.Stored {
	found := make([]parts.Stored, 0, len(s.parts))
	for _, p := range s.parts {
		found = append(found, p.Stored)
	}
	slices.SortFunc(found, func(a, b parts.Stored) int { return a.Number - b.Number })
	return found
}

// assemble returns the parts in the order of the file, if stored names each
// of them once, as the session has it.
func (s *session) assemble(stored []parts.Stored) ([]storedPart, error) {
	named := make(map[int]parts.Stored, len(stored))
	for _, p := range stored {
		named[p.Number] = p
	}
	plan := parts.Plan{Size: s.media.Size, PartSize: s.media.PartSize}
	if len(named) != plan.Count() || len(stored) != plan.Count() {
		return nil, refuse(providers.CallFinish, providers.Rejected, fmt.Sprintf("%d parts are named of %d", len(stored), plan.Count()))
	}
	content := make([]storedPart, plan.Count())
	for n := 1; n <= plan.Count(); n++ {
		p, ok := s.parts[n]
		if !ok || p.Part != named[n].Part || p.Receipt != named[n].Receipt {
			return nil, refuse(providers.CallFinish, providers.Rejected, fmt.Sprintf("part %d is not stored as named", n))
		}
		content[n-1] = p
	}
	return content, nil
}

func sessionID(ps providers.Session) string {
	var d sessionData
	if err := json.Unmarshal(ps.Data, &d); err != nil {
		return ""
	}
	return d.ID
}

// cut is the error of a call that was broken off.
func cut(call providers.Call, err error) error {
	return &providers.Error{Kind: providers.Transient, Call: string(call), Err: err}
}

func refuse(call providers.Call, kind providers.Kind, message string) error {
	return &providers.Error{Kind: kind, Call: string(call), Message: message}
}
