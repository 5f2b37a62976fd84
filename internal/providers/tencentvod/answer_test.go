package tencentvod

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// The answers of the documents, and of a log that the vendor published.
const (
	answerNew    = `{"code":0,"message":"","codeDesc":" 0\n","canRetry":0,"sessionInfo":"{\"sessionKey\":\"x\"}"}`
	answerResume = `{"code":1,"message":"","codeDesc":"","canRetry":0,"dataSize":1048576,
 "listParts":[{"offset":1048576,"dataSize":1048576,"dataMd5":"0bee89b07a248e27c83fc3d5951213c1"},
 {"offset":0,"dataSize":1048576,"dataSha":"0BEE89B07A248E27C83FC3D5951213C1"},
 {"offset":0,"dataSize":1048576,"dataMd5":"900150983cd24fb0d6963f7d28e17f72"},
 {"offset":1,"dataSize":1048576},{"offset":-1048576,"dataSize":1048576},{"offset":2097152,"dataSize":5},
 {"offset":3145728,"dataSize":5},{"offset":4194304,"dataSize":5},{"dataSize":1048576}]}`
	answerStored  = `{"code":2,"message":"","fileId":"16092504232103571364","url":"http://10013.vod2.myqcloud.com/vod10013/16092504232103571364/f0.mp4"}`
	answerDone    = `{"code":0,"message":"","fileId":"7031868222808505913","url":"http://10013.vod2.myqcloud.com/vod10013/7031868222808505913/f0.mp4"}`
	answerRefused = `{"code":-10001,"message":"invalid arg","canRetry":0}`
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
	resume := parse(t, answerResume)
	want := []parts.Stored{
		{Part: parts.Part{Number: 1, Offset: 0, Length: 1048576}, Receipt: parts.Receipt{Tag: "0bee89b07a248e27c83fc3d5951213c1"}},
		{Part: parts.Part{Number: 2, Offset: 1048576, Length: 1048576}, Receipt: parts.Receipt{Tag: "0bee89b07a248e27c83fc3d5951213c1"}},
		{Part: parts.Part{Number: 4, Offset: 3145728, Length: 5}},
	}
	got := resume.found(parts.Plan{Size: 3145733, PartSize: resume.partSize(smallPart)})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	for text, want := range map[string]uploads.Asset{
		answerStored: {ID: "16092504232103571364", URL: "http://10013.vod2.myqcloud.com/vod10013/16092504232103571364/f0.mp4"},
		answerDone:   {ID: "7031868222808505913", URL: "http://10013.vod2.myqcloud.com/vod10013/7031868222808505913/f0.mp4"},
	} {
		if diff := cmp.Diff(want, parse(t, text).asset()); diff != "" {
			t.Errorf("asset (-want +got):\n%s", diff)
		}
	}
	if size := parse(t, answerNew).partSize(smallPart); size != smallPart {
		t.Errorf("without dataSize the part size is %d", size)
	}
	for text, want := range map[string][2]bool{ // at InitUpload, at other calls
		answerNew: {true, true}, answerResume: {true, false}, answerStored: {true, false}, answerRefused: {false, false},
		`{"code":3}`: {false, false}, `{"code":4100}`: {false, false},
	} {
		a := parse(t, text)
		if got := [2]bool{a.succeeded(actionInit), a.succeeded(actionFinish)}; got != want {
			t.Errorf("code %d succeeded: %v, want %v", *a.Code, got, want)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, a := range []string{answerNew, answerResume, answerStored, answerDone, answerRefused, `{}`, `null`, `[]`} {
		f.Add([]byte(a))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err != nil {
			return
		}
		for _, size := range []int64{smallPart, largePart} {
			plan := parts.Plan{Size: 3*size + 1, PartSize: size}
			found := a.found(plan)
			for i, p := range found {
				if plan.Part(p.Number) != p.Part || (i > 0 && found[i-1].Number >= p.Number) {
					t.Errorf("found %+v, which is not of the plan in its order", found)
				}
			}
		}
		if !a.succeeded(actionFinish) {
			if e := a.refusal(actionFinish, "SIGNED"); e.Kind == "" || len(e.Message) > maxMessage || strings.Contains(e.Message, "SIGNED") {
				t.Errorf("refusal %v", e)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	no, yes := 0, 1
	for _, tt := range []struct {
		action   string
		code     int
		canRetry *int
		want     providers.Kind
	}{
		{actionInit, -10001, &no, providers.Rejected},
		{actionInit, -10002, &no, providers.Unauthorized},
		{actionInit, -10002, &yes, providers.Unauthorized},
		{actionInit, -10003, nil, providers.Rejected},
		{actionInit, -10004, nil, providers.Transient},
		{actionInit, -10004, &no, providers.Rejected},
		{actionInit, -10005, &yes, providers.Transient},
		{actionInit, -10005, nil, providers.Transient},
		{actionInit, -10006, nil, providers.Transient},
		{actionInit, -1, nil, providers.Rejected},
		{actionInit, 3, nil, providers.Rejected},
		{actionInit, 3, &yes, providers.Transient},
		{actionPart, -10004, &yes, providers.Transient},
		{actionPart, -10005, &yes, providers.SessionLost},
		{actionPart, -10006, &yes, providers.Mismatch},
		{actionPart, -10003, nil, providers.Rejected},
		{actionPart, -77, &yes, providers.Transient},
		{actionPart, 2, nil, providers.Rejected},
		{actionPart, 4000, nil, providers.Rejected},
		{actionPart, 4100, nil, providers.Unauthorized},
		{actionPart, 4101, nil, providers.Unauthorized},
		{actionPart, 4104, nil, providers.Unauthorized},
		{actionPart, 4105, nil, providers.Rejected},
		{actionPart, 4110, nil, providers.Unauthorized},
		{actionPart, 4200, &no, providers.Transient},
		{actionPart, 4300, nil, providers.Unauthorized},
		{actionPart, 4400, &no, providers.Throttled},
		{actionPart, 4500, &no, providers.Transient},
		{actionPart, 4600, nil, providers.Rejected},
		{actionPart, 5000, nil, providers.Rejected},
		{actionPart, 5100, nil, providers.Transient},
		{actionPart, 5200, nil, providers.Rejected},
		{actionPart, 6000, nil, providers.Transient},
		{actionPart, 6000, &no, providers.Rejected},
		{actionPart, 6100, nil, providers.Rejected},
		{actionPart, 6200, nil, providers.Transient},
		{actionFinish, -10003, &no, providers.Mismatch},
		{actionFinish, -10004, nil, providers.Transient},
		{actionFinish, -10005, nil, providers.SessionLost},
		{actionFinish, -10006, nil, providers.Transient},
	} {
		a := answer{Code: &tt.code, CanRetry: tt.canRetry, Message: "bad SIGNED thing" + strings.Repeat("é", maxMessage)}
		got := a.refusal(tt.action, "SIGNED", "")
		if got.Kind != tt.want {
			t.Errorf("%s %d: %s, want %s", tt.action, tt.code, got.Kind, tt.want)
		}
		if strings.Contains(got.Error(), "SIGNED") || len(got.Message) > maxMessage {
			t.Errorf("the signature shows, or too much, in %q", got)
		}
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	client := New(&http.Client{})
	for name, tt := range map[string]struct {
		media providers.Media
		want  string // fields, joined
	}{
		"fine":               {providers.Media{Name: "a.mp4", Options: map[string]string{"transcode": "true", "watermark": "true", "tags": "a,b", "class_id": "7"}}, ""},
		"screenshot alone":   {providers.Media{Name: "a.mp4", Options: map[string]string{"screenshot": "true"}}, ""},
		"40 bytes":           {providers.Media{Name: strings.Repeat("ü", 20) + ".MP4"}, ""},
		"long name":          {providers.Media{Name: strings.Repeat("ü", 20) + "x.mp4"}, "name"},
		"type not the end":   {providers.Media{Name: strings.Repeat("x", 37) + ".mp4", Options: map[string]string{"file_type": "mkv"}}, "name"},
		"forbidden":          {providers.Media{Name: "a:b.mp4"}, "name"},
		"nothing but a type": {providers.Media{Name: ".mp4"}, "name"},
		"no extension":       {providers.Media{Name: "film"}, "options.file_type"},
		"type given":         {providers.Media{Name: "film", Options: map[string]string{"file_type": "mkv"}}, ""},
		"bad type":           {providers.Media{Name: "film", Options: map[string]string{"file_type": ".mkv"}}, "options.file_type"},
		"unknown option":     {providers.Media{Name: "a.mp4", Options: map[string]string{"wm": "1"}}, "options.wm"},
		"everything at once": {providers.Media{Name: "?", Options: map[string]string{"class_id": "x", "tags": ",", "transcode": "maybe"}}, "options.class_id options.tags options.transcode options.file_type name"},
	} {
		if got := fields(client.CheckMedia(tt.media)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	good := map[string]providers.Secret{"secret_id": "a", "secret_key": "b"}
	for name, tt := range map[string]struct {
		account providers.Account
		want    string
	}{
		"fine":        {providers.Account{Secrets: good}, ""},
		"all set":     {providers.Account{Secrets: good, Settings: map[string]string{"endpoint": "https://vod2.qcloud.com/", "path": "/v3/index.php", "param_style": "sdk", "region": "sh", "signature_method": "HmacSHA256"}}, ""},
		"no secrets":  {providers.Account{}, "secrets.secret_id secrets.secret_key"},
		"bad":         {providers.Account{Secrets: good, Settings: map[string]string{"endpoint": "vod2.qcloud.com", "path": "x", "param_style": "y", "region": "", "signature_method": "MD5", "z": ""}}, "settings.endpoint settings.param_style settings.path settings.region settings.signature_method settings.z"},
		"odd secrets": {providers.Account{Secrets: map[string]providers.Secret{"secret_id": "a", "secret_key": "b", "key": "c"}}, "secrets.key"},
	} {
		if got := fields(client.CheckAccount(tt.account)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// fields returns the fields that a joined error names, in order.
func fields(err error) string {
	if err == nil {
		return ""
	}
	var names []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		name, _, _ := strings.Cut(line, ": ")
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// TestNames cuts off the extension where it is the file type, and nothing else.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, fileType, wantName, wantType string }{
		{"my video.mp4", "", "my video", "mp4"},
		{"Film.MP4", "", "Film", "mp4"},
		{"Film.MP4", "mp4", "Film", "mp4"},
		{"take.2", "mov", "take.2", "mov"},
		{"a.tar.gz", "", "a.tar", "gz"},
		{"+&=%.mp4", "", "+&=%", "mp4"},
	} {
		media := providers.Media{Name: tt.name}
		if tt.fileType != "" {
			media.Options = map[string]string{"file_type": tt.fileType}
		}
		o, err := readOptions(media)
		if err != nil || o.fileName != tt.wantName || o.fileType != tt.wantType {
			t.Errorf("%s as %q: %q and %q, %v", tt.name, tt.fileType, o.fileName, o.fileType, err)
		}
	}
}
