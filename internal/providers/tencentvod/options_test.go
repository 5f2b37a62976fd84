package tencentvod

import (
	"net/http"
	"strings"
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

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
		"all set":     {providers.Account{Secrets: good, Settings: map[string]string{"endpoint": "https://vod2.qcloud.com/", "path": "/v3/index.php", "param_style": "sdk", "region": "sh", "signature_method": "HmacSHA256"}}, ""},
		"no secrets":  {providers.Account{}, "secrets.secret_id secrets.secret_key"},
		"bad":         {providers.Account{Secrets: good, Settings: map[string]string{"endpoint": "vod2.qcloud.com", "path": "x", "param_style": "y", "region": "", "signature_method": "MD5", "z": ""}}, "settings.endpoint settings.param_style settings.path settings.region settings.signature_method settings.z"},
		"odd secrets": {providers.Account{Secrets: map[string]providers.Secret{"secret_id": "a", "secret_key": "b", "key": "c"}}, "secrets.key"},
	} {
		if got := providertest.Fields(client.CheckAccount(tt.account)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
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
