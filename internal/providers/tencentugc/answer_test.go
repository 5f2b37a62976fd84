package tencentugc

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

func asError(err error) (*providers.Error, bool) { return errors.AsType[*providers.Error](err) }

func planOf(media providers.Media) parts.Plan {
	return parts.Plan{Size: media.Size, PartSize: media.PartSize}
}

func encode(t *testing.T, s session) providers.Session {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return providers.Session{Data: data}
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
	return providers.Media{Upload: id, Epoch: 1, Name: "a.mp4", Size: size, PartSize: smallPart, Digests: []hashing.Digest{sum}}
}

// The answers of the documents.
const (
	answerNew    = `{"code":0,"message":"","codeDesc":"","canRetry":0}`
	answerResume = `{"code":1,"message":"","codeDesc":" 0\n","canRetry":0,"dataSize":1048576,
 "listParts":[{"offset":1048576,"dataSize":1048576,"dataMd5":"0bee89b07a248e27c83fc3d5951213c1"},
 {"offset":0,"dataSize":1048576,"dataSha":"0BEE89B07A248E27C83FC3D5951213C1"},
 {"offset":1,"dataSize":1048576},{"offset":-1048576,"dataSize":1048576},{"offset":2097152,"dataSize":1048576},
 {"offset":2097152,"dataSize":5},{"offset":3145728,"dataSize":5},{"dataSize":1048576}]}`
	answerStored = `{"code":2,"message":"","fileId":"16092504232103571364",
 "url":"http://10013.vod2.myqcloud.com/vod10013/16092504232103571364/f0.mp4"}`
	answerDone = `{"code":0,"message":"","fileId":"7031868222808505913","verify_content":"MylkSw=="}`
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	resume, err := parseAnswer([]byte(answerResume))
	if err != nil {
		t.Fatal(err)
	}
	want := []parts.Stored{
		{Part: parts.Part{Number: 1, Offset: 0, Length: 1048576}, Receipt: parts.Receipt{Tag: "0bee89b07a248e27c83fc3d5951213c1"}},
		{Part: parts.Part{Number: 2, Offset: 1048576, Length: 1048576}, Receipt: parts.Receipt{Tag: "0bee89b07a248e27c83fc3d5951213c1"}},
		{Part: parts.Part{Number: 3, Offset: 2097152, Length: 5}},
	}
	got := resume.found(parts.Plan{Size: 2097157, PartSize: resume.partSize(smallPart)})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	stored, err := parseAnswer([]byte(answerStored))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(uploads.Asset{ID: "16092504232103571364", URL: "http://10013.vod2.myqcloud.com/vod10013/16092504232103571364/f0.mp4"}, stored.asset()); diff != "" {
		t.Errorf("asset (-want +got):\n%s", diff)
	}
	done, err := parseAnswer([]byte(answerDone))
	if err != nil {
		t.Fatal(err)
	}
	if got := done.asset().Detail["verify_content"]; got != "MylkSw==" {
		t.Errorf("verify_content is %q", got)
	}
	if size := (answer{}).partSize(smallPart); size != smallPart {
		t.Errorf("without dataSize the part size is %d", size)
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, a := range []string{answerNew, answerResume, answerStored, answerDone, `{}`, `null`, `[]`} {
		f.Add([]byte(a))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err != nil {
			return
		}
		for _, size := range []int64{smallPart, largePart} {
			plan := parts.Plan{Size: 3*size + 1, PartSize: size}
			for _, p := range a.found(plan) {
				if plan.Part(p.Number) != p.Part {
					t.Errorf("found %+v, which is not of the plan", p.Part)
				}
			}
		}
		if *a.Code < 0 && a.refusal(actionPart, "SIGNED").Error() == "" {
			t.Error("a refusal says nothing")
		}
	})
}

// TestFirstPartSizeWins resumes with another part size than was begun with.
func TestFirstPartSizeWins(t *testing.T) {
	t.Parallel()
	client, _, account := start(t, upstreams.VODConfig{})
	media := testMedia(t, 3<<20)
	begun, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, smallPart)
	sum, err := hashing.Sum(hashing.MD5, data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutPart(t.Context(), begun.Session, planOf(media).Part(3), &inMemory{data: data, sum: sum}); err != nil {
		t.Fatal(err)
	}
	media.PartSize = largePart
	again, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	if again.PartSize != smallPart || len(again.Found) != 1 || again.Found[0].Number != 3 {
		t.Errorf("begin answered part size %d and %+v, want %d and part 3", again.PartSize, again.Found, smallPart)
	}
}

// inMemory is a body that is never read, only taken as a whole.
type inMemory struct {
	data []byte
	sum  hashing.Digest
}

func (b *inMemory) Read([]byte) (int, error) { return 0, errors.New("the body is in memory") }
func (b *inMemory) Len() int64               { return int64(len(b.data)) }
func (b *inMemory) Bytes() []byte            { return b.data }
func (b *inMemory) Digest() hashing.Digest   { return b.sum }

func TestChecks(t *testing.T) {
	t.Parallel()
	client := New(http.DefaultClient)
	for name, tt := range map[string]struct {
		media providers.Media
		want  string // fields, joined
	}{
		"fine":               {providers.Media{Name: "a.mp4", Options: map[string]string{"transcode": "true", "watermark": "true", "tags": "a,b", "class_id": "7"}}, ""},
		"long name":          {providers.Media{Name: strings.Repeat("ü", 19) + ".mp4"}, "name"},
		"forbidden":          {providers.Media{Name: "a:b.mp4"}, "name"},
		"no extension":       {providers.Media{Name: "film"}, "options.file_type"},
		"type given":         {providers.Media{Name: "film", Options: map[string]string{"file_type": "mkv"}}, ""},
		"unknown option":     {providers.Media{Name: "a.mp4", Options: map[string]string{"wm": "1"}}, "options.wm"},
		"without transcode":  {providers.Media{Name: "a.mp4", Options: map[string]string{"screenshot": "true"}}, "options.screenshot"},
		"everything at once": {providers.Media{Name: "?", Options: map[string]string{"class_id": "x", "tags": ",", "transcode": "maybe"}}, "name options.class_id options.tags options.transcode options.file_type"},
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
		"no secrets":  {providers.Account{}, "secrets.secret_id secrets.secret_key"},
		"bad":         {providers.Account{Secrets: good, Settings: map[string]string{"endpoint": "vod2.qcloud.com", "path": "x", "param_style": "y", "z": ""}}, "settings.endpoint settings.param_style settings.path settings.z"},
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
