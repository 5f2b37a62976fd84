package cdnetworks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

func TestSignVectors(t *testing.T) {
	t.Parallel()
	const path = "/vod/videoManage/getUploadToken"
	for name, tt := range map[string]struct {
		scheme  scheme
		request canonical
		want    string
	}{
		"1, POST": {schemeWS3, canonical{
			method: http.MethodPost, path: path, contentType: formType, host: "api.cloudv.haplat.net",
			payload: []byte("originFileName=uploadtest.mp4"),
		}, "d462e19655e88062a6634262a7c1f431c53681b297823b55fbbf97dcefecfb48"},
		"2, GET": {schemeWS3, canonical{
			method: http.MethodGet, path: path, query: "originFileName=uploadtest.mp4", contentType: formType, host: "api.cloudv.haplat.net",
		}, "dca25efc56df9cb934a0b29275799f9387a4658808ac1eefb04f2fe959cde254"},
		"3, JSON": {schemeCNC, canonical{
			method: http.MethodPost, path: path, contentType: "application/json", host: "api.cdnetworks.com",
			payload: []byte(`{"originFileName":"uploadtest.mp4"}`),
		}, "62033555072493c72a1ce0791f4e1ad48958bdcaea1a757e1d161656fc34f903"},
	} {
		if got := tt.request.sign(tt.scheme, testSecret, "1700000000"); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// TestSignedHeaders is the golden request of the first vector.
func TestSignedHeaders(t *testing.T) {
	t.Parallel()
	for s, want := range map[scheme]http.Header{
		schemeWS3: {
			"Content-Type":   {formType},
			"X-Ws-Accesskey": {testKey},
			"X-Ws-Timestamp": {"1700000000"},
			"Authorization":  {"WS3-HMAC-SHA256 Credential=AKIDEXAMPLE0001, SignedHeaders=content-type;host, Signature=d462e19655e88062a6634262a7c1f431c53681b297823b55fbbf97dcefecfb48"},
		},
		schemeCNC: {
			"Content-Type":      {formType},
			"X-Cnc-Accesskey":   {testKey},
			"X-Cnc-Timestamp":   {"1700000000"},
			"X-Cnc-Auth-Method": {"AKSK"},
			"Authorization":     {"CNC-HMAC-SHA256 Credential=AKIDEXAMPLE0001, SignedHeaders=content-type;host, Signature="},
		},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, defaultEndpoint+controlPath+callToken, nil)
		if err != nil {
			t.Fatal(err)
		}
		target{scheme: s, accessKey: testKey, secretKey: testSecret}.sign(req, []byte("originFileName=uploadtest.mp4"), time.Unix(1700000000, 0))
		got := req.Header
		if s == schemeCNC { // its signature of this request is not published
			got.Set("Authorization", got.Get("Authorization")[:len(got.Get("Authorization"))-64])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
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
		var digests []hashing.Digest
		for rest := tt.data; len(rest) > 0 || digests == nil; {
			n := min(len(rest), blockSize)
			sum, err := hashing.Sum(hashing.SHA1, rest[:n])
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, sum)
			rest = rest[n:]
		}
		if got := etag(digests); got != tt.want {
			t.Errorf("%d bytes: %s, want %s", len(tt.data), got, tt.want)
		}
	}
	md5, err := hashing.Sum(hashing.MD5, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, digests := range map[string][]hashing.Digest{"nothing": nil, "another kind": {md5}, "an unknown one": {{}}, "a broken one": {{Kind: hashing.SHA1, Sum: "00"}}} {
		if got := etag(digests); got != "" {
			t.Errorf("%s has hash %s", name, got)
		}
	}
}

func TestPolicyVectors(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	encode := func(policy string) string { return "a:b:" + base64.URLEncoding.EncodeToString([]byte(policy)) }
	for name, tt := range map[string]struct {
		token    string
		want     policy
		expires  time.Time
		replaces bool
	}{
		"the documents' first": {
			"aaasdfasf:Y2Y0ZDdkM2NmMTdkMWY4OGYwYWE4NGYzMmFlNTZiZTI2YTQ2MmVmNA==:eyJzY29wZSI6ImFhYSIsImRlYWRsaW5lIjoiMTg5MzQyNzIwMDAwMCJ9",
			policy{Scope: "aaa", Deadline: "1893427200000"},
			time.UnixMilli(1893427200000), false,
		},
		"overwrite": {
			encode(`{"scope":"cloudv-doc:video/a.mp4","deadline":"4102444800000","overwrite":1}`),
			policy{Scope: "cloudv-doc:video/a.mp4", Deadline: "4102444800000", Overwrite: "1"},
			time.UnixMilli(4102444800000), true,
		},
		"a number, and a redirect": {
			encode(`{"scope":"b:k","deadline":4102444800000,"overwrite":"1","returnUrl":"https://x"}`),
			policy{Scope: "b:k", Deadline: "4102444800000", Overwrite: "1", ReturnURL: "https://x"},
			time.UnixMilli(4102444800000), false,
		},
		"no deadline":         {encode(`{"scope":"b:k"}`), policy{Scope: "b:k"}, now.Add(time.Hour), false},
		"beyond the calendar": {encode(`{"scope":"b:k","deadline":"999999999999999"}`), policy{Scope: "b:k", Deadline: "999999999999999"}, now.Add(time.Hour), false},
	} {
		got, err := readPolicy(tt.token)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if e := got.expires(now); !e.Equal(tt.expires) || got.replaces() != tt.replaces {
			t.Errorf("%s: lapses at %s, replaces %t", name, e, got.replaces())
		}
	}
}

// The answers of the documents and the trace.
const (
	answerToken = `{"code": 200, "data": {"speedDomainlUrl": "", "bucketName": "iven-test-cloudv",
 "uploadUrl": "https://upload.cloudv.haplat.net", "uploadToken": "7e7dae54118c45a6ffd213a*****",
 "fileKey": "video/20230129/aea31e8f/555_62363dfef1a8446db77f4931a179a676.mp4", "httpDnsServer": "",
 "videoId": "fb67d77901851000ca2d54b900000000"}, "message": "Operation successfully"}`
	answerFailure = `{"code":"401","message":"Token Expired"}`
	answerChunk   = `{"ctx":"0bee89b07a248e27c83fc3d5951213c1","checksum":"c946b71bb69c07daf25470742c967e7c","crc32":3129839044,"offset":262144}`
	answerFile    = `{"key":"video/a.mp4","hash":"Fn-QACV6SRjXByZV6kaFQM3L1C4M"}`
	answerForm    = "aGFzaD1Gbi1RQUNWNlNSalhCeVpWNmthRlFNM0wxQzRN"
	answerTraced  = "aGFzaD1GcHdhQUtlSEZrZEpwTTRfMFBaRE5SMTFUa3J5"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	e, err := parseEnvelope([]byte(answerToken))
	if err != nil {
		t.Fatal(err)
	}
	var g grant
	if err := json.Unmarshal(e.Data, &g); err != nil || g.check() != nil || e.Code.value() != codeOK {
		t.Errorf("grant %+v: %v, %v", g, err, g.check())
	}
	want := grant{
		UploadURL: "https://upload.cloudv.haplat.net", UploadToken: "7e7dae54118c45a6ffd213a*****",
		FileKey: "video/20230129/aea31e8f/555_62363dfef1a8446db77f4931a179a676.mp4",
		VideoID: "fb67d77901851000ca2d54b900000000", BucketName: "iven-test-cloudv",
	}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	for name, spoil := range map[string]func(*grant){
		"a path in the address": func(g *grant) { g.UploadURL += "/x" },
		"a user in the address": func(g *grant) { g.UploadURL = "https://a@b" },
		"no token":              func(g *grant) { g.UploadToken = "" },
		"a line break":          func(g *grant) { g.UploadToken += "\r\nX: y" },
		"no key":                func(g *grant) { g.FileKey = "" },
		"no video":              func(g *grant) { g.VideoID = "" },
	} {
		g := want
		spoil(&g)
		if err := g.check(); err == nil {
			t.Errorf("%s was taken", name)
		} else if g.UploadToken != "" && strings.Contains(err.Error(), string(g.UploadToken)) {
			t.Errorf("%s: the token shows in %q", name, err)
		}
	}
	if e, err := parseEnvelope([]byte(answerFailure)); err != nil || e.Code.value() != 401 {
		t.Errorf("failure %+v, %v", e, err)
	}
	if c, err := parseChunk([]byte(answerChunk)); err != nil || c != (chunk{"0bee89b07a248e27c83fc3d5951213c1", 3129839044, 262144}) {
		t.Errorf("chunk %+v, %v", c, err)
	}
	if h, err := parseFileHash([]byte(answerFile)); err != nil || h != "Fn-QACV6SRjXByZV6kaFQM3L1C4M" {
		t.Errorf("hash %q, %v", h, err)
	}
	for body, want := range map[string]string{
		answerForm:                         "Fn-QACV6SRjXByZV6kaFQM3L1C4M",
		answerTraced + "\n":                "FpwaAKeHFkdJpM4_0PZDNR11Tkry",
		"eD0xJmhhc2g9YQ==":                 "a", // behind a returnBody
		"eD0xJmhhc2g9":                     "",
		"aGFzaD1hJng9MQ==":                 "",
		`{"hash":"FpwaAKeHFkdJpM4_0PZDN"}`: "",
	} {
		if got, err := parseFormHash([]byte(body)); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
	list := []byte(`{"videoTotal":2,"videoListInfo":[{"videoId":"a","videoSize":"7","videoState":"x"},{"videoId":"b","videoSize":8,"transcodeState":2}]}`)
	for id, want := range map[string]int64{"a": 7, "b": 8, "c": 0} {
		if v, listed, err := findVideo(list, id); err != nil || listed != (want > 0) || v.Size.value() != want {
			t.Errorf("video %s: %+v, %t, %v", id, v, listed, err)
		}
	}
	for _, none := range []string{"", "null", "[]"} {
		if _, _, err := findVideo([]byte(none), "a"); err == nil {
			t.Errorf("%q was taken for an empty list", none)
		}
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	client := New(http.DefaultClient)
	for name, tt := range map[string]struct {
		media providers.Media
		want  string // fields, joined
	}{
		"fine":          {providers.Media{Name: "a.mp4", Options: map[string]string{"domain": "play.example.com", "watermark": "w", "transcode_template": "t", "subtitle_id": "s", "overwrite": "false", "categories": `[{"parentName":"p","childName":"c"}]`}}, ""},
		"forty":         {providers.Media{Name: strings.Repeat("ü", 36) + ".mp4"}, ""},
		"forty-one":     {providers.Media{Name: strings.Repeat("ü", 37) + ".mp4"}, "name"},
		"no extension":  {providers.Media{Name: "film"}, "name"},
		"a dot alone":   {providers.Media{Name: "film."}, "name"},
		"nothing else":  {providers.Media{Name: ".mp4"}, "name"},
		"a workflow":    {providers.Media{Name: "a.mp4", Options: map[string]string{"workflow_id": "1"}}, ""},
		"and templates": {providers.Media{Name: "a.mp4", Options: map[string]string{"workflow_id": "1", "watermark": "w", "transcode_template": "t", "subtitle_id": "s"}}, "options.watermark options.transcode_template options.subtitle_id"},
		"bad":           {providers.Media{Name: "a.mp4", Options: map[string]string{"domain": "https://x", "overwrite": "2", "categories": "[]", "wm": "1", "watermark": ""}}, "options.categories options.domain options.overwrite options.watermark options.wm"},
		"odd lists":     {providers.Media{Name: "a.mp4", Options: map[string]string{"categories": `[{"parent":"p"}]`}}, "options.categories"},
		"two lists":     {providers.Media{Name: "a.mp4", Options: map[string]string{"categories": `[{"parentName":"p"}] []`}}, "options.categories"},
	} {
		if got := providertest.Fields(client.CheckMedia(tt.media)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	good := map[string]providers.Secret{"access_key": "a", "secret_key": "b"}
	for name, tt := range map[string]struct {
		account providers.Account
		want    string
	}{
		"fine": {providers.Account{Secrets: good}, ""},
		"everything": {providers.Account{Secrets: good, Settings: map[string]string{
			"endpoint": "https://api.cdnetworks.com/", "auth_scheme": "cnc", "key_header": "plain",
			"chunk_size": "262144", "list_delay": "1m", "playback_url": "https://play.example.com/x/",
		}}, ""},
		"no secrets": {providers.Account{}, "secrets.access_key secrets.secret_key"},
		"bad": {providers.Account{Secrets: good, Settings: map[string]string{
			"endpoint": "api.cdnetworks.com", "auth_scheme": "basic", "key_header": "x", "chunk_size": "1000",
			"list_delay": "soon", "playback_url": "play", "z": "",
		}}, "settings.auth_scheme settings.chunk_size settings.endpoint settings.key_header settings.list_delay settings.playback_url settings.z"},
		"odd secrets": {providers.Account{Secrets: map[string]providers.Secret{"access_key": "a", "secret_key": "b", "key": "c"}}, "secrets.key"},
	} {
		if got := providertest.Fields(client.CheckAccount(tt.account)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestOptionsTravel looks at the form of getUploadToken.
func TestOptionsTravel(t *testing.T) {
	t.Parallel()
	o, err := readOptions(providers.Media{Options: map[string]string{
		"domain": "d", "watermark": "w", "transcode_template": "t", "subtitle_id": "s", "overwrite": "true",
		"categories": `[{"childName":"c & d","parentName":"p"}]`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := "categoryNames=%5B%7B%22childName%22%3A%22c+%5Cu0026+d%22%2C%22parentName%22%3A%22p%22%7D%5D" +
		"&domain=d&overwrite=1&subtitleId=s&transCodeCombineName=t&waterMarkName=w"
	if diff := cmp.Diff(want, o.form().Encode()); diff != "" {
		t.Errorf("form (-want +got):\n%s", diff)
	}
}

func FuzzParseEnvelope(f *testing.F) {
	for _, a := range []string{answerToken, answerFailure, `{}`, `null`, `{"code":200,"data":{"videoListInfo":[{"videoId":"a"}]}}`} {
		f.Add([]byte(a))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parseEnvelope(body)
		if err != nil {
			return
		}
		var g grant
		if json.Unmarshal(e.Data, &g) == nil && g.check() == nil {
			// What passes can be sent as it is.
			if _, err := http.NewRequestWithContext(t.Context(), http.MethodPost, string(g.UploadURL)+"/mkblk/1/0", nil); err != nil {
				t.Errorf("address %q: %v", g.UploadURL, err)
			}
		}
		if v, listed, err := findVideo(e.Data, "a"); err == nil && listed && v.ID != "a" {
			t.Errorf("found %+v", v)
		}
	})
}

func FuzzParseChunk(f *testing.F) {
	for _, a := range []string{answerChunk, `{}`, `null`, `{"ctx":"..","crc32":1,"offset":1}`, `{"ctx":"a b","crc32":"1","offset":"1"}`} {
		f.Add([]byte(a))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseChunk(body)
		if err != nil {
			return
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/bput/"+c.ctx+"/1", nil)
		if err != nil || req.URL.Path != "/bput/"+c.ctx+"/1" || strings.Contains(c.ctx, ",") {
			t.Errorf("ctx %q does not travel: %v", c.ctx, err)
		}
	})
}

func FuzzParseHashes(f *testing.F) {
	for _, a := range []string{answerFile, answerForm, answerTraced, "", "{}", "null"} {
		f.Add([]byte(a))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if h, err := parseFileHash(body); (err == nil) != (h != "") {
			t.Errorf("mkfile: %q, %v", h, err)
		}
		if h, err := parseFormHash(body); (err == nil) != (h != "") {
			t.Errorf("form: %q, %v", h, err)
		}
	})
}

func FuzzReadPolicy(f *testing.F) {
	for _, a := range []string{"", "a:b:c", "a:b:e30=", "a:b:eyJzY29wZSI6ImFhYSIsImRlYWRsaW5lIjoiMTg5MzQyNzIwMDAwMCJ9"} {
		f.Add(a)
	}
	now := time.Unix(1700000000, 0)
	f.Fuzz(func(t *testing.T, token string) {
		p, err := readPolicy(token)
		if err != nil {
			return
		}
		if _, err := (providers.Session{Expires: p.expires(now)}).Expires.MarshalText(); err != nil {
			t.Errorf("a session of %q cannot be kept: %v", token, err)
		}
	})
}
