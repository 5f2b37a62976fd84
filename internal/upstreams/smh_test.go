package upstreams

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
)

// smhClient calls an SMH as a vendor's client does.
type smhClient struct {
	t     *testing.T
	url   string
	token string
}

const smhLibrary, smhSecret = "smh1abc", "s3cr3t"

func startSMH(t *testing.T, config SMHConfig) (*SMH, smhClient) {
	t.Helper()
	config.Libraries = map[string]string{smhLibrary: smhSecret, "another": "secret"}
	smh := NewSMH(config)
	server, err := Serve(t.Context(), "", smh)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	c := smhClient{t: t, url: server.URL}
	return smh, c.as(smhLibrary, smhSecret, "&grant=upload_file")
}

// as returns the client with a fresh token; more is the rest of the query.
func (c smhClient) as(library, secret, more string) smhClient {
	c.t.Helper()
	got := c.do(http.MethodGet, "/api/v1/token?library_id="+library+"&library_secret="+secret+more, nil, nil)
	if got.AccessToken == "" {
		c.t.Fatalf("no token: %+v", got)
	}
	c.token = got.AccessToken
	return c
}

// smhGot is whatever an answer says.
type smhGot struct {
	status int
	header http.Header

	Code, Message                              string
	AccessToken                                string
	ExpiresIn                                  int
	Domain, Path, UploadID, ConfirmKey, Expiry string
	Headers                                    map[string]any
	Final                                      []string
	CRC64, Size, ETag                          string
	IsOverwritten, Confirmed                   bool
	MetaData                                   map[string]string
	Parts                                      []smhListedPart
	UploadPartInfo                             *smhGot
}

// UnmarshalJSON reads members that mean different things in different answers.
func (g *smhGot) UnmarshalJSON(raw []byte) error {
	type plain smhGot
	var members struct {
		Path json.RawMessage `json:"path"`
		*plain
	}
	members.plain = (*plain)(g)
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	if len(members.Path) > 0 && members.Path[0] == '[' {
		return json.Unmarshal(members.Path, &g.Final)
	}
	if len(members.Path) > 0 {
		return json.Unmarshal(members.Path, &g.Path)
	}
	return nil
}

func (c smhClient) do(method, path string, header map[string]string, body []byte) smhGot {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := oneCall().Transport.RoundTrip(req) // redirects are looked at
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	got := smhGot{status: resp.StatusCode, header: resp.Header}
	switch resp.Header.Get("Content-Type") {
	case "application/json":
		err = json.Unmarshal(text, &got)
	case "application/xml":
		var refusal smhRefusal
		err = xml.Unmarshal(text, &refusal)
		got.Code, got.Message = refusal.Code, refusal.Message
	}
	if err != nil {
		c.t.Fatalf("%s: %v", text, err)
	}
	return got
}

// api makes a call about a file or a confirm key.
func (c smhClient) api(method, flag, name, query, body string) smhGot {
	c.t.Helper()
	return c.do(method, "/api/v1/file/"+smhLibrary+"/-/"+name+"?"+flag+query+"&access_token="+c.token, nil, []byte(body))
}

func (c smhClient) start(name, query, body string) smhGot {
	c.t.Helper()
	return c.api(http.MethodPost, "multipart", name, query, body)
}

func (c smhClient) started(name, query string) smhGot {
	c.t.Helper()
	got := c.start(name, query, "{}")
	if got.status != http.StatusCreated {
		c.t.Fatalf("start of %s: %+v", name, got)
	}
	return got
}

func (c smhClient) confirm(task smhGot, query, body string) smhGot {
	c.t.Helper()
	return c.api(http.MethodPost, "confirm", task.ConfirmKey, query, body)
}

// part puts a part; more replaces headers, "" takes one away.
func (c smhClient) part(task smhGot, number string, data []byte, more map[string]string) smhGot {
	c.t.Helper()
	header := make(map[string]string)
	for name, value := range task.Headers {
		switch value := value.(type) {
		case string:
			header[name] = value
		case float64:
			header[name] = strconv.FormatFloat(value, 'f', -1, 64)
		}
	}
	maps.Copy(header, more)
	maps.DeleteFunc(header, func(_, value string) bool { return value == "" })
	return c.do(http.MethodPut, task.Path+"?partNumber="+number+"&uploadId="+url.QueryEscape(task.UploadID), header, data)
}

// whole does a whole upload of one part.
func (c smhClient) whole(name, query string, data []byte) smhGot {
	c.t.Helper()
	task := c.started(name, query)
	c.part(task, "1", data, nil)
	done := c.confirm(task, "", `{"crc64":"`+smhSum(c.t, data)+`"}`)
	if done.status != http.StatusOK {
		c.t.Fatalf("upload of %s: %+v", name, done)
	}
	return done
}

func smhSum(t *testing.T, data []byte) string {
	t.Helper()
	sum, err := hashing.Sum(hashing.CRC64ECMA, data)
	if err != nil {
		t.Fatal(err)
	}
	return smhCRC(sum)
}

func (g smhGot) want(t *testing.T, what string, status int, code string) {
	t.Helper()
	if g.status != status || g.Code != code {
		t.Errorf("%s: status %d, code %q (%s), want %d %q", what, g.status, g.Code, g.Message, status, code)
	}
}

func TestSMHTokens(t *testing.T) {
	t.Parallel()
	smh, c := startSMH(t, SMHConfig{})
	ask := func(query string) smhGot { return c.do(http.MethodPost, "/api/v1/token?"+query, nil, nil) }
	ask("library_id=smh1abc&library_secret=no").want(t, "wrong secret", 404, "WrongLibraryIdOrSecret")
	ask("library_id=none&library_secret=").want(t, "no library", 404, "WrongLibraryIdOrSecret")
	const known = "library_id=smh1abc&library_secret=s3cr3t"
	ask(known+"&period=x").want(t, "no number", 400, "ParamInvalid")
	for period, want := range map[string]int{"": 86400, "1": 300, "3600": 3600, "999999999": 315360000} {
		if got := ask(known + "&period=" + period); got.ExpiresIn != want {
			t.Errorf("period %q: %d, want %d", period, got.ExpiresIn, want)
		}
	}
	const path = "/api/v1/file/smh1abc/space1/a.mp4?multipart"
	post := func(as smhClient, header map[string]string) smhGot {
		return c.do(http.MethodPost, path+"&access_token="+as.token, header, nil)
	}
	post(smhClient{}, nil).want(t, "no token", 400, "EmptyAccessToken")
	post(smhClient{token: "acctk"}, nil).want(t, "unknown token", 403, "InvalidAccessToken")
	post(smhClient{}, map[string]string{"Authorization": "Bearer " + c.token}).want(t, "bearer", 201, "")
	post(c.as("another", "secret", "&grant=admin"), nil).want(t, "other library", 403, "AccessTokenNotMatchLibrary")
	post(c.as(smhLibrary, smhSecret, "&grant=admin&space_id=a,b"), nil).want(t, "other space", 403, "AccessTokenNotMatchSpace")
	post(c.as(smhLibrary, smhSecret, "&grant=admin&space_id=a,space1"), nil).want(t, "own space", 201, "")
	post(c.as(smhLibrary, smhSecret, ""), nil).want(t, "reading", 403, "NoPermission")
	post(c.as(smhLibrary, smhSecret, "&grant=confirm_upload"), nil).want(t, "confirming", 403, "NoPermission")
	begins := c.as(smhLibrary, smhSecret, "&grant=begin_upload")
	task := begins.started("a.mp4", "")
	begins.confirm(task, "", "").want(t, "confirm without its grant", 403, "NoPermission")
	c.as(smhLibrary, smhSecret, "&grant=confirm_upload").confirm(task, "", "").want(t, "confirm with its grant", 400, "MultipartUploadIncomplete")
	smh.ExpireTokens()
	post(c, nil).want(t, "lapsed", 403, "InvalidAccessToken")
}

func TestSMHStrictAndLenient(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		_, c := startSMH(t, SMHConfig{Strict: strict, Directories: []string{"a/b"}})
		refused := map[string]string{"multipart=1": "ParamInvalid", "number": "ParamInvalid", "type": "AccessDenied"}
		if !strict {
			clear(refused)
		}
		if got := c.api(http.MethodPost, "multipart=1", "a.mp4", "", ""); got.Code != refused["multipart=1"] {
			t.Errorf("strict %t, flag with a value: %+v", strict, got)
		}
		if got := c.start("a.mp4", "", `{"size":7}`); got.Code != refused["number"] {
			t.Errorf("strict %t, size as a number: %+v", strict, got)
		}
		task := c.started("a%2Fb/c%20d.mp4", "") // slashes may be escaped
		if got := c.part(task, "1", []byte("x"), map[string]string{"Content-Type": "video/mp4"}); got.Code != refused["type"] {
			t.Errorf("strict %t, another Content-Type: %+v", strict, got)
		}
		c.part(task, "1", []byte("x"), nil)
		if got := c.confirm(task, "", ""); !slices.Equal(got.Final, []string{"a", "b", "c d.mp4"}) {
			t.Errorf("strict %t: file %+v", strict, got)
		}
	}
}

func TestSMHStartRefusals(t *testing.T) {
	t.Parallel()
	_, c := startSMH(t, SMHConfig{Directories: []string{"films/2026"}, Quota: 1000})
	c.start("none/a.mp4", "", "").want(t, "no directory", 404, "DirectoryNotFound")
	c.start("films/2026/a.mp4", "", "").want(t, "a directory", 201, "")
	c.start("films/a.mp4", "", "").want(t, "one above", 201, "")
	c.start("films", "&conflict_resolution_strategy=overwrite", "").want(t, "over a directory", 409, "SameNameDirectoryOrFileExists")
	c.start("films", "", "").want(t, "beside a directory", 201, "")
	c.start("a.mp4", "&conflict_resolution_strategy=maybe", "").want(t, "strategy", 400, "InvalidConflictResolutionStrategy")
	c.start("a%3Ab.mp4", "", "").want(t, "illegal name", 400, "IllegalFileName")
	c.start(strings.Repeat("a", 256), "", "").want(t, "long name", 400, "FileNameLengthExceed")
	c.start("a.mp4", "&filesize=1001", "").want(t, "quota", 400, "QuotaLimitReached")
	c.start("a.mp4", "&filesize=x", "").want(t, "filesize", 400, "ParamInvalid")
	c.start("a.mp4", "&traffic_limit=1", "").want(t, "traffic_limit", 400, "ParamInvalid")
	for _, body := range []string{"x", `{"size":"-1"}`, `{"size":"y"}`, `{"fullHash":"ab"}`, `{"category":"12345678901234567"}`} {
		c.start("a.mp4", "", body).want(t, body, 400, "ParamInvalid")
	}
	c.api(http.MethodPut, "", "a.mp4", "", "").want(t, "simple upload", 404, "RouteNotFound")
	c.do(http.MethodGet, "/api/v1/file/smh1abc", nil, nil).want(t, "nothing", 404, "RouteNotFound")

	task := c.started("b.mp4", "")
	c.part(task, "1", make([]byte, 1001), nil)
	c.confirm(task, "", "").want(t, "quota at confirm", 400, "QuotaLimitReached")
}

func TestSMHParts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	smh, c := startSMH(t, SMHConfig{Dir: dir})
	task, other := c.started("a.mp4", "&traffic_limit=102400"), c.started("b.mp4", "")
	data := []byte("123456789")
	sum := md5.Sum(data)
	good := c.part(task, "1", data, map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(sum[:])})
	good.want(t, "a part", 200, "")
	if etag, crc := good.header.Get("ETag"), good.header.Get("X-Cos-Hash-Crc64ecma"); etag != `"`+hex.EncodeToString(sum[:])+`"` || crc != "11051210869376104954" {
		t.Errorf("ETag %s, CRC-64 %s", etag, crc)
	}
	for name, tt := range map[string]struct {
		number string
		with   map[string]string
		status int
		code   string
	}{
		"wrong MD5":         {"2", map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(make([]byte, 16))}, 400, "BadDigest"},
		"no number":         {"x", nil, 400, "InvalidArgument"},
		"number too small":  {"0", nil, 400, "InvalidArgument"},
		"number too large":  {"10001", nil, 400, "InvalidArgument"},
		"no headers":        {"1", map[string]string{"Authorization": ""}, 403, "AccessDenied"},
		"no token":          {"1", map[string]string{"x-cos-security-token": ""}, 403, "AccessDenied"},
		"no limit":          {"1", map[string]string{"x-cos-traffic-limit": ""}, 403, "AccessDenied"},
		"another's headers": {"1", map[string]string{"Authorization": other.Headers["Authorization"].(string)}, 403, "AccessDenied"},
	} {
		c.part(task, tt.number, data, tt.with).want(t, name, tt.status, tt.code)
	}
	elsewhere := task
	elsewhere.Path = other.Path
	c.part(elsewhere, "1", data, nil).want(t, "another's path", 404, "NoSuchUpload")
	elsewhere.UploadID = "none"
	c.part(elsewhere, "1", data, nil).want(t, "unknown upload", 404, "NoSuchUpload")

	smh.ExpireHeaders(task.ConfirmKey)
	late := c.part(task, "2", data, nil)
	late.want(t, "lapsed headers", 403, "AccessDenied")
	if late.Message != "Request has expired" {
		t.Errorf("the message is %q", late.Message)
	}
	renewed := c.api(http.MethodPost, "renew", task.ConfirmKey, "", "")
	if renewed.UploadID != task.UploadID || renewed.ConfirmKey != task.ConfirmKey || renewed.Path != task.Path {
		t.Errorf("renewed to %+v", renewed)
	}
	c.part(renewed, "1", []byte("another nine"), nil).want(t, "a part again", 200, "")
	status := c.api(http.MethodGet, "upload", task.ConfirmKey, "", "")
	if len(status.Parts) != 1 || status.Parts[0].Size != 12 || status.Confirmed || "/"+status.UploadPartInfo.Path != task.Path {
		t.Errorf("status %+v", status)
	}
	fresh := *status.UploadPartInfo
	fresh.Path, fresh.UploadID = task.Path, task.UploadID
	c.part(fresh, "2", data, nil).want(t, "a part under the status's headers", 200, "")
	if kept, err := os.ReadDir(dir); err != nil || len(kept) != 2 {
		t.Errorf("%d files are kept of two parts (%v)", len(kept), err)
	}
	c.do(http.MethodDelete, "/api/v1/file/smh1abc/other/"+task.ConfirmKey+"?upload&access_token="+c.token, nil, nil).want(t, "cancel in another space", 404, "ConfirmKeyNotFound")
	c.api(http.MethodDelete, "upload", task.ConfirmKey, "", "").want(t, "cancel", 204, "")
	c.api(http.MethodDelete, "upload", task.ConfirmKey, "", "").want(t, "cancel again", 404, "UploadNotFound")
	c.part(renewed, "2", data, nil).want(t, "a part after that", 404, "NoSuchUpload")
	c.api(http.MethodGet, "upload", "none", "", "").want(t, "unknown key", 404, "ConfirmKeyNotFound")
	if kept, err := os.ReadDir(dir); err != nil || len(kept) != 0 {
		t.Errorf("%d files are kept of what was cancelled (%v)", len(kept), err)
	}
}

func TestSMHHeadersLapse(t *testing.T) {
	t.Parallel()
	_, c := startSMH(t, SMHConfig{InfoLife: time.Nanosecond})
	c.part(c.started("a.mp4", ""), "1", []byte("x"), nil).want(t, "lapsed at once", 403, "AccessDenied")
}

func TestSMHConfirm(t *testing.T) {
	t.Parallel()
	for _, tolerant := range []bool{false, true} {
		smh, c := startSMH(t, SMHConfig{Dir: t.TempDir(), TolerantConfirm: tolerant})
		big := bytes.Repeat([]byte("a"), 1<<20)
		data := append(bytes.Clone(big), 'a')
		task := c.start("a.mp4", "", `{"size":"1048577"}`)
		c.confirm(task, "", "").want(t, "no part", 400, "MultipartUploadIncomplete")
		c.part(task, "2", []byte("a"), nil)
		c.confirm(task, "", "").want(t, "a gap", 400, "MultipartUploadIncomplete")
		c.part(task, "1", []byte("a"), nil)
		c.confirm(task, "", "").want(t, "a small part", 400, "MultipartUploadPartTooSmall")
		c.part(task, "1", data, nil)
		c.confirm(task, "", "").want(t, "too many bytes", 400, "MultipartUploadIncomplete")
		c.part(task, "1", big, nil)
		c.confirm(task, "", `{"crc64":"1"}`).want(t, "wrong CRC-64", 400, "BadCrc64")
		c.confirm(task, "", `{"crc64":"x"}`).want(t, "no CRC-64", 400, "ParamInvalid")
		c.confirm(task, "&conflict_resolution_strategy=x", "").want(t, "strategy", 400, "InvalidConflictResolutionStrategy")
		done := c.confirm(task, "", `{"crc64":"6151698688125201423"}`)
		done.want(t, "confirm", 200, "")
		if done.CRC64 != "6151698688125201423" || done.Size != "1048577" || !strings.HasSuffix(done.ETag, `-2"`) {
			t.Errorf("file %+v", done)
		}
		status, code := 409, "UploadComplete"
		if tolerant {
			status, code = 200, ""
		}
		c.confirm(task, "", "").want(t, "confirm again", status, code)
		c.api(http.MethodPost, "renew", task.ConfirmKey, "", "").want(t, "renew", 409, "UploadComplete")
		c.api(http.MethodDelete, "upload", task.ConfirmKey, "", "").want(t, "cancel", 409, "UploadComplete")
		c.part(task, "1", big, nil).want(t, "a part", 404, "NoSuchUpload")
		if got := c.api(http.MethodGet, "upload", task.ConfirmKey, "", ""); !got.Confirmed || !slices.Equal(got.Final, []string{"a.mp4"}) {
			t.Errorf("status %+v", got)
		}
		moved := c.do(http.MethodGet, "/api/v1/file/smh1abc/-/a.mp4", nil, nil)
		moved.want(t, "open", 302, "")
		if status, got := fetch(t, http.MethodGet, moved.header.Get("Location"), nil); status != 200 || !bytes.Equal(got, data) {
			t.Errorf("the file is %d bytes, status %d", len(got), status)
		}
		files := smh.Files()
		if len(files) != 1 || files[0].FinalPath != "a.mp4" || files[0].BytesReceived < 3<<20 || files[0].Size != 1048577 {
			t.Errorf("files %+v", files)
		}
	}
}

// TestSMHTail leaves out the last part: only the CRC-64 or the size can tell.
func TestSMHTail(t *testing.T) {
	t.Parallel()
	_, c := startSMH(t, SMHConfig{})
	for query, want := range map[string]string{"": "BadCrc64", "&filesize=10": "MultipartUploadIncomplete"} {
		task := c.started("a.mp4", query)
		c.part(task, "1", []byte("12345"), nil)
		c.confirm(task, "", `{"crc64":"`+smhSum(t, []byte("1234567890"))+`"}`).want(t, "without its tail "+query, 400, want)
	}
}

func TestSMHNames(t *testing.T) {
	t.Parallel()
	_, c := startSMH(t, SMHConfig{Dir: t.TempDir(), Directories: []string{"films"}})
	name := func(got smhGot) string { return strings.Join(got.Final, "/") }
	c.whole("films/a.mp4", "", []byte("one"))
	if got := c.whole("films/a.mp4", "", []byte("two")); name(got) != "films/a (1).mp4" || got.IsOverwritten {
		t.Errorf("renamed to %+v", got)
	}
	if got := c.whole("films/a.mp4", "&conflict_resolution_strategy=rename", []byte("two")); name(got) != "films/a (2).mp4" {
		t.Errorf("renamed to %+v", got)
	}
	if got := c.whole("films", "", []byte("two")); name(got) != "films (1)" {
		t.Errorf("renamed to %+v", got)
	}
	if got := c.whole("films/a.mp4", "&conflict_resolution_strategy=overwrite", []byte("three")); name(got) != "films/a.mp4" || !got.IsOverwritten {
		t.Errorf("overwritten %+v", got)
	}
	c.start("films/a.mp4", "&conflict_resolution_strategy=ask", "").want(t, "ask at start", 409, "SameNameDirectoryOrFileExists")
	task := c.started("films/b.mp4", "&conflict_resolution_strategy=ask")
	c.part(task, "1", []byte("x"), nil)
	c.whole("films/b.mp4", "", []byte("faster"))
	c.confirm(task, "", "").want(t, "ask at confirm", 409, "SameNameDirectoryOrFileExists")
	if got := c.confirm(task, "&conflict_resolution_strategy=rename", ""); name(got) != "films/b (1).mp4" {
		t.Errorf("renamed to %+v", got)
	}

	req := map[string]string{"X-Smh-Meta-Reel": "7"}
	task = c.do(http.MethodPost, "/api/v1/file/smh1abc/-/m.mp4?multipart&access_token="+c.token, req, nil)
	c.part(task, "1", []byte("x"), nil)
	c.confirm(task, "", "")
	if got := c.api(http.MethodGet, "info", "m.mp4", "", ""); !maps.Equal(got.MetaData, map[string]string{"reel": "7"}) || got.CRC64 == "" || got.Final != nil {
		t.Errorf("info %+v", got)
	}
	c.api(http.MethodGet, "info", "none", "", "").want(t, "info of nothing", 404, "FileNotFound")
}

// TestSMHInstant goes through the table of what a start with hashes is answered.
func TestSMHInstant(t *testing.T) {
	t.Parallel()
	data := make([]byte, 1<<20+1)
	sum, err := hashing.Sum(hashing.SMH, data)
	if err != nil {
		t.Fatal(err)
	}
	begin, full := sum.Sum[:64], sum.Sum[64:]
	const other = "0000000000000000000000000000000000000000000000000000000000000000"
	for _, dir := range []string{"", t.TempDir()} { // on trust, and from the bytes
		_, c := startSMH(t, SMHConfig{Dir: dir})
		hashes := func(begin, full, size string) string {
			return `{"beginningHash":"` + begin + `","fullHash":"` + full + `","size":"` + size + `"}`
		}
		claimed := hashes(begin, full, "1048577")
		if dir != "" {
			claimed = hashes(other, other, "1048577") // a liar is not believed
		}
		task := c.start("a.mp4", "", claimed)
		c.part(task, "1", data, nil)
		c.confirm(task, "", "").want(t, "the first", 200, "")
		for name, tt := range map[string]struct {
			body string
			want int
		}{
			"nothing":                {"", 201},
			"both":                   {hashes(begin, full, "1048577"), 200},
			"the whole alone":        {hashes("", full, "1048577"), 200},
			"the beginning alone":    {hashes(begin, "", "1048577"), 202},
			"another whole":          {hashes(begin, other, "1048577"), 201},
			"another beginning":      {hashes(other, "", "1048577"), 201},
			"they do not belong":     {hashes(other, full, "1048577"), 201},
			"another size":           {hashes(begin, full, "1048578"), 201},
			"too small":              {hashes(begin, full, "1048575"), 201},
			"no size":                {`{"beginningHash":"` + begin + `","fullHash":"` + full + `"}`, 201},
			"upper case is the same": {hashes(strings.ToUpper(begin), strings.ToUpper(full), "1048577"), 200},
		} {
			if got := c.start(strings.ReplaceAll(name, " ", "-"), "", tt.body); got.status != tt.want {
				t.Errorf("%s: %+v, want %d", name, got, tt.want)
			}
		}
		c.start("a.mp4", "&conflict_resolution_strategy=ask", hashes(begin, full, "1048577")).want(t, "a name that is taken", 409, "SameNameDirectoryOrFileExists")
	}
}

func TestSMHFaultsAndLocalAddresses(t *testing.T) {
	t.Parallel()
	_, c := startSMH(t, SMHConfig{})
	task := c.started("a.mp4", "")
	for fault, check := range map[string]func(){
		`{"action":"StartUpload","times":1,"error_code":"RateLimitExceeded","retry_after":3}`: func() {
			got := c.start("b.mp4", "", "")
			got.want(t, "asked for", 429, "RateLimitExceeded")
			if got.header.Get("Retry-After") != "3" {
				t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
			}
		},
		`{"action":"UploadPart","file":"a.mp4","times":1,"error_code":"SlowDown","status":599}`: func() {
			c.part(task, "1", []byte("x"), nil).want(t, "asked for", 599, "SlowDown")
		},
		`{"action":"UploadPart","times":1,"flip_bit":true}`: func() {
			if got := c.part(task, "1", []byte("x"), nil); got.header.Get("X-Cos-Hash-Crc64ecma") == smhSum(t, []byte("x")) {
				t.Error("no bit was flipped")
			}
		},
		`{"action":"ConfirmUpload","account":"another","status":500}`: func() {
			c.part(task, "1", []byte("x"), nil) // else there is nothing to confirm
			c.confirm(task, "", `{"crc64":"1"}`).want(t, "of another account", 400, "BadCrc64")
		},
	} {
		if status, body := fetch(t, http.MethodPost, c.url+"/_local/faults", strings.NewReader(fault)); status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", fault, status, body)
		}
		check()
	}
	c.part(task, "1", []byte("x"), nil)
	if status, _ := fetch(t, http.MethodDelete, c.url+"/_local/faults", nil); status != http.StatusNoContent {
		t.Errorf("faults are withdrawn with %d", status)
	}
	c.do(http.MethodGet, task.Path, nil, nil).want(t, "what is not finished", 404, "RouteNotFound")
	c.confirm(task, "", "").want(t, "confirm", 200, "")
	c.do(http.MethodGet, task.Path, nil, nil).want(t, "what was discarded", 410, "")
	var calls []Call
	_, body := fetch(t, http.MethodGet, c.url+"/_local/calls", nil)
	if err := json.Unmarshal(body, &calls); err != nil {
		t.Fatal(err)
	}
	last := calls[len(calls)-1]
	want := Call{At: last.At, Action: ActionSMHConfirm, Method: http.MethodPost, Account: smhLibrary, File: "a.mp4", Outcome: "ok"}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("call (-want +got):\n%s", diff)
	}
	if strings.Contains(string(body), c.token) || strings.Contains(string(body), smhSecret) {
		t.Error("the calls show a secret")
	}
	var files []SMHFile
	_, body = fetch(t, http.MethodGet, c.url+"/_local/files", nil)
	if err := json.Unmarshal(body, &files); err != nil || len(files) != 1 || files[0].ConfirmCount != 1 {
		t.Errorf("files %s, %v", body, err)
	}
}

func FuzzParseSMHStart(f *testing.F) {
	for _, body := range []string{"", "{}", `{"size":"7"}`, `{"size":7,"category":"video"}`, `{"size":null}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		strict, serr := parseSMHStart(body, true)
		lenient, lerr := parseSMHStart(body, false)
		if serr == nil && (lerr != nil || strict.size != lenient.size) {
			t.Errorf("%q is %+v when strict, %+v, %v when not", body, strict, lenient, lerr)
		}
		if lerr == nil && (lenient.size < -1 || len(lenient.Category) > 16 || len(lenient.FullHash)%64 != 0) {
			t.Errorf("%q is %+v", body, lenient)
		}
	})
}

func FuzzParseSMHConfirm(f *testing.F) {
	for _, body := range []string{"", "{}", `{"crc64":"7"}`, `{"crc64":7}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		crc, err := parseSMHConfirm(body)
		if _, perr := strconv.ParseUint(crc, 10, 64); crc != "" && (err != nil || perr != nil) {
			t.Errorf("%q has CRC-64 %q, %v", body, crc, err)
		}
	})
}

// FuzzSMHRequest has the server answer any path and query: no request without
// a token may do more than open a file that is not there.
func FuzzSMHRequest(f *testing.F) {
	for _, target := range []string{
		"/api/v1/token?library_id=smh1abc", "/api/v1/file/smh1abc/-/a%2Fb?multipart", "/api/v1/file/a/b/c?upload&access_token=x",
		"/smh1abc/0?uploadId=u&partNumber=1", "/api/v1/file//", "/",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			f.Add(method, target)
		}
	}
	smh := NewSMH(SMHConfig{Libraries: map[string]string{smhLibrary: smhSecret}})
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.HasPrefix(u.Path, "/_local") {
			return
		}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		req.Method, req.URL = method, u
		got := httptest.NewRecorder()
		smh.ServeHTTP(got, req)
		if got.Code < 400 {
			t.Errorf("%s %s was answered with %d", method, target, got.Code)
		}
	})
}
