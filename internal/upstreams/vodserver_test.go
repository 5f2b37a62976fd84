package upstreams

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The vectors' common parameters and file, as they are signed.
const (
	abcSHA     = "a9993e364706816aba3e25717850c26c9cd0d89d"
	vectorTail = "&Nonce=11886&Region=gz&SecretId=" + dummyID + "&Timestamp=1465185768"
	vectorInit = "Action=InitUpload" + vectorTail + "&classId=0&dataSize=524288&fileName=my video&fileSha=" + abcSHA + "&fileSize=3&fileType=mp4&isScreenshot=0&isTranscode=0&isWatermark=0&tags.1=foo&tags.2=bar"
	vectorPart = "Action=UploadPart" + vectorTail + "&dataMd5=900150983cd24fb0d6963f7d28e17f72&dataSize=3&fileSha=" + abcSHA + "&offset=0"
	vectorDone = "Action=FinishUpload" + vectorTail + "&fileSha=" + abcSHA
)

func TestSignVODRequestVectors(t *testing.T) {
	t.Parallel()
	const cvm = "cvm.api.qcloud.com"
	for name, tt := range map[string]struct {
		method, host, path, query, key, want string
	}{
		"published":          {"GET", cvm, "/v2/index.php", "Action=DescribeInstances" + vectorTail + "&instanceIds.0=ins-09dx96dg&limit=20&offset=0", dummyKey, "NSI3UqqD99b/UJb4tbG/xZpRW64="},
		"published, SHA-256": {"GET", cvm, "/v2/index.php", "Action=DescribeInstances&InstanceIds.0=ins-09dx96dg&Nonce=11886&Region=ap-guangzhou&SecretId=" + dummyID + "&SignatureMethod=HmacSHA256&Timestamp=1465185768", dummyKey, "0EEm/HtGRr/VJXTAD9tYMth1Bzm3lLHz5RCDv1GdM8s="},
		"published, SHA-1":   {"GET", cvm, "/v2/index.php", "Action=DescribeInstances&InstanceIds.0=ins-09dx96dg&Nonce=11886&Region=ap-guangzhou&SecretId=" + dummyID + "&SignatureMethod=HmacSHA1&Timestamp=1465185768", dummyKey, "nPVnY6njQmwQ8ciqbPl5Qe+Oru4="},
		"underscores":        {"GET", cvm, "/v2/index.php", "Action=DescribeInstances" + vectorTail + "&instanceIds_0=ins-09dx96dg&limit=20&offset=0", dummyKey, "NSI3UqqD99b/UJb4tbG/xZpRW64="},
		"S1":                 {"GET", vendorHost, "/v2/index.php", vectorInit, dummyKey, "Af3m0siJCMLxh48QebRbBP9+XP0="},
		"S2":                 {"POST", vendorHost, "/v2/index.php", vectorInit, dummyKey, "hhmf6I6SGoFnCB+tH6VWqcFWW8I="},
		"S3":                 {"POST", vendorHost, "/v3/index.php", vectorInit, dummyKey, "w6IloPz+emFU3P6XFumwGQHnXks="},
		"S4":                 {"GET", vendorHost, "/v2/index.php", vectorInit + "&SignatureMethod=HmacSHA256", dummyKey, "Ll4IcTsC6t7GxHl1wWgT9STQhu5S0/Oxd2ki0dwRvDE="},
		"S5":                 {"POST", vendorHost, "/v2/index.php", vectorPart, dummyKey, "/qnlLbMIaJF+4Mz6u89umUloPIc="},
		"S6 GET":             {"GET", vendorHost, "/v2/index.php", vectorDone, dummyKey, "ynQ3ttvFCYTuwbLcJWPrG/qds+k="},
		"S6 POST":            {"POST", vendorHost, "/v2/index.php", vectorDone, dummyKey, "s73f/jH+Nh93Dn+ya3jaXV5ahb0="},
		"S7":                 {"POST", vendorHost, "/v2/index.php", "Action=FinishUpload&Nonce=874619&Region=gz&RequestClient=SDK_NODEJS_1.1&SecretId=AKIDtest&Timestamp=1795210704400&contentLen=0&fileSha=e042e36e9891e7837987bf17298e7825ba44a673&notifyUrl=www.fs.com", "EHLKtestkey", "jNtIlq4085B+7WbwuS8LiUzAwMU="},
	} {
		query, err := parseVODQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		if got := signVODRequest(tt.method, tt.host, tt.path, query, tt.key); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

func TestParseVODQuery(t *testing.T) {
	t.Parallel()
	got, err := parseVODQuery("&a=%20+%2B=&fileName=\xe8\xa7\x86%E9%A2%91;&b&_c=_&")
	want := url.Values{"a": {" ++="}, "fileName": {"视频;"}, "b": {""}, "_c": {"_"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	for _, raw := range []string{"a=%", "%zz=1", "a=1&a=1", "a=1&%61=2"} {
		if got, err := parseVODQuery(raw); err == nil {
			t.Errorf("%q is read as %v", raw, got)
		}
	}
}

// signedCall is a server-side call with what a careful client sends; tests
// spoil it.
type signedCall struct {
	method, path, host string
	key                string
	query              url.Values
	spoil              string // put in place of the signature
	body               []byte
}

func (c vodClient) signed(action string, more url.Values) *signedCall {
	s := &signedCall{method: http.MethodGet, path: "/v2/index.php", host: strings.TrimPrefix(c.url, "http://"), key: dummyKey}
	s.query = url.Values{
		"Action": {action}, "SecretId": {dummyID}, "Region": {"gz"}, "fileSha": {abcSHA},
		"Timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "Nonce": {strconv.FormatInt(time.Now().UnixNano(), 10)},
	}
	switch action {
	case ActionServerInit:
		maps.Copy(s.query, url.Values{"fileName": {"my video"}, "fileType": {"mp4"}, "fileSize": {"3"}, "dataSize": {"524288"}})
	case ActionServerPart:
		s.method, s.body = http.MethodPost, []byte("abc")
		maps.Copy(s.query, url.Values{"offset": {"0"}, "dataSize": {"3"}, "dataMd5": {"900150983cd24fb0d6963f7d28e17f72"}})
	}
	maps.Copy(s.query, more)
	return s
}

func (s *signedCall) send(t *testing.T, c vodClient) vodAnswer {
	t.Helper()
	signature := signVODRequest(s.method, s.host, s.path, s.query, s.key)
	if s.spoil != "" {
		signature = s.spoil
	}
	raw := strings.ReplaceAll(s.query.Encode(), "+", "%20") + "&Signature=" + url.QueryEscape(signature)
	// A reader of no known length travels chunked, as from one of the vendor's clients.
	status, text := fetch(t, s.method, c.url+s.path+"?"+raw, struct{ *bytes.Reader }{bytes.NewReader(s.body)})
	var answer vodAnswer
	if status == http.StatusNotFound {
		return vodAnswer{Code: status}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return answer
}

// TestServerSideCalls spoils or bends one thing of a call each. lenient and
// strict are the codes that the two modes answer.
func TestServerSideCalls(t *testing.T) {
	t.Parallel()
	now := time.Now()
	report := func(method string) func(*signedCall) {
		return func(s *signedCall) {
			s.method = method
			s.query.Set("Action", ActionReport)
			s.query.Del("fileSha")
		}
	}
	for name, tt := range map[string]struct {
		bend            func(s *signedCall)
		lenient, strict int
	}{
		"as documented":      {func(*signedCall) {}, 0, 0},
		"SHA-256":            {func(s *signedCall) { s.query.Set("SignatureMethod", "HmacSHA256") }, 0, 0},
		"unknown parameters": {func(s *signedCall) { s.query.Set("notify_Url", "x"); s.query.Set("tag.1", "a&b=c d") }, 0, 0},
		"a name in Chinese":  {func(s *signedCall) { s.query.Set("fileName", "我的视频 +1") }, 0, 0},

		"POST":                 {func(s *signedCall) { s.method = http.MethodPost }, 0, codeCommon},
		"path v3":              {func(s *signedCall) { s.path = "/v3/index.php" }, 0, http.StatusNotFound},
		"the vendor's host":    {func(s *signedCall) { s.host = vendorHost }, 0, codeSignature},
		"no Region":            {func(s *signedCall) { s.query.Del("Region") }, 0, codeCommon},
		"upper-case fileSha":   {func(s *signedCall) { s.query.Set("fileSha", strings.ToUpper(abcSHA)) }, 0, codeProtocol},
		"milliseconds":         {func(s *signedCall) { s.query.Set("Timestamp", strconv.FormatInt(now.UnixMilli(), 10)) }, 0, codeReplay},
		"a Report":             {report(http.MethodPost), 0, codeCommon},
		"a Report by GET":      {report(http.MethodGet), 0, codeCommon},
		"PUT":                  {func(s *signedCall) { s.method = http.MethodPut }, codeCommon, codeCommon},
		"another host":         {func(s *signedCall) { s.host = "example.com" }, codeSignature, codeSignature},
		"another key":          {func(s *signedCall) { s.key = "x" }, codeSignature, codeSignature},
		"another account":      {func(s *signedCall) { s.query.Set("SecretId", "AKIDother") }, codeSignature, codeSignature},
		"another signature":    {func(s *signedCall) { s.spoil = "Af3m0siJCMLxh48QebRbBP9+XP0=" }, codeSignature, codeSignature},
		"no SecretId":          {func(s *signedCall) { s.query.Del("SecretId") }, codeCommon, codeCommon},
		"no Nonce":             {func(s *signedCall) { s.query.Del("Nonce") }, codeCommon, codeCommon},
		"Nonce 0":              {func(s *signedCall) { s.query.Set("Nonce", "0") }, codeCommon, codeCommon},
		"Timestamp not a time": {func(s *signedCall) { s.query.Set("Timestamp", "now") }, codeCommon, codeCommon},
		"clock behind": {func(s *signedCall) {
			s.query.Set("Timestamp", strconv.FormatInt(now.Add(-2*time.Hour-time.Minute).Unix(), 10))
		}, codeReplay, codeReplay},
		"clock ahead": {func(s *signedCall) {
			s.query.Set("Timestamp", strconv.FormatInt(now.Add(2*time.Hour+time.Minute).Unix(), 10))
		}, codeReplay, codeReplay},
		"clock behind a bit": {func(s *signedCall) {
			s.query.Set("Timestamp", strconv.FormatInt(now.Add(-2*time.Hour+time.Minute).Unix(), 10))
		}, 0, 0},
		"no fileSha":         {func(s *signedCall) { s.query.Del("fileSha") }, codeProtocol, codeProtocol},
		"fileSha too short":  {func(s *signedCall) { s.query.Set("fileSha", abcSHA[2:]) }, codeProtocol, codeProtocol},
		"no fileName":        {func(s *signedCall) { s.query.Del("fileName") }, codeProtocol, codeProtocol},
		"long fileName":      {func(s *signedCall) { s.query.Set("fileName", strings.Repeat("é", 21)) }, codeProtocol, codeProtocol},
		"forbidden fileName": {func(s *signedCall) { s.query.Set("fileName", "a/b") }, codeProtocol, codeProtocol},
		"no fileType":        {func(s *signedCall) { s.query.Del("fileType") }, codeProtocol, codeProtocol},
		"a flag of 2":        {func(s *signedCall) { s.query.Set("isWatermark", "2") }, codeProtocol, codeProtocol},
		"no size":            {func(s *signedCall) { s.query.Set("fileSize", "0") }, codeProtocol, codeProtocol},
		"another dataSize":   {func(s *signedCall) { s.query.Set("dataSize", "524289") }, codeProtocol, codeProtocol},
	} {
		for strict, want := range map[bool]int{false: tt.lenient, true: tt.strict} {
			t.Run(name+", strict "+strconv.FormatBool(strict), func(t *testing.T) {
				t.Parallel()
				vod, client := startVOD(t, VODConfig{Strict: strict})
				call := client.signed(ActionServerInit, nil)
				tt.bend(call)
				answer := call.send(t, client)
				if answer.Code != want || answer.CanRetry != 0 {
					t.Errorf("answer %+v, want code %d", answer, want)
				}
				if calls := vod.Calls(); want != http.StatusNotFound && (calls[0].Outcome == "ok") != (want == 0) {
					t.Errorf("the log says %q", calls[0].Outcome)
				}
			})
		}
	}
}

// TestNonceIsGoodForOnce sends one signed request twice.
func TestNonceIsGoodForOnce(t *testing.T) {
	t.Parallel()
	for strict, want := range map[bool]int{false: 0, true: codeReplay} {
		_, client := startVOD(t, VODConfig{Strict: strict})
		call := client.signed(ActionServerInit, nil)
		if a := call.send(t, client); a.Code != 0 {
			t.Errorf("first: %+v", a)
		}
		if a := call.send(t, client); a.Code != want {
			t.Errorf("strict %t, second: %+v, want code %d", strict, a, want)
		}
	}
}

// TestServerSideUpload goes the whole way, and finds its media from the other
// side: the platform knows uploads by account and SHA-1, whoever signs.
func TestServerSideUpload(t *testing.T) {
	t.Parallel()
	vod, client := startVOD(t, VODConfig{Dir: t.TempDir(), VerifyKey: "k"})
	open := func() vodAnswer { return client.signed(ActionServerInit, nil).send(t, client) }
	finish := func() vodAnswer { return client.signed(ActionServerFinish, nil).send(t, client) }
	if a := client.signed(ActionServerPart, nil).send(t, client); a.Code != codeNotFound {
		t.Errorf("part without init: %+v", a)
	}
	if a := finish(); a.Code != codeNotFound {
		t.Errorf("finish without init: %+v", a)
	}
	if a := open(); a.Code != 0 {
		t.Fatalf("init: %+v", a)
	}
	if a := finish(); a.Code != codeProtocol {
		t.Errorf("finish without parts: %+v", a)
	}
	byGET := client.signed(ActionServerPart, nil)
	byGET.method = http.MethodGet
	if a := byGET.send(t, client); a.Code != codeCommon {
		t.Errorf("part by GET: %+v", a)
	}
	vod.AddFaults(Fault{Action: ActionServerPart, Times: 1, FlipBit: true})
	if a := client.signed(ActionServerPart, nil).send(t, client); a.Code != codePacket || a.CanRetry != 1 {
		t.Errorf("a damaged part: %+v", a)
	}
	if a := client.signed(ActionServerPart, nil).send(t, client); a.Code != 0 {
		t.Errorf("part: %+v", a)
	}
	want := vodAnswer{Code: 1, DataSize: 524288, ListParts: []vodListedPart{{Offset: 0, DataSize: 3, DataMD5: "900150983cd24fb0d6963f7d28e17f72"}}}
	if diff := cmp.Diff(want, open()); diff != "" {
		t.Errorf("init of an upload with a part (-want +got):\n%s", diff)
	}
	done := finish()
	if done.Code != 0 || done.FileID == "" || !strings.HasSuffix(done.URL, "/f0.mp4") || done.VerifyContent != "" {
		t.Errorf("finish: %+v", done)
	}
	if diff := cmp.Diff(done, finish()); diff != "" {
		t.Errorf("finish again (-want +got):\n%s", diff)
	}
	if a := open(); a.Code != 2 || a.FileID != done.FileID || a.URL != done.URL {
		t.Errorf("init of finished media: %+v", a)
	}
	other, _ := client.do(t, http.MethodGet, "/v2/index.php", "signature", abcSHA, url.Values{"Action": {ActionInit}, "fileSha": {abcSHA}, "fileSize": {"3"}, "dataSize": {"524288"}}, nil)
	if other.Code != 2 || other.FileID != done.FileID {
		t.Errorf("InitUploadEx of finished media: %+v", other)
	}
	if status, data := fetch(t, http.MethodGet, done.URL, nil); status != http.StatusOK || string(data) != "abc" {
		t.Errorf("media: %d %q", status, data)
	}
	// The part came three times: by GET, damaged, and well.
	wantFiles := []VODFile{{FileSHA: abcSHA, Account: dummyID, Size: 3, BytesReceived: 9, FinishCount: 2, FileID: done.FileID, URL: done.URL}}
	if diff := cmp.Diff(wantFiles, vod.Files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestPartListLies lists parts that are not there, hides one that is, and
// forgets them all.
func TestPartListLies(t *testing.T) {
	t.Parallel()
	vod, client := startVOD(t, VODConfig{})
	const size = 524288*2 + 1
	init := func() vodAnswer {
		return client.signed(ActionServerInit, url.Values{"fileSize": {strconv.Itoa(size)}}).send(t, client)
	}
	init()
	sum := md5.Sum([]byte("a"))
	last := client.signed(ActionServerPart, url.Values{"offset": {"1048576"}, "dataSize": {"1"}, "dataMd5": {hex.EncodeToString(sum[:])}})
	last.body = []byte("a")
	if a := last.send(t, client); a.Code != 0 {
		t.Fatalf("part: %+v", a)
	}
	zero := strings.Repeat("0", 32)
	stored := vodListedPart{Offset: 1048576, DataSize: 1, DataMD5: hex.EncodeToString(sum[:])}
	for _, tt := range []struct {
		fault Fault
		want  vodAnswer
	}{
		{Fault{}, vodAnswer{Code: 1, DataSize: 524288, ListParts: []vodListedPart{stored}}},
		{Fault{ListAll: true}, vodAnswer{Code: 1, DataSize: 524288, ListParts: []vodListedPart{{0, 524288, zero}, {524288, 524288, zero}, stored}}},
		{Fault{HidePart: 3}, vodAnswer{Code: 1, DataSize: 524288, ListParts: []vodListedPart{}}},
		{Fault{ListAll: true, HidePart: 1}, vodAnswer{Code: 1, DataSize: 524288, ListParts: []vodListedPart{{524288, 524288, zero}, stored}}},
		{Fault{Forget: true}, vodAnswer{}},
	} {
		vod.AddFaults(tt.fault)
		got := init()
		vod.ClearFaults()
		if len(got.ListParts) == 0 && len(tt.want.ListParts) == 0 {
			got.ListParts, tt.want.ListParts = nil, nil
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.fault, diff)
		}
	}
}

// TestOldNoncesMakeRoom remembers a nonce for as long as a clock in bounds can
// bring it again, and not for ever.
func TestOldNoncesMakeRoom(t *testing.T) {
	t.Parallel()
	vod := NewVOD(VODConfig{Strict: true})
	first := time.Now()
	var got []bool
	for _, hours := range []time.Duration{0, 3, 4, 5, 8, 10, 15} {
		got = append(got, vod.firstUse(vodNonce{"a", 1}, first.Add(hours*time.Hour)))
		vod.firstUse(vodNonce{"b", uint64(hours + 1)}, first.Add(hours*time.Hour))
	}
	if diff := cmp.Diff([]bool{true, false, false, false, false, true, false}, got); diff != "" {
		t.Errorf("first uses (-want +got):\n%s", diff)
	}
	if n := len(vod.nonces.younger) + len(vod.nonces.older); n > 4 {
		t.Errorf("%d nonces are held", n)
	}
}

func FuzzServerSideQuery(f *testing.F) {
	for _, q := range []string{
		vectorInit + "&Signature=Af3m0siJCMLxh48QebRbBP9%2BXP0%3D", vectorPart, vectorDone,
		"Action=FinishUpload&=&_=_", "a=%", "Signature=", "&&",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := parseVODQuery(raw)
		if err != nil {
			return
		}
		vod := NewVOD(VODConfig{Keys: map[string]string{dummyID: "another"}})
		call := &vodCall{callInHand: callInHand{Call: Call{Action: query.Get("Action"), Method: http.MethodGet}}, rawQuery: raw, host: vendorHost, path: "/v2/index.php"}
		if _, ok := vod.authenticateServer(call); ok {
			t.Errorf("%q passed without the key", raw)
		}
		// What the parser took apart signs as what is put together again.
		again, err := parseVODQuery(strings.ReplaceAll(query.Encode(), "+", "%20"))
		if err != nil || signVODRequest("GET", "h", "/p", query, "k") != signVODRequest("GET", "h", "/p", again, "k") {
			t.Errorf("%q is read as %v and again as %v, %v", raw, query, again, err)
		}
	})
}

// A part that comes late must not take finished media away.
func TestForgetKeepsFinishedMedia(t *testing.T) {
	t.Parallel()
	v := NewVOD(VODConfig{Dir: t.TempDir()})
	finished, unfinished := vodKey{"acc", "finished"}, vodKey{"acc", "unfinished"}
	v.uploads[finished] = &vodUpload{vodKey: finished, fileID: "1"}
	v.uploads[unfinished] = &vodUpload{vodKey: unfinished}
	v.Forget("acc", "finished")
	v.Forget("acc", "unfinished")
	if v.uploads[finished] == nil || v.uploads[unfinished] != nil {
		t.Errorf("left are %v", v.uploads)
	}
}
