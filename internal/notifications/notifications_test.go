package notifications

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// intake is a dispatcher over a bucket in memory.
type intake struct {
	mu      sync.Mutex
	objects map[string]string // ETags by key
	byKey   map[string]uploads.Submission
	took    []string // "account: key, option"
	fail    error    // the next call
}

func (in *intake) Submit(_ context.Context, s uploads.Submission) (uploads.Upload, bool, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.fail; err != nil {
		in.fail = nil
		return uploads.Upload{}, false, err
	}
	if before, ok := in.byKey[s.IdempotencyKey]; ok {
		if !maps.Equal(before.Options, s.Options) {
			return uploads.Upload{}, false, fmt.Errorf("%w: x", uploads.ErrKeyTaken)
		}
		return uploads.Upload{}, false, nil
	}
	etag, ok := in.objects[s.Source.Key]
	if !ok {
		return uploads.Upload{}, false, &uploads.FieldError{Field: "source.key", Detail: "is not in staging"}
	}
	if s.Source.ETag != "" && s.Source.ETag != etag {
		return uploads.Upload{}, false, &uploads.FieldError{Field: "source.etag", Detail: "is another one"}
	}
	in.byKey[s.IdempotencyKey] = s
	in.took = append(in.took, s.Tenant+"/"+s.Account+": "+s.Source.Key+" "+s.Options["title"])
	return uploads.Upload{}, true, nil
}

type bundle struct {
	*Notifications

	intake *intake
	counts map[Outcome]int
}

func setup(rules ...Rule) *bundle {
	b := &bundle{intake: &intake{objects: map[string]string{}, byKey: map[string]uploads.Submission{}}, counts: map[Outcome]int{}}
	b.Notifications = New(rules, b.intake, func(o Outcome) { b.counts[o]++ }, zap.NewNop())
	return b
}

func films() Rule {
	return Rule{Bucket: "staging", Prefix: "films/", Suffix: ".mp4", Targets: []Target{{"default", "main"}, {"news", "archive"}}, Options: map[string]string{"title": "film"}}
}

// put is an event message as versitygw and MinIO have it, without what is not read.
func put(bucket, key, etag, sequencer string) []byte {
	return fmt.Appendf(nil, `{"Records":[{"eventName":"s3:ObjectCreated:Put","eventTime":"2026-11-21T04:00:00Z",`+
		`"s3":{"bucket":{"name":%q},"object":{"key":%q,"eTag":%q,"sequencer":%q}}}]}`, bucket, key, etag, sequencer)
}

// Messages in the form in which MinIO publishes them an upload at each account, once.
func TestMessagesInTheFormOfMinIO(t *testing.T) {
	t.Parallel()
	b := setup(films())
	b.intake.objects["films/A film, part 1+2 ß.mp4"] = "d41d8cd98f00b204e9800998ecf8427e-2"
	b.intake.objects["films/one.mp4"] = "7ac66c0f148de9519b8bd264312c4d64"
	for _, name := range []string{"minio-put.json", "minio-multipart.json", "minio-delete.json", "minio-put.json"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Take(t.Context(), text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := []string{
		"default/main: films/one.mp4 film", "news/archive: films/one.mp4 film",
		"default/main: films/A film, part 1+2 ß.mp4 film", "news/archive: films/A film, part 1+2 ß.mp4 film",
	}
	if diff := cmp.Diff(want, b.intake.took); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[Outcome]int{Submitted: 4, Known: 2, Ignored: 1}, b.counts); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// Rules that overlap name an account once for an object; the first that does says how.
func TestOverlappingRules(t *testing.T) {
	t.Parallel()
	all := Rule{Bucket: "staging", Targets: []Target{{"default", "main"}, {"default", "third"}}, Options: map[string]string{"title": "any"}}
	b := setup(films(), all, Rule{Bucket: "other", Targets: []Target{{"default", "main"}}})
	b.intake.objects["films/a.mp4"], b.intake.objects["films/.mp4"], b.intake.objects["x"] = "e", "e", "e"
	for _, key := range []string{"films/a.mp4", "x"} {
		if err := b.Take(t.Context(), put("staging", key, "e", "1")); err != nil {
			t.Error(err)
		}
	}
	want := []string{"default/main: films/a.mp4 film", "news/archive: films/a.mp4 film", "default/third: films/a.mp4 any", "default/main: x any", "default/third: x any"}
	if diff := cmp.Diff(want, b.intake.took); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
	// Prefix and suffix do not overlap in the key.
	if r := (Rule{Bucket: "b", Prefix: "abc", Suffix: "cd"}); r.matches("b", "abcd") || !r.matches("b", "abccd") {
		t.Error("a suffix begins within the prefix")
	}
}

func TestWhatIsNoNewObjectIsPassedOver(t *testing.T) {
	t.Parallel()
	b := setup(films())
	for _, text := range []string{
		`{"Service":"S3","Event":"s3:TestEvent","Bucket":"Test-Bucket"}`,
		`{"Records":[{"eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"staging"},"object":{"key":"%zz"}}}]}`,
		`{"Records":[{"eventName":"s3:ObjectTagging:Put"},{"eventName":"s3:ObjectCreated:PutRetention"},{"eventName":""}]}`,
		string(put("nowhere", "films/a.mp4", "", "")), string(put("staging", "films/a.txt", "", "")),
	} {
		if err := b.Take(t.Context(), []byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if diff := cmp.Diff(map[Outcome]int{Ignored: 5, NoRule: 2}, b.counts); diff != "" || len(b.intake.took) > 0 {
		t.Errorf("%v, outcomes (-want +got):\n%s", b.intake.took, diff)
	}
}

func TestMessagesThatNobodyCanRead(t *testing.T) {
	t.Parallel()
	b := setup(films())
	for text, want := range map[string]string{
		"":                              "not an S3 event message",
		"[]":                            "not an S3 event message",
		"null":                          "has no Records",
		`{"Records":[]}`:                "has no Records",
		`{"Records":[{"s3":7}]}`:        "not an S3 event message",
		`{"Records":[{}]} {}`:           "something after",
		string(put("", "k", "", "")):    "no bucket name",
		string(put("b", "", "", "")):    "no object key",
		string(put("b", "%zz", "", "")): "Records[0].s3.object.key: is not encoded",
	} {
		err := b.Take(t.Context(), []byte(text))
		refused, ok := errors.AsType[*uploads.RefusedError](err)
		if !ok || !strings.Contains(refused.Reason, want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// One object that is wrong keeps no other from its upload, and a message that is
// put back makes no second one of those.
func TestOneBadObjectOfAMessage(t *testing.T) {
	t.Parallel()
	b := setup(films())
	b.intake.objects["films/b.mp4"] = "e"
	one := func(key string) string {
		return strings.TrimSuffix(strings.TrimPrefix(string(put("staging", key, "e", "1")), `{"Records":[`), `]}`)
	}
	text := []byte(`{"Records":[` + one("films/a.mp4") + "," + one("films/b.mp4") + `]}`)
	err := b.Take(t.Context(), text)
	refused, ok := errors.AsType[*uploads.RefusedError](err)
	if !ok || !strings.Contains(refused.Reason, "s3://staging/films/a.mp4 for account main: source.key: is not in staging") || strings.Contains(refused.Reason, "b.mp4") {
		t.Errorf("refused with %v", err)
	}
	b.intake.objects["films/a.mp4"] = "e" // it is put right, and the message put back
	if err := b.Take(t.Context(), text); err != nil {
		t.Error(err)
	}
	if slices.Sort(b.intake.took); len(b.intake.took) != 4 || len(slices.Compact(b.intake.took)) != 4 {
		t.Errorf("submitted %v", b.intake.took)
	}
}

func TestWhatIntakeSays(t *testing.T) {
	t.Parallel()
	b := setup(Rule{Bucket: "staging", Targets: []Target{{"default", "main"}}})
	b.intake.objects["k"] = "new"
	msg := put("staging", "k", "new", "2")
	b.intake.fail = errors.Join(&uploads.FieldError{Field: "options.x", Detail: "y"}, &uploads.UnavailableError{What: "staging", Err: errors.New("gone")})
	if err := b.Take(t.Context(), msg); err == nil || errors.As(err, new(*uploads.RefusedError)) {
		t.Errorf("staging is away: %v, want it to come again", err)
	}
	unforeseen := errors.New("unforeseen")
	b.intake.fail = unforeseen
	if err := b.Take(t.Context(), msg); !errors.Is(err, unforeseen) {
		t.Errorf("intake fails: %v, want it to come again", err)
	}
	for range 2 {
		if err := b.Take(t.Context(), msg); err != nil {
			t.Error(err)
		}
	}
	// The rule was changed, and the message comes again.
	b.rules[0].Options = map[string]string{"title": "other"}
	if err := b.Take(t.Context(), msg); err != nil {
		t.Error(err)
	}
	// An event of what was there before.
	if err := b.Take(t.Context(), put("staging", "k", "old", "1")); err != nil {
		t.Error(err)
	}
	// The same bytes are put again: another event, another upload.
	if err := b.Take(t.Context(), put("staging", "k", `"new"`, "3")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[Outcome]int{Submitted: 2, Known: 2, Superseded: 1}, b.counts); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// Keys come as they are in the bucket, whatever the store makes of them on the way.
func TestKeysAreDecoded(t *testing.T) {
	t.Parallel()
	for encoded, want := range map[string]string{
		"a+b%2Bc%2Fd":            "a b+c/d",
		"%C3%9F.mp4":             "ß.mp4",
		"versitygw:a+b%2Bc%20d/": "a+b%2Bc%20d/",
	} {
		var r record
		var of bool
		r.S3.Object.Key, of = strings.CutPrefix(encoded, "versitygw:")
		if of {
			r.S3.ConfigurationID = "webhook-global"
		}
		if got, err := decode(r); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", encoded, got, err, want)
		}
	}
}

// Whatever is published is taken, refused, or comes to nothing.
func FuzzTake(f *testing.F) {
	f.Add(put("staging", "films/a.mp4", "e", "1"))
	f.Add([]byte(`{"Event":"s3:TestEvent"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := setup(Rule{Bucket: "staging", Targets: []Target{{"default", "main"}}})
		err := b.Take(t.Context(), data)
		if _, ok := errors.AsType[*uploads.RefusedError](err); err != nil && !ok {
			t.Fatalf("%q: %v", data, err)
		}
		if len(b.counts) == 0 {
			t.Fatalf("%q is not counted", data)
		}
	})
}
