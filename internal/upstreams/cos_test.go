package upstreams

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The pair and the time of the storage's published example.
const (
	cosDummyID  = "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q"
	cosDummyKey = "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz"
	cosKeyTime  = "1557989151;1557996351"
	cosBucket   = "examplebucket-1250000000"
	cosHost     = cosBucket + ".cos.ap-beijing.myqcloud.com"
)

func cosAuth(id, keyTime, headers, params, signature string) string {
	return "q-sign-algorithm=sha1&q-ak=" + id + "&q-sign-time=" + keyTime + "&q-key-time=" + keyTime +
		"&q-header-list=" + headers + "&q-url-param-list=" + params + "&q-signature=" + signature
}

func TestCOSSignatureVectors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		method, target, headerList, paramList, want string
		headers                                     map[string]string
	}{
		"C0": {
			http.MethodPut, "/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)", "content-length;content-md5;content-type;date;host;x-cos-acl;x-cos-grant-read", "",
			"3b8851a11a569213c17ba8fa7dcf2abec6935172",
			map[string]string{
				"Content-Length": "13", "Content-MD5": "mQ/fVh815F3k6TAUm8m0eg==", "Content-Type": "text/plain",
				"Date": "Thu, 16 May 2019 06:45:51 GMT", "X-Cos-Acl": "private", "X-Cos-Grant-Read": `uin="100000000011"`,
			},
		},
		"C1": {http.MethodPut, "/dir/name.mp4", "content-length;host", "", "5f02b5a418364c1a517bb6ba52d414c6a34729bd", map[string]string{"Content-Length": "13"}},
		"C1, slash escaped, token not listed": {
			http.MethodPut, "/dir%2Fname.mp4", "content-length;host", "", "5f02b5a418364c1a517bb6ba52d414c6a34729bd",
			map[string]string{"Content-Length": "13", "X-Cos-Security-Token": "tok123"},
		},
		"C2": {
			http.MethodPut, "/dir/name.mp4", "content-length;host;x-cos-security-token", "", "52d2ec1ad7d9fd1b454acb4a3e35cbf35a538bea",
			map[string]string{"Content-Length": "13", "X-Cos-Security-Token": "tok123"},
		},
		"C3": {
			http.MethodPost, "/dir/name.mp4?uploads", "content-length;host;x-cos-security-token", "uploads", "2734c70e2c070a18f161044adc5da6528e0afb86",
			map[string]string{"Content-Length": "0", "X-Cos-Security-Token": "tok123"},
		},
		"C3 with =": {
			http.MethodPost, "/dir/name.mp4?uploads=", "content-length;host;x-cos-security-token", "uploads", "2734c70e2c070a18f161044adc5da6528e0afb86",
			map[string]string{"Content-Length": "0", "X-Cos-Security-Token": "tok123"},
		},
		"C4, lists in mixed case": {
			http.MethodPut, "/dir/name.mp4?partNumber=1&uploadId=uid%2F1%3D", "Content-Length;content-md5;host;x-cos-security-token", "partNumber;uploadId",
			"050b3849f6d973ca91acfd0b29f24d5d0cec6bba",
			map[string]string{
				"Content-Length": "1048576", "Content-MD5": "OScKloo1fSQgfpkRFiUH6w==", "X-Cos-Security-Token": "tok123",
			},
		},
		"C5": {
			http.MethodPost, "/dir/name.mp4?uploadId=uid1", "content-length;content-type;host;x-cos-security-token", "uploadid",
			"aff6c9c52219cdb1a705cc759ab3506f0f8ff021",
			map[string]string{
				"Content-Length": "119", "Content-Type": "application/xml", "X-Cos-Security-Token": "tok123",
			},
		},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "http://"+cosHost+tt.target, nil)
		for name, value := range tt.headers {
			r.Header.Set(name, value)
		}
		a, err := parseCOSAuthorization(cosAuth(cosDummyID, cosKeyTime, tt.headerList, tt.paramList, tt.want))
		if err != nil {
			t.Fatal(err)
		}
		if got := a.expected(cosDummyKey, r); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
		if !a.inForce(time.Unix(1557990000, 0)) || a.inForce(time.Unix(1557996352, 0)) || a.inForce(time.Unix(1557980000, 0)) {
			t.Errorf("%s: it is in force at the wrong time", name)
		}
	}
}

// cosClient calls a COS as a client with a key does.
type cosClient struct {
	t       *testing.T
	url     string
	id, key string
	token   string
}

func startCOS(t *testing.T, dir string) (*COS, *cosClient) {
	t.Helper()
	cos := NewCOS(COSConfig{Keys: map[string]string{cosDummyID: cosDummyKey}, Buckets: []string{cosBucket}, Dir: dir})
	server, err := Serve(t.Context(), "", cos)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return cos, &cosClient{t: t, url: server.URL, id: cosDummyID, key: cosDummyKey}
}

type cosReply struct {
	status int
	header http.Header
	body   []byte
}

// code returns the code of a refusal, "" for a success.
func (r cosReply) code() string {
	var refused cosRefusal
	if r.status < 300 || xml.Unmarshal(r.body, &refused) != nil {
		return ""
	}
	return refused.Code
}

// request returns a signed request, to be spoiled by the caller.
func (c *cosClient) request(ctx context.Context, method, target string, body []byte, headers ...string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.url+target, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Host = cosHost
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if c.token != "" {
		r.Header.Set("X-Cos-Security-Token", c.token)
	}
	now := time.Now().Unix()
	a := cosAuthorization{keyTime: fmt.Sprintf("%d;%d", now, now+600), headers: []string{"host"}}
	for name := range r.URL.Query() {
		a.params = append(a.params, strings.ToLower(name))
	}
	r.Header.Set("Authorization", cosAuth(c.id, a.keyTime, "host", strings.Join(a.params, ";"), a.expected(c.key, r)))
	return r
}

func (c *cosClient) send(r *http.Request) cosReply {
	c.t.Helper()
	resp, err := oneCall().Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.Header.Get("X-Cos-Request-Id") == "" {
		c.t.Errorf("%s %s: the answer has no request id", r.Method, r.URL)
	}
	return cosReply{resp.StatusCode, resp.Header, body}
}

func (c *cosClient) do(method, target string, body []byte, headers ...string) cosReply {
	c.t.Helper()
	return c.send(c.request(c.t.Context(), method, target, body, headers...))
}

func (c *cosClient) initiate(key string) string {
	c.t.Helper()
	var opened cosInitiated
	if reply := c.do(http.MethodPost, "/"+key+"?uploads", nil); xml.Unmarshal(reply.body, &opened) != nil || opened.UploadID == "" || opened.Key != key {
		c.t.Fatalf("initiate: %d %s", reply.status, reply.body)
	}
	return opened.UploadID
}

// completion names parts from 1 on.
func completion(etags ...string) []byte {
	var pairs []any
	for i, etag := range etags {
		pairs = append(pairs, i+1, etag)
	}
	return numbered(pairs...)
}

// numbered names parts by number and ETag, in the order of one vendor's client.
func numbered(pairs ...any) []byte {
	var b strings.Builder
	b.WriteString("<CompleteMultipartUpload>")
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "<Part><ETag>&#34;%s&#34;</ETag><PartNumber>%d</PartNumber></Part>", strings.Trim(fmt.Sprint(pairs[i+1]), `"`), pairs[i])
	}
	b.WriteString("</CompleteMultipartUpload>")
	return []byte(b.String())
}

func TestCOSStores(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{true, false} {
		dir := ""
		if kept {
			dir = t.TempDir()
		}
		_, client := startCOS(t, dir)
		// The check values of the documents, and an ETag that is the MD5.
		for text, crc := range map[string]string{
			"123456789": "11051210869376104954", "abc": "3231342946509354535", "ObjectContent": "2900061071848923409", "": "0",
		} {
			reply := client.do(http.MethodPut, "/dir/name", []byte(text))
			if got := reply.header.Get("X-Cos-Hash-Crc64ecma"); got != crc || reply.header.Get("Etag") != fmt.Sprintf(`"%x"`, md5.Sum([]byte(text))) {
				t.Errorf("%q: CRC %s, want %s, ETag %s", text, got, crc, reply.header.Get("Etag"))
			}
		}
		first, last := bytes.Repeat([]byte("mediaferry"), 120_000), []byte("the end")
		id := client.initiate("dir/name")
		target := "/dir/name?partNumber=%d&uploadId=" + id
		client.do(http.MethodPut, fmt.Sprintf(target, 1), []byte("replaced"))
		etags := []string{
			client.do(http.MethodPut, fmt.Sprintf(target, 1), first).header.Get("Etag"),
			client.do(http.MethodPut, fmt.Sprintf(target, 2), last).header.Get("Etag"),
		}
		reply := client.do(http.MethodPost, "/dir/name?uploadId="+id, completion(etags...))
		var done cosCompleted
		if err := xml.Unmarshal(reply.body, &done); err != nil || !strings.HasSuffix(done.ETag, `-2"`) || done.Key != "dir/name" {
			t.Fatalf("complete: %d %s", reply.status, reply.body)
		}
		want := client.do(http.MethodPut, "/in-one", append(bytes.Clone(first), last...)).header.Get("X-Cos-Hash-Crc64ecma")
		if got := reply.header.Get("X-Cos-Hash-Crc64ecma"); got != want {
			t.Errorf("kept %t: the CRC of the whole is %s, want %s", kept, got, want)
		}
		head := client.do(http.MethodHead, "/dir/name", nil)
		if head.header.Get("X-Cos-Hash-Crc64ecma") != want || head.header.Get("Content-Length") != strconv.Itoa(len(first)+len(last)) {
			t.Errorf("HEAD answers %v", head.header)
		}
		got := client.do(http.MethodGet, "/dir/name", nil)
		if kept && !bytes.Equal(got.body, append(bytes.Clone(first), last...)) || !kept && got.code() != "NoSuchKey" {
			t.Errorf("kept %t: GET answers %d with %d bytes", kept, got.status, len(got.body))
		}
	}
}

func TestCOSRefuses(t *testing.T) {
	t.Parallel()
	cos, client := startCOS(t, "")
	id := client.initiate("k")
	part := func(n int, body []byte, headers ...string) cosReply {
		t.Helper()
		return client.do(http.MethodPut, fmt.Sprintf("/k?partNumber=%d&uploadId=%s", n, id), body, headers...)
	}
	small, large := []byte("small"), make([]byte, cosMinPart)
	largeTag, smallTag := part(1, large).header.Get("Etag"), part(2, small).header.Get("Etag")
	part(3, small)
	complete := func(body []byte, headers ...string) cosReply {
		t.Helper()
		return client.do(http.MethodPost, "/k?uploadId="+id, body, headers...)
	}
	now := time.Now().Unix()
	spoiled := func(spoil func(*http.Request)) cosReply {
		t.Helper()
		r := client.request(t.Context(), http.MethodHead, "/k", nil)
		r.Method = http.MethodGet // so that there is a body to read
		spoil(r)
		return client.send(r)
	}
	for name, tt := range map[string]struct {
		reply  cosReply
		status int
		code   string
	}{
		"unknown upload":         {client.do(http.MethodPut, "/k?partNumber=1&uploadId=x", small), 404, "NoSuchUpload"},
		"upload of another key":  {client.do(http.MethodPut, "/other?partNumber=1&uploadId="+id, small), 404, "NoSuchUpload"},
		"list of unknown upload": {client.do(http.MethodGet, "/k?uploadId=x", nil), 404, "NoSuchUpload"},
		"abort of unknown":       {client.do(http.MethodDelete, "/k?uploadId=x", nil), 404, "NoSuchUpload"},
		"part 0":                 {part(0, small), 400, "InvalidArgument"},
		"part 10001":             {part(10001, small), 400, "InvalidArgument"},
		"wrong MD5":              {part(3, small, "Content-MD5", base64.StdEncoding.EncodeToString(make([]byte, 16))), 400, "BadDigest"},
		"odd MD5":                {part(3, small, "Content-MD5", "abc"), 400, "InvalidDigest"},
		"odd traffic limit":      {part(3, small, "x-cos-traffic-limit", "1"), 400, "InvalidArgument"},
		"no XML":                 {complete([]byte("{}")), 400, "MalformedXML"},
		"no parts":               {complete(completion()), 400, "MalformedXML"},
		"wrong MD5 of the list":  {complete(completion(smallTag), "Content-MD5", "x"), 400, "BadDigest"},
		"small part":             {complete(completion(largeTag, smallTag, smallTag)), 400, "EntityTooSmall"},
		"other ETag":             {complete(completion(smallTag)), 400, "InvalidPart"},
		"gap":                    {complete(numbered(1, largeTag, 3, smallTag)), 400, "InvalidPart"},
		"missing part":           {complete(numbered(4, smallTag)), 400, "InvalidPart"},
		"order":                  {complete(numbered(1, largeTag, 1, largeTag)), 400, "InvalidPartOrder"},
		"nothing there":          {client.do(http.MethodGet, "/nothing", nil), 404, "NoSuchKey"},
		"no such call":           {client.do(http.MethodDelete, "/k", nil), 405, "MethodNotAllowed"},
		"no authorization":       {spoiled(func(r *http.Request) { r.Header.Del("Authorization") }), 403, "AccessDenied"},
		"other method":           {spoiled(func(*http.Request) {}), 403, "SignatureDoesNotMatch"},
		"unknown key":            {spoiled(func(r *http.Request) { spoilAuth(r, cosDummyID, "AKIDother") }), 403, "InvalidAccessKeyId"},
		"unlike times":           {spoiled(func(r *http.Request) { spoilAuth(r, "q-sign-time=", "q-sign-time=1") }), 403, "AccessDenied"},
		"another host":           {spoiled(func(r *http.Request) { r.Host = "other-1.cos.ap-beijing.myqcloud.com" }), 403, "SignatureDoesNotMatch"},
		"expired":                {client.at(now-7200, now-3600, cosHost), 403, "AccessDenied"},
		"not yet":                {client.at(now+3600, now+7200, cosHost), 403, "AccessDenied"},
		"a bucket not there":     {client.at(now, now+600, "other-1.cos.ap-beijing.myqcloud.com"), 404, "NoSuchBucket"},
	} {
		if tt.reply.status != tt.status || tt.reply.code() != tt.code {
			t.Errorf("%s: %d %s, want %d %s (%s)", name, tt.reply.status, tt.reply.code(), tt.status, tt.code, tt.reply.body)
		}
	}
	if reply := client.do(http.MethodDelete, "/k?uploadId="+id, nil); reply.status != http.StatusNoContent {
		t.Errorf("abort: %d %s", reply.status, reply.body)
	}
	if reply := part(1, small); reply.code() != "NoSuchUpload" {
		t.Errorf("part of an aborted upload: %d %s", reply.status, reply.body)
	}
	chunked := client.request(t.Context(), http.MethodPut, "/chunked", nil)
	chunked.Body, chunked.ContentLength = io.NopCloser(strings.NewReader("abc")), -1
	if reply := client.send(chunked); reply.status != http.StatusLengthRequired || reply.code() != "MissingContentLength" {
		t.Errorf("without a length: %d %s", reply.status, reply.body)
	}
	if len(cos.Calls()) == 0 || cos.Calls()[0].Account != cosDummyID {
		t.Errorf("calls %+v", cos.Calls())
	}
}

func spoilAuth(r *http.Request, from, to string) {
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
}

// at makes a call that is signed for a time and a host.
func (c *cosClient) at(start, end int64, host string) cosReply {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+"/k", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Host = host
	a := cosAuthorization{keyTime: fmt.Sprintf("%d;%d", start, end), headers: []string{"host"}}
	// The fields may stand in the query as well.
	query, err := url.ParseQuery(strings.ReplaceAll(cosAuth(c.id, a.keyTime, "host", "", a.expected(c.key, r)), ";", "%3B"))
	if err != nil {
		c.t.Fatal(err)
	}
	r.URL.RawQuery = query.Encode()
	return c.send(r)
}

func TestCOSTemporaryKeys(t *testing.T) {
	t.Parallel()
	cos, own := startCOS(t, "")
	id, key := cos.grant(cosDummyID, time.Now().Add(time.Hour), cosPlace{cosBucket, "mine"})
	client := &cosClient{t: t, url: own.url, id: id, key: key.secretKey, token: key.token}
	if reply := client.do(http.MethodPut, "/mine", []byte("x")); reply.status != http.StatusOK {
		t.Errorf("PUT: %d %s", reply.status, reply.body)
	}
	if reply := client.do(http.MethodGet, "/?uploads&prefix=mine", nil); reply.status != http.StatusOK {
		t.Errorf("list: %d %s", reply.status, reply.body)
	}
	if reply := client.do(http.MethodPut, "/other", []byte("x")); reply.code() != "AccessDenied" {
		t.Errorf("another object: %d %s", reply.status, reply.body)
	}
	client.token = "another"
	if reply := client.do(http.MethodPut, "/mine", []byte("x")); reply.code() != "AccessDenied" {
		t.Errorf("another token: %d %s", reply.status, reply.body)
	}
	client.token = key.token
	cos.ExpireKeys()
	if reply := client.do(http.MethodPut, "/mine", []byte("x")); reply.status != http.StatusBadRequest || reply.code() != "ExpiredToken" {
		t.Errorf("expired: %d %s", reply.status, reply.body)
	}
}

func TestCOSLists(t *testing.T) {
	t.Parallel()
	cos, client := startCOS(t, "")
	ids := []string{client.initiate("dir/a"), client.initiate("dir/a"), client.initiate("dir/b")}
	client.initiate("elsewhere")
	for _, n := range []int{1, 2, 5} {
		client.do(http.MethodPut, fmt.Sprintf("/dir/a?partNumber=%d&uploadId=%s", n, ids[1]), []byte("abc"))
	}
	var numbers []int
	for marker, more := 0, true; more; {
		var page cosListedParts
		reply := client.do(http.MethodGet, fmt.Sprintf("/dir/a?uploadId=%s&max-parts=2&part-number-marker=%d&encoding-type=url", ids[1], marker), nil)
		if err := xml.Unmarshal(reply.body, &page); err != nil || len(page.Parts) == 0 || page.Key != "dir%2Fa" {
			t.Fatalf("%v: %s", err, reply.body)
		}
		for _, p := range page.Parts {
			numbers = append(numbers, p.PartNumber)
			if p.Size != 3 || p.ETag != `"900150983cd24fb0d6963f7d28e17f72"` {
				t.Errorf("part %+v", p)
			}
		}
		marker, more = page.NextPartNumberMarker, page.IsTruncated
	}
	if diff := cmp.Diff([]int{1, 2, 5}, numbers); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	var got []string
	for key, id, more := "", "", true; more; {
		var page cosListedUploads
		reply := client.do(http.MethodGet, "/?uploads&prefix=dir/&max-uploads=1&key-marker="+key+"&upload-id-marker="+id, nil)
		if err := xml.Unmarshal(reply.body, &page); err != nil || len(page.Uploads) != 1 {
			t.Fatalf("%v: %s", err, reply.body)
		}
		got = append(got, page.Uploads[0].UploadID)
		key, id, more = page.NextKeyMarker, page.NextUploadIDMarker, page.IsTruncated
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Errorf("uploads (-want +got):\n%s", diff)
	}
	cos.Forget(cosBucket, "dir/a")
	if reply := client.do(http.MethodGet, "/dir/a?uploadId="+ids[1], nil); reply.code() != "NoSuchUpload" {
		t.Errorf("a forgotten upload: %d %s", reply.status, reply.body)
	}
}

// TestCOSCountsWhatItReceives adds repeats up, and bodies that broke off.
func TestCOSCountsWhatItReceives(t *testing.T) {
	t.Parallel()
	cos, client := startCOS(t, "")
	cos.AddFaults(Fault{Action: COSPutObject, Times: 1, Apply: true, Status: 500})
	if reply := client.do(http.MethodPut, "/k", []byte("abc")); reply.status != http.StatusInternalServerError {
		t.Errorf("the fault answered %d", reply.status)
	}
	client.do(http.MethodPut, "/k", []byte("abc"))
	want := []COSFile{{Bucket: cosBucket, Key: "k", Size: 3, BytesReceived: 6, Puts: 2, CRC64: "2cd8094a1a277627", Stored: true}}
	if diff := cmp.Diff(want, cos.Files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// aborting is a body that makes its upload end before its last bytes are sent.
type aborting struct {
	left  int
	abort func()
}

func (a *aborting) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), a.left)
	if a.left -= n; a.left == 0 {
		a.abort()
	}
	return n, nil
}

// TestCOSAbortWhileAPartComesIn sends more than fits on the way, so that the
// storage is reading when the upload ends.
func TestCOSAbortWhileAPartComesIn(t *testing.T) {
	t.Parallel()
	_, client := startCOS(t, "")
	id := client.initiate("k")
	r := client.request(t.Context(), http.MethodPut, "/k?partNumber=1&uploadId="+id, nil)
	r.ContentLength = 32 << 20
	r.Body = io.NopCloser(&aborting{left: 32 << 20, abort: func() { client.do(http.MethodDelete, "/k?uploadId="+id, nil) }})
	if reply := client.send(r); reply.code() != "NoSuchUpload" {
		t.Errorf("the part was answered with %d %s", reply.status, reply.body)
	}
}

// TestCOSIncompleteBody ends a body before its time, in good order.
func TestCOSIncompleteBody(t *testing.T) {
	t.Parallel()
	cos, client := startCOS(t, t.TempDir())
	r := client.request(t.Context(), http.MethodPut, "/k", nil)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(client.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "PUT /k HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Length: 10\r\n\r\nabc", cosHost, r.Header.Get("Authorization"))
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, conn) // until the server has done with it
	calls := cos.Calls()
	if len(calls) != 1 || !strings.HasPrefix(calls[0].Outcome, "IncompleteBody") || calls[0].Received != 3 {
		t.Errorf("calls %+v", calls)
	}
	if reply := client.do(http.MethodHead, "/k", nil); reply.status != http.StatusNotFound {
		t.Errorf("HEAD answers %d", reply.status)
	}
}

func TestOddCOSAuthorizations(t *testing.T) {
	t.Parallel()
	good := cosAuth(cosDummyID, cosKeyTime, "host", "", "5f02b5a418364c1a517bb6ba52d414c6a34729bd")
	if _, err := parseCOSAuthorization(good); err != nil {
		t.Error(err)
	}
	for from, to := range map[string]string{
		"=sha1&": "=sha256&", "q-key-time=1557989151;1557996351": "q-key-time=1557989151", "q-sign-time=1557989151": "q-sign-time=1557989152",
		cosDummyID: "", "5f02b5a4": "", "q-ak=": "q-ak",
	} {
		if _, err := parseCOSAuthorization(strings.Replace(good, from, to, 1)); err == nil {
			t.Errorf("%q in place of %q is taken", to, from)
		}
	}
}

func FuzzParseCOSAuthorization(f *testing.F) {
	f.Add(cosAuth(cosDummyID, cosKeyTime, "content-length;host", "uploads", "5f02b5a418364c1a517bb6ba52d414c6a34729bd"))
	f.Add("q-sign-algorithm=sha1")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseCOSAuthorization(text)
		if err != nil {
			return
		}
		if a.secretID == "" || a.end <= a.start || len(a.signature) != 40 {
			t.Errorf("%q is read as %+v", text, a)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+cosHost+"/k?uploads", nil)
		if len(a.expected(cosDummyKey, r)) != 40 {
			t.Error("a signature has 40 digits")
		}
	})
}

func FuzzParseCOSComplete(f *testing.F) {
	f.Add(completion("a", "b"))
	f.Add([]byte("<CompleteMultipartUpload/>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if named, err := parseCOSComplete(body); err == nil && len(named) == 0 {
			t.Error("a completion of nothing is read")
		}
	})
}
