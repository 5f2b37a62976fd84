package tencentvod

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/providers/vodapi"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The vendor's published dummy pair.
const (
	dummyID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA"
	dummyKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"
)

// serve runs the handler, and returns its address and a client of its own.
func serve(t *testing.T, handler http.Handler) (string, *Client) {
	t.Helper()
	client, address := providertest.Serve(t, handler)
	return address, New(client)
}

// start returns a client and a platform for it.
func start(t *testing.T, config upstreams.VODConfig) (*Client, *upstreams.VOD, providers.Account) {
	t.Helper()
	config.Keys = map[string]string{dummyID: dummyKey}
	vod := upstreams.NewVOD(config)
	address, client := serve(t, vod)
	return client, vod, providers.Account{
		Name:     "vod",
		Settings: map[string]string{"endpoint": address},
		Secrets:  map[string]providers.Secret{"secret_id": dummyID, "secret_key": dummyKey},
	}
}

func testMedia(t *testing.T, size int64) providers.Media {
	t.Helper()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hashing.Sum(hashing.SHA1, []byte("abc"))
	if err != nil {
		t.Fatal(err)
	}
	return providers.Media{Upload: id, Epoch: 1, Name: "a.mp4", Size: size, PartSize: vodapi.SmallPart, Digests: []hashing.Digest{sum}}
}

func planOf(media providers.Media) parts.Plan {
	return parts.Plan{Size: media.Size, PartSize: media.PartSize}
}

func begin(t *testing.T, client *Client, account providers.Account, media providers.Media) providers.Begun {
	t.Helper()
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	return begun
}

func put(t *testing.T, client *Client, session providers.Session, part parts.Part) error {
	t.Helper()
	_, err := client.PutPart(t.Context(), session, part, providertest.NewBody(client.Limits(), make([]byte, part.Length)))
	return err
}

const noAbort = "the platform has no call to discard an upload"

// documentedCodes are those of the platform's documents.
func documentedCodes() (refusals []providertest.Refusal) {
	calls := []string{upstreams.ActionServerInit, upstreams.ActionServerPart, upstreams.ActionServerFinish}
	begin, part, finish := calls[:1], calls[1:2], calls[2:]
	for _, c := range []struct {
		code, canRetry int
		actions        []string
		want           providers.Kind
	}{
		{-10001, 0, calls, providers.Rejected},
		{-10002, 0, calls, providers.Unauthorized},
		{-10003, 0, calls[:2], providers.Rejected},
		{-10003, 0, finish, providers.Mismatch},
		{-10004, 1, calls, providers.Transient},
		{-10005, 1, begin, providers.Transient},
		{-10005, 1, calls[1:], providers.SessionLost},
		{-10006, 1, begin, providers.Transient},
		{-10006, 1, part, providers.Mismatch},
		{-10006, 1, finish, providers.Transient},
		{4000, 0, calls, providers.Rejected},
		{4100, 0, calls, providers.Unauthorized},
		{4101, 0, calls, providers.Unauthorized},
		{4102, 0, calls, providers.Unauthorized},
		{4103, 0, calls, providers.Unauthorized},
		{4104, 0, calls, providers.Unauthorized},
		{4110, 0, calls, providers.Unauthorized},
		{4200, 0, calls, providers.Transient},
		{4300, 0, calls, providers.Unauthorized},
		{4400, 1, calls, providers.Throttled},
		{4500, 0, calls, providers.Transient},
		{4600, 0, calls, providers.Rejected},
		{5000, 0, calls, providers.Rejected},
		{5100, 1, calls, providers.Transient},
		{5200, 0, calls, providers.Rejected},
		{5300, 0, calls, providers.Rejected},
		{5400, 0, calls, providers.Rejected},
		{5500, 0, calls, providers.Rejected},
		{6000, 1, calls, providers.Transient},
		{6100, 0, calls, providers.Rejected},
		{6200, 1, calls, providers.Transient},
	} {
		refusals = append(refusals, providertest.Refusal{Actions: c.actions, Fault: upstreams.Fault{Code: c.code, CanRetry: c.canRetry}, Want: c.want})
	}
	return refusals
}

// TestAnotherTry obeys canRetry; where the answer has none, the table of codes
// decides.
func TestAnotherTry(t *testing.T) {
	t.Parallel()
	no, yes := 0, 1
	for code, want := range map[int]bool{
		-10001: false, -10004: true, -10005: true, -10006: true, -1: false, 3: false,
		4000: false, 4600: false, 5000: false, 5100: true, 5200: false, 6000: true, 6100: false, 6200: true,
	} {
		if got := retryable(code, nil); got != want {
			t.Errorf("%d: %t", code, got)
		}
		if retryable(code, &no) || !retryable(code, &yes) {
			t.Errorf("%d: canRetry is not obeyed", code)
		}
	}
}

func TestConforms(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]map[string]string{
		"documented":           {},
		"documented, SHA-256":  {"signature_method": "HmacSHA256"},
		"as vendors' clients":  {"param_style": "sdk", "path": "/v3/index.php"},
		"as vendors', SHA-256": {"param_style": "sdk", "signature_method": "HmacSHA256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				strict := settings["param_style"] == ""
				client, vod, account := start(t, upstreams.VODConfig{Dir: t.TempDir(), Strict: strict})
				maps.Copy(account.Settings, settings)
				revoked := account
				revoked.Secrets = map[string]providers.Secret{"secret_id": dummyID, "secret_key": "another-secret-key"}
				return providertest.Harness{
					Provider: client,
					Account:  account,
					Revoked:  revoked,
					Upstream: vod,
					Calls: []providertest.Call{
						{By: providers.CallBegin, Action: upstreams.ActionServerInit},
						{By: providers.CallPut, Action: upstreams.ActionServerPart},
						{By: providers.CallFinish, Action: upstreams.ActionServerFinish},
						{By: providers.CallProbe, Action: upstreams.ActionServerInit},
					},
					Refusals: documentedCodes(),
					LoseSession: func(t *testing.T, media providers.Media, _ providers.Session) {
						t.Helper()
						vod.Forget(dummyID, media.Digest(hashing.SHA1).Sum)
					},
					Content: func(t *testing.T, asset uploads.Asset) []byte {
						t.Helper()
						return providertest.Fetch(t, client.HTTP, asset.URL)
					},
					NotApplicable: map[providertest.Case]string{
						providertest.CaseMostParts:     "the platform publishes no bound on the number of parts",
						providertest.CaseLapsedSession: "each call is signed by itself, a session does not lapse",
						providertest.CaseAbort:         noAbort,
						providertest.CaseAbortApplied:  noAbort,
						providertest.CaseAbortLost:     noAbort,
					},
				}
			})
		})
	}
}

// TestOnTheWire records each call as it is sent to the platform's own name.
func TestOnTheWire(t *testing.T) {
	t.Parallel()
	type sent struct{ Method, URI, Body, ContentType string }
	var mu sync.Mutex
	var got []sent
	address, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is read is compared
		mu.Lock()
		defer mu.Unlock()
		got = append(got, sent{r.Method, "http://" + r.Host + r.RequestURI, string(body), r.Header.Get("Content-Type")})
		_, _ = io.WriteString(w, `{"code":0,"message":"","codeDesc":" 0\n","canRetry":0,"fileId":"1"}`)
	}))
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, strings.TrimPrefix(address, "http://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client := New(&http.Client{Transport: transport})
	client.Now = func() time.Time { return time.Unix(1465185768, 0) }
	client.Nonce = func() uint32 { return 11886 }
	media := testMedia(t, 3)
	media.Name = "my video.mp4"
	media.Options = map[string]string{"transcode": "false", "screenshot": "false", "watermark": "false", "class_id": "0", "tags": "foo,bar"}
	for _, settings := range []map[string]string{{}, {"signature_method": "HmacSHA256"}, {"param_style": "sdk"}} {
		account := providers.Account{Settings: settings, Secrets: map[string]providers.Secret{"secret_id": dummyID, "secret_key": dummyKey}}
		settings["endpoint"] = "http://vod2.qcloud.com"
		begun := begin(t, client, account, media)
		if _, err := client.PutPart(t.Context(), begun.Session, planOf(media).Part(1), providertest.NewBody(client.Limits(), []byte("abc"))); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Finish(t.Context(), begun.Session, nil); err != nil {
			t.Fatal(err)
		}
	}
	const (
		base   = "http://vod2.qcloud.com/v2/index.php?Action="
		common = "&Nonce=11886&Region=gz&SecretId=" + dummyID
		sha    = "&fileSha=a9993e364706816aba3e25717850c26c9cd0d89d"
		file   = "&Timestamp=1465185768&classId=0&dataSize=524288&fileName=my%20video" + sha + "&fileSize=3&fileType=mp4&isScreenshot=0&isTranscode=0&isWatermark=0"
		part   = "&Timestamp=1465185768&dataMd5=900150983cd24fb0d6963f7d28e17f72&dataSize=3" + sha + "&offset=0"
		finish = "&Timestamp=1465185768" + sha
	)
	signed := func(signature string) string { return "&Signature=" + vodapi.Escape(signature) }
	want := []sent{
		// S1, S5 and S6.
		{"GET", base + "InitUpload" + common + "&Signature=Af3m0siJCMLxh48QebRbBP9%2BXP0%3D" + file + "&tags.1=foo&tags.2=bar", "", ""},
		{"POST", base + "UploadPart" + common + signed("/qnlLbMIaJF+4Mz6u89umUloPIc=") + part, "abc", "application/octet-stream"},
		{"GET", base + "FinishUpload" + common + signed("ynQ3ttvFCYTuwbLcJWPrG/qds+k=") + finish, "", ""},
		// S4, and the other calls with its algorithm.
		{"GET", base + "InitUpload" + common + signed("Ll4IcTsC6t7GxHl1wWgT9STQhu5S0/Oxd2ki0dwRvDE=") + "&SignatureMethod=HmacSHA256" + file + "&tags.1=foo&tags.2=bar", "", ""},
		{"POST", base + "UploadPart" + common + signed("eiBrKya5OJwBQhpDdVZc9/k7bKiJ0Zbz9zrlV3jQvSU=") + "&SignatureMethod=HmacSHA256" + part, "abc", "application/octet-stream"},
		{"GET", base + "FinishUpload" + common + signed("CIrg9LBMemAxft8kIUUUR9txFYe+gzPn7u9itT9sRV0=") + "&SignatureMethod=HmacSHA256" + finish, "", ""},
		// The vendors' way: S6 by POST.
		{"POST", base + "InitUpload" + common + signed("J5X2/kZams5qJw3IlFjntPit3/E=") + file + "&tag.1=foo&tag.2=bar", "", ""},
		{"POST", base + "UploadPart" + common + signed("/qnlLbMIaJF+4Mz6u89umUloPIc=") + part, "abc", "application/octet-stream"},
		{"POST", base + "FinishUpload" + common + signed("s73f/jH+Nh93Dn+ya3jaXV5ahb0=") + finish, "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestSignatureVectors signs the published texts and those of vendors' clients.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	const (
		cvm  = "cvm.api.qcloud.com/v2/index.php?Action=DescribeInstances"
		init = "Action=InitUpload&Nonce=11886&Region=gz&SecretId=" + dummyID + "&Timestamp=1465185768&classId=0&dataSize=524288&fileName=my video&fileSha=a9993e364706816aba3e25717850c26c9cd0d89d&fileSize=3&fileType=mp4&isScreenshot=0&isTranscode=0&isWatermark=0&tags.1=foo&tags.2=bar"
	)
	for name, tt := range map[string]struct {
		method, text, key, want string
	}{
		"published":          {"GET", cvm + "&Nonce=11886&Region=gz&SecretId=" + dummyID + "&Timestamp=1465185768&instanceIds.0=ins-09dx96dg&limit=20&offset=0", dummyKey, "NSI3UqqD99b/UJb4tbG/xZpRW64="},
		"published, SHA-256": {"GET", cvm + "&InstanceIds.0=ins-09dx96dg&Nonce=11886&Region=ap-guangzhou&SecretId=" + dummyID + "&SignatureMethod=HmacSHA256&Timestamp=1465185768", dummyKey, "0EEm/HtGRr/VJXTAD9tYMth1Bzm3lLHz5RCDv1GdM8s="},
		"published, SHA-1":   {"GET", cvm + "&InstanceIds.0=ins-09dx96dg&Nonce=11886&Region=ap-guangzhou&SecretId=" + dummyID + "&SignatureMethod=HmacSHA1&Timestamp=1465185768", dummyKey, "nPVnY6njQmwQ8ciqbPl5Qe+Oru4="},
		"S1":                 {"GET", "vod2.qcloud.com/v2/index.php?" + init, dummyKey, "Af3m0siJCMLxh48QebRbBP9+XP0="},
		"S2":                 {"POST", "vod2.qcloud.com/v2/index.php?" + init, dummyKey, "hhmf6I6SGoFnCB+tH6VWqcFWW8I="},
		"S3":                 {"POST", "vod2.qcloud.com/v3/index.php?" + init, dummyKey, "w6IloPz+emFU3P6XFumwGQHnXks="},
		"S4":                 {"GET", "vod2.qcloud.com/v2/index.php?" + init + "&SignatureMethod=HmacSHA256", dummyKey, "Ll4IcTsC6t7GxHl1wWgT9STQhu5S0/Oxd2ki0dwRvDE="},
		"S5":                 {"POST", "vod2.qcloud.com/v2/index.php?Action=UploadPart&Nonce=11886&Region=gz&SecretId=" + dummyID + "&Timestamp=1465185768&dataMd5=900150983cd24fb0d6963f7d28e17f72&dataSize=3&fileSha=a9993e364706816aba3e25717850c26c9cd0d89d&offset=0", dummyKey, "/qnlLbMIaJF+4Mz6u89umUloPIc="},
		"S6 GET":             {"GET", "vod2.qcloud.com/v2/index.php?Action=FinishUpload&Nonce=11886&Region=gz&SecretId=" + dummyID + "&Timestamp=1465185768&fileSha=a9993e364706816aba3e25717850c26c9cd0d89d", dummyKey, "ynQ3ttvFCYTuwbLcJWPrG/qds+k="},
		"S6 POST":            {"POST", "vod2.qcloud.com/v2/index.php?Action=FinishUpload&Nonce=11886&Region=gz&SecretId=" + dummyID + "&Timestamp=1465185768&fileSha=a9993e364706816aba3e25717850c26c9cd0d89d", dummyKey, "s73f/jH+Nh93Dn+ya3jaXV5ahb0="},
		"S7":                 {"POST", "vod2.qcloud.com/v2/index.php?Action=FinishUpload&Nonce=874619&Region=gz&RequestClient=SDK_NODEJS_1.1&SecretId=AKIDtest&Timestamp=1795210704400&contentLen=0&fileSha=e042e36e9891e7837987bf17298e7825ba44a673&notifyUrl=www.fs.com", "EHLKtestkey", "jNtIlq4085B+7WbwuS8LiUzAwMU="},
	} {
		place, query, _ := strings.Cut(tt.text, "?")
		host, path, _ := strings.Cut(place, "/")
		p := make(vodapi.Params)
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			p[name] = value
		}
		with := vodapi.HmacSHA1
		if p["SignatureMethod"] != "" {
			with = vodapi.Algorithm(p["SignatureMethod"])
		}
		if got := p.Signature(tt.method, host, "/"+path, with, tt.key); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

// TestFailures runs each call into a fault and looks at the kind, and that no
// error shows the signature.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault           upstreams.Fault
		begin, put, fin providers.Kind
		wantRetryAfter  time.Duration
	}{
		"reset":            {upstreams.Fault{Reset: true}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"reset midway":     {upstreams.Fault{Reset: true, AfterBytes: 1}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"500":              {upstreams.Fault{Status: 500}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"503":              {upstreams.Fault{Status: 503, RetryAfter: 7}, providers.Throttled, providers.Throttled, providers.UnknownOutcome, 7 * time.Second},
		"429":              {upstreams.Fault{Status: 429, RetryAfter: 7}, providers.Throttled, providers.Throttled, providers.Throttled, 7 * time.Second},
		"403":              {upstreams.Fault{Status: 403}, providers.Unauthorized, providers.Unauthorized, providers.Unauthorized, 0},
		"404":              {upstreams.Fault{Status: 404}, providers.Rejected, providers.Rejected, providers.Rejected, 0},
		"redirect":         {upstreams.Fault{Status: 302}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"no JSON":          {upstreams.Fault{Text: "<html>"}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"no code":          {upstreams.Fault{Text: "{}"}, providers.Transient, providers.Transient, providers.UnknownOutcome, 0},
		"quota":            {upstreams.Fault{Code: 4400, CanRetry: 1}, providers.Throttled, providers.Throttled, providers.Throttled, 0},
		"replay":           {upstreams.Fault{Code: 4500}, providers.Transient, providers.Transient, providers.Transient, 0},
		"flipped bit":      {upstreams.Fault{FlipBit: true, Action: upstreams.ActionServerPart}, "", providers.Mismatch, "", 0},
		"forgotten":        {upstreams.Fault{Forget: true}, "", providers.SessionLost, providers.SessionLost, 0},
		"code 1":           {upstreams.Fault{Text: `{"code":1}`, Action: upstreams.ActionServerFinish}, "", "", providers.Rejected, 0},
		"no fileId":        {upstreams.Fault{Text: `{"code":0}`, Action: upstreams.ActionServerFinish}, "", "", providers.UnknownOutcome, 0},
		"stored, none":     {upstreams.Fault{Text: `{"code":2}`, Action: upstreams.ActionServerInit}, providers.Transient, "", "", 0},
		"odd part size":    {upstreams.Fault{Text: `{"code":1,"dataSize":7}`, Action: upstreams.ActionServerInit}, providers.Rejected, "", "", 0},
		"parts missing":    {upstreams.Fault{Action: "none"}, "", "", providers.Mismatch, 0},
		"delayed a little": {upstreams.Fault{DelayMS: 1}, "", "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, vod, account := start(t, upstreams.VODConfig{})
			media := testMedia(t, 3)
			begun := begin(t, client, account, media)
			vod.AddFaults(tt.fault)
			check := func(call string, err error, want providers.Kind) {
				if want == "" {
					return
				}
				e, ok := errors.AsType[*providers.Error](err)
				if !ok || e.Kind != want || e.RetryAfter != tt.wantRetryAfter {
					t.Errorf("%s: %v, want kind %s and retry after %s", call, err, want, tt.wantRetryAfter)
				}
				if err != nil && (strings.Contains(err.Error(), "ignature=") || strings.Contains(err.Error(), "fileSha")) {
					t.Errorf("%s: the query shows in %q", call, err)
				}
			}
			_, err := client.Begin(t.Context(), account, media)
			check("begin", err, tt.begin)
			if name != "parts missing" {
				check("put part", put(t, client, begun.Session, planOf(media).Part(1)), tt.put)
			}
			_, err = client.Finish(t.Context(), begun.Session, nil)
			check("finish", err, tt.fin)
		})
	}
}

// TestNothingIsSentTwice breaks a kept connection under calls that a transport
// would repeat by itself: their signature is good for once.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	client, vod, account := start(t, upstreams.VODConfig{Strict: true})
	media := testMedia(t, 3)
	begun := begin(t, client, account, media)
	if err := put(t, client, begun.Session, planOf(media).Part(1)); err != nil {
		t.Fatal(err)
	}
	vod.AddFaults(upstreams.Fault{Reset: true, Times: 1, Apply: true, Action: upstreams.ActionServerInit}, upstreams.Fault{Reset: true, Times: 1, Apply: true, Action: upstreams.ActionServerFinish})
	if _, err := client.Begin(t.Context(), account, media); providers.KindOf(err) != providers.Transient || err == nil {
		t.Errorf("begin: %v, want transient", err)
	}
	begin(t, client, account, media) // keeps a connection again
	if _, err := client.Finish(t.Context(), begun.Session, nil); providers.KindOf(err) != providers.UnknownOutcome {
		t.Errorf("finish: %v, want unknown_outcome", err)
	}
	var got []string
	for _, call := range vod.Calls() {
		got = append(got, call.Action)
	}
	if diff := cmp.Diff([]string{upstreams.ActionServerInit, upstreams.ActionServerPart, upstreams.ActionServerInit, upstreams.ActionServerInit, upstreams.ActionServerFinish}, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestRedirectsAreNotFollowed sends every call to a server that points elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere, _ := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s reached another server", r.URL.Query().Get("Action"))
	}))
	address, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere+r.RequestURI, http.StatusFound)
	}))
	account := providers.Account{Settings: map[string]string{"endpoint": address}, Secrets: map[string]providers.Secret{"secret_id": dummyID, "secret_key": dummyKey}}
	if _, err := client.Begin(t.Context(), account, testMedia(t, 3)); providers.KindOf(err) != providers.Transient {
		t.Errorf("begin: %v, want transient", err)
	}
}

// TestLyingPartList begins with parts that the platform says it has and has
// not: finish says that what it holds is not the media, and the next begin sends them.
func TestLyingPartList(t *testing.T) {
	t.Parallel()
	client, vod, account := start(t, upstreams.VODConfig{Strict: true})
	media := testMedia(t, vodapi.SmallPart+1)
	begun := begin(t, client, account, media)
	if err := put(t, client, begun.Session, planOf(media).Part(2)); err != nil {
		t.Fatal(err)
	}
	vod.AddFaults(upstreams.Fault{Action: upstreams.ActionServerInit, Times: 1, ListAll: true}, upstreams.Fault{Action: upstreams.ActionServerInit, From: 2, Times: 1, HidePart: 2})
	if begun = begin(t, client, account, media); len(begun.Found) != 2 {
		t.Fatalf("found %+v, want two parts", begun.Found)
	}
	_, err := client.Finish(t.Context(), begun.Session, begun.Found)
	if providers.KindOf(err) != providers.Mismatch {
		t.Errorf("finish: %v, want mismatch", err)
	}
	if begun = begin(t, client, account, media); len(begun.Found) != 0 {
		t.Fatalf("found %+v, want none", begun.Found)
	}
	for n := range 2 {
		if err := put(t, client, begun.Session, planOf(media).Part(n+1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Finish(t.Context(), begun.Session, nil); err != nil {
		t.Error(err)
	}
}

// TestFirstPartSizeWins resumes with another part size than was begun with.
func TestFirstPartSizeWins(t *testing.T) {
	t.Parallel()
	client, _, account := start(t, upstreams.VODConfig{Strict: true})
	media := testMedia(t, 3<<20)
	begun := begin(t, client, account, media)
	if err := put(t, client, begun.Session, planOf(media).Part(3)); err != nil {
		t.Fatal(err)
	}
	media.PartSize = vodapi.LargePart
	again := begin(t, client, account, media)
	if again.PartSize != vodapi.SmallPart || len(again.Found) != 1 || again.Found[0].Number != 3 {
		t.Errorf("begin answered part size %d and %+v, want %d and part 3", again.PartSize, again.Found, vodapi.SmallPart)
	}
}

// TestPartMustMatchItsBody gives parts a body of another length or digest.
func TestPartMustMatchItsBody(t *testing.T) {
	t.Parallel()
	client, vod, account := start(t, upstreams.VODConfig{})
	begun := begin(t, client, account, testMedia(t, 3))
	for name, body := range map[string]*providertest.Body{
		"short":    providertest.NewBody(client.Limits(), []byte("ab")),
		"streamed": providertest.NewBody(providers.Limits{PartDigest: hashing.MD5}, []byte("abc")),
		"SHA-1":    providertest.NewBody(providers.Limits{PartDigest: hashing.SHA1, DigestFirst: true}, []byte("abc")),
	} {
		_, err := client.PutPart(t.Context(), begun.Session, parts.Part{Number: 1, Length: 3}, body)
		if providers.KindOf(err) != providers.Mismatch {
			t.Errorf("%s: %v, want mismatch", name, err)
		}
	}
	if n := len(vod.Calls()); n != 1 {
		t.Errorf("%d calls, want the first alone", n)
	}
}

// TestUnreadableSession holds a session that cannot be read, whose
// text must not show.
func TestUnreadableSession(t *testing.T) {
	t.Parallel()
	client := New(&http.Client{})
	ps := providers.Session{Data: []byte(`{"secret_key":"hush"!`)}
	err := put(t, client, ps, parts.Part{Number: 1, Length: 3})
	_, ferr := client.Finish(t.Context(), ps, nil)
	for _, err := range []error{err, ferr} {
		if providers.KindOf(err) != providers.SessionLost || strings.Contains(err.Error(), "hush") {
			t.Errorf("error %v, want session_lost and no secret", err)
		}
	}
}

// TestCancelledWhileThePlatformIsSilent cancels a part whose answer does not come.
func TestCancelledWhileThePlatformIsSilent(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	address, client := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the part is all there
		close(arrived)
		<-r.Context().Done()
	}))
	data, err := json.Marshal(session{Target: vodapi.Target{Endpoint: address, Path: vodapi.DefaultPath, FileSHA: "f"}, SecretKey: "hush"})
	if err != nil {
		t.Fatal(err)
	}
	stopped := errors.New("the worker stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(stopped)
	}()
	_, err = client.PutPart(ctx, providers.Session{Data: data}, parts.Part{Number: 1, Length: 3}, providertest.NewBody(client.Limits(), []byte("abc")))
	if !errors.Is(err, context.Canceled) && !errors.Is(err, stopped) {
		t.Errorf("error %v, want the cancellation in its chain", err)
	}
	if err != nil && (strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "ignature")) {
		t.Errorf("a secret shows in %q", err)
	}
}
