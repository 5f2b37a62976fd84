package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mediaferry/internal/upstreams"
)

// platform is a local server and how to ask it, past the product's record.
type platform struct {
	provider string
	calls    func() []upstreams.Call
	files    func() []file
	expire   func() // makes open sessions, or what authorises them, lapse; nil where it cannot
}

// file is what a platform received of one upload, by its own account.
type file struct {
	account  string   // as the platform knows it: the access key or the library
	names    []string // that calls of the platform's log go by
	received int64
	asset    string // id of the finished media, "" if there is none
	url      string // where to fetch it
}

// upstream is a platform, and how accounts reach it.
type upstream struct {
	*platform

	handler http.Handler
	// describe returns settings and secrets of the tenant's account, whose gate is
	// at url.
	describe func(tenant, url string) (settings, secrets map[string]string)
}

// startPlatforms starts the platforms, each account's behind a gate of its own,
// and staging behind another.
func (w *world) startPlatforms(ctx context.Context) error {
	toS3, err := newProxy(w.s3.Endpoint(), w.transport)
	if err != nil {
		return err
	}
	if w.gateS3, w.opts.staging, err = w.serve(ctx, "staging", 0, toS3); err != nil {
		return err
	}
	folders := make(map[string]string)
	for _, name := range []string{"vod", "cos", "cdn", "smh"} {
		folders[name] = w.dir.Join("platform-" + name)
		if err := os.MkdirAll(folders[name], 0o700); err != nil {
			return fmt.Errorf("folder of a platform: %w", err)
		}
	}
	all := append(w.vod(folders["vod"]), w.cos(folders["cos"]), w.cdn(folders["cdn"]), w.smh(folders["smh"]), w.bucket(toS3))
	for _, u := range all {
		w.platforms = append(w.platforms, u.platform)
	}
	for _, tenant := range tenants {
		for _, u := range all {
			a := &account{name: u.provider + "-" + tenant, tenant: tenant, provider: u.provider, platform: u.platform}
			var url string
			if a.gate, url, err = w.serve(ctx, a.name, pace, u.handler); err != nil {
				return err
			}
			a.settings, a.secrets = u.describe(tenant, url)
			w.accounts = append(w.accounts, a)
		}
	}
	return nil
}

// keyID is the id of a tenant's key at a platform.
func keyID(platform, tenant string) string { return "AKID" + platform + tenant }

// newKeys makes a secret key of each tenant at a platform, by the key's id.
func (w *world) newKeys(platform string) map[string]string {
	keys := make(map[string]string)
	for _, tenant := range tenants {
		secret := rand.Text()
		keys[keyID(platform, tenant)] = secret
		w.secrets[platform+" of "+tenant] = secret
	}
	return keys
}

// vod is the platform that two providers upload to, each with keys of its own.
func (w *world) vod(dir string) []upstream {
	clientKeys, serverKeys := w.newKeys("ugc"), w.newKeys("vod")
	keys := maps.Clone(clientKeys)
	maps.Copy(keys, serverKeys)
	vod := upstreams.NewVOD(upstreams.VODConfig{Keys: keys, Dir: dir})
	of := func(provider, name string, keys map[string]string, forget string) upstream {
		p := &platform{provider: provider, calls: vod.Calls}
		p.files = func() (files []file) {
			for _, f := range vod.Files() {
				if _, ok := keys[f.Account]; ok {
					files = append(files, file{account: f.Account, names: []string{f.FileSHA}, received: f.BytesReceived, asset: f.FileID, url: f.URL})
				}
			}
			return files
		}
		p.expire = func() {
			vod.AddFaults(upstreams.Fault{Action: forget, Chance: 0.2, Seed: w.opts.seed, Times: 8, Forget: true})
			time.AfterFunc(3*time.Second, vod.ClearFaults)
		}
		return upstream{platform: p, handler: vod, describe: func(tenant, url string) (settings, secrets map[string]string) {
			id := keyID(name, tenant)
			return map[string]string{"endpoint": url}, map[string]string{"secret_id": id, "secret_key": keys[id]}
		}}
	}
	return []upstream{
		of("tencentugc", "ugc", clientKeys, upstreams.ActionPart),
		of("tencentvod", "vod", serverKeys, upstreams.ActionServerPart),
	}
}

func (w *world) cos(dir string) upstream {
	keys := w.newKeys("cos")
	cos := upstreams.NewVODApply(upstreams.VODApplyConfig{Keys: keys, Dir: dir})
	p := &platform{provider: "tencentcos", calls: cos.Storage().Calls}
	p.files = func() (files []file) {
		for _, f := range cos.Files() {
			files = append(files, file{account: f.Account, names: []string{f.Key}, received: f.BytesReceived, asset: f.FileID, url: f.URL})
		}
		return files
	}
	p.expire = func() {
		cos.Storage().ExpireKeys()
		for i, f := range cos.Storage().Files() {
			if !f.Stored && i%3 == 0 {
				cos.Storage().Forget(f.Bucket, f.Key)
			}
		}
	}
	return upstream{platform: p, handler: cos, describe: func(tenant, url string) (settings, secrets map[string]string) {
		id := keyID("cos", tenant)
		return map[string]string{"endpoint": url, "cos_endpoint": url}, map[string]string{"secret_id": id, "secret_key": keys[id]}
	}}
}

func (w *world) cdn(dir string) upstream {
	keys := w.newKeys("cdn")
	cdn := upstreams.NewWCS(upstreams.WCSConfig{Keys: keys, Dir: dir, Rate: 300})
	p := &platform{provider: "cdnetworks", calls: cdn.Calls}
	p.files = func() (files []file) {
		for _, f := range cdn.Files() {
			one := file{account: f.Account, names: []string{f.Key, f.VideoID, f.FileID}, received: f.BytesReceived}
			if f.FinishCount > 0 {
				one.asset, one.url = f.VideoID, f.URL
			}
			files = append(files, one)
		}
		return files
	}
	p.expire = func() {
		for _, f := range cdn.Files() {
			if f.FinishCount == 0 {
				cdn.Purge(f.Key)
			}
		}
	}
	return upstream{platform: p, handler: cdn, describe: func(tenant, url string) (settings, secrets map[string]string) {
		id := keyID("cdn", tenant)
		return map[string]string{"endpoint": url, "playback_url": url + "/media"}, map[string]string{"access_key": id, "secret_key": keys[id]}
	}}
}

func (w *world) smh(dir string) upstream {
	libraries := w.newKeys("smh")
	smh := upstreams.NewSMH(upstreams.SMHConfig{Libraries: libraries, Dir: dir})
	var base string // of any account: the files are the same through every gate
	p := &platform{provider: "tencentsmh", calls: smh.Calls}
	p.files = func() (files []file) {
		for _, f := range smh.Files() {
			one := file{account: f.Library, names: []string{f.Path}, received: f.BytesReceived}
			if f.FinalPath != "" {
				one.asset, one.url = f.Library+"/"+f.Space+"/"+f.FinalPath, base+f.URL
			}
			files = append(files, one)
		}
		return files
	}
	p.expire = func() {
		smh.ExpireTokens()
		for i, f := range smh.Files() {
			switch {
			case f.ConfirmCount > 0:
			case i%3 == 0:
				smh.ExpireHeaders(f.ConfirmKey)
			case i%3 == 1:
				smh.Forget(f.ConfirmKey)
			}
		}
	}
	return upstream{platform: p, handler: smh, describe: func(tenant, url string) (settings, secrets map[string]string) {
		base = url
		id := keyID("smh", tenant)
		return map[string]string{"endpoint": url, "library_id": id, "space_id": "space1"}, map[string]string{"library_secret": libraries[id]}
	}}
}

// bucket is one beside staging, in which each tenant's media are below a prefix.
func (w *world) bucket(toS3 http.Handler) upstream {
	p := &platform{provider: "s3", calls: func() []upstreams.Call { return nil }, files: w.archived}
	keys := w.s3.Config()
	return upstream{platform: p, handler: toS3, describe: func(tenant, url string) (settings, secrets map[string]string) {
		return map[string]string{"endpoint": url, "bucket": archive, "region": "us-east-1", "path_style": "true", "prefix": tenant + "/"},
			map[string]string{"access_key": keys.AccessKey.Reveal(), "secret_key": keys.SecretKey.Reveal()}
	}}
}

// archived lists what the destination bucket holds.
func (w *world) archived() (files []file) {
	root := w.dir.Join("s3/objects/" + archive)
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/.sgwtmp") {
			return nil //nolint:nilerr // what cannot be read is missed by the checks
		}
		key := strings.TrimPrefix(path, root+"/")
		files = append(files, file{names: []string{key}, asset: key, url: "file://" + path})
		return nil
	})
	return files
}
