package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"mediaferry/internal/api"
	"mediaferry/internal/api/wire"
	"mediaferry/internal/uploads"
)

// What a decoder would alter, drop or tell in its own words is refused by the name
// of its field, and nothing of what was sent is repeated.
func TestBodiesAreTakenAtTheirWord(t *testing.T) {
	t.Parallel()
	uc, base := setup(t)
	const good = `{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4"}`
	for name, tc := range map[string]struct {
		body            string
		header          []string
		status          int
		place, contains string
	}{
		"two accounts":       {good + `,"account":"other"}`, nil, 400, "body.account", "is there twice"},
		"two keys":           {`{"account":"main","source":{"bucket":"inbox","key":"a/1.mp4","key":"a/2.mp4"}}`, nil, 400, "body.source.key", "is there twice"},
		"an escaped name":    {good + `,"acc\u006funt":"other"}`, nil, 400, "body.account", "is there twice"},
		"a quote in a text":  {good + `,"name":"\"account\":","labels":{"a":"{","account":"["},"digests":["x"]}`, nil, 422, "body.digests[0]", "not a digest"},
		"many labels":        {good + `,"labels":{"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":"","10":"","11":"","12":"","13":"","14":"","15":"","16":"","17":"","3":""}}`, nil, 400, "body.labels.3", "is there twice"},
		"a text without end": {`{"account":"main`, nil, 400, "body", "is not JSON"},
		"ends alone":         {`]}`, nil, 400, "body", "is not JSON"},
		"one name in two":    {good + `,"labels":{"account":"x","a":"b"},"options":{"a":"b"},"digests":["a","a"]}`, nil, 422, "body.digests[0]", "not a digest"},
		"not UTF-8":          {strings.Replace(good, "1.mp4", "\xff.mp4", 1) + `}`, nil, 400, "body", "is not UTF-8 at byte 55"},
		"two values":         {good + `} {}`, nil, 400, "body", "is not JSON: "},
		"a huge number":      {good + `,"priority":1e300}`, nil, 422, "body.priority", "is 1e300; give a whole number"},
		"a large number":     {good + `,"priority":99999999999999999999}`, nil, 422, "body.priority", "give a whole number"},
		"a form":             {"account=main", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "header.Content-Type", "application/json"},
		"packed":             {"\x1f\x8b", []string{"Content-Encoding", "gzip"}, 415, "header.Content-Encoding", "send the body as it is"},
		"nothing but names":  {strings.Repeat("[", 9000), nil, 400, "body", "is not JSON"},
	} {
		a := call(t, http.MethodPost, base+"/v1/uploads", tc.body, tc.header...)
		p := decode[problem](t, a)
		if a.status != tc.status || len(p.Errors) != 1 || p.Errors[0].Location != tc.place || !strings.Contains(p.Errors[0].Message, tc.contains) || strings.Contains(a.body, `"value":`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for range uc.IDs() {
		t.Error("an upload was made")
	}
	if a := call(t, http.MethodGet, base+"/v1/uploads?state=failed&state=queued", ""); a.status != 422 || !strings.Contains(a.body, `"query.state"`) {
		t.Errorf("a parameter twice: %d %s", a.status, a.body)
	}
	for path, place := range map[string]string{
		"/v1/uploads?batch=x": "query.batch", "/v1/uploads?after=x": "query.after", "/v1/batches?after=x": "query.after", "/v1/events?batch=x": "query.batch",
	} {
		if a := call(t, http.MethodGet, base+path, ""); !strings.Contains(a.body, `"is not an id; give a UUID","location":"`+place) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	for _, tc := range []struct{ path, body, place string }{
		{"/v1/uploads/cancel", `{"batch":"x"}`, "body.batch"},
		{"/v1/uploads/prefix", `{"account":"main","bucket":"","prefix":"` + strings.Repeat("x", 2000) + `"}`, "body.prefix"},
		{"/v1/uploads/prefix", `{"account":"main","bucket":"","prefix":""}`, "body.bucket"},
		{"/v1/staging/presign", `{"name":"x","size":1,"expires_seconds":99999999999}`, "body.expires_seconds"},
	} {
		if a := call(t, http.MethodPost, base+tc.path, tc.body); a.status != 422 || !strings.Contains(a.body, `"`+tc.place+`"`) {
			t.Errorf("%s %.50s: %s", tc.path, tc.body, a.body)
		}
	}
	if a := call(t, http.MethodGet, base+"/v1/uploads?label=a=b&label=c=d", ""); a.status != 200 {
		t.Errorf("two labels: %d %s", a.status, a.body)
	}
}

// A line of many, and a message, are told of like a body.
func TestLinesAreTakenAtTheirWord(t *testing.T) {
	t.Parallel()
	uc, base := setup(t)
	lines := []struct{ line, field, contains string }{
		{`{"account":"main","account":"x","source":{"bucket":"inbox","key":"a/1.mp4"}}`, "account", "is there twice"},
		{`{"account":"main","colour":"red"}`, "colour", "is not known here"},
		{`{"account":"main","source":{"bucket":"inbox","key":7}}`, "source.key", "is a number; give a text"},
		{`{"account":"main","priority":"high"}`, "priority", "is a string; give a whole number"},
		{`{"account":"main","size":1e300}`, "size", "give a whole number"},
		{`{"account":"main","not_before":"tomorrow"}`, "not_before", "2006-01-02T15:04:05Z"},
		{"{\"account\":\"ma\xffin\"}", "", "is not UTF-8 at byte 15"},
		{`{"account":"main"} {}`, "", "has something after"},
		{`account,bucket,key`, "", "is not JSON"},
	}
	var body strings.Builder
	for _, l := range lines {
		body.WriteString(l.line + "\r\n")
		if strings.Contains(l.line, "size") {
			continue // of lines alone
		}
		reply, err := api.SubmitMessage(t.Context(), none{}, "default", "id", time.Now(), []byte(l.line))
		var told wire.StreamReply
		if json.Unmarshal(reply, &told) != nil || err == nil || len(told.Errors) != 1 || !strings.Contains(told.Errors[0], l.contains) || !strings.HasPrefix(told.Errors[0], l.field) {
			t.Errorf("message %s: %s, %v", l.line, reply, err)
		}
	}
	res := decode[wire.BulkResult](t, call(t, http.MethodPost, base+"/v1/uploads/bulk", body.String(), "Content-Type", "application/x-ndjson"))
	for i, l := range lines {
		if i >= len(res.Rejected) || res.Rejected[i].Line != i+1 || res.Rejected[i].Field != l.field || !strings.Contains(res.Rejected[i].Error, l.contains) {
			t.Errorf("line %s: %+v", l.line, res.Rejected)
			break
		}
	}
	// As spreadsheets write it.
	csv := "\ufeffaccount,bucket,key,label.show\r\nmain,inbox,a/1.mp4,\"a, \"\"b\"\"\"\r\n"
	a := call(t, http.MethodPost, base+"/v1/uploads/bulk", csv, "Content-Type", "text/csv; charset=utf-8")
	if res := decode[wire.BulkResult](t, a); res.Submitted != 1 {
		t.Errorf("CSV of a spreadsheet: %s", a.body)
	}
	for id := range uc.IDs() {
		uc.Change(id, func(u *uploads.Upload) {
			if u.Labels["show"] != `a, "b"` {
				t.Errorf("labels %v", u.Labels)
			}
		})
	}
}

// none takes nothing.
// A message whose account is not known here is left to others for a while, unless
// something else is wrong with it.
func TestAMessageOfAnUnknownAccount(t *testing.T) {
	t.Parallel()
	unknown := &uploads.UnknownAccountError{Field: &uploads.FieldError{Field: "account", Detail: "is not configured"}}
	other := &uploads.FieldError{Field: "priority", Detail: "is 1000"}
	body := []byte(`{"account":"new","source":{"bucket":"inbox","key":"a/1.mp4"}}`)
	for name, tc := range map[string]struct {
		err  error
		age  time.Duration
		left bool
	}{
		"at first":              {errors.Join(unknown), time.Second, true},
		"after a while":         {errors.Join(unknown), uploads.SettingsSpread, false},
		"with something beside": {errors.Join(other, unknown), time.Second, false},
		"something else":        {errors.Join(other), time.Second, false},
	} {
		reply, err := api.SubmitMessage(t.Context(), refusing{tc.err}, "default", "id", time.Now().Add(-tc.age), body)
		_, refused := errors.AsType[*uploads.RefusedError](err)
		if err == nil || refused == tc.left || (reply == nil) != tc.left {
			t.Errorf("%s: %s, %v", name, reply, err)
		}
	}
}

// refusing is a dispatcher that takes nothing.
type refusing struct{ err error }

func (r refusing) Submit(context.Context, uploads.Submission) (uploads.Upload, bool, error) {
	return uploads.Upload{}, false, r.err
}

type none struct{}

func (none) Submit(context.Context, uploads.Submission) (uploads.Upload, bool, error) {
	return uploads.Upload{}, false, &uploads.FieldError{Field: "test", Detail: "was submitted"}
}
