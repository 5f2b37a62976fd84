package upstreams

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The vendor's published dummy pair, and the signatures computed with it.
const (
	dummyID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	dummyKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"

	vectorU1 = "AzVxBVk625VuUTun3dx8jBiTRNpzPUFLSUR6OGtyYnNKNXlLQlpRcG43NFdGa21MUHgzZ25QaEVTQSZmPXRlbmNlbnRfdGVzdC5tcDQmZnM9YTk5OTNlMzY0NzA2ODE2YWJhM2UyNTcxNzg1MGMyNmM5Y2QwZDg5ZCZmdD1tcDQmdD0xNDg4MTYwMDAwJmU9MTQ4ODI0NjQwMCZyPTEyMzQ1Njc4OTAmdWlkPTEyMzQ="
	vectorU2 = "IS6A3N1mgFAOd+I0RKAScpGcuFdzPUFLSUR6OGtyYnNKNXlLQlpRcG43NFdGa21MUHgzZ25QaEVTQSZmPW15JTIwdmlkZW8lMkIxJmZzPWE5OTkzZTM2NDcwNjgxNmFiYTNlMjU3MTc4NTBjMjZjOWNkMGQ4OWQmZnQ9bXA0JnQ9MTQ4ODE2MDAwMCZlPTE0ODgyNDY0MDAmcj0xMjM0NTY3ODkwJnVpZD0xMjM0JnRjPTEmc3M9MSZ3bT0wJmNpZD0xMiZ0YWcuMT1mb28mdGFnLjI9YmFy"
	vectorU3 = "pjsvIrIc299tAwjIpRF9rmiJsFlzZWNyZXRJZD1BS0lEejhrcmJzSjV5S0JaUXBuNzRXRmttTFB4M2duUGhFU0EmY3VycmVudFRpbWVTdGFtcD0xNDg4MTYwMDAwJmV4cGlyZVRpbWU9MTQ4ODI0NjQwMCZyYW5kb209MTIzNDU2Nzg5MA=="
	vectorU4 = "bKV8xt1uklQdWUCJdTbDxGqgmWZzZWNyZXRJZD1BS0lEejhrcmJzSjV5S0JaUXBuNzRXRmttTFB4M2duUGhFU0EmY3VycmVudFRpbWVTdGFtcD0xNDg4MTYwMDAwJmV4cGlyZVRpbWU9MTQ4ODI0NjQwMCZyYW5kb209MTIzNDU2Nzg5MCZjbGFzc0lkPTAmcHJvY2VkdXJlPVFDVkJfU2ltcGxlUHJvY2Vzc0ZpbGUlMjgxJTJDMSUyOSZvbmVUaW1lVmFsaWQ9MSZzb3VyY2VDb250ZXh0PXVzZXItMQ=="
)

func TestVerifySignature(t *testing.T) {
	t.Parallel()
	const abc = "a9993e364706816aba3e25717850c26c9cd0d89d"
	keys := map[string]string{dummyID: dummyKey}
	within := time.Unix(1488160100, 0)
	for _, tt := range []struct {
		name, text string
		keys       map[string]string
		now        time.Time
		want       claims
		fails      bool
	}{
		{name: "U1", text: vectorU1, keys: keys, now: within, want: claims{account: dummyID, fileSHA: abc, fileType: "mp4"}},
		{name: "U2", text: vectorU2, keys: keys, now: within, want: claims{account: dummyID, fileSHA: abc, fileType: "mp4"}},
		{name: "U3", text: vectorU3, keys: keys, now: within, want: claims{account: dummyID}},
		{name: "U4", text: vectorU4, keys: keys, now: within, want: claims{account: dummyID, oneTime: true}},
		{name: "wrapped at 76 columns", text: vectorU1[:76] + "\r\n" + vectorU1[76:], keys: keys, now: within, want: claims{account: dummyID, fileSHA: abc, fileType: "mp4"}},
		{name: "other key", text: vectorU1, keys: map[string]string{dummyID: "x"}, now: within, fails: true},
		{name: "unknown account", text: vectorU1, keys: map[string]string{}, now: within, fails: true},
		{name: "expired", text: vectorU1, keys: keys, now: time.Unix(1488246400, 0), fails: true},
		{name: "issued in the future", text: vectorU1, keys: keys, now: time.Unix(1488159000, 0), fails: true},
		{name: "too short", text: vectorU1[:24], keys: keys, now: within, fails: true},
		{name: "not Base64", text: "%%", keys: keys, now: within, fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := verifySignature(tt.text, tt.keys, tt.now)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %t", err, tt.fails)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(claims{})); !tt.fails && diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerifyContentVectors(t *testing.T) {
	t.Parallel()
	const key, id = "6367c48dd193d56ea7b0baad25b19455e529f5ee", "7031868222808505913"
	for form, want := range map[bool]string{
		true:  "MzMyOTY0NGIwNTk4YTc2YzZjNDljNTk3YTJhNzNkOGE1ZjA3YWJlOUV4cFRpbWU9MTQ4ODE2MDI2NCZGaWxlSWQ9NzAzMTg2ODIyMjgwODUwNTkxMw==",
		false: "MylkSwWYp2xsScWXoqc9il8Hq+lFeHBUaW1lPTE0ODgxNjAyNjQmRmlsZUlkPTcwMzE4NjgyMjI4MDg1MDU5MTM=",
	} {
		if got := verifyContent(key, id, 1488160264, form); got != want {
			t.Errorf("in hex %t: got %s, want %s", form, got, want)
		}
	}
}

// vodClient calls a VOD as a vendor's client does.
type vodClient struct {
	url  string
	sign func(fileSHA string) string
}

func startVOD(t *testing.T, config VODConfig) (*VOD, vodClient) {
	t.Helper()
	config.Keys = map[string]string{dummyID: dummyKey}
	vod := NewVOD(config)
	server, err := Serve(t.Context(), "", vod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return vod, vodClient{url: server.URL, sign: func(fileSHA string) string {
		now := time.Now().Unix()
		text := fmt.Appendf(nil, "s=%s&f=a.mp4&fs=%s&ft=mp4&t=%d&e=%d&r=1&uid=u", dummyID, fileSHA, now, now+600)
		return base64.StdEncoding.EncodeToString(append(macOf(dummyKey, text), text...))
	}}
}

// do makes one call; spelling is the name of the signature's parameter.
func (c vodClient) do(t *testing.T, method, path, spelling, fileSHA string, query url.Values, body []byte) (vodAnswer, int) {
	t.Helper()
	query.Set(spelling, c.sign(fileSHA))
	req, err := http.NewRequestWithContext(t.Context(), method, c.url+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := oneCall().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer vodAnswer
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return answer, resp.StatusCode
}

func TestVODTakesVendorSpellingsUnlessStrict(t *testing.T) {
	t.Parallel()
	const sha = "a9993e364706816aba3e25717850c26c9cd0d89d"
	for _, tt := range []struct {
		name, method, path, spelling, fileSHA string
	}{
		{"path v3", http.MethodGet, "/v3/index.php", "signature", sha},
		{"POST", http.MethodPost, "/v2/index.php", "signature", sha},
		{"capital Signature", http.MethodGet, "/v2/index.php", "Signature", sha},
		{"no fileSha", http.MethodGet, "/v2/index.php", "signature", ""},
		{"upper-case fileSha", http.MethodGet, "/v2/index.php", "signature", "A9993E364706816ABA3E25717850C26C9CD0D89D"},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, strict %t", tt.name, strict), func(t *testing.T) {
				t.Parallel()
				_, client := startVOD(t, VODConfig{Strict: strict})
				query := url.Values{"Action": {ActionInit}, "fileSize": {"3"}, "dataSize": {"524288"}}
				if tt.fileSHA != "" {
					query.Set("fileSha", tt.fileSHA)
				}
				answer, status := client.do(t, tt.method, tt.path, tt.spelling, sha, query, nil)
				if ok := status == http.StatusOK && answer.Code == 0; ok == strict {
					t.Errorf("status %d, answer %+v, strict %t", status, answer, strict)
				}
			})
		}
	}
}

func TestVODRefusesWrongParts(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("mediaferry"), 60_000) // 600,000 bytes: a full part and a short one
	raw := sha1.Sum(data)
	sha := hex.EncodeToString(raw[:])
	vod, client := startVOD(t, VODConfig{Dir: t.TempDir()})
	call := func(t *testing.T, action, method string, more url.Values, body []byte) vodAnswer {
		t.Helper()
		query := url.Values{"Action": {action}, "fileSha": {sha}}
		maps.Copy(query, more)
		answer, _ := client.do(t, method, "/v2/index.php", "signature", sha, query, body)
		return answer
	}
	part := func(offset, length int, body []byte) url.Values {
		sum := md5.Sum(body)
		return url.Values{"offset": {strconv.Itoa(offset)}, "dataSize": {strconv.Itoa(length)}, "dataMd5": {hex.EncodeToString(sum[:])}}
	}
	first, last := data[:524288], data[524288:]
	if a := call(t, ActionPart, http.MethodPost, part(0, len(first), first), first); a.Code != codeNotFound {
		t.Errorf("part without init: %+v", a)
	}
	if a := call(t, ActionInit, http.MethodGet, url.Values{"fileSize": {"600000"}, "dataSize": {"524288"}}, nil); a.Code != 0 {
		t.Fatalf("init: %+v", a)
	}
	for name, tt := range map[string]struct {
		query url.Values
		body  []byte
		want  int
	}{
		"offset between parts": {part(1, len(first), first), first, codeProtocol},
		"offset past the end":  {part(1048576, len(first), first), first, codeProtocol},
		"wrong length":         {part(0, 3, first[:3]), first[:3], codeProtocol},
		"short body":           {part(0, len(first), first), first[:100], codePacket},
		"long body":            {part(524288, len(last), last), append(bytes.Clone(last), 'x'), codePacket},
		"wrong MD5":            {part(524288, len(last), first), last, codePacket},
	} {
		if a := call(t, ActionPart, http.MethodPost, tt.query, tt.body); a.Code != tt.want {
			t.Errorf("%s: %+v, want code %d", name, a, tt.want)
		}
	}
	if a := call(t, ActionFinish, http.MethodGet, url.Values{}, nil); a.Code != codeProtocol {
		t.Errorf("finish without parts: %+v", a)
	}
	// Bytes whose MD5 is right but that are not of the file: the SHA-1 tells.
	other := bytes.Repeat([]byte{1}, len(first))
	call(t, ActionPart, http.MethodPost, part(0, len(other), other), other)
	call(t, ActionPart, http.MethodPost, part(524288, len(last), last), last)
	if a := call(t, ActionFinish, http.MethodGet, url.Values{}, nil); a.Code != codeProtocol {
		t.Errorf("finish with other bytes: %+v", a)
	}
	call(t, ActionPart, http.MethodPost, part(0, len(first), first), first)
	done := call(t, ActionFinish, http.MethodGet, url.Values{}, nil)
	again := call(t, ActionFinish, http.MethodGet, url.Values{}, nil)
	if done.Code != 0 || done.FileID == "" || again.FileID != done.FileID {
		t.Errorf("finish answered %+v and %+v", done, again)
	}
	if a := call(t, ActionInit, http.MethodGet, url.Values{"fileSize": {"600000"}, "dataSize": {"524288"}}, nil); a.Code != 2 || a.FileID != done.FileID {
		t.Errorf("init of finished media: %+v", a)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, done.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := oneCall().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, data) {
		t.Errorf("media has %d bytes, error %v", len(got), err)
	}
	files := vod.Files()
	if len(files) != 1 || files[0].FinishCount != 2 || files[0].BytesReceived <= 600_000 {
		t.Errorf("files %+v, want one with two finishes and more bytes than its size", files)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	list, err := parseFaults([]byte(`{"action":"FinishUploadEx","from":2,"times":2,"status":503}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseFaults([]byte(`{"acton":"x"}`)); err == nil {
		t.Error("a misspelt field was taken")
	}
	var l faultList
	l.add(list...)
	var got []int
	for range 5 {
		got = append(got, l.hit(ActionFinish, "a", "f").Status)
	}
	l.hit(ActionInit, "a", "f")
	if diff := cmp.Diff([]int{0, 503, 503, 0, 0}, got); diff != "" {
		t.Errorf("hits (-want +got):\n%s", diff)
	}
}

func FuzzVerifySignature(f *testing.F) {
	for _, v := range []string{vectorU1, vectorU2, vectorU3, vectorU4, "", "AAAA"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Nothing but the four vectors may pass without the key.
		if c, err := verifySignature(text, map[string]string{dummyID: "another"}, time.Unix(1488160100, 0)); err == nil {
			t.Errorf("%q passed as %+v", text, c)
		}
	})
}
