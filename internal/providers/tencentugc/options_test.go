package tencentugc

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/providers/vodapi"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

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
	return providers.Media{Upload: id, Epoch: 1, Name: "a.mp4", Size: size, PartSize: vodapi.SmallPart, Digests: []hashing.Digest{sum}}
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
	if _, err := client.PutPart(t.Context(), begun.Session, planOf(media).Part(3), providertest.NewBody(client.Limits(), make([]byte, vodapi.SmallPart))); err != nil {
		t.Fatal(err)
	}
	media.PartSize = vodapi.LargePart
	again, err := client.Begin(t.Context(), account, media)
	if err != nil {
		t.Fatal(err)
	}
	if again.PartSize != vodapi.SmallPart || len(again.Found) != 1 || again.Found[0].Number != 3 {
		t.Errorf("begin answered part size %d and %+v, want %d and part 3", again.PartSize, again.Found, vodapi.SmallPart)
	}
}

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
		if got := providertest.Fields(client.CheckMedia(tt.media)); got != tt.want {
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
		if got := providertest.Fields(client.CheckAccount(tt.account)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
