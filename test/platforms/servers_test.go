package platforms_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"mediaferry/internal/config"
	"mediaferry/internal/providers"
	"mediaferry/internal/upstreams"
)

// platform is a local server and how to ask it, past our own record.
type platform struct {
	name     string
	accounts []config.Account
	faults   func(...upstreams.Fault)
	clear    func()
	calls    func() []upstreams.Call
	files    func() []file
	read     func(file) (io.ReadCloser, error) // nil where media are fetched by their URL
	lapse    func()                            // ends the life of what authorises calls, where that has one
}

// file is what a server received of one upload.
type file struct {
	received int64
	asset    string // id of the finished media, "" if there is none
	url      string
}

// secretKey is that of every account.
const secretKey = "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA"

func keyID(n int) string { return fmt.Sprintf("AKID%032d", n) }

func keys(accounts int) map[string]string {
	all := make(map[string]string, accounts)
	for n := range accounts {
		all[keyID(n)] = secretKey
	}
	return all
}

func serve(t *testing.T, handler http.Handler) (url string) {
	t.Helper()
	server, err := upstreams.Serve(t.Context(), "", handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.URL
}

// named returns so many accounts at a platform, of which account says the rest.
func named(name string, count int, account func(n int) config.Account) []config.Account {
	accounts := make([]config.Account, count)
	for n := range accounts {
		a := account(n)
		a.Name, a.Provider = fmt.Sprintf("%s-%d", name, n), name
		a.Tenant, a.Pool, a.Window = "default", "default", 64*mib
		accounts[n] = a
	}
	return accounts
}

func secrets(pairs ...string) map[string]providers.Secret {
	all := make(map[string]providers.Secret)
	for pair := range slices.Chunk(pairs, 2) {
		all[pair[0]] = providers.Secret(pair[1])
	}
	return all
}

func startTencentUGC(t *testing.T, accounts int) platform {
	t.Helper()
	return startVOD(t, "tencentugc", accounts)
}

func startTencentVOD(t *testing.T, accounts int) platform {
	t.Helper()
	return startVOD(t, "tencentvod", accounts)
}

func startVOD(t *testing.T, name string, accounts int) platform {
	t.Helper()
	vod := upstreams.NewVOD(upstreams.VODConfig{Keys: keys(accounts), Dir: t.TempDir(), Strict: true})
	url := serve(t, vod)
	return platform{
		name: name,
		accounts: named(name, accounts, func(n int) config.Account {
			return config.Account{
				Settings: map[string]string{"endpoint": url},
				Secrets:  secrets("secret_id", keyID(n), "secret_key", secretKey),
			}
		}),
		faults: vod.AddFaults, clear: vod.ClearFaults, calls: vod.Calls,
		files: func() (files []file) {
			for _, f := range vod.Files() {
				files = append(files, file{received: f.BytesReceived, asset: f.FileID, url: f.URL})
			}
			return files
		},
	}
}

func startTencentCOS(t *testing.T, accounts int) platform {
	t.Helper()
	vod := upstreams.NewVODApply(upstreams.VODApplyConfig{Keys: keys(accounts), Dir: t.TempDir(), Strict: true})
	url := serve(t, vod)
	const name = "tencentcos"
	return platform{
		name: name,
		accounts: named(name, accounts, func(n int) config.Account {
			return config.Account{
				Settings: map[string]string{"endpoint": url, "cos_endpoint": url},
				Secrets:  secrets("secret_id", keyID(n), "secret_key", secretKey),
			}
		}),
		faults: vod.Storage().AddFaults, clear: vod.Storage().ClearFaults, calls: vod.Storage().Calls,
		files: func() (files []file) {
			for _, f := range vod.Files() {
				files = append(files, file{received: f.BytesReceived, asset: f.FileID, url: f.URL})
			}
			return files
		},
	}
}

func startCDNetworks(t *testing.T, accounts int) platform {
	t.Helper()
	wcs := upstreams.NewWCS(upstreams.WCSConfig{Keys: keys(accounts), Dir: t.TempDir(), Strict: true})
	url := serve(t, wcs)
	const name = "cdnetworks"
	return platform{
		name: name,
		accounts: named(name, accounts, func(n int) config.Account {
			return config.Account{
				Settings: map[string]string{"endpoint": url, "playback_url": url + "/media"},
				Secrets:  secrets("access_key", keyID(n), "secret_key", secretKey),
			}
		}),
		faults: wcs.AddFaults, clear: wcs.ClearFaults, calls: wcs.Calls,
		files: func() (files []file) {
			for _, f := range wcs.Files() {
				one := file{received: f.BytesReceived}
				if f.FinishCount > 0 {
					one.asset, one.url = f.VideoID, f.URL
				}
				files = append(files, one)
			}
			return files
		},
	}
}

func startTencentSMH(t *testing.T, accounts int) platform {
	t.Helper()
	library := func(n int) string { return fmt.Sprintf("smh%d", n) }
	libraries := make(map[string]string)
	for n := range accounts {
		libraries[library(n)] = secretKey
	}
	smh := upstreams.NewSMH(upstreams.SMHConfig{Libraries: libraries, Dir: t.TempDir(), Strict: true})
	url := serve(t, smh)
	const name = "tencentsmh"
	return platform{
		name: name,
		accounts: named(name, accounts, func(n int) config.Account {
			return config.Account{
				Settings: map[string]string{"endpoint": url, "library_id": library(n), "space_id": "space1"},
				Secrets:  secrets("library_secret", secretKey),
			}
		}),
		faults: smh.AddFaults, clear: smh.ClearFaults, calls: smh.Calls, lapse: smh.ExpireTokens,
		files: func() (files []file) {
			for _, f := range smh.Files() {
				one := file{received: f.BytesReceived}
				if f.FinalPath != "" {
					one.asset, one.url = f.Library+"/"+f.Space+"/"+f.FinalPath, url+f.URL
				}
				files = append(files, one)
			}
			return files
		},
	}
}

// digestOf fetches finished media from its server and returns their SHA-256.
func digestOf(t *testing.T, http1 *http.Client, address string) [sha256.Size]byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http1.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", address, resp.StatusCode, err)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// fetcher returns a client whose connections go with the test.
func fetcher(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
