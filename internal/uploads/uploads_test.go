package uploads_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"mediaferry/internal/hashing"
	"mediaferry/internal/uploads"
)

func TestLegalMoves(t *testing.T) {
	t.Parallel()
	// Rows and columns in the order of States.
	want := map[uploads.State]string{
		//                   q d b u f C F X
		uploads.Queued:    ". d b . . C F X",
		uploads.Digesting: ". . b . . C F X",
		uploads.Beginning: ". . . u f C F X",
		uploads.Uploading: ". . b . f C F X",
		uploads.Finishing: ". . b . . C F X",
		uploads.Completed: ". . . . . . . .",
		uploads.Failed:    "q . . . f . . .",
		uploads.Cancelled: ". . . . . . . .",
	}
	states := uploads.States()
	if len(states) != len(want) {
		t.Fatalf("%d states, want %d", len(states), len(want))
	}
	for _, from := range states {
		var row []string
		for i, to := range states {
			mark := "."
			if from.CanMove(to) {
				mark = strings.Split("q d b u f C F X", " ")[i]
			}
			row = append(row, mark)
		}
		if got := strings.Join(row, " "); got != want[from] {
			t.Errorf("%-10s moves %s, want %s", from, got, want[from])
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	for _, s := range uploads.States() {
		final := s == uploads.Completed || s == uploads.Cancelled
		if !s.Valid() || s.Active() != (!final && s != uploads.Failed) {
			t.Errorf("%s: valid %t, active %t", s, s.Valid(), s.Active())
		}
		if s.Active() && (!s.CanMove(uploads.Failed) || !s.CanMove(uploads.Cancelled)) {
			t.Errorf("%s cannot be cancelled or fail", s)
		}
		if s.CanMove(s) {
			t.Errorf("%s moves to itself", s)
		}
	}
	for _, s := range []uploads.State{"", "done", "Queued"} {
		if s.Valid() || s.Active() || s.CanMove(uploads.Queued) || uploads.Queued.CanMove(s) {
			t.Errorf("%q passes for a state", s)
		}
	}
}

// Final states are never left, and whatever is legal, an upload can still come
// to an end.
func TestMovesLeadToAnEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := uploads.Queued
		for _, to := range rapid.SliceOf(rapid.SampledFrom(uploads.States())).Draw(t, "moves") {
			if s.CanMove(to) {
				if s == uploads.Completed || s == uploads.Cancelled {
					t.Fatalf("%s is left for %s", s, to)
				}
				s = to
			}
		}
		reach := []uploads.State{s}
		for i := 0; i < len(reach); i++ {
			for _, to := range uploads.States() {
				if reach[i].CanMove(to) && !slices.Contains(reach, to) {
					reach = append(reach, to)
				}
			}
		}
		if !slices.Contains(reach, uploads.Completed) && s != uploads.Cancelled {
			t.Fatalf("%s cannot be completed", s)
		}
	})
}

func good() uploads.Submission {
	return uploads.Submission{
		Tenant: "acme", Account: "vod-1", IdempotencyKey: "k", Priority: 5,
		Source: uploads.Object{Bucket: "inbox", Key: "a/b/Film 1.mp4"},
		Name:   "Film.mp4", ContentType: "video/mp4",
		Labels:  map[string]string{"team": "news", "empty": ""},
		Options: map[string]string{"class_id": "7"},
	}
}

// fields returns the names of the fields that err complains about, in order.
func fields(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("%v is not a join", err)
	}
	var out []string
	for _, e := range joined.Unwrap() {
		f, ok := errors.AsType[*uploads.FieldError](e)
		if !ok {
			t.Fatalf("%v is no field error", e)
		}
		if f.Detail == "" || f.Error() != f.Field+": "+f.Detail {
			t.Errorf("the error reads %q", f)
		}
		out = append(out, f.Field)
	}
	slices.Sort(out)
	return out
}

func TestEveryBadFieldIsNamed(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n) }
	tests := map[string]struct {
		set  func(s *uploads.Submission)
		want []string
	}{
		"good":                       {func(*uploads.Submission) {}, nil},
		"no account":                 {func(s *uploads.Submission) { s.Account = "" }, []string{"account"}},
		"account is a wildcard":      {func(s *uploads.Submission) { s.Account = "a.*" }, []string{"account"}},
		"account is too long":        {func(s *uploads.Submission) { s.Account = long(65) }, []string{"account"}},
		"tenant has a blank":         {func(s *uploads.Submission) { s.Tenant = "a b" }, []string{"tenant"}},
		"no bucket":                  {func(s *uploads.Submission) { s.Source.Bucket = "" }, []string{"source.bucket"}},
		"bucket is an address":       {func(s *uploads.Submission) { s.Source.Bucket = "10.0.0.1" }, []string{"source.bucket"}},
		"no key":                     {func(s *uploads.Submission) { s.Source.Key = "" }, []string{"source.key"}},
		"key is blank":               {func(s *uploads.Submission) { s.Source.Key = " \t" }, []string{"source.key"}},
		"key is too long":            {func(s *uploads.Submission) { s.Source.Key = long(1025) }, []string{"source.key"}},
		"key is as long as can be":   {func(s *uploads.Submission) { s.Source.Key = long(1024) }, nil},
		"key is not UTF-8":           {func(s *uploads.Submission) { s.Source.Key = "\xff" }, []string{"source.key"}},
		"key has a NUL":              {func(s *uploads.Submission) { s.Source.Key = "a\x00" }, []string{"source.key"}},
		"bucket has a NUL":           {func(s *uploads.Submission) { s.Source.Bucket = "a\x00" }, []string{"source.bucket"}},
		"version is not UTF-8":       {func(s *uploads.Submission) { s.Source.Version = "\xff" }, []string{"source.version"}},
		"content type has a NUL":     {func(s *uploads.Submission) { s.ContentType = "\x00" }, []string{"content_type"}},
		"content type has two lines": {func(s *uploads.Submission) { s.ContentType = "video/mp4\r\nX-Other: 1" }, []string{"content_type"}},
		"name has a slash":           {func(s *uploads.Submission) { s.Name = "a/b" }, []string{"name"}},
		"name has a backslash":       {func(s *uploads.Submission) { s.Name = `a\b` }, []string{"name"}},
		"name is a folder":           {func(s *uploads.Submission) { s.Name = ".." }, []string{"name"}},
		"name has a line break":      {func(s *uploads.Submission) { s.Name = "a\nb" }, []string{"name"}},
		"name is not UTF-8":          {func(s *uploads.Submission) { s.Name = "\xff" }, []string{"name"}},
		"name is too long":           {func(s *uploads.Submission) { s.Name = long(256) }, []string{"name"}},
		"name of the key is no use":  {func(s *uploads.Submission) { s.Name, s.Source.Key = "", "a/.." }, []string{"name"}},
		"priority is too high":       {func(s *uploads.Submission) { s.Priority = 101 }, []string{"priority"}},
		"priority is too low":        {func(s *uploads.Submission) { s.Priority = -101 }, []string{"priority"}},
		"label without a key":        {func(s *uploads.Submission) { s.Labels[""] = "x" }, []string{"labels."}},
		"label is too long":          {func(s *uploads.Submission) { s.Labels["x"] = long(257) }, []string{"labels.x"}},
		"label has a NUL":            {func(s *uploads.Submission) { s.Labels["x"] = "\x00" }, []string{"labels.x"}},
		"option has a NUL":           {func(s *uploads.Submission) { s.Options["x"] = "\x00" }, []string{"options.x"}},
		"option without a name":      {func(s *uploads.Submission) { s.Options[""] = "x" }, []string{"options."}},
		"option is too long":         {func(s *uploads.Submission) { s.Options["x"] = long(8193) }, []string{"options.x"}},
		"option's name is too long":  {func(s *uploads.Submission) { s.Options[long(257)] = "" }, []string{"options." + long(80)}},
		"version is too long":        {func(s *uploads.Submission) { s.Source.Version = long(1025) }, []string{"source.version"}},
		"ETag is too long":           {func(s *uploads.Submission) { s.Source.ETag = long(1025) }, []string{"source.etag"}},
		"ETag is not UTF-8":          {func(s *uploads.Submission) { s.Source.ETag = "\xff" }, []string{"source.etag"}},
		"two digests of a kind": {func(s *uploads.Submission) {
			s.Digests = []hashing.Digest{{Kind: hashing.MD5, Sum: long(32)}, {Kind: hashing.CRC32C, Sum: long(8)}, {Kind: hashing.MD5, Sum: strings.Repeat("b", 32)}}
		}, []string{"digests"}},
		"a digest twice": {func(s *uploads.Submission) {
			s.Digests = []hashing.Digest{{Kind: hashing.MD5, Sum: long(32)}, {Kind: hashing.MD5, Sum: long(32)}}
		}, nil},
		"too many options": {func(s *uploads.Submission) {
			for i := range 64 {
				s.Options[fmt.Sprint(i)] = ""
			}
		}, []string{"options"}},
		"too many labels": {func(s *uploads.Submission) {
			for i := range 33 {
				s.Labels[fmt.Sprint(i)] = ""
			}
		}, []string{"labels"}},
		"idempotency key is too long":  {func(s *uploads.Submission) { s.IdempotencyKey = long(257) }, []string{"idempotency_key"}},
		"idempotency key is not UTF-8": {func(s *uploads.Submission) { s.IdempotencyKey = "\xff" }, []string{"idempotency_key"}},
		"nothing is given":             {func(s *uploads.Submission) { *s = uploads.Submission{} }, []string{"account", "source.bucket", "source.key"}},
		"everything is wrong": {func(s *uploads.Submission) {
			*s = uploads.Submission{Tenant: "?", Account: "?", Name: "/", Priority: 999, IdempotencyKey: long(300)}
		}, []string{"account", "idempotency_key", "name", "priority", "source.bucket", "source.key", "tenant"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := good()
			tt.set(&s)
			if diff := cmp.Diff(tt.want, fields(t, s.Validate())); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateFillsDefaults(t *testing.T) {
	t.Parallel()
	s := uploads.Submission{Account: "a", Source: uploads.Object{Bucket: "abc", Key: "x/Ünïcode 1.mp4"}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.Tenant != "default" || s.Name != "Ünïcode 1.mp4" {
		t.Errorf("tenant %q, name %q", s.Tenant, s.Name)
	}
	if got := s.Source.URL(); got != "s3://abc/x/Ünïcode 1.mp4" {
		t.Errorf("URL %q", got)
	}
}

func TestGoodSubmissionsPass(t *testing.T) {
	t.Parallel()
	ident := rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	rapid.Check(t, func(t *rapid.T) {
		s := uploads.Submission{
			Tenant:         ident.Draw(t, "tenant"),
			Account:        ident.Draw(t, "account"),
			IdempotencyKey: rapid.StringN(0, -1, 256).Filter(noNUL).Draw(t, "idempotency key"),
			Priority:       rapid.IntRange(-100, 100).Draw(t, "priority"),
			Source: uploads.Object{
				Bucket: rapid.StringMatching(`[a-z0-9][a-z0-9-]{1,30}[a-z0-9](\.[a-z][a-z0-9]{0,29})?`).Draw(t, "bucket"),
				Key:    rapid.StringN(1, -1, 1024).Filter(noNUL).Filter(notBlank).Draw(t, "key"),
			},
			Name:   rapid.StringMatching(`[^/\\\pC]{3,60}`).Draw(t, "name"),
			Labels: rapid.MapOfN(rapid.StringN(1, -1, 256).Filter(noNUL), rapid.StringN(0, -1, 256).Filter(noNUL), 0, 5).Draw(t, "labels"),
		}
		before := s
		before.Labels = maps.Clone(s.Labels)
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, s, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("a complete submission is changed (-want +got):\n%s", diff)
		}
	})
}

// What asks for the same has one hash, whatever the way it came in by; the record
// has hashes of years ago.
func TestOneHashForWhatAsksForTheSame(t *testing.T) {
	t.Parallel()
	hash := func(change func(*uploads.Submission)) string {
		s := good()
		s.Labels = map[string]string{"x": "<1>", "y": "2"}
		s.NotBefore = time.Date(2026, 11, 21, 8, 0, 0, 123456000, time.UTC)
		s.Digests = []hashing.Digest{{Kind: hashing.CRC32C, Sum: "00000001"}, {Kind: hashing.MD5, Sum: strings.Repeat("a", 32)}}
		change(&s)
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(s.Hash())
	}
	base := hash(func(*uploads.Submission) {})
	if want := "a3195198755f71bca45a58ee54ca1ed3e344dced1f3f6f6b8d390d921beff1d5"; base != want {
		t.Errorf("the hash has changed to %s: what was submitted before is not known again", base)
	}
	bare := func(s *uploads.Submission) { s.Options, s.Labels, s.Digests = nil, nil, nil }
	for name, same := range map[string][2]func(*uploads.Submission){
		"size of the object": {func(*uploads.Submission) {}, func(s *uploads.Submission) { s.Source.Size = 7 }},
		"order of digests":   {func(*uploads.Submission) {}, func(s *uploads.Submission) { slices.Reverse(s.Digests) }},
		"digest twice":       {func(*uploads.Submission) {}, func(s *uploads.Submission) { s.Digests = append(s.Digests, s.Digests[0]) }},
		"time zone":          {func(*uploads.Submission) {}, func(s *uploads.Submission) { s.NotBefore = s.NotBefore.In(time.FixedZone("", 3600)) }},
		"nanoseconds":        {func(*uploads.Submission) {}, func(s *uploads.Submission) { s.NotBefore = s.NotBefore.Add(7) }},
		"empty and none": {bare, func(s *uploads.Submission) {
			s.Options, s.Labels, s.Digests = map[string]string{}, map[string]string{}, []hashing.Digest{}
		}},
		"quotes of an ETag": {func(s *uploads.Submission) { s.Source.ETag = "e" }, func(s *uploads.Submission) { s.Source.ETag = `"e"` }},
		"name of the key":   {func(s *uploads.Submission) { s.Name = "Film 1.mp4" }, func(s *uploads.Submission) { s.Name = "" }},
		"default tenant":    {func(s *uploads.Submission) { s.Tenant = "default" }, func(s *uploads.Submission) { s.Tenant = "" }},
	} {
		if hash(same[0]) != hash(same[1]) {
			t.Errorf("%s: the hash is another", name)
		}
	}
	for name, other := range map[string]func(*uploads.Submission){
		"tenant":       func(s *uploads.Submission) { s.Tenant = "other" },
		"account":      func(s *uploads.Submission) { s.Account = "other" },
		"bucket":       func(s *uploads.Submission) { s.Source.Bucket = "other" },
		"key":          func(s *uploads.Submission) { s.Source.Key = "other" },
		"version":      func(s *uploads.Submission) { s.Source.Version = "1" },
		"etag":         func(s *uploads.Submission) { s.Source.ETag = "1" },
		"name":         func(s *uploads.Submission) { s.Name = "other" },
		"content type": func(s *uploads.Submission) { s.ContentType = "" },
		"options":      func(s *uploads.Submission) { s.Options = nil },
		"labels":       func(s *uploads.Submission) { s.Labels["x"] = "2" },
		"priority":     func(s *uploads.Submission) { s.Priority++ },
		"not_before":   func(s *uploads.Submission) { s.NotBefore = time.Time{} },
		"digests":      func(s *uploads.Submission) { s.Digests = s.Digests[:1] },
	} {
		if hash(other) == base {
			t.Errorf("another %s has the same hash", name)
		}
	}
}

func noNUL(s string) bool { return !strings.Contains(s, "\x00") }

func notBlank(s string) bool { return strings.TrimSpace(s) != "" }

func TestIdentsAreTokensOfSubjects(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "ident")
		if uploads.CheckIdent(s) == nil && (s == "" || len(s) > 64 || strings.ContainsAny(s, " .*>\r\n\t$")) {
			t.Fatalf("%q passes", s)
		}
	})
}

func TestNewIDsAreOrdered(t *testing.T) {
	t.Parallel()
	var last uploads.ID
	for range 1000 {
		id, err := uploads.NewID()
		if err != nil {
			t.Fatal(err)
		}
		if id.Version() != 7 || id.String() <= last.String() {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	if !(uploads.Upload{State: uploads.Completed}).Instant() ||
		(uploads.Upload{State: uploads.Completed, PartCount: 1}).Instant() || (uploads.Upload{State: uploads.Queued}).Instant() {
		t.Error("an upload is instant if it is completed without a part")
	}
	cause := errors.New("refused")
	err := error(&uploads.UnavailableError{What: "staging", Err: cause})
	if !errors.Is(err, cause) || err.Error() != "staging is not reachable: refused" {
		t.Errorf("the error reads %q", err)
	}
}
