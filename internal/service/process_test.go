package service_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
	"mediaferry/internal/providers"
	"mediaferry/internal/service"
	"mediaferry/internal/uploads"
	"mediaferry/internal/upstreams"
)

// workerEnv makes this test's binary a worker: a process that can be killed.
const workerEnv = "MEDIAFERRY_TEST_WORKER"

func runAsWorker() {
	if os.Getenv(workerEnv) == "" {
		return
	}
	cfg, err := config.LoadWorker(nil, os.Environ(), os.Stdout)
	if err == nil {
		log, lerr := service.NewLogger(cfg.Log)
		if lerr != nil {
			panic(lerr)
		}
		err = service.RunWorker(context.Background(), cfg, service.Providers(), log)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// platform is the local VOD, and a dispatcher with an account at it.
type platform struct {
	*bundle

	vod       *upstreams.VOD
	processes *devstack.Processes
}

func setupPlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{bundle: setup(t, limits())}
	p.vod = upstreams.NewVOD(upstreams.VODConfig{Keys: map[string]string{"id": "key"}, Dir: t.TempDir()})
	server, err := upstreams.Serve(t.Context(), "", p.vod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	p.cfg.Accounts = []config.Account{{
		Name: "acc", Tenant: "default", Provider: "tencentugc", Pool: "default", Window: 64 * mib,
		Settings: map[string]string{"endpoint": server.URL},
		Secrets:  map[string]providers.Secret{"secret_id": "id", "secret_key": "key"},
	}}
	ready := make(chan string, 1)
	log := zaptest.NewLogger(t).Named("dispatcher")
	background(t, func(ctx context.Context) error {
		return service.RunDispatcher(ctx, p.cfg, service.Providers(), log, func(addr string) { ready <- addr })
	})
	if p.api, err = client.New("http://"+<-ready, "default"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.api.Close)
	p.processes = devstack.NewProcesses(t.Output())
	t.Cleanup(func() { p.processes.Stop(10 * time.Second) })
	return p
}

// startWorker starts a worker process that reads staging at the endpoint.
func (p *platform) startWorker(t *testing.T, id, endpoint string) int {
	t.Helper()
	i, err := p.processes.Start(t.Context(), devstack.Command{Name: id, Env: []string{
		workerEnv + "=1", "MEDIAFERRY_ID=" + id, "MEDIAFERRY_SLOTS=2", "MEDIAFERRY_NATS_URL=" + p.cfg.NATS.URL,
		"MEDIAFERRY_STAGING_ENDPOINT=" + endpoint, "MEDIAFERRY_STAGING_ACCESS_KEY=" + p.cfg.Staging.AccessKey,
		"MEDIAFERRY_STAGING_SECRET_KEY=" + p.cfg.Staging.SecretKey.Reveal(), "MEDIAFERRY_LOG_FORMAT=console",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// until asks for the upload until it is as wanted.
func (p *platform) until(t *testing.T, id, what string, wanted func(client.Upload) bool) {
	t.Helper()
	deadline := time.After(testPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := p.api.Show(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if wanted(u) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s; the upload is %s with %d bytes", what, testPatience, u.State, u.AckedBytes)
		case <-tick.C:
		}
	}
}

// submitWithDigest submits with a digest, so that no pass is needed.
func submitWithDigest(t *testing.T, p *platform, key string, data []byte) string {
	t.Helper()
	sum := sha1.Sum(data)
	u, _, err := p.api.Submit(t.Context(), client.Submission{
		Account: "acc", Source: client.Source{Bucket: "staging", Key: key}, Digests: []string{"sha1:" + hex.EncodeToString(sum[:])},
	})
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// arrived returns the bytes of a finished upload as the platform serves them.
func arrived(t *testing.T, u client.Upload) []byte {
	t.Helper()
	if u.State != string(uploads.Completed) {
		t.Fatalf("state %s (%+v), want completed", u.State, u.Failure)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.Asset.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A worker is killed with runs half sent: another sends what the ledger lacks,
// the platform is told once to finish, and what arrived before is not sent again.
func TestAWorkerKilledInMidRun(t *testing.T) {
	t.Parallel()
	p := setupPlatform(t)
	data := p.put(t, "film.mp4", 40*mib)
	// Two slots at this rate take seconds for a run of 16 parts.
	p.vod.AddFaults(upstreams.Fault{Action: upstreams.ActionPart, BytesPerSecond: 8 * mib})
	victim := p.startWorker(t, "victim", p.cfg.Staging.Endpoint)
	id := submitWithDigest(t, p, "film.mp4", data)
	p.until(t, id, "some parts have arrived", func(u client.Upload) bool { return u.AckedParts >= 5 })
	if err := p.processes.Kill(victim); err != nil {
		t.Fatal(err)
	}
	p.vod.ClearFaults()
	p.startWorker(t, "heir", p.cfg.Staging.Endpoint)
	u := p.wait(t, id)
	if !bytes.Equal(arrived(t, u), data) {
		t.Error("other bytes arrived than were sent")
	}
	file := p.vod.Files()[0]
	if file.FinishCount != 1 {
		t.Errorf("finished %d times, want once", file.FinishCount)
	}
	// Each of two slots had one part in hand, and up to a flush of acks unsaid.
	if twice := file.BytesReceived - int64(len(data)); twice > 8*mib {
		t.Errorf("%d bytes were sent twice; the parts in hand are 2 MiB", twice)
	}
}

// A worker is killed in the middle of a digest pass: another goes on from its
// last checkpoint.
func TestADigestPassGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	p := setupPlatform(t)
	data := p.put(t, "film.mp4", 48*mib)
	slow, offsets := slowStaging(t, p.cfg.Staging.Endpoint, 16*mib)
	victim := p.startWorker(t, "victim", slow)
	id := p.submit(t, "film.mp4").ID
	store := p.query(t)
	deadline := time.Now().Add(testPatience)
	for store(`SELECT coalesce((digest_checkpoint ->> 'offset')::bigint, 0)::text FROM uploads`) == "0" {
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint was recorded")
		}
	}
	if err := p.processes.Kill(victim); err != nil {
		t.Fatal(err)
	}
	before := len(offsets())
	p.startWorker(t, "heir", slow)
	u := p.wait(t, id)
	if !bytes.Equal(arrived(t, u), data) {
		t.Error("other bytes arrived than were sent")
	}
	if all := offsets(); len(all) <= before || all[before] == 0 {
		t.Errorf("reads began at %v, of which the first %d were the victim's; want the heir to begin further on", all, before)
	}
}

// slowStaging passes requests on to an S3 server, bodies at a bounded rate, and
// tells where each ranged read began.
func slowStaging(t *testing.T, endpoint string, bytesPerSecond int) (proxyURL string, offsets func() []int64) {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var began []int64
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			if text := r.In.Header.Get("Range"); text != "" {
				var first int64
				_, _ = fmt.Sscanf(strings.TrimPrefix(text, "bytes="), "%d", &first)
				mu.Lock()
				defer mu.Unlock()
				began = append(began, first)
			}
		},
		ModifyResponse: func(res *http.Response) error {
			res.Body = &slowBody{ReadCloser: res.Body, rate: bytesPerSecond}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	return server.URL, func() []int64 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(began)
	}
}

type slowBody struct {
	io.ReadCloser

	rate int // bytes per second
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	<-time.After(time.Duration(n) * time.Second / time.Duration(b.rate))
	return n, err
}
