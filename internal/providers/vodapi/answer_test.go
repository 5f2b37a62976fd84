package vodapi

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/webapi"
	"mediaferry/internal/uploads"
)

// obedient returns a dialect that tries again where canRetry invites to.
func obedient() Dialect {
	return Dialect{Init: "InitUpload", Part: "UploadPart", Finish: "FinishUpload", Retryable: func(_ int, canRetry *int) bool {
		return canRetry != nil && *canRetry == 1
	}}
}

// The answers of the documents, and of a log that the vendor published.
const (
	answerNew    = `{"code":0,"message":"","codeDesc":" 0\n","canRetry":0,"sessionInfo":"{\"sessionKey\":\"x\"}"}`
	answerResume = `{"code":1,"message":"","codeDesc":"","canRetry":0,"dataSize":1048576,
 "listParts":[{"offset":1048576,"dataSize":1048576,"dataMd5":"0bee89b07a248e27c83fc3d5951213c1"},
 {"offset":0,"dataSize":1048576,"dataSha":"0BEE89B07A248E27C83FC3D5951213C1"},
 {"offset":0,"dataSize":1048576,"dataMd5":"900150983cd24fb0d6963f7d28e17f72"},
 {"offset":1,"dataSize":1048576},{"offset":-1048576,"dataSize":1048576},{"offset":2097152,"dataSize":5},
 {"offset":3145728,"dataSize":5},{"offset":4194304,"dataSize":5},{"dataSize":1048576}]}`
	answerStored   = `{"code":2,"message":"","fileId":"16092504232103571364","url":"http://10013.vod2.myqcloud.com/vod10013/16092504232103571364/f0.mp4"}`
	answerDone     = `{"code":0,"message":"","fileId":"7031868222808505913","url":"http://10013.vod2.myqcloud.com/vod10013/7031868222808505913/f0.mp4"}`
	answerVerified = `{"code":0,"message":"","fileId":"7031868222808505913","verify_content":"MylkSw=="}`
	answerRefused  = `{"code":-10001,"message":"invalid arg","canRetry":0}`
)

func parse(t *testing.T, text string) answer {
	t.Helper()
	a, err := parseAnswer([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	d := obedient()
	resume := parse(t, answerResume)
	want := []parts.Stored{
		{Part: parts.Part{Number: 1, Offset: 0, Length: 1048576}, Receipt: parts.Receipt{Tag: "0bee89b07a248e27c83fc3d5951213c1"}},
		{Part: parts.Part{Number: 2, Offset: 1048576, Length: 1048576}, Receipt: parts.Receipt{Tag: "0bee89b07a248e27c83fc3d5951213c1"}},
		{Part: parts.Part{Number: 4, Offset: 3145728, Length: 5}},
	}
	got := resume.found(parts.Plan{Size: 3145733, PartSize: resume.partSize(SmallPart)})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	for text, want := range map[string]uploads.Asset{
		answerStored:   {ID: "16092504232103571364", URL: "http://10013.vod2.myqcloud.com/vod10013/16092504232103571364/f0.mp4"},
		answerVerified: {ID: "7031868222808505913", Detail: map[string]string{"verify_content": "MylkSw=="}},
		answerDone:     {ID: "7031868222808505913", URL: "http://10013.vod2.myqcloud.com/vod10013/7031868222808505913/f0.mp4"},
	} {
		if diff := cmp.Diff(want, parse(t, text).asset()); diff != "" {
			t.Errorf("asset (-want +got):\n%s", diff)
		}
	}
	if size := parse(t, answerNew).partSize(SmallPart); size != SmallPart {
		t.Errorf("without dataSize the part size is %d", size)
	}
	for text, want := range map[string][2]bool{ // at InitUpload, at other calls
		answerNew: {true, true}, answerResume: {true, false}, answerStored: {true, false}, answerRefused: {false, false},
		`{"code":3}`: {false, false}, `{"code":4100}`: {false, false},
	} {
		a := parse(t, text)
		if got := [2]bool{d.succeeded(d.Init, int(*a.Code)), d.succeeded(d.Finish, int(*a.Code))}; got != want {
			t.Errorf("code %d succeeded: %v, want %v", *a.Code, got, want)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, a := range []string{answerNew, answerResume, answerStored, answerDone, answerRefused, `{}`, `null`, `[]`} {
		f.Add([]byte(a))
	}
	d := obedient()
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err != nil {
			return
		}
		for _, size := range []int64{SmallPart, LargePart} {
			plan := parts.Plan{Size: 3*size + 1, PartSize: size}
			found := a.found(plan)
			for i, p := range found {
				if plan.Part(p.Number) != p.Part || (i > 0 && found[i-1].Number >= p.Number) {
					t.Errorf("found %+v, which is not of the plan in its order", found)
				}
			}
		}
		if !d.succeeded(d.Finish, int(*a.Code)) {
			if e := a.refusal(d, d.Finish, "SIGNED"); e.Kind == "" || len(e.Message) > webapi.MaxWords || strings.Contains(e.Message, "SIGNED") {
				t.Errorf("refusal %v", e)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	no, yes, d := 0, 1, obedient()
	for _, tt := range []struct {
		action   string
		code     int
		canRetry *int
		want     providers.Kind
	}{
		{d.Init, -10001, &no, providers.Rejected},
		{d.Init, -10002, &no, providers.Unauthorized},
		{d.Init, -10002, &yes, providers.Unauthorized},
		{d.Init, -10003, nil, providers.Rejected},
		{d.Init, -10004, &yes, providers.Transient},
		{d.Init, -10004, &no, providers.Rejected},
		{d.Init, -10005, &yes, providers.Transient},
		{d.Init, -10006, &yes, providers.Transient},
		{d.Init, -1, nil, providers.Rejected},
		{d.Init, 3, nil, providers.Rejected},
		{d.Init, 3, &yes, providers.Transient},
		{d.Part, -10004, &yes, providers.Transient},
		{d.Part, -10005, &yes, providers.SessionLost},
		{d.Part, -10006, &yes, providers.Mismatch},
		{d.Part, -10003, nil, providers.Rejected},
		{d.Part, -77, &yes, providers.Transient},
		{d.Part, 2, nil, providers.Rejected},
		{d.Part, 4000, nil, providers.Rejected},
		{d.Part, 4100, nil, providers.Unauthorized},
		{d.Part, 4101, nil, providers.Unauthorized},
		{d.Part, 4104, nil, providers.Unauthorized},
		{d.Part, 4105, nil, providers.Rejected},
		{d.Part, 4110, nil, providers.Unauthorized},
		{d.Part, 4200, &no, providers.Transient},
		{d.Part, 4300, nil, providers.Unauthorized},
		{d.Part, 4400, &no, providers.Throttled},
		{d.Part, 4500, &no, providers.Transient},
		{d.Part, 4600, nil, providers.Rejected},
		{d.Part, 5000, nil, providers.Rejected},
		{d.Part, 5100, &yes, providers.Transient},
		{d.Part, 5200, nil, providers.Rejected},
		{d.Part, 6000, &yes, providers.Transient},
		{d.Part, 6000, &no, providers.Rejected},
		{d.Part, 6100, nil, providers.Rejected},
		{d.Part, 6200, &yes, providers.Transient},
		{d.Finish, -10003, &no, providers.Mismatch},
		{d.Finish, -10004, &yes, providers.Transient},
		{d.Finish, -10005, nil, providers.SessionLost},
		{d.Finish, -10006, &yes, providers.Transient},
	} {
		a := answer{Code: (*webapi.Int)(&tt.code), CanRetry: (*webapi.Int)(tt.canRetry), Message: "bad SIGNED thing" + strings.Repeat("é", webapi.MaxWords)}
		got := a.refusal(d, tt.action, "SIGNED", "")
		if got.Kind != tt.want {
			t.Errorf("%s %d: %s, want %s", tt.action, tt.code, got.Kind, tt.want)
		}
		if strings.Contains(got.Error(), "SIGNED") || len(got.Message) > webapi.MaxWords {
			t.Errorf("the signature shows, or too much, in %q", got)
		}
	}
}
