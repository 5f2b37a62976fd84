package upstreams

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestApplySignatureVectors(t *testing.T) {
	t.Parallel()
	const path = "/v2/index.php"
	for want, query := range map[string]string{
		"5eqsVrUITkFLxPX86nd70NF07hQ=": "Action=ApplyUpload&coverType=jpg&procedure=QCVB_SimpleProcessFile(1,1)&videoName=my%20video&videoSize=3&videoType=mp4",
		"u8HDx2cq5qELWGGFGVW0e8gL4UQ=": "Action=CommitUpload&vodSessionKey=3KEGq9DW%2FrTrx56%2BUo%3D",
	} {
		params, err := url.ParseQuery(query + "&Nonce=11886&Region=gz&SecretId=" + dummyID + "&Timestamp=1465185768")
		if err != nil {
			t.Fatal(err)
		}
		if got := signVODRequest(http.MethodGet, "vod.api.qcloud.com", path, params, dummyKey); got != want {
			t.Errorf("API v2: got %s, want %s", got, want)
		}
	}
	params, err := url.ParseQuery("Action=ApplyUpload&Language=en-US&MediaName=a&MediaType=mp4&Nonce=44192&Region=ap-guangzhou&" +
		"RequestClient=SDK_NODEJS_3.0.270&SecretId=AKIDtest&SignatureMethod=HmacSHA256&Timestamp=1795210733&Version=2018-07-17")
	if err != nil {
		t.Fatal(err)
	}
	if got := signVODRequest(http.MethodPost, "vod.tencentcloudapi.com", "/", params, "EHLKtestkey"); got != "lyIuLnJcWT75asV2S8iODqdSKyg9F786F5w5lBTkSgI=" {
		t.Errorf("the older signature of API 3.0: %s", got)
	}
}

func TestTC3Vectors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		id, key, body, date string
		at                  int64
		want                string
	}{
		"T1": {dummyID, dummyKey, `{"MediaType":"mp4"}`, "2019-02-25", 1551113065, "64080113d7c736915b6cc2079a087520ee59cb79950ab45bee57dbbe1b8aa1f6"},
		"T2": {dummyID, dummyKey, `{"VodSessionKey":"3KEGq9DW/rTrx56+Uo="}`, "2019-02-25", 1551113065, "e3b7b037d7559a1f95ed2f492f9c261c6d8bb0856e928f014bf5b3692da07e26"},
		"T3": {"AKIDtest", "EHLKtestkey", `{"VodSessionKey":"sess+/=1"}`, time.Unix(1795210725, 0).UTC().Format("2006-01-02"), 1795210725, "b86badecabf0a86281bcbd53ff162f9c4b2185e3c5388f824084a7fc26fc9f9d"},
	} {
		a, err := parseTC3("TC3-HMAC-SHA256 Credential=" + tt.id + "/" + tt.date + "/vod/tc3_request, SignedHeaders=content-type;host, Signature=" + tt.want)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://vod.tencentcloudapi.com/", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/json")
		got, err := a.expected(tt.key, r, []byte(tt.body), tt.at)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, tt.want)
		}
		if _, err := a.expected(tt.key, r, []byte(tt.body), tt.at+86_400); err == nil {
			t.Errorf("%s: the date of another day is taken", name)
		}
	}
}

// applyClient calls a VODApply.
type applyClient struct {
	t   *testing.T
	url string
}

func startApply(t *testing.T, config VODApplyConfig) (*VODApply, applyClient) {
	t.Helper()
	config.Keys = map[string]string{dummyID: dummyKey}
	vod := NewVODApply(config)
	server, err := Serve(t.Context(), "", vod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return vod, applyClient{t: t, url: server.URL}
}

func (c applyClient) host() string { return strings.TrimPrefix(c.url, "http://") }

// v2 makes a call of API v2; what is in params goes before the defaults.
func (c applyClient) v2(method string, params url.Values) map[string]any {
	c.t.Helper()
	full := url.Values{
		"SecretId": {dummyID}, "Timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "Nonce": {strconv.FormatInt(time.Now().UnixNano(), 10)}, "Region": {"gz"},
	}
	maps.Copy(full, params)
	if !full.Has("Signature") {
		full.Set("Signature", signVODRequest(method, c.host(), "/v2/index.php", full, dummyKey))
	}
	if method == http.MethodGet {
		return c.call(method, "/v2/index.php?"+full.Encode(), "", nil)
	}
	return c.call(method, "/v2/index.php?Action=Nothing", "application/x-www-form-urlencoded", strings.NewReader(full.Encode()))
}

// v3 makes a call of API 3.0 with the key, at a time.
func (c applyClient) v3(action, body, key string, at time.Time) map[string]any {
	c.t.Helper()
	return c.v3Of("vod", "2018-07-17", action, body, key, at)
}

func (c applyClient) v3Of(service, version, action, body, key string, at time.Time) map[string]any {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-TC-Action", action)
	r.Header.Set("X-TC-Version", version)
	r.Header.Set("X-TC-Timestamp", strconv.FormatInt(at.Unix(), 10))
	a := tc3{secretID: dummyID, date: at.UTC().Format("2006-01-02"), service: service, headers: []string{"content-type", "host"}}
	signed := r.Clone(r.Context())
	signed.Host = c.host()
	signature, err := a.expected(key, signed, []byte(body), at.Unix())
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "TC3-HMAC-SHA256 Credential="+dummyID+"/"+a.date+"/"+service+"/tc3_request, SignedHeaders=content-type;host, Signature="+signature)
	return c.send(r)
}

func (c applyClient) call(method, target, contentType string, body io.Reader) map[string]any {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+target, body)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	return c.send(r)
}

func (c applyClient) send(r *http.Request) map[string]any {
	c.t.Helper()
	resp, err := oneCall().Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		c.t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	if inner, ok := answer["Response"].(map[string]any); ok {
		return inner
	}
	return answer
}

// v3Code returns the code of a refusal of API 3.0.
func v3Code(answer map[string]any) string {
	refused, _ := answer["Error"].(map[string]any)
	code, _ := refused["Code"].(string)
	return code
}

func TestApplyV2(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		vod, client := startApply(t, VODApplyConfig{Dir: t.TempDir(), Strict: true})
		applied := client.v2(method, url.Values{"Action": {ActionApply}, "videoType": {"mp4"}, "coverType": {"jpg"}})
		key, _ := applied["vodSessionKey"].(string)
		if applied["code"] != 0.0 || !strings.Contains(key, "+") || applied["storageRegionV5"] != applyRegion || applied["storageAppId"] != float64(applyAppID) {
			t.Fatalf("%s: %v", method, applied)
		}
		if got := client.v2(method, url.Values{"Action": {ActionCommit}, "vodSessionKey": {key}}); got["code"] != float64(applyCodeInternal) {
			t.Errorf("%s: commit of nothing: %v", method, got)
		}
		cos := &cosClient{t: t, url: client.url, id: dummyID, key: dummyKey}
		host := fmt.Sprintf("%s-%d.cos.%s.myqcloud.com", applyBucket, applyAppID, applyRegion)
		for _, kind := range []string{"video", "cover"} {
			file, _ := applied[kind].(map[string]any)
			place, _ := file["storagePath"].(string)
			cos.put(host, place, []byte(kind))
		}
		first := client.v2(method, url.Values{"Action": {ActionCommit}, "vodSessionKey": {key}})
		again := client.v2(method, url.Values{"Action": {ActionCommit}, "vodSessionKey": {key}})
		if first["fileId"] == nil || first["fileId"] != again["fileId"] {
			t.Errorf("%s: commits answer %v and %v", method, first, again)
		}
		for _, kind := range []string{"video", "cover"} {
			file, _ := first[kind].(map[string]any)
			address, _ := file["url"].(string)
			if _, body := fetch(t, http.MethodGet, address, nil); string(body) != kind {
				t.Errorf("%s is %q", kind, body)
			}
		}
		if files := vod.Files(); len(files) != 2 || files[0].CommitCount != 2 || files[0].FileID != first["fileId"] {
			t.Errorf("files %+v", files)
		}
	}
}

// put stores an object in one call.
func (c *cosClient) put(host, target string, body []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPut, c.url+target, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Host = host
	now := time.Now().Unix()
	a := cosAuthorization{keyTime: fmt.Sprintf("%d;%d", now, now+600), headers: []string{"host"}}
	r.Header.Set("Authorization", cosAuth(c.id, a.keyTime, "host", "", a.expected(c.key, r)))
	if reply := c.send(r); reply.status != http.StatusOK {
		c.t.Fatalf("put %s: %d %s", target, reply.status, reply.body)
	}
}

func TestApplyV2Refuses(t *testing.T) {
	t.Parallel()
	_, client := startApply(t, VODApplyConfig{})
	_, strict := startApply(t, VODApplyConfig{Strict: true})
	apply := url.Values{"Action": {ActionApply}, "videoType": {"mp4"}}
	and := func(pairs ...string) url.Values {
		params := url.Values{}
		maps.Copy(params, apply)
		for i := 0; i < len(pairs); i += 2 {
			params.Set(pairs[i], pairs[i+1])
		}
		return params
	}
	now := time.Now()
	stamp := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	millis := strconv.FormatInt(now.UnixMilli(), 10)
	for name, tt := range map[string]struct {
		client applyClient
		params url.Values
		want   int
	}{
		"fine":                  {client, apply, 0},
		"no type":               {client, and("videoType", ""), 4000},
		"odd size":              {client, and("videoSize", "large"), 4000},
		"odd cover":             {client, and("coverType", "a/b"), 4000},
		"long context":          {client, and("sourceContext", strings.Repeat("x", 251)), 4000},
		"wrong signature":       {client, and("Signature", "x"), 4100},
		"unknown id":            {client, and("SecretId", "x"), 4104},
		"two hours ago":         {client, and("Timestamp", stamp(now.Add(-3*time.Hour))), 4500},
		"in two hours":          {client, and("Timestamp", stamp(now.Add(3*time.Hour))), 4500},
		"milliseconds":          {client, and("Timestamp", millis), 0},
		"milliseconds, strict":  {strict, and("Timestamp", millis), 4500},
		"no nonce":              {client, and("Nonce", "0"), 4000},
		"unknown action":        {client, url.Values{"Action": {"Nothing"}}, 4000},
		"commit of another key": {client, url.Values{"Action": {ActionCommit}, "vodSessionKey": {"x"}}, 31001},
		"first use of a nonce":  {strict, and("Nonce", "7", "Timestamp", stamp(now)), 0},
	} {
		if got := tt.client.v2(http.MethodPost, tt.params); got["code"] != float64(tt.want) {
			t.Errorf("%s: %v, want %d", name, got, tt.want)
		}
	}
	if got := strict.v2(http.MethodPost, and("Nonce", "7", "Timestamp", stamp(now))); got["code"] != 4500.0 {
		t.Errorf("second use of a nonce: %v", got)
	}
}

func TestApplyV3(t *testing.T) {
	t.Parallel()
	vod, client := startApply(t, VODApplyConfig{Strict: true})
	_, lenient := startApply(t, VODApplyConfig{OwnKeys: true})
	now := time.Now()
	applied := client.v3(ActionApply, `{"MediaType":"mp4","ClassId":7,"SubAppId":1500000001,"CoverType":null}`, dummyKey, now)
	if applied["TempCertificate"] == nil || applied["CoverStoragePath"] != nil || applied["RequestId"] == "" {
		t.Fatalf("%v", applied)
	}
	key, _ := applied["VodSessionKey"].(string)
	commit := fmt.Sprintf(`{"VodSessionKey":%q}`, key)
	for name, tt := range map[string]struct {
		answer map[string]any
		want   string
	}{
		"nothing stored":      {client.v3(ActionCommit, commit, dummyKey, now), "ResourceNotFound"},
		"another session":     {client.v3(ActionCommit, `{"VodSessionKey":"x"}`, dummyKey, now), "InvalidParameterValue.VodSessionKey"},
		"wrong key":           {client.v3(ActionApply, `{"MediaType":"mp4"}`, "x", now), "AuthFailure.SignatureFailure"},
		"six minutes ago":     {client.v3(ActionApply, `{"MediaType":"mp4"}`, dummyKey, now.Add(-6*time.Minute)), "AuthFailure.SignatureExpire"},
		"no type":             {client.v3(ActionApply, `{}`, dummyKey, now), "InvalidParameterValue.MediaType"},
		"odd cover":           {client.v3(ActionApply, `{"MediaType":"mp4","CoverType":"."}`, dummyKey, now), "InvalidParameterValue.CoverType"},
		"odd expiry":          {client.v3(ActionApply, `{"MediaType":"mp4","ExpireTime":"soon"}`, dummyKey, now), "InvalidParameterValue.ExpireTime"},
		"unknown parameter":   {client.v3(ActionApply, `{"MediaType":"mp4","VodSessionKey":"x"}`, dummyKey, now), "UnknownParameter"},
		"nested parameter":    {client.v3(ActionApply, `{"MediaType":["mp4"]}`, dummyKey, now), "InvalidParameter"},
		"no JSON":             {client.v3(ActionApply, `MediaType=mp4`, dummyKey, now), "InvalidParameter"},
		"unknown action":      {client.v3("Nothing", `{}`, dummyKey, now), "InvalidAction"},
		"another service":     {client.v3Of("cvm", "2018-07-17", ActionApply, `{"MediaType":"mp4"}`, dummyKey, now), "AuthFailure.SignatureFailure"},
		"another version":     {client.v3Of("vod", "2017-01-01", ActionApply, `{"MediaType":"mp4"}`, dummyKey, now), "NoSuchVersion"},
		"no authorization":    {client.call(http.MethodPost, "/", "application/json", strings.NewReader("{}")), "AuthFailure.InvalidAuthorization"},
		"a form, strict":      {client.form(now), "AuthFailure.InvalidAuthorization"},
		"a form, not strict":  {lenient.form(now), ""},
		"a form of yesterday": {lenient.form(now.Add(-24 * time.Hour)), "AuthFailure.SignatureExpire"},
	} {
		if got := v3Code(tt.answer); got != tt.want {
			t.Errorf("%s: %v, want %q", name, tt.answer, tt.want)
		}
	}
	if own := lenient.v3(ActionApply, `{"MediaType":"mp4"}`, dummyKey, now); own["TempCertificate"] != nil {
		t.Errorf("the account's own keys are to be used, the answer is %v", own)
	}
	if vod.session(key, dummyID) == nil || vod.session(key, "another") != nil {
		t.Error("a session is not its account's alone")
	}
	vod.sessions[key].expires = now.Add(-time.Second)
	if got := v3Code(client.v3(ActionCommit, commit, dummyKey, now)); got != "InvalidParameterValue.VodSessionKey" {
		t.Errorf("a session past its time: %q", got)
	}
	calls := vod.Storage().Calls()
	if len(calls) == 0 || calls[0].Action != ActionApply || calls[0].Account != dummyID || calls[0].Outcome != "ok" {
		t.Errorf("calls %+v", calls)
	}
}

// form calls ApplyUpload of API 3.0 as the vendor's Node.js client does.
func (c applyClient) form(at time.Time) map[string]any {
	c.t.Helper()
	params := url.Values{
		"Action": {ActionApply}, "Version": {"2018-07-17"}, "Region": {"ap-guangzhou"}, "Timestamp": {strconv.FormatInt(at.Unix(), 10)}, "Nonce": {"1"},
		"SecretId": {dummyID}, "SignatureMethod": {"HmacSHA256"}, "MediaType": {"mp4"}, "RequestClient": {"SDK"},
	}
	params.Set("Signature", signVODRequest(http.MethodPost, c.host(), "/", params, dummyKey))
	return c.call(http.MethodPost, "/", "application/x-www-form-urlencoded", strings.NewReader(params.Encode()))
}

func TestTC3SignsHostAndType(t *testing.T) {
	t.Parallel()
	for headers, good := range map[string]bool{"content-type;host": true, "Content-Type;Host;x-tc-action": true, "content-type": false, "host": false} {
		_, err := parseTC3("TC3-HMAC-SHA256 Credential=AKIDtest/2019-02-25/vod/tc3_request, SignedHeaders=" + headers + ", Signature=ab")
		if (err == nil) != good {
			t.Errorf("%s: %v", headers, err)
		}
	}
}

func FuzzParseTC3(f *testing.F) {
	f.Add("TC3-HMAC-SHA256 Credential=AKIDtest/2019-02-25/vod/tc3_request, SignedHeaders=content-type;host, Signature=ab")
	f.Add("TC3-HMAC-SHA256 ")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := parseTC3(text); err == nil && (a.signature == "" || len(a.headers) < 2) {
			t.Errorf("%q is read as %+v", text, a)
		}
	})
}

func FuzzV3Params(f *testing.F) {
	f.Add([]byte(`{"MediaType":"mp4","ClassId":7,"CoverType":null,"":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		params, err := v3Params(body)
		if err == nil && checkApply(params) == nil && params.Get("videoType") == "" {
			t.Errorf("%q is an upload without a type", body)
		}
	})
}

func FuzzV2Params(f *testing.F) {
	f.Add("Action=ApplyUpload&videoType=mp4")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/v2/index.php", nil)
		params, err := v2Params(r, []byte(query))
		if err == nil && checkApply(params) == nil && params.Get("videoType") == "" {
			t.Errorf("%q is an upload without a type", query)
		}
	})
}
