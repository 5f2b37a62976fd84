package tencentsmh

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	library = "smh1abc"
	secret  = "s3cr3t-of-the-library"
)

// start returns a client and a platform for it.
func start(t *testing.T, config upstreams.SMHConfig) (*Client, *upstreams.SMH, providers.Account) {
	t.Helper()
	config.Libraries = map[string]string{library: secret}
	smh := upstreams.NewSMH(config)
	client, address := serve(t, smh)
	account := providers.Account{
		Name:     "smh",
		Settings: map[string]string{"endpoint": address, "library_id": library, "space_id": "space1", "user_id": "u1"},
		Secrets:  map[string]providers.Secret{"library_secret": secret},
	}
	return client, smh, account
}

func serve(t *testing.T, handler http.Handler) (*Client, string) {
	t.Helper()
	client, address := providertest.Serve(t, handler)
	return New(client), address
}

// smallPart is a part size, in bytes, that the local platform takes here.
const smallPart = 1000

// apiCodes are those that the platform's documents list.
func apiCodes() (refusals []providertest.Refusal) {
	add := func(want providers.Kind, actions []string, status int, codes ...string) {
		for _, code := range codes {
			refusals = append(refusals, providertest.Refusal{Actions: actions, Fault: upstreams.Fault{ErrorCode: code, Status: status}, Want: want})
		}
	}
	confirm := []string{upstreams.ActionSMHConfirm}
	start := []string{upstreams.ActionSMHToken, upstreams.ActionSMHStart}
	task := []string{upstreams.ActionSMHStatus, upstreams.ActionSMHCancel}
	others := slices.Concat(start, task)
	every := slices.Concat(others, confirm)
	add(providers.Rejected, every, 400, "BadRequest", "ParamInvalid", "InvalidTimeFormat", "EmptyLibraryId", "EmptyLibrarySecret",
		"EmptyLibraryIdOrSecret", "EmptySpaceId", "EmptyAccessToken", "EmptyFileName", "EmptyPath", "EmptyCosUploadId", "SpaceIdInvalid",
		"NotMultiSpaceLibrary", "InvalidConflictResolutionStrategy", "IllegalFileName", "FileNameLengthExceed",
		"DirectoryNameLengthExceed", "DirectoryLevelExceed", "ExtnameNotAllowed", "DirectoryNotAllowed", "RootDirectoryNotAllowed",
		"UploadToRootDirectoryNotAllowed", "OverwriteFileNotAllowed", "QuotaLimitReached", "MultipartUploadPartTooSmall")
	add(providers.SessionLost, confirm, 400, "MultipartUploadIncomplete", "UploadIncomplete")
	add(providers.Mismatch, confirm, 400, "BadCrc64")
	add(providers.Transient, every, 400, "IncompleteBody")
	add(providers.Unauthorized, every, 403, "InvalidAccessToken", "NoPermission", "AccessTokenNotMatchLibrary",
		"AccessTokenNotMatchSpace", "AccessTokenVersionNotMatch", "ReadForbidden", "WriteForbidden")
	add(providers.Rejected, every, 403, "LibraryServiceExpired", "SpaceBanned")
	add(providers.Transient, every, 403, "LibraryInitializing")
	add(providers.Rejected, every, 404, "DirectoryNotFound", "LibraryNotFound", "SpaceNotFound", "FileNotFound", "PathNotFound",
		"RouteNotFound", "NoQuota", "CosObjectNonexistent")
	add(providers.Unauthorized, every, 404, "WrongLibraryIdOrSecret")
	add(providers.SessionLost, confirm, 404, "ConfirmKeyNotFound", "UploadNotFound") // of status and cancel, that is the answer
	add(providers.Transient, others, 408, "ReadRequestTimeout")
	add(providers.UnknownOutcome, confirm, 408, "ReadRequestTimeout")
	add(providers.UnknownOutcome, confirm, 409, "UploadComplete") // and its status says that it is not
	add(providers.Rejected, slices.Concat(start, confirm), 409, "SameNameDirectoryOrFileExists")
	add(providers.Transient, every, 409, "PathConflict")
	add(providers.Rejected, every, 409, "RenameTooManyTimes", "ContentCasConflict")
	add(providers.Rejected, every, 413, "RequestEntityTooLarge")
	add(providers.Rejected, every, 414, "URITooLong")
	add(providers.Throttled, every, 429, "RateLimitExceeded")
	add(providers.Rejected, every, 431, "HeaderFieldsTooLarge")
	add(providers.Rejected, every, 451, "SensitiveContentRecognized")
	add(providers.Transient, others, 499, "ClientDisconnected")
	add(providers.UnknownOutcome, confirm, 499, "ClientDisconnected")
	add(providers.Transient, others, 500, "InternalServerError", "RequestTimeout")
	add(providers.UnknownOutcome, confirm, 500, "InternalServerError", "RequestTimeout")
	add(providers.Throttled, others, 503, "ServerOverloaded")
	add(providers.UnknownOutcome, confirm, 503, "ServerOverloaded")
	return refusals
}

// storageCodes are those of the storage that takes the parts.
func storageCodes() (refusals []providertest.Refusal) {
	for _, c := range []struct {
		status int
		code   string
		want   providers.Kind
	}{
		{400, "BadDigest", providers.Mismatch},
		{400, "EntityTooLarge", providers.Rejected},
		{400, "IncompleteBody", providers.Transient},
		{400, "InvalidArgument", providers.Rejected},
		{400, "InvalidDigest", providers.Mismatch},
		{403, "AccessDenied", providers.Unauthorized},
		{404, "NoSuchUpload", providers.SessionLost},
		{500, "InternalError", providers.Transient},
		{503, "ServiceUnavailable", providers.Throttled},
		{503, "SlowDown", providers.Throttled},
	} {
		refusals = append(refusals, providertest.Refusal{
			Actions: []string{upstreams.ActionSMHPart}, Fault: upstreams.Fault{ErrorCode: c.code, Status: c.status}, Want: c.want,
		})
	}
	return refusals
}

func TestConforms(t *testing.T) {
	t.Parallel()
	for _, strategy := range []conflict{conflictAsk, conflictRename, conflictOverwrite} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, func(t *testing.T) providertest.Harness {
				t.Helper()
				client, smh, account := start(t, upstreams.SMHConfig{Dir: t.TempDir(), Strict: strategy == conflictAsk, MinPart: smallPart, Directories: []string{"films/2026"}})
				return harness(client, smh, account, strategy)
			})
		})
	}
}

func harness(client *Client, smh *upstreams.SMH, account providers.Account, strategy conflict) providertest.Harness {
	revoked := account
	revoked.Secrets = map[string]providers.Secret{"library_secret": "another-library-secret"}
	h := providertest.Harness{
		Provider: client,
		Account:  account,
		Options:  map[string]string{"conflict": string(strategy), "directory": "/films/2026/", "labels": "a,b", "category": "video"},
		Revoked:  revoked,
		Upstream: smh,
		Calls: []providertest.Call{
			{By: providers.CallBegin, Action: upstreams.ActionSMHToken},
			{By: providers.CallBegin, Action: upstreams.ActionSMHStart},
			{By: providers.CallPut, Action: upstreams.ActionSMHPart},
			{By: providers.CallFinish, Action: upstreams.ActionSMHConfirm},
			{By: providers.CallProbe, Action: upstreams.ActionSMHToken},
			{By: providers.CallProbe, Action: upstreams.ActionSMHStatus},
			{By: providers.CallAbort, Action: upstreams.ActionSMHStatus},
			{By: providers.CallAbort, Action: upstreams.ActionSMHCancel},
		},
		Refusals:  append(apiCodes(), storageCodes()...),
		SmallPart: smallPart,
		LoseSession: func(t *testing.T, _ providers.Media, session providers.Session) {
			t.Helper()
			smh.Forget(decode(t, session).ConfirmKey)
		},
		Content: func(t *testing.T, asset uploads.Asset) []byte {
			t.Helper()
			return content(t, client, asset)
		},
		NotApplicable: map[providertest.Case]string{
			providertest.CaseResume: "each start is a task of its own, and only its key leads to it",
		},
	}
	if strategy != conflictAsk {
		h.NotApplicable[providertest.CaseMostParts] = "parts travel as they do under the strategy ask, where this is shown"
	}
	switch strategy {
	case conflictAsk:
		h.NotApplicable[providertest.CaseInstant] = "a name that is taken is refused, whatever the bytes"
	case conflictRename:
		h.NotApplicable[providertest.CaseInstant] = "files are not asked for by their hashes where names are changed"
		h.NotApplicable[providertest.CaseLostSession] = "a task that is gone may have made a file of another name"
		for _, c := range []providertest.Case{providertest.CaseAbort, providertest.CaseAbortApplied, providertest.CaseAbortLost} {
			h.NotApplicable[c] = "a task that is gone may have made a file of another name"
		}
	case conflictOverwrite:
	}
	return h
}

// content fetches a file through the redirect to its bytes.
func content(t *testing.T, client *Client, asset uploads.Asset) []byte {
	t.Helper()
	fetch := func(address string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	moved := fetch(asset.URL)
	_ = moved.Body.Close()
	resp := fetch(moved.Header.Get("Location"))
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t *testing.T, ps providers.Session) session {
	t.Helper()
	s, err := readSession("test", ps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t *testing.T, s session) providers.Session {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return providers.Session{Data: data}
}

func planOf(media providers.Media) parts.Plan {
	return parts.Plan{Size: media.Size, PartSize: media.PartSize}
}

// testMedia returns media of the size, 1 MiB and a little by default, with its hashes.
func testMedia(t *testing.T, name string, options map[string]string) (providers.Media, []byte) {
	t.Helper()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<20+7)
	for i := range data {
		data[i] = byte(i % 251)
	}
	sum, err := hashing.Sum(hashing.SMH, data)
	if err != nil {
		t.Fatal(err)
	}
	return providers.Media{
		Upload: id, Epoch: 1, Name: name, Size: int64(len(data)), PartSize: 1 << 20,
		Digests: []hashing.Digest{sum}, Options: options,
	}, data
}

func put(t *testing.T, client *Client, ps providers.Session, media providers.Media, data []byte, n int) parts.Stored {
	t.Helper()
	part := planOf(media).Part(n)
	body := providertest.NewBody(client.Limits(), data[part.Offset:part.Offset+part.Length])
	receipt, err := client.PutPart(t.Context(), ps, part, body)
	if err != nil {
		t.Fatalf("put part %d: %v", n, err)
	}
	return parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()}
}

// upload does a whole upload, and returns it as it was before Finish, too.
func upload(t *testing.T, client *Client, account providers.Account, media providers.Media, data []byte) (uploads.Asset, providers.Session) {
	t.Helper()
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	if begun.Asset != nil {
		return *begun.Asset, begun.Session
	}
	stored := []parts.Stored{put(t, client, begun.Session, media, data, 2), put(t, client, begun.Session, media, data, 1)}
	asset, err := client.Finish(t.Context(), begun.Session, stored)
	if err != nil {
		t.Fatalf("finish: %v", err)
	}
	return asset, begun.Session
}

// refused checks the kind of an error, and that it shows no secret.
func refused(t *testing.T, what string, err error, want providers.Kind) *providers.Error {
	t.Helper()
	e, ok := errors.AsType[*providers.Error](err)
	if !ok || e.Kind != want {
		t.Fatalf("%s: %v, want kind %s", what, err, want)
	}
	for _, leak := range []string{secret, "access_token", "acctk01", "q-sign-algorithm", "library_secret"} {
		if strings.Contains(err.Error(), leak) {
			t.Errorf("%s: %q shows in %q", what, leak, err)
		}
	}
	return e
}

func wantKind(t *testing.T, what string, err error, want providers.Kind) {
	t.Helper()
	_ = refused(t, what, err, want)
}

func countCalls(smh *upstreams.SMH, action string) int {
	n := 0
	for _, c := range smh.Calls() {
		if c.Action == action {
			n++
		}
	}
	return n
}

// TestNames looks at what becomes of a name that is taken.
func TestNames(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{Dir: t.TempDir()})
	account.Settings["instant_upload"] = "false"
	first, data := testMedia(t, "movie one.mp4", nil)
	asset, _ := upload(t, client, account, first, data)
	if want := library + "/space1/movie one.mp4"; asset.ID != want {
		t.Errorf("asset %q, want %q", asset.ID, want)
	}
	if !strings.HasSuffix(asset.URL, "/api/v1/file/smh1abc/space1/movie%20one.mp4") || asset.Detail["crc64"] == "" {
		t.Errorf("asset %+v", asset)
	}
	for kind, fault := range map[providers.Kind]upstreams.Fault{
		providers.Transient: {Action: upstreams.ActionSMHInfo, Times: 1, Status: 500}, // whose the file is cannot be told yet
		providers.Rejected:  {Action: upstreams.ActionSMHInfo, Times: 1, ErrorCode: "ReadForbidden"},
	} {
		smh.AddFaults(fault)
		other, _ := testMedia(t, first.Name, nil)
		_, err := client.Begin(t.Context(), account, other)
		wantKind(t, "begin while the file cannot be looked at", err, kind)
	}
	again := func(strategy conflict) (providers.Media, []byte) {
		return testMedia(t, first.Name, map[string]string{"conflict": string(strategy)})
	}
	asks, _ := again(conflictAsk)
	_, err := client.Begin(t.Context(), account, asks)
	if e := refused(t, "begin under a name that is taken", err, providers.Rejected); !strings.Contains(e.Message, "options.conflict") {
		t.Errorf("no remedy in %q", e)
	}
	renamed, data := again(conflictRename)
	if asset, _ := upload(t, client, account, renamed, data); asset.ID != library+"/space1/movie one (1).mp4" {
		t.Errorf("renamed to %q", asset.ID)
	}
	replaced, data := again(conflictOverwrite)
	replaced.Digests = nil
	data[0]++
	over, _ := upload(t, client, account, replaced, data)
	if over.ID != asset.ID || !slices.Equal(content(t, client, over), data) {
		t.Errorf("overwriting made %q, want %q with the new bytes", over.ID, asset.ID)
	}
	missing, _ := testMedia(t, "a.mp4", map[string]string{"directory": "nowhere"})
	_, err = client.Begin(t.Context(), account, missing)
	if e := refused(t, "begin in no directory", err, providers.Rejected); !strings.Contains(e.Message, "create the directory") {
		t.Errorf("no remedy in %q", e)
	}
	if n := countCalls(smh, upstreams.ActionSMHConfirm); n != 3 {
		t.Errorf("%d confirmations, want 3", n)
	}
}

// TestNameTakenBehindOurBack starts while a name is free and finishes when it
// is not: the platform's answer is definite, and renaming resolves it.
func TestNameTakenBehindOurBack(t *testing.T) {
	t.Parallel()
	client, _, account := start(t, upstreams.SMHConfig{})
	slow, data := testMedia(t, "a.mp4", nil)
	begun, err := client.Begin(t.Context(), account, slow)
	if err != nil {
		t.Fatal(err)
	}
	fast, _ := testMedia(t, "a.mp4", nil)
	upload(t, client, account, fast, data)
	stored := []parts.Stored{put(t, client, begun.Session, slow, data, 1), put(t, client, begun.Session, slow, data, 2)}
	_, err = client.Finish(t.Context(), begun.Session, stored)
	wantKind(t, "finish", err, providers.Rejected)
}

// TestInstant looks at when files are asked for by their hashes.
func TestInstant(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{Dir: t.TempDir()})
	media, data := testMedia(t, "a.mp4", nil)
	upload(t, client, account, media, data)
	sent := countCalls(smh, upstreams.ActionSMHPart)

	other, _ := testMedia(t, "b.mp4", nil)
	asset, _ := upload(t, client, account, other, data)
	if asset.ID != library+"/space1/b.mp4" || !slices.Equal(content(t, client, asset), data) {
		t.Errorf("instant upload made %+v", asset)
	}
	if n := countCalls(smh, upstreams.ActionSMHPart); n != sent {
		t.Errorf("%d parts were sent of a file that is there", n-sent)
	}
	// The answer is lost, and Begin is repeated: the file is ours, so there is no
	// second one and no refusal.
	third, _ := testMedia(t, "c.mp4", nil)
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHStart, Times: 1, Apply: true, Reset: true})
	_, err := client.Begin(t.Context(), account, third)
	wantKind(t, "begin without an answer", err, providers.Transient)
	begun, err := client.Begin(t.Context(), account, third)
	if err != nil || begun.Asset == nil || begun.Asset.ID != library+"/space1/c.mp4" {
		t.Errorf("begin again: %+v, %v", begun, err)
	}
	for name, tt := range map[string]struct {
		instant string
		options map[string]string
		size    int64
		want    []hashing.Kind
	}{
		"by default":        {"", nil, 1 << 20, []hashing.Kind{hashing.SMH}},
		"switched off":      {"false", nil, 1 << 20, nil},
		"too small":         {"true", nil, 1<<20 - 1, nil},
		"under rename":      {"true", map[string]string{"conflict": "rename"}, 1 << 20, nil},
		"bad options":       {"true", map[string]string{"conflict": "maybe"}, 1 << 20, nil},
		"under overwriting": {"true", map[string]string{"conflict": "overwrite"}, 1 << 20, []hashing.Kind{hashing.SMH}},
	} {
		with := account
		with.Settings = map[string]string{"library_id": library}
		if tt.instant != "" {
			with.Settings["instant_upload"] = tt.instant
		}
		got := client.NeededDigests(with, providers.Media{Name: "x.mp4", Size: tt.size, Options: tt.options})
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// What is not asked by hashes is sent, be it there or not.
	account.Settings["instant_upload"] = "false"
	fourth, _ := testMedia(t, "d.mp4", nil)
	if begun, err := client.Begin(t.Context(), account, fourth); err != nil || begun.Asset != nil {
		t.Errorf("begin with instant upload off: %+v, %v", begun, err)
	}
}

// TestBeginningAlone meets a platform that answers 202 although it was given
// both hashes: the file is sent.
func TestBeginningAlone(t *testing.T) {
	t.Parallel()
	var asked []string
	client, address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/token" {
			_, _ = io.WriteString(w, `{"accessToken":"acctk01f0e1d2","expiresIn":"3600"}`)
			return
		}
		body, _ := io.ReadAll(r.Body) // what is read is compared
		asked = append(asked, string(body))
		if strings.Contains(string(body), "fullHash") {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, answerStart)
	}))
	account := providers.Account{
		Settings: map[string]string{"endpoint": address, "library_id": library},
		Secrets:  map[string]providers.Secret{"library_secret": secret},
	}
	media, _ := testMedia(t, "a.mp4", nil)
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil || begun.Asset != nil {
		t.Fatalf("begin: %+v, %v", begun, err)
	}
	if len(asked) != 2 || asked[1] != `{"size":"1048583"}` {
		t.Errorf("asked %q", asked)
	}
	if s := decode(t, begun.Session); s.ConfirmKey == "" || s.Headers["x-cos-traffic-limit"] != "204800" {
		t.Errorf("session %+v", s)
	}
}

// TestTokenRequest is the vector of the documents: the URL that a token is asked by.
func TestTokenRequest(t *testing.T) {
	t.Parallel()
	var asked url.URL
	client, address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = *r.URL
		_, _ = io.WriteString(w, `{"accessToken":"acctk01f0e1d2","expiresIn":3600}`)
	}))
	before := time.Now()
	s, lapses, err := client.describe(t.Context(), target{
		endpoint: address, library: "smh1abc", space: "space1", user: "u1", grant: "upload_file,confirm_upload", secret: "s3cr3t",
	}, options{conflict: conflictAsk}, providers.Media{Name: "a.mp4"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "grant=upload_file%2Cconfirm_upload&library_id=smh1abc&library_secret=s3cr3t&period=86400&space_id=space1&user_id=u1"; asked.Path != "/api/v1/token" || asked.RawQuery != want {
		t.Errorf("asked %s?%s, want %s", asked.Path, asked.RawQuery, want)
	}
	if s.Token != "acctk01f0e1d2" || lapses.Before(before.Add(time.Hour)) || lapses.After(time.Now().Add(time.Hour)) {
		t.Errorf("token %q lapses %s", s.Token, lapses)
	}
}

// TestWire compares a part and a confirmation with what the documents ask for.
func TestWire(t *testing.T) {
	t.Parallel()
	var asked []string
	client, address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is read is compared
		headers := []string{r.Host, r.Header.Get("Authorization"), r.Header.Get("X-Cos-Traffic-Limit"), r.Header.Get("Content-Length")}
		asked = append(asked, r.Method+" "+r.RequestURI+" "+strings.Join(headers, " ")+" "+string(body))
		w.Header().Set("ETag", `"0BEE"`)
		_, _ = io.WriteString(w, answerFile)
	}))
	ps := encode(t, session{
		Endpoint: address, Library: "lib", Space: "-", Token: "acctk01", File: []string{"a.mp4"}, Conflict: conflictRename,
		ConfirmKey: "7e84", Object: address + "/smhxxx/xxx.mp4", UploadID: "u=1",
		Headers: map[string]string{"Authorization": "q-sign", "x-cos-traffic-limit": "204800", "Host": "bucket.example", "Content-Length": "7"},
	})
	receipt, err := client.PutPart(t.Context(), ps, parts.Part{Number: 12, Length: 3}, providertest.NewBody(client.Limits(), []byte("abc")))
	if err != nil || receipt.Tag != "0bee" {
		t.Errorf("receipt %+v, %v", receipt, err)
	}
	_, err = client.Finish(t.Context(), ps, []parts.Stored{{Part: parts.Part{Number: 1, Length: 9}, Digest: hashing.Digest{Kind: hashing.CRC64ECMA, Sum: "995dc9bbdf1939fa"}}})
	wantKind(t, "a file of other bytes", err, providers.Mismatch)
	want := []string{
		"PUT /smhxxx/xxx.mp4?partNumber=12&uploadId=u%3D1 bucket.example q-sign 204800 3 abc",
		"POST /api/v1/file/lib/-/7e84?confirm&access_token=acctk01&conflict_resolution_strategy=rename " +
			strings.TrimPrefix(address, "http://") + "   32 " + `{"crc64":"11051210869376104954"}`,
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestRenew lets the headers lapse, and then the token as well: a part and the
// confirmation are refused until the session is renewed, and nothing is sent twice.
func TestRenew(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{Strict: true, InfoLife: 20 * time.Minute})
	media, data := testMedia(t, "a.mp4", nil)
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(begun.Session.Expires); left < 19*time.Minute || left > 20*time.Minute {
		t.Errorf("the session lapses in %s, want 20 minutes", left)
	}
	one := put(t, client, begun.Session, media, data, 1)
	smh.ExpireHeaders(decode(t, begun.Session).ConfirmKey)
	part := planOf(media).Part(2)
	_, err = client.PutPart(t.Context(), begun.Session, part, providertest.NewBody(client.Limits(), data[part.Offset:]))
	if e := refused(t, "a part under headers that lapsed", err, providers.Unauthorized); !strings.Contains(e.Message, "Request has expired") {
		t.Errorf("the storage's words are lost: %v", e)
	}
	sent, past := countCalls(smh, upstreams.ActionSMHPart), begun.Session
	past.Expires = time.Now().Add(-time.Second)
	_, err = client.PutPart(t.Context(), past, part, providertest.NewBody(client.Limits(), data[part.Offset:]))
	wantKind(t, "a part under headers known to have lapsed", err, providers.Unauthorized)
	if n := countCalls(smh, upstreams.ActionSMHPart); n != sent {
		t.Error("a part was sent under headers known to have lapsed")
	}
	smh.ExpireTokens()
	_, err = client.Finish(t.Context(), begun.Session, []parts.Stored{one})
	wantKind(t, "finish with a token that lapsed", err, providers.Unauthorized)
	renewed, err := client.Renew(t.Context(), account, media, begun.Session)
	if err != nil {
		t.Fatal(err)
	}
	two := put(t, client, renewed, media, data, 2)
	if _, err := client.Finish(t.Context(), renewed, []parts.Stored{one, two}); err != nil {
		t.Fatal(err)
	}
	if f := smh.Files()[0]; f.BytesReceived > media.Size+part.Length {
		t.Errorf("%d bytes were received of %d", f.BytesReceived, media.Size)
	}
	_, err = client.Renew(t.Context(), account, media, renewed)
	wantKind(t, "renew what is finished", err, providers.UnknownOutcome)
	smh.ForgetStatus(decode(t, renewed).ConfirmKey)
	_, err = client.Renew(t.Context(), account, media, renewed)
	wantKind(t, "renew what is gone", err, providers.SessionLost)
}

// TestProbe asks about an open task, a finished one, and one that is gone.
func TestProbe(t *testing.T) {
	t.Parallel()
	for _, strategy := range []conflict{conflictAsk, conflictRename} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			client, smh, account := start(t, upstreams.SMHConfig{})
			media, data := testMedia(t, "a.mp4", map[string]string{"conflict": string(strategy)})
			begun, err := client.Begin(t.Context(), account, media)
			if err != nil {
				t.Fatal(err)
			}
			probe := func(what string, want providers.Holding) providers.Outcome {
				t.Helper()
				out, err := client.Probe(t.Context(), account, media, begun.Session)
				if err != nil || out.Holding != want || out.Evidence == "" {
					t.Fatalf("%s: %+v, %v, want %s", what, out, err, want)
				}
				return out
			}
			stored := []parts.Stored{put(t, client, begun.Session, media, data, 1), put(t, client, begun.Session, media, data, 2)}
			known := []parts.Stored{{Part: stored[0].Part, Receipt: stored[0].Receipt}, {Part: stored[1].Part, Receipt: stored[1].Receipt}}
			if diff := cmp.Diff(known, probe("open", providers.HoldsSession).Found); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
			smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHStatus, Times: 1, HidePart: 1})
			if diff := cmp.Diff(known[1:], probe("open, with a part hidden", providers.HoldsSession).Found); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
			smh.ExpireTokens()
			if out := probe("with a token that lapsed", providers.HoldsSession); strings.Contains(out.Evidence, "acctk01") {
				t.Errorf("the token shows in %q", out.Evidence)
			}
			begun.Session, err = client.Renew(t.Context(), account, media, begun.Session)
			if err != nil {
				t.Fatal(err)
			}
			asset, err := client.Finish(t.Context(), begun.Session, stored)
			if err != nil {
				t.Fatal(err)
			}
			if got := probe("finished", providers.HoldsAsset).Asset; got.ID != asset.ID || got.URL != asset.URL {
				t.Errorf("probe names %+v, finish %+v", got, asset)
			}
			smh.ForgetStatus(decode(t, begun.Session).ConfirmKey)
			if got := probe("finished and forgotten", providers.HoldsAsset).Asset; got.ID != asset.ID {
				t.Errorf("probe names %+v, finish %+v", got, asset)
			}
			// The file under the name is another upload's now.
			other, _ := testMedia(t, "a.mp4", map[string]string{"conflict": "overwrite"})
			upload(t, client, account, other, data)
			want := providers.HoldsNothing
			if strategy == conflictRename {
				want = providers.HoldsUnknown
			}
			probe("replaced and forgotten", want)
		})
	}
}

// TestLies has the platform list a part that it does not hold: the
// confirmation shows it, and the session is given up.
func TestLies(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{})
	media, data := testMedia(t, "a.mp4", nil)
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	one := put(t, client, begun.Session, media, data, 1)
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHStatus, Times: 1, ListAll: true})
	out, err := client.Probe(t.Context(), account, media, begun.Session)
	if err != nil || len(out.Found) != 2 || out.Found[1].Part != planOf(media).Part(2) {
		t.Fatalf("probe: %+v, %v", out, err)
	}
	_, err = client.Finish(t.Context(), begun.Session, []parts.Stored{one})
	wantKind(t, "finish without a part", err, providers.SessionLost)
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHConfirm, Times: 1, Forget: true})
	_, err = client.Finish(t.Context(), begun.Session, []parts.Stored{one})
	if e := refused(t, "finish of what is forgotten", err, providers.SessionLost); e.Code != codeUploadNotFound {
		t.Errorf("code %q, want %s", e.Code, codeUploadNotFound)
	}
}

// TestFinishedIntoNothing meets a task whose directory was deleted after it finished.
func TestFinishedIntoNothing(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{})
	media, data := testMedia(t, "a.mp4", nil)
	_, ps := upload(t, client, account, media, data)
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHStatus, Text: `{"confirmed":true,"path":null}`})
	out, err := client.Probe(t.Context(), account, media, ps)
	if err != nil || out.Holding != providers.HoldsUnknown || !strings.Contains(out.Evidence, "deleted") {
		t.Errorf("%+v, %v", out, err)
	}
	_, err = client.Finish(t.Context(), ps, nil)
	wantKind(t, "finish", err, providers.UnknownOutcome)
}

// TestFinishChecksTheWhole looks at what is confirmed: the CRC-64 of the parts
// in their order, always.
func TestFinishChecksTheWhole(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{TolerantConfirm: true})
	media, data := testMedia(t, "a.mp4", nil)
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	one, two := put(t, client, begun.Session, media, data, 1), put(t, client, begun.Session, media, data, 2)
	_, err = client.Finish(t.Context(), begun.Session, []parts.Stored{one, {Part: two.Part, Receipt: two.Receipt}})
	wantKind(t, "a part without a digest", err, providers.Rejected)
	if n := countCalls(smh, upstreams.ActionSMHConfirm); n != 0 {
		t.Errorf("%d confirmations without a digest of the whole", n)
	}
	wrong := two
	wrong.Digest = one.Digest
	_, err = client.Finish(t.Context(), begun.Session, []parts.Stored{one, wrong})
	if e := refused(t, "a part with another's digest", err, providers.Mismatch); e.Code != "BadCrc64" {
		t.Errorf("code %q, want BadCrc64", e.Code)
	}
	asset, err := client.Finish(t.Context(), begun.Session, []parts.Stored{two, one})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := hashing.Sum(hashing.CRC64ECMA, data)
	if err != nil || asset.Detail["crc64"] != decimal(whole) {
		t.Errorf("the file's CRC-64 is %s, want %s (%v)", asset.Detail["crc64"], decimal(whole), err)
	}
	again, err := client.Finish(t.Context(), begun.Session, []parts.Stored{one, two})
	if err != nil || again.ID != asset.ID {
		t.Errorf("a repeated finish made %+v, %v", again, err)
	}
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHConfirm, Text: `{"path":["a.mp4"],"crc64":"1"}`})
	_, err = client.Finish(t.Context(), begun.Session, []parts.Stored{one, two})
	wantKind(t, "a file of other bytes", err, providers.Mismatch)
}

// TestDamagedOnTheWay flips a bit between us and the platform.
func TestDamagedOnTheWay(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{})
	media, data := testMedia(t, "a.mp4", nil)
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHPart, Times: 1, FlipBit: true})
	part := planOf(media).Part(2)
	_, err = client.PutPart(t.Context(), begun.Session, part, providertest.NewBody(client.Limits(), data[part.Offset:]))
	wantKind(t, "a part that was damaged", err, providers.Mismatch)
	_, err = client.PutPart(t.Context(), begun.Session, part, providertest.NewBody(client.Limits(), data[:3]))
	wantKind(t, "a part that is too short", err, providers.Mismatch)
}

// TestFailures runs each call into a fault and looks at the kind, and that no
// error shows a secret.
func TestFailures(t *testing.T) {
	t.Parallel()
	const transient, unknown, lost, rejected, denied = providers.Transient, providers.UnknownOutcome, providers.SessionLost, providers.Rejected, providers.Unauthorized
	for name, tt := range map[string]struct {
		fault                  upstreams.Fault
		begin, put, fin, renew providers.Kind
		wantRetryAfter         time.Duration
	}{
		"reset":          {upstreams.Fault{Reset: true}, transient, transient, unknown, transient, 0},
		"reset mid-body": {upstreams.Fault{Reset: true, AfterBytes: 1000}, transient, transient, unknown, transient, 0},
		"500":            {upstreams.Fault{Status: 500}, transient, transient, unknown, transient, 0},
		"503":            {upstreams.Fault{Status: 503, RetryAfter: 7}, providers.Throttled, providers.Throttled, unknown, providers.Throttled, 7 * time.Second},
		"429":            {upstreams.Fault{Status: 429, RetryAfter: 7}, providers.Throttled, providers.Throttled, providers.Throttled, providers.Throttled, 7 * time.Second},
		"rate":           {upstreams.Fault{ErrorCode: "RateLimitExceeded"}, providers.Throttled, providers.Throttled, providers.Throttled, providers.Throttled, 0},
		"499":            {upstreams.Fault{Status: 499}, transient, transient, unknown, transient, 0},
		"403":            {upstreams.Fault{Status: 403}, denied, denied, denied, denied, 0},
		"404":            {upstreams.Fault{Status: 404}, rejected, rejected, rejected, rejected, 0},
		"302":            {upstreams.Fault{Status: 302}, transient, transient, unknown, transient, 0},
		"no JSON":        {upstreams.Fault{Text: "<html>"}, transient, transient, unknown, transient, 0},
		"no members":     {upstreams.Fault{Text: "{}"}, transient, transient, unknown, transient, 0},
		"internal":       {upstreams.Fault{ErrorCode: "InternalServerError"}, transient, transient, unknown, transient, 0},
		"overloaded":     {upstreams.Fault{ErrorCode: "ServerOverloaded"}, providers.Throttled, providers.Throttled, unknown, providers.Throttled, 0},
		"token":          {upstreams.Fault{ErrorCode: "InvalidAccessToken"}, denied, denied, denied, denied, 0},
		"permission":     {upstreams.Fault{ErrorCode: "NoPermission"}, denied, denied, denied, denied, 0},
		"quota":          {upstreams.Fault{ErrorCode: "QuotaLimitReached"}, rejected, rejected, rejected, rejected, 0},
		"banned":         {upstreams.Fault{ErrorCode: "SpaceBanned", Action: upstreams.ActionSMHStart}, rejected, "", "", "", 0},
		"initializing":   {upstreams.Fault{ErrorCode: "LibraryInitializing", Action: upstreams.ActionSMHStart}, transient, "", "", "", 0},
		"path conflict":  {upstreams.Fault{ErrorCode: "PathConflict"}, transient, rejected, transient, transient, 0},
		"gone":           {upstreams.Fault{ErrorCode: "UploadNotFound"}, lost, rejected, lost, lost, 0},
		"never was":      {upstreams.Fault{ErrorCode: "ConfirmKeyNotFound"}, lost, rejected, lost, lost, 0},
		"incomplete":     {upstreams.Fault{ErrorCode: "MultipartUploadIncomplete", Action: upstreams.ActionSMHConfirm}, "", "", lost, "", 0},
		"too small":      {upstreams.Fault{ErrorCode: "MultipartUploadPartTooSmall", Action: upstreams.ActionSMHConfirm}, "", "", rejected, "", 0},
		"wrong bytes":    {upstreams.Fault{ErrorCode: "BadCrc64", Action: upstreams.ActionSMHConfirm}, "", "", providers.Mismatch, "", 0},
		"name taken":     {upstreams.Fault{ErrorCode: "SameNameDirectoryOrFileExists", Action: upstreams.ActionSMHConfirm}, "", "", rejected, "", 0},
		"complete":       {upstreams.Fault{ErrorCode: "UploadComplete", Action: upstreams.ActionSMHConfirm}, "", "", unknown, "", 0},
		"no upload":      {upstreams.Fault{ErrorCode: "NoSuchUpload", Action: upstreams.ActionSMHPart}, "", lost, "", "", 0},
		"digest":         {upstreams.Fault{ErrorCode: "BadDigest", Action: upstreams.ActionSMHPart}, "", providers.Mismatch, "", "", 0},
		"short body":     {upstreams.Fault{ErrorCode: "IncompleteBody"}, transient, transient, transient, transient, 0},
		"slow down":      {upstreams.Fault{ErrorCode: "SlowDown", Action: upstreams.ActionSMHPart}, "", providers.Throttled, "", "", 0},
		"no ETag":        {upstreams.Fault{Text: "ok", Action: upstreams.ActionSMHPart}, "", transient, "", "", 0},
		"sensitive":      {upstreams.Fault{ErrorCode: "SensitiveContentRecognized", Action: upstreams.ActionSMHConfirm}, "", "", rejected, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, smh, account := start(t, upstreams.SMHConfig{})
			data := make([]byte, 2000)
			media := providers.Media{Upload: uploads.ID{1}, Epoch: 1, Name: "a.mp4", Size: int64(len(data)), PartSize: 1 << 20}
			begun, err := client.Begin(t.Context(), account, media)
			if err != nil {
				t.Fatal(err)
			}
			stored := []parts.Stored{put(t, client, begun.Session, media, data, 1)}
			smh.AddFaults(tt.fault)
			check := func(call string, err error, want providers.Kind) {
				t.Helper()
				if want == "" {
					return
				}
				if e := refused(t, call, err, want); e.RetryAfter != tt.wantRetryAfter {
					t.Errorf("%s: retry after %s, want %s", call, e.RetryAfter, tt.wantRetryAfter)
				}
			}
			_, err = client.Begin(t.Context(), account, media)
			check("begin", err, tt.begin)
			part := planOf(media).Part(1)
			_, err = client.PutPart(t.Context(), begun.Session, part, providertest.NewBody(client.Limits(), data[:part.Length]))
			check("put part", err, tt.put)
			_, err = client.Renew(t.Context(), account, media, begun.Session)
			check("renew", err, tt.renew)
			_, err = client.Finish(t.Context(), begun.Session, stored)
			check("finish", err, tt.fin)
		})
	}
}

// TestAbort aborts what is finished while its task says otherwise
// and while it is gone.
func TestAbort(t *testing.T) {
	t.Parallel()
	client, smh, account := start(t, upstreams.SMHConfig{})
	media, data := testMedia(t, "a.mp4", nil)
	_, ps := upload(t, client, account, media, data)
	if err := client.Abort(t.Context(), ps); err != nil {
		t.Errorf("abort of a finished upload: %v", err)
	}
	if n := countCalls(smh, upstreams.ActionSMHCancel); n != 0 {
		t.Errorf("a finished upload was cancelled %d times", n)
	}
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHStatus, Times: 1, Text: `{"confirmed":false}`})
	if err := client.Abort(t.Context(), ps); err != nil {
		t.Errorf("abort of an upload that finished meanwhile: %v", err)
	}
	smh.AddFaults(upstreams.Fault{Action: upstreams.ActionSMHStatus, Times: 1, Status: 500})
	wantKind(t, "abort without an answer", client.Abort(t.Context(), ps), providers.Transient)
	wantKind(t, "abort of no session", client.Abort(t.Context(), providers.Session{}), providers.SessionLost)
}

// TestCancelledWhileThePlatformIsSilent cancels a part whose answer does not come.
func TestCancelledWhileThePlatformIsSilent(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	client, address := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the part is all there
		close(arrived)
		<-r.Context().Done()
	}))
	ps := encode(t, session{
		Endpoint: address, Object: address + "/o", UploadID: "u", Token: "acctk01",
		Headers: map[string]string{"Authorization": "q-sign-algorithm=sha1&x"},
	})
	stopped := errors.New("the worker stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(stopped)
	}()
	_, err := client.PutPart(ctx, ps, parts.Part{Number: 1, Length: 3}, providertest.NewBody(client.Limits(), []byte("abc")))
	if !errors.Is(err, context.Canceled) && !errors.Is(err, stopped) {
		t.Errorf("error %v, want the cancellation in its chain", err)
	}
	if err != nil && strings.Contains(err.Error(), "q-sign") {
		t.Errorf("the signature shows in %q", err)
	}
}
