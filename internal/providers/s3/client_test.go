package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// reply stands in for the answer of a completion.
type reply struct {
	apply  bool // carry the call out first
	status int  // 0 for no answer
	text   string
}

var errReset = errors.New("connection reset")

// interceptor is a transport that can replace the answer of a completion.
type interceptor struct {
	http.RoundTripper
	completion atomic.Pointer[reply]
}

func (i *interceptor) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost || !req.URL.Query().Has("uploadId") {
		return i.RoundTripper.RoundTrip(req)
	}
	r := i.completion.Swap(nil)
	if r == nil || r.apply {
		resp, err := i.RoundTripper.RoundTrip(req)
		if r == nil || err != nil {
			return resp, err
		}
		_ = resp.Body.Close()
	}
	if r.status == 0 {
		return nil, errReset
	}
	return &http.Response{StatusCode: r.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(r.text))}, nil
}

func start(t *testing.T) (*Client, *interceptor, providers.Account) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	between := &interceptor{RoundTripper: transport}
	return New(between), between, testAccount(gateway.Endpoint())
}

func testAccount(endpoint string) providers.Account {
	return providers.Account{
		Name:     "bucket",
		Settings: map[string]string{"endpoint": endpoint, "bucket": bucket, "prefix": "in/"},
		Secrets:  map[string]providers.Secret{"access_key": gateway.Config().AccessKey, "secret_key": gateway.Config().SecretKey},
	}
}

func content(t *testing.T, asset uploads.Asset) []byte {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	core, err := newCore(transport)
	if err != nil {
		t.Fatal(err)
	}
	object, _, _, err := core.GetObject(t.Context(), bucket, strings.TrimPrefix(asset.ID, bucket+"/"), minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = object.Close() }()
	data, err := io.ReadAll(object)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// startMetered is start by way of a Meter, which misbehaves on request.
func startMetered(t *testing.T) (*Client, *upstreams.Meter, providers.Account) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	meter, err := upstreams.NewMeter(gateway.Endpoint(), transport, 0)
	if err != nil {
		t.Fatal(err)
	}
	server, err := upstreams.Serve(t.Context(), "", meter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(providertest.Altering(transport)), meter, testAccount(server.URL)
}

// documentedCodes are those that S3's documents list for these calls. An answer
// to HEAD has no body, so no code.
func documentedCodes() (refusals []providertest.Refusal) {
	add := func(want providers.Kind, actions []string, status int, codes ...string) {
		for _, code := range codes {
			refusals = append(refusals, providertest.Refusal{Actions: actions, Fault: upstreams.Fault{ErrorCode: code, Status: status}, Want: want})
		}
	}
	finish := []string{upstreams.COSComplete}
	puts := []string{upstreams.COSUploadPart, upstreams.COSPutObject}
	others := slices.Concat(puts, []string{upstreams.S3CreateMultipartUpload, upstreams.COSListParts, upstreams.COSAbort})
	every := slices.Concat(others, finish)
	add(providers.Mismatch, every, 400, "BadDigest", "IncompleteBody", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch")
	add(providers.Rejected, every, 400, "EntityTooLarge", "EntityTooSmall", "InvalidArgument", "InvalidRequest", "KeyTooLongError", "MalformedXML")
	add(providers.Unauthorized, every, 400, "ExpiredToken", "InvalidToken")
	add(providers.Transient, others, 400, "RequestTimeout")
	add(providers.UnknownOutcome, finish, 400, "RequestTimeout")
	add(providers.SessionLost, finish, 400, "InvalidPart", "InvalidPartOrder")
	add(providers.Unauthorized, every, 403, "AccessDenied", "AccountProblem", "InvalidAccessKeyId", "SignatureDoesNotMatch")
	add(providers.Transient, others, 403, "RequestTimeTooSkewed")
	add(providers.Rejected, every, 404, "NoSuchBucket")
	add(providers.SessionLost, puts, 404, "NoSuchUpload")
	add(providers.UnknownOutcome, finish, 404, "NoSuchUpload")
	add(providers.Transient, others, 409, "OperationAborted")
	add(providers.UnknownOutcome, finish, 409, "OperationAborted")
	add(providers.Rejected, every, 411, "MissingContentLength")
	add(providers.Rejected, every, 412, "PreconditionFailed")
	add(providers.Transient, others, 500, "InternalError")
	add(providers.UnknownOutcome, finish, 500, "InternalError")
	add(providers.Rejected, every, 501, "NotImplemented")
	add(providers.Throttled, others, 503, "ServiceUnavailable")
	add(providers.UnknownOutcome, finish, 503, "ServiceUnavailable")
	add(providers.Throttled, every, 503, "SlowDown")
	return refusals
}

func TestConforms(t *testing.T) {
	t.Parallel()
	providertest.Run(t, func(t *testing.T) providertest.Harness {
		t.Helper()
		client, meter, account := startMetered(t)
		revoked := account
		revoked.Secrets = map[string]providers.Secret{"access_key": gateway.Config().AccessKey, "secret_key": "another-secret"}
		return providertest.Harness{
			Provider: client,
			Account:  account,
			Revoked:  revoked,
			Upstream: meter,
			Calls: []providertest.Call{
				{By: providers.CallBegin, Action: upstreams.S3CreateMultipartUpload},
				{By: providers.CallPut, Action: upstreams.COSUploadPart},
				{By: providers.CallPut, Action: upstreams.COSPutObject, Single: true},
				{By: providers.CallFinish, Action: upstreams.COSComplete},
				{By: providers.CallProbe, Action: upstreams.COSHeadObject},
				{By: providers.CallProbe, Action: upstreams.COSListParts},
				{By: providers.CallAbort, Action: upstreams.COSAbort},
			},
			Refusals: documentedCodes(),
			LoseSession: func(t *testing.T, _ providers.Media, session providers.Session) {
				t.Helper()
				if err := client.Abort(t.Context(), session); err != nil {
					t.Fatal(err)
				}
			},
			Content: content,
			NotApplicable: map[providertest.Case]string{
				providertest.CaseResume:         "each CreateMultipartUpload opens an upload of its own",
				providertest.CaseInstant:        "a bucket does not know objects by their digest",
				providertest.CaseFinishRepeated: "a completed multipart upload is gone",
				providertest.CaseLapsedSession:  "a multipart upload does not lapse by itself",
			},
		}
	})
}

func testMedia(t *testing.T, data []byte) providers.Media {
	t.Helper()
	id, err := uploads.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return providers.Media{
		Upload: id, Epoch: 1, Name: id.String() + " ü+&.mp4", ContentType: "video/mp4",
		Size: int64(len(data)), PartSize: 5 << 20,
	}
}

func putAll(t *testing.T, c *Client, session providers.Session, media providers.Media, data []byte) []parts.Stored {
	t.Helper()
	stored := make([]parts.Stored, planOf(media).Count())
	for n := range stored {
		part := planOf(media).Part(n + 1)
		receipt, err := c.PutPart(t.Context(), session, part, providertest.NewBody(c.Limits(), data[part.Offset:part.Offset+part.Length]))
		if err != nil {
			t.Fatal(err)
		}
		stored[n] = parts.Stored{Part: part, Receipt: receipt}
	}
	return stored
}

// TestCalls counts the calls of a small and of a large object through a meter:
// no call but those that carry the bytes, and no byte twice.
func TestCalls(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	meter, err := upstreams.NewMeter(gateway.Endpoint(), transport, 0)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	server, err := upstreams.Serve(t.Context(), "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		meter.ServeHTTP(w, r)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	client, account := New(transport), testAccount(server.URL)
	for _, tt := range []struct {
		size  int
		calls int64
		want  upstreams.MeterFile
	}{
		{1000, 1, upstreams.MeterFile{BytesReceived: 1000, Puts: 1}},
		{11 << 20, 5, upstreams.MeterFile{BytesReceived: 11 << 20, Puts: 3, Completes: 1}},
	} {
		before := calls.Load()
		data := bytes.Repeat([]byte{7}, tt.size)
		media := testMedia(t, data)
		begun, err := client.Begin(t.Context(), account, media)
		if err != nil {
			t.Fatal(err)
		}
		asset, err := client.Finish(t.Context(), begun.Session, putAll(t, client, begun.Session, media, data))
		if err != nil {
			t.Fatal(err)
		}
		if got := calls.Load() - before; got != tt.calls {
			t.Errorf("%d bytes took %d calls, want %d", tt.size, got, tt.calls)
		}
		tt.want.Key = bucket + "/in/" + media.Name
		for _, f := range meter.Files() {
			if diff := cmp.Diff(tt.want, f); f.Key == tt.want.Key && diff != "" {
				t.Errorf("meter (-want +got):\n%s", diff)
			}
		}
		sum, err := hashing.Sum(hashing.CRC64NVME, data)
		if err != nil {
			t.Fatal(err)
		}
		if asset.Detail["checksum"] != sum.String() {
			t.Errorf("the bucket confirmed %q of the whole, want %s", asset.Detail["checksum"], sum)
		}
	}
}

func TestProbeListsFoundParts(t *testing.T) {
	t.Parallel()
	client, _, account := start(t)
	data := bytes.Repeat([]byte{9}, 11<<20)
	media := testMedia(t, data)
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	stored := putAll(t, client, begun.Session, media, data)
	out, err := client.Probe(t.Context(), account, media, begun.Session)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stored, out.Found); diff != "" {
		t.Errorf("found (-put +found):\n%s", diff)
	}
	if err := client.Abort(t.Context(), begun.Session); err != nil {
		t.Fatal(err)
	}
}

// TestProbeTellsOtherObjects puts another upload's object under the key.
func TestProbeTellsOtherObjects(t *testing.T) {
	t.Parallel()
	client, _, account := start(t)
	data := []byte("abc")
	first := testMedia(t, data)
	begun, err := client.Begin(t.Context(), account, first)
	if err != nil {
		t.Fatal(err)
	}
	putAll(t, client, begun.Session, first, data)
	second := testMedia(t, data)
	second.Name = first.Name
	out, err := client.Probe(t.Context(), account, second, providers.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Holding != providers.HoldsNothing {
		t.Errorf("probe says %s (%s): the object is another upload's", out.Holding, out.Evidence)
	}
}

func TestCompletionAnswers(t *testing.T) {
	t.Parallel()
	xml := func(code string) string { return "<Error><Code>" + code + "</Code><Message>m</Message></Error>" }
	for _, tt := range []struct {
		status int
		text   string
		want   providers.Kind
	}{
		{200, xml("InternalError"), providers.UnknownOutcome},
		{200, xml("SlowDown"), providers.UnknownOutcome},
		{200, "<Complete", providers.UnknownOutcome},
		{500, xml("InternalError"), providers.UnknownOutcome},
		{503, "", providers.UnknownOutcome},
		{503, xml("SlowDown"), providers.Throttled},
		{404, xml("NoSuchUpload"), providers.UnknownOutcome},
		{400, xml("InvalidPart"), providers.SessionLost},
		{400, xml("EntityTooSmall"), providers.Rejected},
		{400, xml("BadDigest"), providers.Mismatch},
		{403, xml("AccessDenied"), providers.Unauthorized},
	} {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			client, between, account := start(t)
			data := make([]byte, 6<<20)
			media := testMedia(t, data)
			begun, err := client.Begin(t.Context(), account, media)
			if err != nil {
				t.Fatal(err)
			}
			between.completion.Store(&reply{status: tt.status, text: tt.text})
			_, err = client.Finish(t.Context(), begun.Session, []parts.Stored{{Part: planOf(media).Part(1)}, {Part: planOf(media).Part(2)}})
			e, ok := errors.AsType[*providers.Error](err)
			if !ok || e.Kind != tt.want {
				t.Errorf("%d %s: %v, want %s", tt.status, tt.text, err, tt.want)
			}
			if err := client.Abort(t.Context(), begun.Session); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBucketWithoutChecksums talks to a bucket that confirms nothing, and to
// one that asks for a pause.
func TestBucketWithoutChecksums(t *testing.T) {
	t.Parallel()
	var throttle atomic.Bool
	server, err := upstreams.Serve(t.Context(), "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the client may be gone
		if throttle.Load() {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", `"e"`)
	}))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	client, account := New(transport), testAccount(server.URL)
	media := testMedia(t, []byte("abc"))
	put := func() error {
		begun, err := client.Begin(t.Context(), account, media)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.PutPart(t.Context(), begun.Session, planOf(media).Part(1), providertest.NewBody(client.Limits(), []byte("abc")))
		return err
	}
	if err := put(); providers.KindOf(err) != providers.Rejected || !strings.Contains(err.Error(), "require_checksum") {
		t.Errorf("unconfirmed: %v, want a rejection that names the setting", err)
	}
	account.Settings["require_checksum"] = "false"
	if err := put(); err != nil {
		t.Errorf("with require_checksum false: %v", err)
	}
	throttle.Store(true)
	e, ok := errors.AsType[*providers.Error](put())
	if !ok || e.Kind != providers.Throttled || e.RetryAfter != 3*time.Second {
		t.Errorf("throttled: %v, retry after %s", e, e.RetryAfter)
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	client := New(http.DefaultTransport)
	good := testAccount("s3.example:9000")
	if err := client.CheckAccount(good); err != nil {
		t.Errorf("good account: %v", err)
	}
	bad := providers.Account{Settings: map[string]string{"endpoint": "ftp://x", "path_style": "y", "z": ""}, Secrets: map[string]providers.Secret{"key": "k"}}
	err := client.CheckAccount(bad)
	for _, field := range []string{"settings.endpoint", "settings.path_style", "settings.z", "settings.bucket", "secrets.key", "secrets.access_key", "secrets.secret_key"} {
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("bad account: %v does not name %s", err, field)
		}
	}
	if err := client.CheckMedia(providers.Media{Options: map[string]string{"key": "a/b", "acl": "x"}}); err == nil || !strings.Contains(err.Error(), "options.acl") {
		t.Errorf("unknown option: %v", err)
	}
	p, err := readAccount(good)
	if err != nil || p.Insecure || p.Endpoint != "s3.example:9000" {
		t.Errorf("host:port was read as %+v, %v", p, err)
	}
	if got := p.keyOf(providers.Media{Name: "n", Options: map[string]string{"key": "k"}}); got != "in/k" {
		t.Errorf("key is %q, want in/k", got)
	}
}
