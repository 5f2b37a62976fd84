package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mediaferry/internal/upstreams"
)

// finding is a counter-example to an invariant.
type finding struct {
	check  string
	upload string // id, "" where it is not about one
	text   string
}

// check is an invariant and how to find what contradicts it.
type check struct {
	name string
	find func(*evidence) []finding
}

// checks are named after the invariants of the design.
func checks() []check {
	return []check{
		{"1 accepted uploads end", accepted},
		{"1 failures are explained", explained},
		{"2 ledger agrees", ledger},
		{"3 finish after the last byte", finishCovered},
		{"4 finish once", finishOnce},
		{"4 one asset", oneAsset},
		{"5 legal moves", legalMoves},
		{"6 7 right bytes", rightBytes},
		{"8 window", windowHeld},
		{"8 rates", ratesHeld},
		{"9 memory", memory},
		{"9 nothing grows", leaks},
		{"10 deploys count no attempt", deploysHarmless},
		{"10 nothing is sent twice", sentTwice},
		{"11 no secret in a log", noSecrets},
	}
}

func (s *submission) describe() string {
	return fmt.Sprintf("%s (%d bytes, %s)", s.key, s.size, s.account.name)
}

func accepted(e *evidence) (found []finding) {
	for _, s := range e.all {
		rows := e.record.byKey[s.key]
		switch {
		case s.refused != nil:
			found = append(found, finding{text: fmt.Sprintf("%s was refused: %v", s.describe(), s.refused)})
		case len(rows) > 1:
			found = append(found, finding{upload: s.id, text: fmt.Sprintf("%s has %d rows", s.describe(), len(rows))})
		case s.id == "":
			if len(rows) == 1 && !ended(rows[0].state) {
				found = append(found, finding{upload: rows[0].id, text: fmt.Sprintf("%s, whose acceptance was not heard of, is %s", s.describe(), rows[0].state)})
			}
		case len(rows) == 0 || rows[0].id != s.id:
			found = append(found, finding{upload: s.id, text: s.describe() + " was accepted and has no row"})
		case !ended(rows[0].state):
			found = append(found, finding{upload: s.id, text: fmt.Sprintf("%s has not ended, it is %s", s.describe(), rows[0].state)})
		}
		for _, id := range s.answered {
			found = append(found, finding{upload: s.id, text: fmt.Sprintf("%s was answered with another id when repeated: %s", s.describe(), id)})
		}
	}
	return found
}

func ended(state string) bool {
	return state == "completed" || state == "cancelled" || state == "failed"
}

// explained: an upload fails only where staging gave other bytes, and is
// cancelled only where that was asked for.
func explained(e *evidence) (found []finding) {
	for _, s := range e.all {
		u := e.record.uploads[s.id]
		if u == nil {
			continue
		}
		falsified := e.w.gateS3.falsified("/" + bucket + "/" + s.key)
		switch {
		case u.state == "cancelled" && !s.cancelled:
			found = append(found, finding{upload: u.id, text: s.describe() + " was cancelled by nobody"})
		case u.state != "failed":
		case s.changed && u.cause == "source_changed": // not by its digests: no byte of it is to be read
		case falsified && (u.cause == "mismatch" || u.cause == "digest_mismatch"):
		default:
			found = append(found, finding{upload: u.id, text: fmt.Sprintf("%s failed with %s: %s", s.describe(), u.cause, u.message)})
		}
	}
	return found
}

func ledger(e *evidence) (found []finding) {
	for id, u := range e.record.uploads {
		var parts int
		var bytes int64
		for _, a := range e.record.acks[id] {
			if a.epoch == u.epoch {
				parts++
				bytes += a.length
			}
			if a.epoch == u.epoch && u.partSize > 0 && (a.offset != int64(a.part-1)*u.partSize || a.length != min(u.partSize, u.size-a.offset)) {
				found = append(found, finding{upload: id, text: fmt.Sprintf("part %d of the ledger is %d bytes at %d", a.part, a.length, a.offset)})
			}
		}
		if parts != u.ackedParts || bytes != u.ackedBytes {
			found = append(found, finding{upload: id, text: fmt.Sprintf("counters say %d parts, %d bytes; the ledger %d, %d", u.ackedParts, u.ackedBytes, parts, bytes)})
		}
	}
	return found
}

// covered reports whether the rows of an epoch cover the object exactly once.
func covered(acks []ack, epoch int, size int64) bool {
	var at int64
	for _, a := range acks { // by part
		if a.epoch != epoch {
			continue
		}
		if a.offset != at {
			return false
		}
		at += a.length
	}
	return at == size
}

// finishCovered: a call that finishes comes only when the ledger covers every byte.
func finishCovered(e *evidence) (found []finding) {
	for _, c := range e.calls {
		if c.role != "finish" || c.owner == nil {
			continue
		}
		u := e.record.uploads[c.owner.id]
		if u == nil {
			continue
		}
		var finishing bool
		epochs := 0
		for _, m := range e.record.changes[u.id] {
			if m.at.After(c.At) {
				break
			}
			if m.from == "beginning" && m.to != "failed" && m.to != "cancelled" && m.to != "completed" {
				epochs++
			}
			finishing = finishing || m.to == "finishing"
		}
		switch {
		case !finishing:
			found = append(found, finding{upload: u.id, text: fmt.Sprintf("%s at %s, before the upload was finishing", c.Action, stamp(c.At))})
		case !anyCovered(e.record.acks[u.id], epochs, u.size):
			found = append(found, finding{upload: u.id, text: fmt.Sprintf("%s at %s, and the ledger covers no epoch up to %d", c.Action, stamp(c.At), epochs)})
		}
	}
	for id, u := range e.record.uploads {
		epoch := 0 // counts the sessions that were opened
		for _, m := range e.record.changes[id] {
			if m.from == "beginning" && (m.to == "uploading" || m.to == "finishing") {
				epoch++
			}
			// Whatever finish makes of it: it was the ledger that was wrong.
			if m.to == "finishing" && !covered(e.record.acks[id], epoch, u.size) {
				found = append(found, finding{upload: id, text: fmt.Sprintf("finishing at %s, and the ledger of epoch %d does not cover it", stamp(m.at), epoch)})
			}
		}
		if u.state == "completed" && u.partCount > 0 && !covered(e.record.acks[id], u.epoch, u.size) {
			found = append(found, finding{upload: id, text: fmt.Sprintf("completed, and the ledger of epoch %d does not cover it", u.epoch)})
		}
	}
	return found
}

func anyCovered(acks []ack, epochs int, size int64) bool {
	for epoch := 1; epoch <= epochs; epoch++ {
		if covered(acks, epoch, size) {
			return true
		}
	}
	return false
}

// finishOnce: after a call that finishes and whose outcome may not have been
// heard, another comes only after a probe. What the platform refused with a
// reason was heard, or is asked again.
func finishOnce(e *evidence) (found []finding) {
	type place struct{ provider, account, file string }
	last := make(map[place]platformCall) // the finish that no probe has followed
	for _, c := range e.calls {
		at := place{c.provider, c.Account, c.File}
		if c.owner != nil {
			at = place{c.provider, c.owner.account.name, c.owner.key}
		}
		switch c.role {
		case "probe", "part":
			delete(last, at)
		case "finish":
			// At this platform the asset comes of a second call. Where that was
			// throttled the first is made again and told that it took effect.
			if c.Action == upstreams.COSComplete && c.Outcome != "ok" {
				continue
			}
			before, ok := last[at]
			if ok && before.Action == c.Action && before.Outcome == "ok" {
				f := finding{text: fmt.Sprintf("%s of %s at %s and again at %s with no probe between", c.Action, c.File, stamp(before.At), stamp(c.At))}
				if c.owner != nil {
					f.upload = c.owner.id
				}
				found = append(found, f)
			}
			last[at] = c
		}
	}
	return found
}

func oneAsset(e *evidence) (found []finding) {
	of := make(map[*submission][]string)
	for _, a := range e.assets {
		if a.err != nil {
			found = append(found, finding{text: fmt.Sprintf("asset %s of %s cannot be fetched: %v", a.asset, a.provider, a.err)})
			continue
		}
		if a.owner != nil && a.owner.account.provider == a.provider {
			of[a.owner] = append(of[a.owner], a.asset)
		}
	}
	for s, ids := range of {
		if len(ids) > 1 {
			found = append(found, finding{check: "double", upload: s.id, text: fmt.Sprintf("%s has %d assets: %q", s.describe(), len(ids), ids)})
		}
		u := e.record.uploads[s.id]
		if u != nil && u.state == "completed" && len(ids) == 1 && !strings.HasSuffix(ids[0], u.asset) && !strings.HasSuffix(u.asset, ids[0]) {
			found = append(found, finding{upload: s.id, text: fmt.Sprintf("%s has asset %q, recorded is %q", s.describe(), ids[0], u.asset)})
		}
	}
	return found
}

func legalMoves(e *evidence) (found []finding) {
	legal := map[string]string{
		"":          "queued",
		"queued":    "digesting beginning failed cancelled",
		"digesting": "beginning failed cancelled",
		"beginning": "uploading finishing completed failed cancelled",
		"uploading": "finishing beginning failed cancelled",
		"finishing": "completed beginning failed cancelled",
		"failed":    "queued",
	}
	for id, u := range e.record.uploads {
		state := ""
		for _, c := range e.record.changes[id] {
			if c.from != state {
				found = append(found, finding{upload: id, text: fmt.Sprintf("moved from %q to %q, but it was %q", c.from, c.to, state)})
			}
			if !slices.Contains(strings.Fields(legal[c.from]), c.to) {
				found = append(found, finding{upload: id, text: fmt.Sprintf("moved from %q to %q", c.from, c.to)})
			}
			state = c.to
		}
		if state != u.state {
			found = append(found, finding{upload: id, text: fmt.Sprintf("is %q, its last move was to %q", u.state, state)})
		}
	}
	return found
}

// rightBytes: each completed upload has an asset with exactly the bytes that
// were submitted, and no asset has bytes that nobody submitted.
func rightBytes(e *evidence) (found []finding) {
	has := make(map[*submission]bool)
	for _, a := range e.assets {
		if a.owner != nil && a.owner.account.provider == a.provider {
			has[a.owner] = true
		}
	}
	for _, a := range e.assets {
		if a.err != nil || a.owner != nil {
			continue
		}
		// Wrong bytes harm when they are handed out as an upload's result.
		for id, u := range e.record.uploads {
			if u.state == "completed" && u.asset != "" && strings.HasPrefix(u.account, a.provider) && (strings.HasSuffix(a.asset, u.asset) || strings.HasSuffix(u.asset, a.asset)) {
				found = append(found, finding{upload: id, text: fmt.Sprintf("%s of %s has bytes that nobody submitted (%q)", u.key, u.account, a.asset)})
			}
		}
	}
	for _, s := range e.all {
		u := e.record.uploads[s.id]
		if u != nil && u.state == "completed" && !has[s] {
			found = append(found, finding{upload: s.id, text: s.describe() + " is completed, and the platform has no asset with its bytes"})
		}
	}
	return found
}

// windowHeld sums what is under way at each moment. A part that is sent twice
// counts until it has arrived once: whoever else still sends it was taken for
// dead. A call that did not succeed is not counted, since its sender may have been.
func windowHeld(e *evidence) (found []finding) {
	for _, a := range e.w.accounts {
		first := make(map[string]gateCall) // the earliest start and end, by what is sent
		for _, c := range a.gate.log() {
			if c.Length < 4*kib || !c.ok() {
				continue
			}
			f, ok := first[c.Identity]
			if !ok {
				f = c
			}
			if c.Start.Before(f.Start) {
				f.Start = c.Start
			}
			if c.End.Before(f.End) {
				f.End = c.End
			}
			first[c.Identity] = f
		}
		type edge struct {
			at    time.Time
			bytes int64
		}
		var edges []edge
		for _, c := range first {
			edges = append(edges, edge{c.Start, c.Length}, edge{c.End, -c.Length})
		}
		slices.SortFunc(edges, func(x, y edge) int { return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.bytes, y.bytes)) })
		var under, peak int64
		var when time.Time
		for _, x := range edges {
			if under += x.bytes; under > peak {
				peak, when = under, x.at
			}
		}
		if allowed := int64(window + 64*kib); peak > allowed { // heads and tails of forms
			var text strings.Builder
			fmt.Fprintf(&text, "%s had %d bytes under way at %s, its window is %d:", a.name, peak, stamp(when), window)
			for identity, c := range first {
				if !c.Start.After(when) && c.End.After(when) {
					fmt.Fprintf(&text, "\n      %d bytes from %s to %s: %s", c.Length, stamp(c.Start), stamp(c.End), identity)
				}
			}
			found = append(found, finding{text: text.String()})
		}
	}
	return found
}

// ratesHeld compares the calls of each account with what the platforms publish.
func ratesHeld(e *evidence) (found []finding) {
	type limit struct {
		count int
		per   time.Duration
	}
	limits := map[string]limit{
		"tencentvod " + upstreams.ActionServerInit:     {100, time.Minute},
		"tencentvod " + upstreams.ActionServerFinish:   {100, time.Minute},
		"tencentcos " + upstreams.ActionApply:          {100, time.Minute},
		"tencentcos " + upstreams.ActionCommit:         {100, time.Minute},
		"cdnetworks " + upstreams.ActionGetUploadToken: {30, 5 * time.Minute},
		"cdnetworks " + upstreams.ActionGetVideoList:   {30, 5 * time.Minute},
	}
	times := make(map[[2]string][]time.Time)
	for _, c := range e.calls {
		at := [2]string{c.provider + " " + c.Action, c.Account}
		times[at] = append(times[at], c.At)
	}
	for at, all := range times {
		l, ok := limits[at[0]]
		if !ok {
			continue
		}
		for i := l.count; i < len(all); i++ {
			if all[i].Sub(all[i-l.count]) < l.per {
				found = append(found, finding{text: fmt.Sprintf("%s of %s: more than %d calls in %s before %s", at[0], at[1], l.count, l.per, stamp(all[i]))})
				break
			}
		}
	}
	return found
}

// memory: a process stays within a bound that does not depend on the load, and
// does not grow for as long as it runs.
func memory(e *evidence) (found []finding) {
	for _, r := range e.w.roles {
		bound := int64(160 * mib)
		if r.kind == "worker" {
			bound = 96*mib + slots*4*mib
		}
		if r.kind == "nats" {
			continue // not ours
		}
		lives := make(map[int][]sample)
		for _, s := range e.samples[r.name] {
			lives[s.pid] = append(lives[s.pid], s)
			if s.rss > bound {
				found = append(found, finding{text: fmt.Sprintf("%s had %d MiB at %s, the bound is %d", r.name, s.rss/mib, stamp(s.at), bound/mib)})
			}
			if s.threads > 128 {
				found = append(found, finding{text: fmt.Sprintf("%s had %d threads at %s", r.name, s.threads, stamp(s.at))})
			}
		}
		for _, life := range lives {
			if len(life) < 90 {
				continue
			}
			third := len(life) / 3
			if early, late := medianRSS(life[:third]), medianRSS(life[2*third:]); late > early+48*mib {
				found = append(found, finding{text: fmt.Sprintf("%s grew from %d to %d MiB in %d s", r.name, early/mib, late/mib, len(life))})
			}
		}
	}
	return found
}

func medianRSS(samples []sample) int64 {
	sizes := make([]int64, len(samples))
	for i, s := range samples {
		sizes[i] = s.rss
	}
	slices.Sort(sizes)
	return sizes[len(sizes)/2]
}

// deploysHarmless: no other fault is about while a deploy takes place, so what
// fails then fails because of it.
func deploysHarmless(e *evidence) (found []finding) {
	for _, in := range e.faults {
		if in.kind != deploy {
			continue
		}
		if in.err != nil {
			found = append(found, finding{text: fmt.Sprintf("deploy at %s: %v", stamp(in.start), in.err)})
		}
		for _, f := range e.record.failures {
			// A session that lapsed before is found to have lapsed whenever it is used next.
			lapsed := f.kind == "unauthorized" || f.kind == "session_lost"
			if !lapsed && f.at.After(in.start) && f.at.Before(in.end) && f.started.After(in.start.Add(-2*time.Second)) && !e.falsifiedUpload(f.upload) {
				found = append(found, finding{upload: f.upload, text: fmt.Sprintf("part %d of epoch %d failed in a deploy: %s %s %s", f.part, f.epoch, f.kind, f.code, f.message)})
			}
		}
	}
	return found
}

// harmless are kinds of faults in which nobody is taken for dead and no bytes
// are wrong or lost, so that nothing needs to be sent again. What another kind
// did is over when jobs have been delivered again and sessions opened.
var harmless = []string{deploy, stagingSlow, stagingChanged, upstreamDelay, upstreamThrottle} //nolint:gochecknoglobals // a constant

const aftermath = 20 * time.Second

// sentTwice: a part arrives once, unless a fault has it sent again. A few are
// let pass, since a machine without a moment to spare may look like a fault.
func sentTwice(e *evidence) (found []finding) {
	excused := func(from, to time.Time) bool {
		return slices.ContainsFunc(e.faults, func(in injected) bool {
			return !slices.Contains(harmless, in.kind) && in.start.Before(to) && in.end.Add(aftermath).After(from)
		})
	}
	var all, again int64
	for _, a := range e.w.accounts {
		before := make(map[string]gateCall)
		for _, c := range a.gate.log() {
			if c.Length < 4*kib || !c.ok() {
				continue
			}
			all += c.Length
			if b, ok := before[c.Identity]; ok && !excused(b.Start, c.End) {
				again += c.Length
				found = append(found, finding{text: fmt.Sprintf("%s: %d bytes from %s to %s and again from %s to %s: %s",
					a.name, c.Length, stamp(b.Start), stamp(b.End), stamp(c.Start), stamp(c.End), c.Identity)})
			}
			before[c.Identity] = c
		}
	}
	if 100*again <= all {
		return nil
	}
	return found
}

func noSecrets(e *evidence) (found []finding) {
	f, err := os.Open(e.w.log.Name())
	if err != nil {
		return []finding{{text: fmt.Sprintf("the log cannot be read: %v", err)}}
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4*mib)
	for n := 1; lines.Scan(); n++ {
		for what, secret := range e.w.secrets {
			if strings.Contains(lines.Text(), secret) {
				found = append(found, finding{text: fmt.Sprintf("line %d of the log has %s", n, what)})
			}
		}
	}
	if err := lines.Err(); err != nil {
		found = append(found, finding{text: fmt.Sprintf("the log cannot be read: %v", err)})
	}
	return found
}
