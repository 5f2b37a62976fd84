package tencentcos

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
)

// The answers of the documents.
const (
	v2Applied = `{"code":0,"message":"","codeDesc":"Success",
 "storageAppId":10022853,"storageBucket":"6c0f1c00vodgzp251000333","storageRegion":"gzp","storageRegionV5":"ap-guangzhou-2",
 "video":{"storagePath":"/6c0f1c00vodgzp251000333/dee2156d24820810452266402/f0.mp4","storageSignature":"…"},
 "cover":{"storagePath":"/6c0f1c00vodgzp251000333/dee2156d24820810452266402/24820810452266403.jpg","storageSignature":"…"},
 "vodSessionKey":"3KEGq9DW/rTrx56+Uo="}`
	v2AppliedLatest = `{"code":0,"message":"","codeDesc":"Success","video":{"storagePath":"/6c0f1c00vodgzp251000333/dee2156d24820810452266402/f0.mp4"},
 "storageBucket":"6c0f1c00vodgzp251000333","storageRegion":"gzp","vodSessionKey":"3KEGq9DW/rTrx56+Uo="}`
	v2Committed = `{"code":0,"message":"","codeDesc":"Success","fileId":"24820810452266399",
 "video":{"url":"http://251000333.vod2.myqcloud.com/6c0f1c00vodgzp251000333/dee2125c24820810452266399/f0.mp4","verify_content":"MylkSw=="},
 "cover":{"url":"http://251000333.vod2.myqcloud.com/6c0f1c00vodgzp251000333/dee2125c24820810452266399/24820810452266400.jpg"}}`
	v3Applied = `{"Response":{"StorageBucket":"examplebucket-1250000000","StorageRegion":"ap-guangzhou-2","VodSessionKey":"k",
 "MediaStoragePath":"/dir/name.mp4","CoverStoragePath":null,
 "TempCertificate":{"SecretId":"i","SecretKey":"s","Token":"t","ExpiredTime":1999999999},"RequestId":"r"}}`
	v3Refused = `{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure","Message":"no"},"RequestId":"r"}}`
	listed    = `<?xml version="1.0" encoding="UTF-8"?>
<ListPartsResult><Bucket>b-1250000000</Bucket><Encoding-type/><Key>dir/name.mp4</Key><UploadId>u</UploadId>
<Initiator><ID>i</ID><DisplayName>i</DisplayName></Initiator><Owner><ID>o</ID><DisplayName>o</DisplayName></Owner>
<PartNumberMarker>0</PartNumberMarker>
<Part><PartNumber>1</PartNumber><LastModified>Tue Jan 17 16:43:37 2017</LastModified><ETag>"a1f8e5e4d63ac6970a0062a6277e191f"</ETag><Size>1048576</Size></Part>
<Part><PartNumber>2</PartNumber><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&#34;b1&#34;</ETag><Size>5</Size></Part>
<Part><PartNumber>3</PartNumber><ETag>&quot;c1&quot;</ETag><Size>7</Size></Part>
<Part><PartNumber>9</PartNumber><ETag>"d1"</ETag><Size>7</Size></Part>
<NextPartNumberMarker>9</NextPartNumberMarker><StorageClass>STANDARD</StorageClass><MaxParts>1000</MaxParts><IsTruncated>false</IsTruncated>
</ListPartsResult>`
	completed = `<?xml version="1.0" encoding="UTF-8"?>
<CompleteMultipartUploadResult xmlns="http://www.qcloud.com/document/product/436/7751">
  <Location>http://b-1250000000.cos.ap-beijing.myqcloud.com/dir/name.mp4</Location>
  <Bucket>b-1250000000</Bucket><Key>dir/name.mp4</Key><ETag>&quot;a-3&quot;</ETag>
</CompleteMultipartUploadResult>`
	refused = `<?xml version='1.0' encoding='utf-8' ?>
<Error><Code>NoSuchUpload</Code><Message>gone</Message><Resource>b-1250000000.cos.ap-beijing.myqcloud.com/dir/name.mp4</Resource><RequestId>r</RequestId><TraceId>t</TraceId></Error>`
)

func TestAnswersOfTheDocuments(t *testing.T) {
	t.Parallel()
	a, err := parseV2([]byte(v2Applied))
	if err != nil || a.StorageAppID != "10022853" || a.StorageRegionV5 != "ap-guangzhou-2" || keyOf(string(a.Video.StoragePath)) != "6c0f1c00vodgzp251000333/dee2156d24820810452266402/f0.mp4" {
		t.Errorf("v2 ApplyUpload is %+v, %v", a, err)
	}
	if a, err = parseV2([]byte(v2Committed)); err != nil || a.FileID != "24820810452266399" || a.Cover.URL == "" || a.Video.VerifyContent != "MylkSw==" {
		t.Errorf("v2 CommitUpload is %+v, %v", a, err)
	}
	b, err := parseV3([]byte(v3Applied))
	if err != nil || b.CoverStoragePath != "" || b.TempCertificate == nil || b.TempCertificate.ExpiredTime != 1999999999 {
		t.Errorf("3.0 ApplyUpload is %+v, %v", b, err)
	}
	if b, err = parseV3([]byte(v3Refused)); err != nil || b.Error == nil || b.Error.Code != "AuthFailure.SignatureFailure" {
		t.Errorf("a refusal of 3.0 is %+v, %v", b, err)
	}
	for _, body := range []string{"", "{}", "null", "[]", `{"Response":{}}`, `{"Response":null}`} {
		if _, err := parseV2([]byte(body)); err == nil {
			t.Errorf("v2 reads %q", body)
		}
		if _, err := parseV3([]byte(body)); err == nil {
			t.Errorf("3.0 reads %q", body)
		}
	}
	page, err := parsePartList([]byte(listed))
	if err != nil {
		t.Fatal(err)
	}
	want := []parts.Stored{
		{Part: parts.Part{Number: 1, Length: 1 << 20}, Receipt: parts.Receipt{Tag: "a1f8e5e4d63ac6970a0062a6277e191f"}},
		{Part: parts.Part{Number: 3, Offset: 2 << 20, Length: 7}, Receipt: parts.Receipt{Tag: "c1"}},
	}
	if diff := cmp.Diff(want, page.found(parts.Plan{Size: 2<<20 + 7, PartSize: 1 << 20}, new(parts.Set))); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

// TestListedBeyondThePlan has a part after the last, of no length.
func TestListedBeyondThePlan(t *testing.T) {
	t.Parallel()
	page := cosPartList{Parts: []cosListedPart{{Number: 0}, {Number: 2}, {Number: 3}}}
	if found := page.found(parts.Plan{Size: 1 << 20, PartSize: 1 << 20}, new(parts.Set)); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
}

func TestPlacesMustBeWhole(t *testing.T) {
	t.Parallel()
	good := place{bucket: "b", region: "r", mediaKey: "k", coverKey: "c", sessionKey: "s"}
	if _, err := good.checked(application{cover: true}); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*place){
		"bucket": func(p *place) { p.bucket = "" }, "region": func(p *place) { p.region = "" }, "media": func(p *place) { p.mediaKey = "" },
		"cover": func(p *place) { p.coverKey = "" }, "session key": func(p *place) { p.sessionKey = "" },
	} {
		p := good
		spoil(&p)
		if _, err := p.checked(application{cover: true}); providers.KindOf(err) != providers.Transient || err == nil {
			t.Errorf("without its %s: %v", name, err)
		}
	}
}

func TestTitle(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]string{{"my film.mp4", "mp4", "my film"}, {"my film.MP4", "mp4", "my film"}, {"my film.mov", "mp4", "my film.mov"}, {"film", "mp4", "film"}} {
		if got := title(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s of type %s is %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestCompletionsAreRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]providers.Kind{
		completed:                           "",
		" \n \n" + completed:                "",
		refused:                             providers.SessionLost,
		"   " + refused:                     providers.SessionLost,
		"":                                  providers.UnknownOutcome,
		"    ":                              providers.UnknownOutcome,
		"<html>":                            providers.UnknownOutcome,
		completed[:200]:                     providers.UnknownOutcome,
		"<ListPartsResult/>":                providers.UnknownOutcome,
		"<Error></Error>":                   providers.UnknownOutcome,
		errorDocument("Slow"):               providers.UnknownOutcome,
		errorDocument("SlowDown"):           providers.Throttled,
		errorDocument("InternalError"):      providers.UnknownOutcome,
		errorDocument("ServiceUnavailable"): providers.UnknownOutcome,
		errorDocument("InvalidPartOrder"):   providers.Rejected,
		"<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>": providers.UnknownOutcome,
	} {
		err := parseCompletion([]byte(body))
		if (err == nil) != (want == "") || (err != nil && providers.KindOf(err) != want) {
			t.Errorf("%q is %v, want %q", body, err, want)
		}
	}
}

func errorDocument(code string) string {
	return "<Error><Code>" + code + "</Code><Message>m</Message></Error>"
}

func TestKindsOfTheAPI(t *testing.T) {
	t.Parallel()
	for code, want := range map[int][2]providers.Kind{ // of ApplyUpload and CommitUpload
		4000: {providers.Rejected, providers.Rejected}, 4100: {providers.Unauthorized, providers.Unauthorized},
		4103: {providers.Unauthorized, providers.Unauthorized}, 4104: {providers.Unauthorized, providers.Unauthorized},
		4110: {providers.Unauthorized, providers.Unauthorized}, 4300: {providers.Unauthorized, providers.Unauthorized},
		4200: {providers.Transient, providers.Transient}, 4500: {providers.Transient, providers.Transient},
		4400: {providers.Throttled, providers.Throttled}, 5000: {providers.Rejected, providers.Rejected},
		5100: {providers.Transient, providers.UnknownOutcome}, 6000: {providers.Transient, providers.UnknownOutcome},
		6200: {providers.Transient, providers.Transient}, 31001: {providers.SessionLost, providers.SessionLost},
		32001: {providers.Transient, providers.UnknownOutcome}, -1: {providers.Rejected, providers.Rejected},
	} {
		if got := [2]providers.Kind{v2Kind(actionApply, code), v2Kind(actionCommit, code)}; got != want {
			t.Errorf("%d: %v, want %v", code, got, want)
		}
	}
	for code, want := range map[string][2]providers.Kind{
		"AuthFailure.SignatureFailure":        {providers.Unauthorized, providers.Unauthorized},
		"AuthFailure.SecretIdNotFound":        {providers.Unauthorized, providers.Unauthorized},
		"AuthFailure.SignatureExpire":         {providers.Transient, providers.Transient},
		"UnauthorizedOperation":               {providers.Unauthorized, providers.Unauthorized},
		"RequestLimitExceeded":                {providers.Throttled, providers.Throttled},
		"InternalError":                       {providers.Transient, providers.UnknownOutcome},
		"FailedOperation":                     {providers.Transient, providers.UnknownOutcome},
		"InvalidParameterValue.MediaType":     {providers.Rejected, providers.Rejected},
		"InvalidParameterValue.VodSessionKey": {providers.SessionLost, providers.SessionLost},
		"ResourceNotFound":                    {providers.SessionLost, providers.SessionLost},
		"UnknownParameter":                    {providers.Rejected, providers.Rejected},
	} {
		if got := [2]providers.Kind{v3Kind(actionApply, code), v3Kind(actionCommit, code)}; got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}

func TestKindsOfTheStorage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code   string
		status int
		want   [2]providers.Kind // of UploadPart and CompleteMultipartUpload
	}{
		{"NoSuchUpload", 404, [2]providers.Kind{providers.SessionLost, providers.SessionLost}},
		{"ExpiredToken", 400, [2]providers.Kind{providers.SessionLost, providers.SessionLost}},
		{"InvalidPart", 400, [2]providers.Kind{providers.SessionLost, providers.SessionLost}},
		{"BadDigest", 400, [2]providers.Kind{providers.Mismatch, providers.Mismatch}},
		{"IncompleteBody", 400, [2]providers.Kind{providers.Mismatch, providers.Mismatch}},
		{"EntityTooSmall", 400, [2]providers.Kind{providers.Rejected, providers.Rejected}},
		{"NoSuchBucket", 404, [2]providers.Kind{providers.Rejected, providers.Rejected}},
		{"AccessDenied", 403, [2]providers.Kind{providers.Unauthorized, providers.Unauthorized}},
		{"SignatureDoesNotMatch", 403, [2]providers.Kind{providers.Unauthorized, providers.Unauthorized}},
		{"RequestTimeTooSkewed", 403, [2]providers.Kind{providers.Transient, providers.Transient}},
		{"RequestTimeout", 400, [2]providers.Kind{providers.Transient, providers.Transient}},
		{"SlowDown", 503, [2]providers.Kind{providers.Throttled, providers.Throttled}},
		{"ServiceUnavailable", 503, [2]providers.Kind{providers.Throttled, providers.UnknownOutcome}},
		{"InternalError", 500, [2]providers.Kind{providers.Transient, providers.UnknownOutcome}},
		{"UploadConflict", 409, [2]providers.Kind{providers.Rejected, providers.Rejected}},
	} {
		var got [2]providers.Kind
		for i, call := range []string{callPart, callComplete} {
			e := statusError(call, tt.status, http.Header{}, []byte(errorDocument(tt.code)))
			if e.Code != tt.code {
				t.Errorf("%s: code %q", tt.code, e.Code)
			}
			got[i] = e.Kind
		}
		if got != tt.want {
			t.Errorf("%s: %v, want %v", tt.code, got, tt.want)
		}
	}
	expired := statusError(callPart, 403, http.Header{}, []byte("<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"))
	if expired.Kind != providers.Transient {
		t.Errorf("a signature past its time: %v", expired)
	}
	if e := statusError(callHead, 404, http.Header{}, nil); e.Code != codeNoSuchKey {
		t.Errorf("HEAD of nothing: %v", e)
	}
}

func FuzzParseV2(f *testing.F) {
	for _, body := range []string{v2Applied, v2AppliedLatest, v2Committed, `{"code":32001}`, `{}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if a, err := parseV2(body); err == nil && a.Code == nil {
			t.Error("an answer without a code is read")
		}
	})
}

func FuzzParseV3(f *testing.F) {
	for _, body := range []string{v3Applied, v3Refused, `{"Response":{}}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if a, err := parseV3(body); err == nil && a.RequestID == "" {
			t.Error("an answer without a request id is read")
		}
	})
}

func FuzzParsePartList(f *testing.F) {
	f.Add([]byte(listed))
	f.Add([]byte("<ListPartsResult/>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		page, err := parsePartList(body)
		if err != nil {
			return
		}
		plan := parts.Plan{Size: 3<<20 + 1, PartSize: 1 << 20}
		for _, p := range page.found(plan, new(parts.Set)) {
			if plan.Part(p.Number) != p.Part {
				t.Errorf("found %+v, which is not of the plan", p.Part)
			}
		}
	})
}

func FuzzParseCompletion(f *testing.F) {
	f.Add([]byte(completed))
	f.Add([]byte(refused))
	f.Fuzz(func(t *testing.T, body []byte) {
		err := parseCompletion(body)
		if err == nil && !strings.Contains(string(body), "CompleteMultipartUploadResult") {
			t.Errorf("%q is a success", body)
		}
		if _, ok := errors.AsType[*providers.Error](err); err != nil && !ok {
			t.Errorf("%v has no kind", err)
		}
	})
}

func FuzzStatusError(f *testing.F) {
	f.Add(404, []byte(refused))
	f.Add(503, []byte("busy"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if e := statusError(callComplete, status, http.Header{}, body); e.Kind == "" || e.Error() == "" {
			t.Errorf("%d %q has no kind", status, body)
		}
	})
}
