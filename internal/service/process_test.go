package service_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
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

// workerEnv makes this test's binary a worker: a process that can be killed, or
// told to stop.
const workerEnv = "MEDIAFERRY_TEST_WORKER"

// quickExit has a process of this binary end when it ends: the race detector holds
// it for a second otherwise.
const quickExit = "GORACE=atexit_sleep_ms=0"

func runAsWorker() {
	if os.Getenv(workerEnv) == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), service.StopSignals()...)
	context.AfterFunc(ctx, stop)
	cfg, err := config.LoadWorker(nil, os.Environ(), os.Stdout)
	if err == nil {
		log, lerr := service.NewLogger(cfg.Log)
		if lerr != nil {
			panic(lerr)
		}
		err = service.RunWorker(ctx, cfg, service.Providers(), log)
	}
	if err == nil {
		os.Exit(0)
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
func (p *platform) startWorker(t *testing.T, id, endpoint string, env ...string) int {
	t.Helper()
	i, err := p.processes.Start(t.Context(), devstack.Command{Name: id, Env: append([]string{
		workerEnv + "=1", quickExit, "MEDIAFERRY_ID=" + id, "MEDIAFERRY_SLOTS=2", "MEDIAFERRY_NATS_URL=" + p.cfg.NATS.URL,
		"MEDIAFERRY_STAGING_ENDPOINT=" + endpoint, "MEDIAFERRY_STAGING_ACCESS_KEY=" + p.cfg.Staging.AccessKey,
		"MEDIAFERRY_STAGING_SECRET_KEY=" + p.cfg.Staging.SecretKey.Reveal(), "MEDIAFERRY_LOG_FORMAT=console",
	}, env...)})
	if err != nil {
		t.Fatal(err)
	}
	return i
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
	// After six parts the runs of 16 stand nearly still.
	p.vod.AddFaults(upstreams.Fault{Action: upstreams.ActionPart, From: 7, BytesPerSecond: 64 << 10})
	victim := p.startWorker(t, "victim", p.cfg.Staging.Endpoint)
	id := submitWithDigest(t, p, "film.mp4", data)
	p.awaitShown(t, id, "some parts have arrived", func(u client.Upload) bool { return u.AckedParts >= 5 })
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

// terminate tells process i to stop and returns when it is gone.
func (p *platform) terminate(t *testing.T, i int) {
	t.Helper()
	signalTo(t, p.processes.PIDs()[i])
	eventually(t, "the process ends", func() bool { return p.processes.PIDs()[i] == 0 })
}

// Workers are told to stop and replaced one after another, in mid-run and under
// load: no byte is sent twice and no attempt is counted.
func TestRollingRestartsOfWorkers(t *testing.T) {
	t.Parallel()
	p := setupPlatform(t)
	p.vod.AddFaults(upstreams.Fault{Action: upstreams.ActionPart, BytesPerSecond: 4 * mib})
	var ids []string
	var sent int64
	submit := func() {
		t.Helper()
		key := fmt.Sprintf("film-%d.mp4", len(ids))
		data := p.put(t, key, 30*mib)
		ids, sent = append(ids, submitWithDigest(t, p, key, data)), sent+int64(len(data))
	}
	for range 4 {
		submit()
	}
	query := p.query(t)
	acked := func() (n int) {
		_, _ = fmt.Sscan(query(`SELECT count(*)::text FROM part_acks`), &n)
		return n
	}
	workers := []int{p.startWorker(t, "w0", p.cfg.Staging.Endpoint), p.startWorker(t, "w1", p.cfg.Staging.Endpoint)}
	left := func() (n int) {
		_, _ = fmt.Sscan(query(`SELECT coalesce(sum(coalesce(part_count, 30) - acked_parts), 0)::text FROM uploads`), &n)
		return n
	}
	for i := range 6 {
		before := acked()
		eventually(t, "some parts have arrived", func() bool { return acked() >= before+4 })
		for left() < 80 { // the machine took its time over the last restart
			submit()
		}
		p.terminate(t, workers[i%2])
		workers[i%2] = p.startWorker(t, fmt.Sprintf("w%d", i+2), p.cfg.Staging.Endpoint)
	}
	if n := query(`SELECT count(*)::text FROM uploads WHERE state = 'uploading'`); n == "0" {
		t.Error("nothing was under way at the last restart")
	}
	p.vod.ClearFaults()
	for _, id := range ids {
		if u := p.wait(t, id); u.State != string(uploads.Completed) {
			t.Errorf("%s (%+v), want completed", u.State, u.Failure)
		}
	}
	var received int64
	for _, f := range p.vod.Files() {
		received += f.BytesReceived
	}
	if received != sent {
		t.Errorf("%d bytes were sent of %d", received, sent)
	}
	if n := query(`SELECT count(*)::text FROM part_failures`); n != "0" {
		t.Errorf("%s failed tries were counted", n)
	}
	if n := query(`SELECT count(*)::text FROM part_acks WHERE delivery > 1`); n == "0" {
		t.Error("no run was handed back: the restarts came at the wrong moments")
	}
}

// A second signal ends a worker whose parts take longer than anyone waits.
func TestASecondSignalEndsAWorkerAtOnce(t *testing.T) {
	t.Parallel()
	p := setupPlatform(t)
	p.vod.AddFaults(upstreams.Fault{Action: upstreams.ActionPart, BytesPerSecond: 16 << 10}) // a minute for a part
	address := freeAddresses(t, 1)[0]
	i := p.startWorker(t, "w1", p.cfg.Staging.Endpoint, "MEDIAFERRY_STOP_GRACE=10m", "MEDIAFERRY_HEALTH_LISTEN="+address)
	eventually(t, "the worker is ready", func() bool { return status(t, address, "/readyz") == http.StatusNoContent })
	submitWithDigest(t, p, "film.mp4", p.put(t, "film.mp4", 8*mib))
	eventually(t, "parts are being sent", func() bool {
		workers, err := p.api.Workers(t.Context())
		return err == nil && len(workers) == 1 && workers[0].Busy > 0
	})
	pid := p.processes.PIDs()[i]
	first := syscall.SIGHUP // as from a terminal that is closed
	if signal.Ignored(first) {
		first = syscall.SIGTERM // under nohup that is nothing to a process
	}
	if err := syscall.Kill(pid, first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker is not ready", func() bool { return status(t, address, "/readyz") == http.StatusServiceUnavailable })
	if got := status(t, address, "/livez"); got != http.StatusNoContent {
		t.Errorf("livez answers %d while it stops, want %d", got, http.StatusNoContent)
	}
	signalTo(t, pid)
	eventually(t, "the process ends", func() bool { return p.processes.PIDs()[i] == 0 })
}

func signalTo(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// quietHost is one where nobody else takes a port that was found to be free before
// its process listens there: no connection goes out from it, and no server is
// given a port of it.
func quietHost() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1" // others have no further loopback addresses
	}
	return "127.0.0.3"
}

// freeAddresses returns addresses on which nobody listens.
func freeAddresses(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(quietHost(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // only its address counts
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// status returns the answer to a GET, 0 if there is none.
func status(t *testing.T, address, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close() //nolint:errcheck // read only
	return res.StatusCode
}

// A worker is killed in the middle of a digest pass: another goes on from its
// last checkpoint.
func TestADigestPassGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	p := setupPlatform(t)
	data := p.put(t, "film.mp4", 48*mib)
	slow, offsets, goOn := slowStaging(t, p.cfg.Staging.Endpoint, 16*mib, 40*mib)
	victim := p.startWorker(t, "victim", slow)
	id := p.submit(t, "film.mp4").ID
	store := p.query(t)
	eventually(t, "a checkpoint is recorded", func() bool {
		return store(`SELECT coalesce((digest_checkpoint ->> 'offset')::bigint, 0)::text FROM uploads`) != "0"
	})
	if err := p.processes.Kill(victim); err != nil {
		t.Fatal(err)
	}
	before := len(offsets())
	goOn()
	p.startWorker(t, "heir", slow)
	u := p.wait(t, id)
	if !bytes.Equal(arrived(t, u), data) {
		t.Error("other bytes arrived than were sent")
	}
	if all := offsets(); len(all) <= before || all[before] == 0 {
		t.Errorf("reads began at %v, of which the first %d were the victim's; want the heir to begin further on", all, before)
	}
}

// slowStaging passes requests on to an S3 server, bodies at a bounded rate and none
// beyond an offset before goOn is called, and tells where each ranged read began.
func slowStaging(t *testing.T, endpoint string, bytesPerSecond int, until int64) (proxyURL string, offsets func() []int64, goOn func()) {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var began []int64
	on := make(chan struct{})
	first := func(r *http.Request) (offset int64, ranged bool) {
		text := r.Header.Get("Range")
		_, _ = fmt.Sscanf(strings.TrimPrefix(text, "bytes="), "%d", &offset)
		return offset, text != ""
	}
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			if offset, ranged := first(r.In); ranged {
				mu.Lock()
				defer mu.Unlock()
				began = append(began, offset)
			}
		},
		ModifyResponse: func(res *http.Response) error {
			offset, _ := first(res.Request)
			res.Body = &slowBody{ReadCloser: res.Body, ctx: res.Request.Context(), rate: bytesPerSecond, left: until - offset, on: on}
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
	}, sync.OnceFunc(func() { close(on) })
}

type slowBody struct {
	io.ReadCloser

	ctx  context.Context // of the request
	rate int             // bytes per second
	left int64           // bytes before it stands still until on is closed
	on   chan struct{}
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		select {
		case <-b.on:
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	<-time.After(time.Duration(n) * time.Second / time.Duration(b.rate))
	return n, err
}
