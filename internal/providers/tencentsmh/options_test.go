package tencentsmh

import (
	"net/http"
	"strings"
	"testing"

	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

func TestChecks(t *testing.T) {
	t.Parallel()
	client := New(http.DefaultClient)
	for name, tt := range map[string]struct {
		media providers.Media
		want  string // fields, joined
	}{
		"fine":               {providers.Media{Name: "a b.mp4", Options: map[string]string{"conflict": "rename", "directory": "/a/b/", "labels": "x,y", "category": "video"}}, ""},
		"the root":           {providers.Media{Name: "a.mp4", Options: map[string]string{"directory": "/"}}, ""},
		"forbidden":          {providers.Media{Name: "a|b.mp4"}, "name"},
		"unknown option":     {providers.Media{Name: "a.mp4", Options: map[string]string{"label": "x"}}, "options.label"},
		"upwards":            {providers.Media{Name: "a.mp4", Options: map[string]string{"directory": "a/../b"}}, "options.directory"},
		"no name":            {providers.Media{Name: "a.mp4", Options: map[string]string{"directory": "a//b"}}, "options.directory"},
		"long name":          {providers.Media{Name: "a.mp4", Options: map[string]string{"directory": strings.Repeat("a", 256)}}, "options.directory"},
		"everything at once": {providers.Media{Name: "?", Options: map[string]string{"conflict": "no", "directory": "*", "labels": ",", "category": strings.Repeat("c", 17)}}, "name options.category options.conflict options.directory options.labels"},
	} {
		if got := providertest.Fields(client.CheckMedia(tt.media)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	good := map[string]providers.Secret{"library_secret": "b"}
	for name, tt := range map[string]struct {
		account providers.Account
		want    string
	}{
		"fine":     {providers.Account{Secrets: good, Settings: map[string]string{"library_id": "l"}}, ""},
		"nothing":  {providers.Account{}, "settings.library_id secrets.library_secret"},
		"all bad":  {providers.Account{Secrets: good, Settings: map[string]string{"endpoint": "x", "library_id": "l", "space_id": "", "instant_upload": "y", "z": ""}}, "settings.endpoint settings.instant_upload settings.space_id settings.z"},
		"too much": {providers.Account{Secrets: map[string]providers.Secret{"library_secret": "b", "key": "c"}, Settings: map[string]string{"library_id": "l", "grant": "admin", "endpoint": "https://l.api.tencentsmh.cn/"}}, "secrets.key"},
	} {
		if got := providertest.Fields(client.CheckAccount(tt.account)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := (target{}).grants(options{conflict: conflictOverwrite}); !strings.Contains(got, "upload_file_force") {
		t.Errorf("to overwrite is asked for as %q", got)
	}
	if got := (target{grant: "admin"}).grants(options{conflict: conflictOverwrite}); got != "admin" {
		t.Errorf("the account's grant is asked for as %q", got)
	}
}
