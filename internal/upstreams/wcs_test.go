package upstreams

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	wcsKey    = "AKIDEXAMPLE0001"
	wcsSecret = "SecretKeyExample0001"
)

// controlVector is a signed call of the control API.
type controlVector struct {
	method, host, query, contentType, body string
	headers                                map[string]string
}

func (v controlVector) request(t *testing.T) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), v.method, "http://"+v.host+"/vod/videoManage/getUploadToken"+v.query, nil)
	r.Header.Set("Content-Type", v.contentType)
	for name, value := range v.headers {
		r.Header.Set(name, value)
	}
	return r
}

func controlVectors() map[string]controlVector {
	const form = "application/x-www-form-urlencoded; charset=utf-8"
	signed := func(label, prefix, signature string) map[string]string {
		return map[string]string{
			prefix + "AccessKey": wcsKey, prefix + "Timestamp": "1700000000",
			"Authorization": label + " Credential=" + wcsKey + ", SignedHeaders=content-type;host, Signature=" + signature,
		}
	}
	return map[string]controlVector{
		"1, POST": {
			http.MethodPost, "api.cloudv.haplat.net", "", form, "originFileName=uploadtest.mp4",
			signed("WS3-HMAC-SHA256", "X-WS-", "d462e19655e88062a6634262a7c1f431c53681b297823b55fbbf97dcefecfb48"),
		},
		"2, GET": {
			http.MethodGet, "api.cloudv.haplat.net", "?originFileName=uploadtest.mp4", form, "",
			signed("WS3-HMAC-SHA256", "X-WS-", "dca25efc56df9cb934a0b29275799f9387a4658808ac1eefb04f2fe959cde254"),
		},
		"3, JSON": {
			http.MethodPost, "api.cdnetworks.com", "", "application/json", `{"originFileName":"uploadtest.mp4"}`,
			signed("CNC-HMAC-SHA256", "x-cnc-", "62033555072493c72a1ce0791f4e1ad48958bdcaea1a757e1d161656fc34f903"),
		},
		"4, Basic": {http.MethodPost, "api.cdnetworks.com", "", form, "", map[string]string{
			"Date":          "Tue, 14 Nov 2023 22:13:20 GMT",
			"Authorization": "Basic dXNlckV4YW1wbGU6a3J0NXQ1SWdhc3ZFeWhRc2hBd2srbFVNN2lZPQ==",
		}},
	}
}

func TestVerifyControlVectors(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 0)
	keys := map[string]string{wcsKey: wcsSecret, "userExample": "apiKeyExample"}
	for name, v := range controlVectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := func(what string, r *http.Request, body string, keys map[string]string, now time.Time, lenient, want bool) {
				t.Helper()
				if _, err := verifyControl(r, []byte(body), keys, now, lenient); (err == nil) != want {
					t.Errorf("%s: %v, want it taken: %t", what, err, want)
				}
			}
			basic := name == "4, Basic"
			check("as it is", v.request(t), v.body, keys, at, true, true)
			check("strict", v.request(t), v.body, keys, at, false, !basic)
			check("299 seconds late", v.request(t), v.body, keys, at.Add(299*time.Second), true, true)
			check("301 seconds late", v.request(t), v.body, keys, at.Add(301*time.Second), true, false)
			check("301 seconds early", v.request(t), v.body, keys, at.Add(-301*time.Second), true, false)
			check("an unknown key", v.request(t), v.body, nil, at, true, false)
			check("another secret", v.request(t), v.body, map[string]string{wcsKey: "x", "userExample": "x"}, at, true, false)
			if basic {
				return
			}
			other := v.request(t)
			other.Host = "example.com"
			check("another host", other, v.body, keys, at, true, false)
			other = v.request(t)
			other.Header.Set("Authorization", strings.ReplaceAll(other.Header.Get("Authorization"), ", ", ","))
			check("without blanks", other, v.body, keys, at, true, true)
			other = v.request(t)
			other.Header.Set("Authorization", strings.Replace(other.Header.Get("Authorization"), wcsKey, wcsKey+"/20231114/r/s/wos_request", 1))
			check("a scoped credential", other, v.body, keys, at, true, true)
			other = v.request(t)
			other.Header.Set("Authorization", strings.Replace(other.Header.Get("Authorization"), "content-type;", "", 1))
			check("a header left out", other, v.body, keys, at, true, false)
			other = v.request(t)
			other.URL.RawQuery += "x"
			check("another payload", other, v.body+"x", keys, at, true, false)
		})
	}
}

func TestTokenVectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ accessKey, secretKey, policy, want string }{
		{
			"aaasdfasf", "bbbsdfdsfdsafsdf", `{"scope":"aaa","deadline":"1893427200000"}`,
			"aaasdfasf:Y2Y0ZDdkM2NmMTdkMWY4OGYwYWE4NGYzMmFlNTZiZTI2YTQ2MmVmNA==:eyJzY29wZSI6ImFhYSIsImRlYWRsaW5lIjoiMTg5MzQyNzIwMDAwMCJ9",
		},
		{
			"AKTEST", "SKTEST", `{"scope":"cloudv-doc:video/a.mp4","deadline":"4102444800000","overwrite":1}`,
			"AKTEST:MzY2YTE1NDk5NzdiMDZjNmVmZjA5YWE1OTI0NTNkNjcwM2Y3YjIyNw==:" +
				base64.URLEncoding.EncodeToString([]byte(`{"scope":"cloudv-doc:video/a.mp4","deadline":"4102444800000","overwrite":1}`)),
		},
	} {
		token := mintToken(tt.accessKey, tt.secretKey, []byte(tt.policy))
		if diff := cmp.Diff(tt.want, token); diff != "" {
			t.Errorf("token (-want +got):\n%s", diff)
		}
		now := time.UnixMilli(1893427200000 - 1)
		for _, text := range []string{token, "UpToken " + token} {
			if _, err := verifyToken(text, tt.accessKey, tt.secretKey, now); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
		for text, want := range map[string]error{
			"":                        errNoToken,
			"a:b":                     errTokenFormat,
			"x" + token:               errTokenOwner,
			token + "x":               errTokenSign,
			token[:len(token)-4] + "": errTokenSign,
		} {
			if _, err := verifyToken(text, tt.accessKey, tt.secretKey, now); err != want { //nolint:errorlint // constants
				t.Errorf("%q: %v, want %v", text, err, want)
			}
		}
		if _, err := verifyToken(token, tt.accessKey, tt.secretKey, time.UnixMilli(4102444800000)); err != errTokenExpired { //nolint:errorlint // constants
			t.Errorf("at its deadline: %v", err)
		}
	}
	if got := signToken("key", "The quick brown fox jumps over the lazy dog"); got != "ZGU3YzliODViOGI3OGFhNmJjOGE3YTM2ZjcwYTkwNzAxYzlkYjRkOQ==" {
		t.Errorf("signature %s", got)
	}
	number := mintToken("a", "s", []byte(`{"scope":"b:k","deadline":4102444800000}`))
	if _, err := verifyToken(number, "a", "s", time.Unix(1, 0)); err != nil {
		t.Errorf("a deadline as a number: %v", err)
	}
}

func TestETagVectors(t *testing.T) {
	t.Parallel()
	umu := bytes.Repeat([]byte("U"), 2<<20)
	umu = append(append(umu, bytes.Repeat([]byte("M"), 2<<20)...), '0')
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{nil, "Fto5o-5ea0sNMlW_75VgGJCv2AcJ"},
		{bytes.Repeat([]byte("a"), 1), "Fob35Df6paf84V0d3Lnq6uo3dme4"},
		{bytes.Repeat([]byte("a"), 100), "Fn-QACV6SRjXByZV6kaFQM3L1C4M"},
		{bytes.Repeat([]byte("a"), 4194303), "Fkyyi3BTN-RIfMk9E8PmmIISCwdQ"},
		{bytes.Repeat([]byte("a"), 4194304), "FuwQ-vpd56Izwiom1JHzCIdrQa4_"},
		{bytes.Repeat([]byte("a"), 4194305), "lieGn00gWdbfwEIHaUpzu4drHeun"},
		{bytes.Repeat([]byte("a"), 6291456), "liSj6bzjeX1YHZUg0Ii2UC3xRpgj"},
		{bytes.Repeat([]byte("a"), 8388608), "lne6DpQaoBdMk9ZF2gyHXgiAM51E"},
		{bytes.Repeat([]byte("a"), 8388609), "ljqszqgFt6idxmrZwhioMYFCxFyn"},
		{bytes.Repeat([]byte("a"), 9437184), "lo-Big7b5RTsoCkykeYLTTzo72ZD"},
		{[]byte("UMUTech@qq.com"), "FpAEzHGOWdh-QAYhattxl1vqHLMw"},
		{umu, "ljQoZqmvLKtOnK_5OHnMRw1djggC"},
	} {
		var p pieces
		for rest := tt.data; len(rest) > 0; {
			n := min(len(rest), 1_000_000)
			_, _ = p.clone().Write(rest) // a copy goes its own way
			_, _ = p.Write(rest[:n])
			rest = rest[n:]
		}
		if got := etagOf(p.sums()); got != tt.want {
			t.Errorf("%d bytes: %s, want %s", len(tt.data), got, tt.want)
		}
	}
}

// wcsClient calls a WCS as a vendor's client does.
type wcsClient struct {
	url, account, token, key, video, batch string
}

func startWCS(t *testing.T, config WCSConfig) (*WCS, wcsClient) {
	t.Helper()
	config.Keys = map[string]string{wcsKey: wcsSecret}
	w := NewWCS(config)
	server, err := Serve(t.Context(), "", w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, wcsClient{url: server.URL, account: wcsKey, batch: "any token"}
}

// control makes a call of the control API.
func (c wcsClient) control(t *testing.T, w *WCS, action string, params url.Values) (int, json.RawMessage) {
	t.Helper()
	const form = "application/x-www-form-urlencoded; charset=utf-8"
	body := params.Encode()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/vod/videoManage/"+action, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	timestamp := fmt.Sprint(w.now().Unix())
	r.Header.Set("Content-Type", form)
	r.Header.Set("X-WS-AccessKey", c.account)
	r.Header.Set("X-WS-Timestamp", timestamp)
	r.Host = strings.TrimPrefix(c.url, "http://")
	a := authorization{label: "WS3-HMAC-SHA256", headers: []string{"content-type", "host"}}
	r.Header.Set("Authorization", a.label+" Credential="+c.account+",SignedHeaders=content-type;host,Signature="+
		controlSignature(a, wcsSecret, timestamp, r, []byte(body)))
	status, answer := send(t, r)
	var e struct {
		Code int             `json:"code"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(answer, &e); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	if status != http.StatusOK && status != e.Code {
		t.Errorf("status %d with code %d", status, e.Code)
	}
	return e.Code, e.Data
}

// open gets a token.
func (c wcsClient) open(t *testing.T, w *WCS, params url.Values) wcsClient {
	t.Helper()
	params.Set("originFileName", "a b.mp4")
	code, data := c.control(t, w, ActionGetUploadToken, params)
	var g struct{ UploadToken, FileKey, VideoID string }
	if err := json.Unmarshal(data, &g); err != nil || code != wcsOK {
		t.Fatalf("code %d: %s", code, data)
	}
	c.token, c.key, c.video = g.UploadToken, g.FileKey, g.VideoID
	return c
}

func send(t *testing.T, r *http.Request) (int, []byte) {
	t.Helper()
	resp, err := oneCall().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// post makes a call of the storage; headers may replace the usual ones.
func (c wcsClient) post(t *testing.T, path string, body []byte, headers ...string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", c.token)
	r.Header.Set("UploadBatch", c.batch)
	r.Header.Set("Key", base64.URLEncoding.EncodeToString([]byte(c.key)))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return send(t, r)
}

// chunk makes a call that must succeed.
func (c wcsClient) chunk(t *testing.T, path string, body []byte) chunkReply {
	t.Helper()
	status, answer := c.post(t, path, body)
	var got chunkReply
	if err := json.Unmarshal(answer, &got); err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, status, answer)
	}
	return got
}

func TestWCSChunkVectors(t *testing.T) {
	t.Parallel()
	w, c := startWCS(t, WCSConfig{Strict: true})
	c = c.open(t, w, url.Values{})
	for _, tt := range []struct {
		n    int
		md5  string
		crc  uint32
		hash string
	}{
		{1, "0cc175b9c0f1b6a831c399e269772661", 3904355907, "Fob35Df6paf84V0d3Lnq6uo3dme4"},
		{1024, "c9a34cfc85d982698c6ac89f76071abd", 2085984185, ""},
		{262144, "c946b71bb69c07daf25470742c967e7c", 3129839044, ""},
		{4194304, "bdbcf02ee0aa977795a79d25fcfdccb1", 1224365431, "FuwQ-vpd56Izwiom1JHzCIdrQa4_"},
	} {
		body := bytes.Repeat([]byte("a"), tt.n)
		got := c.chunk(t, fmt.Sprintf("/mkblk/%d/0", tt.n), body)
		if raw, err := hex.DecodeString(got.Ctx); err != nil || len(raw) != 16 {
			t.Errorf("ctx %q", got.Ctx)
		}
		want := chunkReply{Ctx: got.Ctx, Checksum: tt.md5, CRC32: tt.crc, Offset: int64(tt.n)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", tt.n, diff)
		}
		if tt.hash == "" {
			continue
		}
		one := c.open(t, w, url.Values{})
		_, answer := one.post(t, fmt.Sprintf("/mkfile/%d", tt.n), []byte(got.Ctx))
		if want := fmt.Sprintf(`{"hash":%q,"key":%q}`, tt.hash, one.key); strings.TrimSpace(string(answer)) != want {
			t.Errorf("mkfile answered %s, want %s", answer, want)
		}
	}
}

func TestWCSRefusals(t *testing.T) {
	t.Parallel()
	w, c := startWCS(t, WCSConfig{Strict: true})
	c = c.open(t, w, url.Values{})
	full := c.chunk(t, "/mkblk/3/0", []byte("abc"))
	half := c.chunk(t, "/mkblk/6/0", []byte("abc"))
	fresh := c.chunk(t, "/mkblk/6/0", []byte("abc"))
	c.chunk(t, "/bput/"+half.Ctx+"/3", []byte("d"))
	odd := c.chunk(t, "/mkblk/3/1", []byte("abc"))
	for name, tt := range map[string]struct {
		path    string
		body    string
		headers []string
		want    int
	}{
		"no token":              {"/mkblk/3/0", "abc", []string{"Authorization", ""}, 401},
		"a forged token":        {"/mkblk/3/0", "abc", []string{"Authorization", c.token + "x"}, 401},
		"a token with a prefix": {"/mkblk/3/0", "abc", []string{"Authorization", "UpToken " + c.token}, 200},
		"no batch":              {"/mkblk/3/0", "abc", []string{"UploadBatch", ""}, 400},
		"another key":           {"/mkblk/3/0", "abc", []string{"Key", "b3RoZXI="}, 401},
		"a plain key":           {"/mkblk/3/0", "abc", []string{"Key", c.key}, 200},
		"an empty block":        {"/mkblk/0/0", "", nil, 404},
		"an empty chunk":        {"/mkblk/3/0", "", nil, 400},
		"too long a chunk":      {"/mkblk/3/0", "abcd", nil, 400},
		"a query":               {"/mkblk/3/0?chunk=0&chunks=1", "abc", nil, 200},
		"an unknown ctx":        {"/bput/00/3", "d", nil, 401},
		"ctx of another batch":  {"/bput/" + half.Ctx + "/3", "d", []string{"UploadBatch", "other"}, 401},
		"an offset behind":      {"/bput/" + fresh.Ctx + "/2", "d", nil, 401},
		"a chunk repeated":      {"/bput/" + half.Ctx + "/3", "d", nil, 401},
		"past the block":        {"/bput/" + full.Ctx + "/3", "d", nil, 400},
		"no ctx":                {"/mkfile/3", "", nil, 401},
		"a missing block":       {"/mkfile/3", "00", nil, 412},
		"an unfinished block":   {"/mkfile/6", half.Ctx, nil, 412},
		"another size":          {"/mkfile/4", full.Ctx, nil, 412},
		"blocks out of order":   {"/mkfile/3", odd.Ctx, nil, 412},
		"a short block inside":  {"/mkfile/6", full.Ctx + "," + odd.Ctx, nil, 400},
		"file of another batch": {"/mkfile/3", full.Ctx, []string{"UploadBatch", "other"}, 401},
		"no such resource":      {"/mkdir/3", "", nil, 404},
	} {
		status, answer := c.post(t, tt.path, []byte(tt.body), tt.headers...)
		if status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, status, answer, tt.want)
		}
		var failure struct{ Code, Message string }
		if err := json.Unmarshal(answer, &failure); status != 200 && (err != nil || failure.Code != fmt.Sprint(status) || failure.Message == "") {
			t.Errorf("%s: the answer is %s", name, answer)
		}
	}
	if n := w.Files()[0].FinishCount; n != 0 {
		t.Errorf("%d files were made", n)
	}
	// All the forms that clients give the path and the list.
	encoded := base64.URLEncoding.EncodeToString([]byte(c.key))
	if status, answer := c.post(t, "/mkfile/3/key/"+encoded+"/x:a/Yg==/", []byte(full.Ctx+",")); status != 200 {
		t.Errorf("mkfile: %d %s", status, answer)
	}
	if status, _ := c.post(t, "/mkfile/3", []byte(full.Ctx)); status != http.StatusNotAcceptable {
		t.Errorf("a file that exists was replaced: %d", status)
	}
}

// TestWCSLenient does what the published trace shows, and keeps the branches of a block apart.
func TestWCSLenient(t *testing.T) {
	t.Parallel()
	w, c := startWCS(t, WCSConfig{Dir: t.TempDir()})
	c = c.open(t, w, url.Values{"overwrite": {"1"}})
	first := c.chunk(t, "/mkblk/6/0", []byte("abc"))
	one := c.chunk(t, "/bput/"+first.Ctx+"/3", []byte("def"))
	two := c.chunk(t, "/bput/"+first.Ctx+"/3", []byte("DEF"))
	for ctx, want := range map[string]string{one.Ctx: "abcdef", two.Ctx: "abcDEF"} {
		if status, answer := c.post(t, "/mkfile/31362305", []byte(ctx)); status != 200 {
			t.Fatalf("mkfile: %d %s", status, answer)
		}
		f := w.Files()[0]
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := send(t, r); string(got) != want || f.Size != 6 {
			t.Errorf("the file is %q of %d bytes, want %q", got, f.Size, want)
		}
		r.Header.Set("Range", "bytes=2-4")
		if _, got := send(t, r); string(got) != want[2:5] {
			t.Errorf("bytes 2 to 4 are %q", got)
		}
	}
	if f := w.Files()[0]; f.FinishCount != 2 || f.BytesReceived != 9 {
		t.Errorf("file %+v", f)
	}
}

func TestWCSForm(t *testing.T) {
	t.Parallel()
	w, c := startWCS(t, WCSConfig{Dir: t.TempDir(), Strict: true})
	c = c.open(t, w, url.Values{"overwrite": {"1"}})
	post := func(fileFirst bool, token, content string) (int, string) {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		write := []func(){
			func() { _ = form.WriteField("token", token) },
			func() { part, _ := form.CreateFormFile("file", "a.mp4"); _, _ = io.WriteString(part, content) },
		}
		if fileFirst {
			write[0], write[1] = write[1], write[0]
		}
		write[0]()
		write[1]()
		_ = form.Close()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/file/upload", io.MultiReader(&body)) // chunked, as one client sends it
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", form.FormDataContentType())
		status, answer := send(t, r)
		return status, string(answer)
	}
	hundred := strings.Repeat("a", 100)
	for _, fileFirst := range []bool{true, false} {
		if status, answer := post(fileFirst, c.token, hundred); status != 200 || answer != "aGFzaD1Gbi1RQUNWNlNSalhCeVpWNmthRlFNM0wxQzRN" {
			t.Errorf("file first %t: %d %s", fileFirst, status, answer)
		}
	}
	if status, _ := post(true, "x"+c.token, hundred); status != http.StatusUnauthorized {
		t.Errorf("a forged token was answered with %d", status)
	}
	c = c.open(t, w, url.Values{})
	if status, _ := post(false, c.token, hundred); status != 200 {
		t.Errorf("a new file was answered with %d", status)
	}
	if status, _ := post(false, c.token, "other"); status != http.StatusNotAcceptable {
		t.Errorf("a file that exists was answered with %d", status)
	}
	limited := mintToken(w.accessKey, w.secretKey, fmt.Appendf(nil, `{"scope":%q,"deadline":"4102444800000","fsizeLimit":99,"overwrite":1}`, wcsBucket+":"+c.key))
	if status, _ := post(false, limited, hundred); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a file above the token's limit was answered with %d", status)
	}
}

func TestWCSControl(t *testing.T) {
	t.Parallel()
	at := time.Now()
	w, c := startWCS(t, WCSConfig{Rate: 12, ListDelay: time.Minute, Now: func() time.Time { return at }})
	for name, tt := range map[string]struct {
		params url.Values
		want   int
	}{
		"no name":      {url.Values{}, wcsNameEmpty},
		"a long name":  {url.Values{"originFileName": {strings.Repeat("ü", 37) + ".mp4"}}, wcsNameTooLong},
		"forty":        {url.Values{"originFileName": {strings.Repeat("ü", 36) + ".mp4"}}, wcsOK},
		"overwrite 2":  {url.Values{"originFileName": {"a.mp4"}, "overwrite": {"2"}}, wcsOverwrite},
		"an empty MD5": {url.Values{"originFileName": {"a.mp4"}, "fileMd5": {""}}, wcsMD5Empty},
		"a long MD5":   {url.Values{"originFileName": {"a.mp4"}, "fileMd5": {strings.Repeat("0", 33)}}, wcsMD5TooLong},
		"a long id":    {url.Values{"originFileName": {"a.mp4"}, "fileId": {strings.Repeat("0", 33)}}, wcsParameter},
	} {
		if code, _ := c.control(t, w, ActionGetUploadToken, tt.params); code != tt.want {
			t.Errorf("%s: code %d, want %d", name, code, tt.want)
		}
	}
	first, again, other := c.open(t, w, url.Values{"fileId": {"x"}}), c.open(t, w, url.Values{"fileId": {"x"}}), c.open(t, w, url.Values{})
	if first.video != again.video || first.key != again.key || other.video == first.video {
		t.Errorf("videos %s, %s and %s", first.video, again.video, other.video)
	}
	got := first.chunk(t, "/mkblk/3/0", []byte("abc"))
	first.post(t, "/mkfile/3", []byte(got.Ctx))
	if next := c.open(t, w, url.Values{"fileId": {"x"}}); next.video == first.video {
		t.Error("a finished video was opened again")
	}
	total := func() string {
		_, data := c.control(t, w, ActionGetVideoList, url.Values{"videoId": {first.video}})
		var list struct {
			VideoTotal    int
			VideoListInfo []struct {
				VideoID   string
				VideoSize int64
			}
		}
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(list.VideoTotal, len(list.VideoListInfo))
	}
	if got := total(); got != "0 0" {
		t.Errorf("before its time the list has %s", got)
	}
	at = at.Add(time.Minute)
	if got := total(); got != "1 1" {
		t.Errorf("the list has %s", got)
	}
	for _, params := range []url.Values{{"pageSize": {"51"}}, {"pageIndex": {"0"}}} {
		if code, _ := c.control(t, w, ActionGetVideoList, params); code != wcsParameter {
			t.Errorf("%v: code %d", params, code)
		}
	}
	if code, _ := c.control(t, w, ActionGetVideoList, url.Values{"videoId": {"a'b"}}); code != wcsIDOdd {
		t.Errorf("an odd videoId: code %d", code)
	}
	c.open(t, w, url.Values{}) // the twelfth
	if code, _ := c.control(t, w, ActionGetUploadToken, url.Values{"originFileName": {"a.mp4"}}); code != http.StatusTooManyRequests {
		t.Errorf("past the rate: code %d", code)
	}
	at = at.Add(wcsRatePer + time.Second)
	c.open(t, w, url.Values{})
	c.account = "somebody"
	if code, _ := c.control(t, w, ActionGetUploadToken, url.Values{"originFileName": {"a.mp4"}}); code != http.StatusUnauthorized {
		t.Errorf("an unknown account: code %d", code)
	}
}

// TestWCSLocal scripts faults over HTTP and reads what came of them.
func TestWCSLocal(t *testing.T) {
	t.Parallel()
	w, c := startWCS(t, WCSConfig{})
	c = c.open(t, w, url.Values{"fileId": {"x"}})
	faults := `[{"action":"mkblk","times":1,"code":401},{"action":"mkblk","from":2,"times":1,"flip_bit":true},{"action":"mkfile","times":1,"apply":true,"code":579}]`
	if status, body := fetch(t, http.MethodPost, c.url+"/_local/faults", strings.NewReader(faults)); status != http.StatusNoContent {
		t.Fatalf("status %d: %s", status, body)
	}
	if status, _ := c.post(t, "/mkblk/1/0", []byte("a")); status != http.StatusUnauthorized {
		t.Errorf("the fault answered %d", status)
	}
	if got := c.chunk(t, "/mkblk/1/0", []byte("a")); got.CRC32 == 3904355907 {
		t.Error("no bit was flipped")
	}
	got := c.chunk(t, "/mkblk/1/0", []byte("a"))
	if status, _ := c.post(t, "/mkfile/1", []byte(got.Ctx)); status != 579 {
		t.Errorf("the fault answered %d", status)
	}
	var files []WCSFile
	_, body := fetch(t, http.MethodGet, c.url+"/_local/files", nil)
	if err := json.Unmarshal(body, &files); err != nil {
		t.Fatal(err)
	}
	want := []WCSFile{{
		VideoID: c.video, Key: c.key, FileID: "x", Account: wcsKey, Name: "a b.mp4", Size: 1, BytesReceived: 3, FinishCount: 1,
		Hash: "Fob35Df6paf84V0d3Lnq6uo3dme4", URL: c.url + (&url.URL{Path: "/media/" + c.key}).EscapedPath(),
	}}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if status, _ := fetch(t, http.MethodGet, files[0].URL, nil); status != http.StatusGone {
		t.Errorf("discarded bytes were answered with %d", status)
	}
	var calls []Call
	_, body = fetch(t, http.MethodGet, c.url+"/_local/calls", nil)
	if err := json.Unmarshal(body, &calls); err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for _, call := range calls {
		outcomes = append(outcomes, call.Action+" "+call.Outcome)
	}
	wantOutcomes := []string{"getUploadToken ok", "mkblk fault, applied: false", "mkblk ok", "mkblk ok", "mkfile fault, applied: true"}
	if diff := cmp.Diff(wantOutcomes, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func FuzzVerifyToken(f *testing.F) {
	for _, v := range []string{"", "a:b:c", "UpToken a:b:c", mintToken("a", "s", []byte(`{"scope":"b:k","deadline":"1"}`))} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Nothing may pass without the key.
		if p, err := verifyToken(text, "a", "another", time.Unix(0, 0)); err == nil {
			t.Errorf("%q passed as %+v", text, p)
		}
	})
}

func FuzzParseAuthorization(f *testing.F) {
	for _, v := range []string{"", "WS3-HMAC-SHA256 Credential=a/b,SignedHeaders=host;content-type, Signature=00", "Basic x"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAuthorization(text)
		if err == nil && (a.key == "" || a.signature == "" || strings.Contains(a.key, "/")) {
			t.Errorf("%q was read as %+v", text, a)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Header.Set("Authorization", text)
		r.Header.Set("X-WS-AccessKey", a.key)
		r.Header.Set("X-WS-Timestamp", "0")
		if account, err := verifyControl(r, nil, map[string]string{a.key: wcsSecret}, time.Unix(0, 0), true); err == nil {
			t.Errorf("%q passed as %s", text, account)
		}
	})
}

func FuzzParseDataPath(f *testing.F) {
	for _, v := range []string{"/mkblk/4194304/0", "/bput/00/1024", "/mkfile/3/key/YQ==/x:a/Yg==/", "/file/upload", "/", "/mkblk/99999999999999999999/0"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseDataPath(text)
		if err == nil && (p.size < 0 || p.offset < 0 || p.index < 0 || (p.action == ActionMakeBlock && p.size == 0)) {
			t.Errorf("%q was read as %+v", text, p)
		}
	})
}
