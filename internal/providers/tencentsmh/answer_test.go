package tencentsmh

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
)

// The answers of the documents, cut to what is read.
const (
	answerStart = `{"domain":"examplebucket-1250000000.cos.ap-beijing.myqcloud.com","path":"/smhxxx/xxx.mp4","uploadId":"xxx",
 "headers":{"Content-Type":"application/octet-stream","Authorization":"q-sign-algorithm=sha1&xxxxxx",
 "x-cos-security-token":"1dleQZoBrm4i5UKcV1ovQM4f63aE3Ldaa508aa686f404316d3628xxx","x-cos-traffic-limit":204800},
 "confirmKey":"7e8481cea3beecbfe5374c904ca9e7496abc612f400c323877310198745270b0","expiration":"2021-07-24T10:34:32.000Z","availableDomainNum":1}`
	answerFile = `{"path":["test.xlsx"],"name":"test.xlsx","type":"file","size":"2811086","eTag":"\"b581c674266a2b0ff16a9505b4c52300\"",
 "crc64":"16293198345556339838","metaData":{},"isOverwritten":false}`
	answerStatus = `{"confirmed":false,"path":["a","b.mp4"],"uploadId":"xxx","parts":[
 {"PartNumber":2,"LastModified":"2021-07-24T10:34:32.000Z","ETag":"\"0BEE89B07A248E27C83FC3D5951213C1\"","Size":1048576},
 {"PartNumber":"1","ETag":"\"b581c674266a2b0ff16a9505b4c52300\"","Size":"1048576"},
 {"PartNumber":3,"ETag":"\"x\"","Size":6},{"PartNumber":0,"Size":1048576},{"PartNumber":4,"Size":5},{"PartNumber":"x","Size":5},{"PartNumber":1,"Size":1048576}],
 "uploadPartInfo":{"domain":"d","path":"smhxxx/xxx.mp4"}}`
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	u, err := parseInfo([]byte(answerStart))
	if err != nil {
		t.Fatal(err)
	}
	object, err := u.object("https")
	if err != nil || object.String() != "https://examplebucket-1250000000.cos.ap-beijing.myqcloud.com/smhxxx/xxx.mp4" {
		t.Errorf("object %v, %v", object, err)
	}
	if want := time.Date(2021, 7, 24, 10, 34, 32, 0, time.UTC); !u.expires().Equal(want) || u.Headers["x-cos-traffic-limit"] != "204800" {
		t.Errorf("upload info %+v", u)
	}
	if bare, err := parseInfo([]byte(`{"domain":"h:80","path":"a/b","headers":{"A":"b"}}`)); err != nil || bare.Path != "/a/b" || !bare.expires().IsZero() {
		t.Errorf("upload info %+v, %v", bare, err)
	}
	for _, bad := range []string{
		`{}`, `[]`, `{"domain":"d","path":"/a"}`, `{"domain":"d","headers":{"A":"b"}}`, `{"path":"/a","headers":{"A":"b"}}`,
		`{"domain":"u@d","path":"/a","headers":{"A":"b"}}`, `{"domain":"d/e","path":"/a","headers":{"A":"b"}}`,
		`{"domain":"d","path":"/a?b","headers":{"A":"b"}}`, `{"domain":"d","path":"/a","headers":{"A":{}}}`,
	} {
		if got, err := parseInfo([]byte(bad)); err == nil {
			t.Errorf("%s is read as %+v", bad, got)
		}
	}
	f, err := parseFile([]byte(answerFile))
	if err != nil || f.CRC64 != "16293198345556339838" || tag(string(f.ETag)) != "b581c674266a2b0ff16a9505b4c52300" {
		t.Errorf("file %+v, %v", f, err)
	}
	st, err := parseStatus([]byte(answerStatus))
	if err != nil {
		t.Fatal(err)
	}
	want := []parts.Stored{
		{Part: parts.Part{Number: 1, Offset: 0, Length: 1048576}, Receipt: parts.Receipt{Tag: "b581c674266a2b0ff16a9505b4c52300"}},
		{Part: parts.Part{Number: 2, Offset: 1048576, Length: 1048576}, Receipt: parts.Receipt{Tag: "0bee89b07a248e27c83fc3d5951213c1"}},
	}
	if diff := cmp.Diff(want, st.found(parts.Plan{Size: 2097157, PartSize: 1048576})); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if _, err := parseStatus([]byte(`{"path":["a"]}`)); err == nil {
		t.Error("a status that does not say whether it is confirmed is read")
	}
	for _, bad := range []string{`{"accessToken":"a"}`, `{"expiresIn":3}`, `{"accessToken":"a","expiresIn":-1}`, `x`} {
		if _, _, err := parseToken([]byte(bad)); err == nil {
			t.Errorf("%s is read as a token", bad)
		}
	}
}

// TestCRCVectors are the platform's CRC-64 of two kinds of data, made of parts.
func TestCRCVectors(t *testing.T) {
	t.Parallel()
	a := bytes.Repeat([]byte("a"), 12582912)
	p := make([]byte, 2621440)
	for i := range p {
		p[i] = byte(i % 251)
	}
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{[]byte("123456789"), "11051210869376104954"},
		{nil, "0"},
		{a[:1], "3675645893302102789"},
		{a[:1048576], "6701094182323390671"},
		{a[:1048577], "6151698688125201423"},
		{a[:2097153], "10019780495856073735"},
		{a[:2621440], "14455637266567281496"},
		{a[:5242880], "2368817460909046045"},
		{a, "9004325891301864681"},
		{p[:1048576], "16028127081582314172"},
		{p, "10547624972659972547"},
	} {
		plan := parts.Plan{Size: int64(len(tt.data)), PartSize: 1 << 20}
		var stored []parts.Stored
		for n := plan.Count(); n >= 1; n-- { // the order of arrival does not matter
			part := plan.Part(n)
			sum, err := hashing.Sum(hashing.CRC64ECMA, tt.data[part.Offset:part.Offset+part.Length])
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, parts.Stored{Part: part, Digest: sum})
		}
		whole, err := combine(stored)
		if err != nil || decimal(whole) != tt.want {
			t.Errorf("%d bytes have CRC-64 %s (%v), want %s", len(tt.data), decimal(whole), err, tt.want)
		}
	}
	if got := decimal(hashing.Digest{}); got != "" {
		t.Errorf("no digest is written as %q", got)
	}
}

// TestRefusalHidesSecrets has the platform echo what it was sent.
func TestRefusalHidesSecrets(t *testing.T) {
	t.Parallel()
	for _, call := range []string{callStart, callPart} {
		words := "bad SECRET in " + strings.Repeat("é", webapi.MaxWords)
		body := `{"code":"NoPermission","message":` + strconv.Quote(words) + `}`
		if call == callPart {
			body = `<?xml version='1.0'?><Error><Code>NoPermission</Code><Message>` + words + `</Message></Error>`
		}
		err := refusal(call, providers.Transient, &http.Response{
			StatusCode: http.StatusForbidden, Header: http.Header{"Retry-After": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}},
			Body: io.NopCloser(strings.NewReader(body)),
		}, []string{"", "SECRET"})
		if text := err.Error(); strings.Contains(text, "SECRET") || !strings.Contains(text, "bad [redacted] in") || len(text) > webapi.MaxWords+100 {
			t.Errorf("%s: %q", call, text)
		}
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(answerStart))
	f.Add([]byte(`{"domain":"h:80","path":"a/b","headers":{"A":1}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		u, err := parseInfo(body)
		if err != nil {
			return
		}
		object, err := u.object("https")
		if err != nil || object.Host != string(u.Domain) || object.RawQuery != "" || object.User != nil {
			t.Errorf("%q leads to %v, %v", body, object, err)
		}
		if _, err := (session{Endpoint: "https://h", UploadID: "u", ConfirmKey: "k"}).opened(callStart, body, time.Now()); err != nil {
			t.Errorf("what is read cannot be opened: %v", err)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(answerStatus))
	f.Add([]byte(`{"confirmed":true,"path":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		st, err := parseStatus(body)
		if err != nil {
			return
		}
		plan := parts.Plan{Size: 3<<20 + 1, PartSize: 1 << 20}
		last := 0
		for _, p := range st.found(plan) {
			if p.Number <= last || plan.Part(p.Number) != p.Part {
				t.Errorf("found %+v after part %d", p.Part, last)
			}
			last = p.Number
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(answerFile))
	f.Add([]byte(`{"path":null,"crc64":1,"metaData":{"a":2}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if file, err := parseFile(body); err == nil && file.CRC64 == "" {
			t.Errorf("%q is a file without a checksum", body)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add([]byte(`{"accessToken":"acctk01f0e1d2","expiresIn":3600}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if token, life, err := parseToken(body); err == nil && (token == "" || life <= 0) {
			t.Errorf("%q is token %q for %s", body, token, life)
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add(true, 403, `<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`)
	f.Add(false, 409, `{"code":"UploadComplete","message":"m"}`)
	f.Fuzz(func(t *testing.T, part bool, status int, body string) {
		call, kinds := callConfirm, []providers.Kind{
			providers.Transient, providers.Throttled, providers.Unauthorized, providers.SessionLost,
			providers.Rejected, providers.Mismatch, providers.UnknownOutcome,
		}
		if part {
			call, kinds = callPart, kinds[:len(kinds)-1]
		}
		lost := providers.Transient
		if !part {
			lost = providers.UnknownOutcome
		}
		err := refusal(call, lost, &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, []string{"SIGNED"})
		known := false
		for _, k := range kinds {
			known = known || providers.KindOf(err) == k
		}
		if !known || strings.Contains(err.Error(), "SIGNED") && !strings.Contains(body, "[") {
			t.Errorf("%d %q is %v", status, body, err)
		}
	})
}
