package settings_test

import (
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/settings"
)

// TestEveryProblemIsTold reads nothing that is right, and looks at what is said.
func TestEveryProblemIsTold(t *testing.T) {
	t.Parallel()
	var r settings.Reader
	r.Bool("a", "maybe")
	r.Number("b", "-1", 32, "the category's number")
	settings.OneOf(&r, "c", "x", "get", "post")
	r.Origin("d", "a.example", "https://a.example")
	r.Origin("e", "https://a.example/path", "")
	r.Unknown("f", "one")
	r.Unknown("g", "one", "two", "three")
	r.Secrets(map[string]providers.Secret{"key": "hush", "odd": "hush"}, settings.Secret{Name: "id", Words: "the AccessKey"}, settings.Secret{Name: "key"})
	const want = `a: is "maybe"; give true or false
b: is "-1"; give the category's number
c: is "x"; give get or post
d: is "a.example"; give scheme and host only, such as https://a.example
e: is "https://a.example/path"; give scheme and host only
f: is not known here; there is one
g: is not known here; there are one, two and three
secrets.odd: is not known here; there are id and key
secrets.id: is missing; give the AccessKey`
	if err := r.Err(); err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestWhatIsRightIsRead(t *testing.T) {
	t.Parallel()
	var r settings.Reader
	secrets := r.Secrets(map[string]providers.Secret{"id": "a", "key": "b"}, settings.Secret{Name: "key"}, settings.Secret{Name: "id"})
	if !r.Bool("a", "true") || r.Number("b", "7", 32, "") != "7" || settings.OneOf(&r, "c", "post", "get", "post") != "post" ||
		r.Origin("d", "http://127.0.0.1:80/", "") != "http://127.0.0.1:80" || secrets[0] != "b" || secrets[1] != "a" || r.Err() != nil {
		t.Errorf("something was read wrongly: %q, %v", secrets, r.Err())
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://a.example": true, "http://a.example:8080": true,
		"": false, "a.example": false, "ftp://a.example": false, "https://": false, "https://a.example/": false,
		"https://a.example?b": false, "https://a.example#b": false, "https://user@a.example": false,
	} {
		if got := settings.IsOrigin(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}
