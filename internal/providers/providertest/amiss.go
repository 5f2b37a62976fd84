package providertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
)

// Altering returns the transport, with the answers altered where the suite asks
// for it. Harnesses whose calls do not go through Serve wrap theirs in it.
func Altering(transport http.RoundTripper) http.RoundTripper { return altering{transport} }

type altering struct{ http.RoundTripper }

// CloseIdleConnections is passed on.
func (t altering) CloseIdleConnections() {
	if c, ok := t.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t altering) RoundTrip(req *http.Request) (*http.Response, error) {
	a, _ := req.Context().Value(alterationKey{}).(*alteration)
	if a == nil {
		return t.RoundTripper.RoundTrip(req) //nolint:wrapcheck // a transport hands on what it is handed
	}
	before := len(a.upstream.Calls())
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err //nolint:wrapcheck // see above
	}
	if a.saw(req.Context(), before) == a.action && a.hits == 0 {
		a.hits++
		a.answer.apply(resp)
	}
	return resp, nil
}

type alterationKey struct{}

// alteration is what becomes of the answer to the next call of an action.
type alteration struct {
	upstream Upstream
	action   string
	answer   amiss
	hits     int
}

// saw returns the action of the call that the platform has logged after the
// first so many.
func (a *alteration) saw(ctx context.Context, before int) string {
	for range 1000 { // the log may be written after the answer
		if calls := a.upstream.Calls(); len(calls) > before {
			return calls[len(calls)-1].Action
		}
		backoff.Pause(ctx, time.Millisecond)
	}
	return ""
}

// amiss is an answer that the platform gives to a call which it has carried out.
type amiss struct {
	name   string
	body   func([]byte) []byte // makes another body of it; nil leaves it
	header func(string) string // makes other values of what proves the bytes; nil leaves them
	change func(resp *http.Response)
	// says is that the answer tells the truth all the same, in a form that the
	// documents do not have but clients have met.
	says bool
}

// apply alters the answer.
func (a amiss) apply(resp *http.Response) {
	if a.change != nil {
		a.change(resp)
	}
	if a.body != nil {
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			panic(err) // of a local server
		}
		body = a.body(body)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		resp.Header.Del("Content-Length")
	}
	if a.header == nil {
		return
	}
	for name, values := range resp.Header {
		if lower := strings.ToLower(name); lower != "etag" && !strings.Contains(lower, "crc64") {
			continue
		}
		if values[0] = a.header(values[0]); values[0] == "" {
			delete(resp.Header, name)
		}
	}
}

// endless is an answer that does not end: read counts what is taken of it.
type endless struct {
	head io.Reader
	fill byte
	read *int64
}

func (e *endless) Read(p []byte) (int, error) {
	n, _ := e.head.Read(p)
	if n == 0 {
		for i := range p {
			p[i] = e.fill
		}
		n = len(p)
	}
	*e.read += int64(n)
	return n, nil
}

// Most that may be read of an answer, in bytes: of one to a part, of which a worker
// may have hundreds in hand, and of any other.
const (
	mostOfPart  = 2 << 20
	mostOfOther = 33 << 20
)

func replaced(expression, by string) func([]byte) []byte {
	pattern := regexp.MustCompile(expression)
	return func(body []byte) []byte { return pattern.ReplaceAll(body, []byte(by)) }
}

// members changes the values within a JSON object or array, and leaves any other
// body as it is.
func members(change func(any) any) func([]byte) []byte {
	return func(body []byte) []byte {
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return body
		}
		var walk func(v any) any
		walk = func(v any) any {
			switch v := v.(type) {
			case map[string]any:
				for k, m := range v {
					v[k] = walk(change(m))
				}
			case []any:
				for i, m := range v {
					v[i] = walk(change(m))
				}
			}
			return v
		}
		out, err := json.Marshal(walk(v))
		if err != nil {
			panic(err) // it was JSON before
		}
		return out
	}
}

// answers that are amiss. None of them says that a call was refused.
func allAmiss() []amiss {
	text := func(s string) func([]byte) []byte { return func([]byte) []byte { return []byte(s) } }
	isDigits := regexp.MustCompile(`^[1-9][0-9]{0,30}$`)
	list := []amiss{
		{name: "no body", body: text("")},
		{name: "half a body", body: func(b []byte) []byte { return b[:len(b)/2] }},
		{name: "a body but for its last byte", body: func(b []byte) []byte { return bytes.TrimSpace(b)[:max(len(bytes.TrimSpace(b))-1, 0)] }},
		{name: "null", body: text("null")},
		{name: "an empty object", body: text("{}")},
		{name: "an array", body: text("[]")},
		{name: "text", body: text(`"ok"`)},
		{name: "an empty document", body: func(b []byte) []byte {
			root := regexp.MustCompile(`<([A-Za-z]+)[ >]`).FindSubmatch(regexp.MustCompile(`<\?.*\?>`).ReplaceAll(b, nil))
			if root == nil {
				return nil
			}
			return fmt.Appendf(nil, "<%s/>", root[1])
		}},
		{name: "a document whose elements are empty", body: replaced(`>[^<>]+<`, "><")},
		{name: "null for objects", body: members(func(v any) any {
			if _, ok := v.(map[string]any); ok {
				return nil
			}
			return v
		})},
		{name: "null for every value", body: members(func(any) any { return nil })},
		{name: "empty text for text", body: members(func(v any) any {
			if _, ok := v.(string); ok {
				return ""
			}
			return v
		})},
		{name: "objects for text", body: members(func(v any) any {
			if _, ok := v.(string); ok {
				return map[string]any{}
			}
			return v
		})},
		{name: "NUL within text", body: members(func(v any) any {
			if s, ok := v.(string); ok && s != "" {
				return s[:len(s)/2] + "\x00" + s[len(s)/2:]
			}
			return v
		})},
		{name: "numbers as text", says: true, body: members(func(v any) any {
			if n, ok := v.(json.Number); ok {
				return n.String()
			}
			return v
		})},
		{name: "text of digits as numbers", says: true, body: members(func(v any) any {
			if s, ok := v.(string); ok && isDigits.MatchString(s) {
				return json.Number(s)
			}
			return v
		})},
		{name: "space around the body", says: true, body: func(b []byte) []byte { return []byte("\r\n  " + string(b) + " \n") }},
		{name: "another content type", says: true, change: func(resp *http.Response) { resp.Header.Set("Content-Type", "text/html; charset=gbk") }},
		{name: "another document after the body", body: func(b []byte) []byte { return append(b, b...) }},
		{name: "an error of the platform's with a success", body: func(b []byte) []byte {
			if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
				return []byte(`{"code":"InternalError","message":"busy"}`)
			}
			return []byte(`<?xml version="1.0"?><Error><Code>InternalError</Code><Message>busy</Message></Error>`)
		}},
		{name: "a body that breaks off", change: func(resp *http.Response) {
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			broken := failing{io.ErrUnexpectedEOF}
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken))
		}},
		{name: "a gzip nobody asked for", body: text("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xffnot what it says"), change: func(resp *http.Response) {
			resp.Header.Set("Content-Encoding", "gzip")
		}},
		{name: "no ETag and no CRC", header: func(string) string { return "" }},
		{name: "an ETag and a CRC of 1 MB", header: func(string) string { return `"` + strings.Repeat("a", 1<<20) + `"` }},
		{name: "an ETag and a CRC that are none", header: func(string) string { return "\"a b\\c\"" }},
	}
	return list
}

// failing fails.
type failing struct{ err error }

func (r failing) Read([]byte) (int, error) { return 0, r.err }

// altered calls the method once, and has the platform's answer to the action
// changed. It reports whether there was such an answer.
func (a *attempt) altered(t *testing.T, by providers.Call, action string, answer amiss) (hit bool, out providers.Outcome, err error) {
	t.Helper()
	alter := &alteration{upstream: a.Upstream, action: action, answer: answer}
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), alterationKey{}, alter), time.Minute)
	defer cancel()
	switch by {
	case providers.CallBegin:
		var begun providers.Begun
		if begun, err = a.Provider.Begin(ctx, a.Account, a.media); err == nil {
			if begun.Asset != nil {
				t.Errorf("begin of fresh media answered with asset %q", begun.Asset.ID)
			}
			a.session = begun.Session
			a.stored = make([]parts.Stored, planOf(a.media).Count())
		}
	case providers.CallPut:
		n := len(a.stored) - 1
		part := planOf(a.media).Part(n + 1)
		body := NewBody(a.limits, a.data[part.Offset:part.Offset+part.Length])
		var put parts.Stored
		if put.Receipt, err = a.Provider.PutPart(ctx, a.session, part, body); err == nil {
			put.Part, put.Digest = part, body.Digest()
			a.stored[n] = put
		} else {
			a.stored[n] = parts.Stored{} // to be sent again
		}
		if len(put.Receipt.Tag) > 4<<10 {
			t.Errorf("the receipt has %d bytes", len(put.Receipt.Tag))
		}
	case providers.CallFinish:
		asset, ferr := a.Provider.Finish(ctx, a.session, a.stored)
		if err = ferr; err == nil {
			out = providers.Outcome{Holding: providers.HoldsAsset, Asset: asset}
		}
	case providers.CallProbe:
		out, err = a.Provider.Probe(ctx, a.Account, a.media, a.session)
	case providers.CallAbort:
		err = a.Provider.Abort(ctx, a.session)
	}
	return alter.hits > 0, out, err
}

// testAmiss has each call carried out and answered amiss. Whatever such an answer
// is taken for, it fails no upload for good and is believed only where it is true:
// the upload goes on and comes to its bytes.
func testAmiss(t *testing.T, s *subject) {
	t.Helper()
	var tried int
	for _, by := range []providers.Call{providers.CallBegin, providers.CallPut, providers.CallProbe, providers.CallAbort, providers.CallFinish} {
		for action, count := range s.callsOf(by) {
			a := s.attempt(t, by, count, s.lastOf(by))
			for _, answer := range allAmiss() {
				if by == providers.CallFinish || by == providers.CallAbort {
					a = s.attempt(t, by, count, s.lastOf(by))
				}
				tried++
				a.answeredAmiss(t, by, action, answer)
			}
			if by == providers.CallPut || by == providers.CallProbe {
				a.complete(t)
			}
		}
	}
	t.Attr(AttrNote, fmt.Sprintf("%d answers, %d to each call", tried, len(allAmiss())))
}

// lastOf is how many bytes the last part has: for parts enough for a second chunk,
// else few.
func (s *subject) lastOf(by providers.Call) int64 {
	if by == providers.CallPut {
		return min(s.partSize(), 1<<20+1000)
	}
	return min(s.partSize(), 1<<16)
}

// answeredAmiss is one of them.
func (a *attempt) answeredAmiss(t *testing.T, by providers.Call, action string, answer amiss) {
	t.Helper()
	name := fmt.Sprintf("%s: %s answered with %s", by, action, answer.name)
	hit, out, err := a.altered(t, by, action, answer)
	a.hides(t, err)
	e, ok := errors.AsType[*providers.Error](err)
	switch {
	case !hit:
		t.Errorf("%s: the call was not made (%v)", name, err)
		return
	case answer.says && err != nil:
		t.Errorf("%s: %v", name, err)
	case err != nil && (!ok || e.Kind == providers.Rejected || e.Kind == providers.Unauthorized):
		t.Errorf("%s: %v (%T)", name, err, err)
	case ok && (len(e.Code) > 100 || len(e.Error()) > 1000):
		t.Errorf("%s: the error has %d bytes", name, len(e.Error()))
	case err == nil && by == providers.CallProbe && out.Holding != providers.HoldsSession && out.Holding != providers.HoldsUnknown:
		t.Errorf("%s: probe says %s of an upload that is open (%s)", name, out.Holding, out.Evidence)
	}
	switch {
	case by == providers.CallAbort:
		if err := a.try(t, by); err != nil {
			t.Errorf("%s: then %v", name, err)
		}
	case by == providers.CallBegin && err == nil:
		a.complete(t)
		a.media, a.data = a.subject.media(t, a.media.Size)
		a.stored = nil
	case by == providers.CallFinish && err == nil && out.Asset.URL != "": // some may be without
		a.check(t, out.Asset, a.data)
	case by == providers.CallFinish && err == nil:
	case by == providers.CallFinish && action == a.last(by):
		if ok && e.Kind != providers.UnknownOutcome {
			t.Errorf("%s: %v, want %s", name, err, providers.UnknownOutcome)
			return
		}
		a.settle(t, true)
	case by == providers.CallFinish:
		a.complete(t)
	}
}

// testEndless has each call answered without an end: no more than a bound is read.
func testEndless(t *testing.T, s *subject) {
	t.Helper()
	for _, by := range []providers.Call{providers.CallBegin, providers.CallPut, providers.CallProbe, providers.CallAbort, providers.CallFinish} {
		for action, count := range s.callsOf(by) {
			for what, fill := range map[string]byte{"space": ' ', "text": 'a'} {
				var read int64
				a := s.attempt(t, by, count, s.lastOf(by))
				hit, _, err := a.altered(t, by, action, amiss{change: func(resp *http.Response) {
					_ = resp.Body.Close()
					head := "{\"code\":0,\"message\":\""
					if fill == ' ' {
						head = ""
					}
					resp.Body, resp.ContentLength = io.NopCloser(&endless{head: strings.NewReader(head), fill: fill, read: &read}), -1
				}})
				most := int64(mostOfOther)
				if by == providers.CallPut {
					most = mostOfPart
				}
				if !hit || read > most {
					t.Errorf("%s: %d bytes were read of the answer to %s (endless %s), at most %d should be; %v", by, read, action, what, most, err)
				}
			}
		}
	}
}
