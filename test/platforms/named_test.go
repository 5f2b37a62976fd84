package platforms_test

import (
	"strings"
	"testing"

	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// TestFinishNamesAnothersAsset has the last call answered with the asset of another
// upload, and of nobody. The platform knows media by their SHA-1, so it is asked, and
// each upload has the asset of its own bytes.
func TestFinishNamesAnothersAsset(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		start  func(t *testing.T, accounts int) platform
		finish string
	}{
		"tencentugc": {startTencentUGC, "FinishUploadEx"},
		"tencentvod": {startTencentVOD, "FinishUpload"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := tt.start(t, 1)
			from := startSource(t)
			o := startOurs(t, from, p.accounts)
			all := []sent{{key: "first.mp4", size: mib + 100, account: p.accounts[0]}}
			submitAll(t, from, o, all)
			first, err := o.api.Wait(t.Context(), all[0].id, nil)
			if err != nil || first.State != string(uploads.Completed) {
				t.Fatalf("%+v, %v", first, err)
			}
			for _, id := range []string{first.Asset.ID, "999"} {
				p.faults(upstreams.Fault{Action: tt.finish, Apply: true, Times: 1, Text: `{"code":0,"message":"","fileId":"` + id + `","url":"http://p.example/` + id + `/f0.mp4"}`})
				s := []sent{{key: "film-" + id + ".mp4", size: 2*mib + 7, account: p.accounts[0]}}
				submitAll(t, from, o, s)
				u, err := o.api.Wait(t.Context(), s[0].id, nil)
				if err != nil || u.State != string(uploads.Completed) || u.Asset.ID == id || strings.Contains(u.Asset.URL, "p.example") {
					t.Errorf("answered %s: %s, %+v, %v", id, u.State, u.Asset, err)
					o.log.print(t, s[0].id, 20)
				}
				all = append(all, s...)
			}
			if n := hits(p.calls()); n != 2 {
				t.Errorf("%d answers were another's", n)
			}
			if !t.Failed() {
				checkAssets(t, o, []platform{p}, all)
			}
		})
	}
}
