package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"mediaferry/internal/upstreams"
)

// asset is finished media at a platform, fetched.
type asset struct {
	file

	provider string
	sha256   [sha256.Size]byte
	err      error
	owner    *submission // whose bytes it has; nil for nobody's
}

// evidence is all that the checks go by. None of it passed through the product
// but the record, which is read with statements of our own.
type evidence struct {
	w       *world
	all     []*submission
	record  *record
	faults  []injected
	assets  []asset
	calls   []platformCall
	samples map[string][]sample
	wiped   []wiped
	before  []stillness // processes at rest, before any fault
	after   []stillness // and when all is done
}

// platformCall is a call of a platform's log with the meaning that it has for
// the finishing protocol.
type platformCall struct {
	upstreams.Call

	provider string
	role     string // begin, part, finish, probe, or ""
	owner    *submission
}

// roleOf says what a call is in the finishing protocol.
func roleOf(provider, action string) string {
	switch provider + " " + action {
	case "tencentugc " + upstreams.ActionFinish, "tencentvod " + upstreams.ActionServerFinish,
		"tencentcos " + upstreams.COSComplete, "tencentcos " + upstreams.ActionCommit,
		"cdnetworks " + upstreams.ActionMakeFile, "tencentsmh " + upstreams.ActionSMHConfirm:
		return "finish"
	case "tencentugc " + upstreams.ActionInit, "tencentvod " + upstreams.ActionServerInit,
		"tencentcos " + upstreams.COSListParts, "tencentcos " + upstreams.COSHeadObject,
		"cdnetworks " + upstreams.ActionGetVideoList,
		"tencentsmh " + upstreams.ActionSMHStatus, "tencentsmh " + upstreams.ActionSMHInfo:
		return "probe"
	case "tencentugc " + upstreams.ActionPart, "tencentvod " + upstreams.ActionServerPart, "tencentcos " + upstreams.COSUploadPart,
		"tencentcos " + upstreams.COSPutObject, "cdnetworks " + upstreams.ActionMakeBlock, "cdnetworks " + upstreams.ActionPutChunk,
		"cdnetworks " + upstreams.ActionForm, "tencentsmh " + upstreams.ActionSMHPart:
		return "part"
	}
	return ""
}

func gather(ctx context.Context, w *world, l *load, n *nemesis) (*evidence, error) {
	e := &evidence{w: w, all: l.all, faults: n.done, wiped: n.wiped, samples: make(map[string][]sample)}
	var err error
	if e.record, err = readRecord(ctx, w.postgres.DSN()); err != nil {
		return nil, err
	}
	byBytes := make(map[[sha256.Size]byte]*submission)
	bySHA1 := make(map[string]*submission)
	byKey := make(map[string]*submission)
	for _, s := range l.all {
		byBytes[s.sums.sha256], bySHA1[s.sums.sha1], byKey[s.key] = s, s, s
	}
	for _, r := range w.roles {
		r.mu.Lock()
		e.samples[r.name] = slices.Clone(r.ran)
		r.mu.Unlock()
	}
	for _, p := range w.platforms {
		owners := make(map[string]*submission) // by what the platform's log calls a file
		for _, f := range p.files() {
			var owner *submission
			for _, name := range f.names {
				owner = cmp.Or(owner, bySHA1[name], byKey[name[strings.LastIndex(name, "/")+1:]])
			}
			if f.asset != "" {
				a := asset{file: f, provider: p.provider}
				a.sha256, a.err = w.fetch(ctx, f.url)
				a.owner = byBytes[a.sha256]
				owner = cmp.Or(owner, a.owner)
				e.assets = append(e.assets, a)
			}
			for _, name := range f.names {
				owners[name] = owner
			}
		}
		for _, c := range p.calls() {
			role := roleOf(p.provider, c.Action)
			owner := cmp.Or(owners[c.File], bySHA1[c.File], byKey[c.File])
			if owner != nil && owner.account.provider != p.provider {
				continue // two providers share one server
			}
			e.calls = append(e.calls, platformCall{Call: c, provider: p.provider, role: role, owner: owner})
		}
	}
	slices.SortStableFunc(e.calls, func(a, b platformCall) int { return a.At.Compare(b.At) })
	return e, nil
}

// fetch returns the digest of finished media.
func (w *world) fetch(ctx context.Context, url string) (sum [sha256.Size]byte, err error) {
	if path, ok := strings.CutPrefix(url, "file://"); ok {
		f, err := os.Open(path) //nolint:gosec // in our own folder
		if err != nil {
			return sum, fmt.Errorf("fetch: %w", err)
		}
		defer func() { _ = f.Close() }()
		return digest(f)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return sum, fmt.Errorf("fetch: %w", err)
	}
	req.Header.Set(checkerHeader, "yes")
	resp, err := w.transport.RoundTrip(req)
	if err != nil {
		return sum, fmt.Errorf("fetch: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return sum, fmt.Errorf("fetch %s: status %d", url, resp.StatusCode)
	}
	return digest(resp.Body)
}

func digest(r io.Reader) (sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return sum, fmt.Errorf("fetch: %w", err)
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// falsifiedUpload reports whether staging gave other bytes of the upload's object.
func (e *evidence) falsifiedUpload(id string) bool {
	for _, s := range e.all {
		if s.id == id {
			return s.changed || e.w.gateS3.falsified("/"+bucket+"/"+s.key)
		}
	}
	return false
}

func stamp(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// timeline is all that happened to an upload, in the order of time.
func (e *evidence) timeline(id string) (lines []string) {
	type moment struct {
		at   time.Time
		text string
	}
	var all []moment
	add := func(at time.Time, format string, args ...any) {
		all = append(all, moment{at, fmt.Sprintf(format, args...)})
	}
	for _, c := range e.record.changes[id] {
		add(c.at, "state %s to %s: %s", c.from, c.to, c.reason)
	}
	for _, f := range e.record.failures {
		if f.upload == id {
			add(f.at, "failure of epoch %d part %d, begun %s, by %q: %s %s %s", f.epoch, f.part, stamp(f.started), f.worker, f.kind, f.code, f.message)
		}
	}
	acks := make(map[int][]ack)
	for _, a := range e.record.acks[id] {
		acks[a.epoch] = append(acks[a.epoch], a)
	}
	for epoch, list := range acks {
		last := slices.MaxFunc(list, func(a, b ack) int { return a.acked.Compare(b.acked) })
		add(last.acked, "ledger of epoch %d has %d parts, the last of them acknowledged", epoch, len(list))
	}
	parts := 0
	for _, c := range e.calls {
		if c.owner == nil || c.owner.id != id {
			continue
		}
		if c.role == "part" {
			if parts++; parts > 12 {
				continue
			}
		}
		add(c.At, "platform: %s part %d offset %d, %d bytes: %s", c.Action, c.Part, c.Offset, c.Received, c.Outcome)
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.at.Compare(b.at) })
	for _, m := range all {
		lines = append(lines, stamp(m.at)+" "+m.text)
	}
	return lines
}
