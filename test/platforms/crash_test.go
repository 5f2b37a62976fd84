package platforms_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/service"
	"mediaferry/internal/staging"
	"mediaferry/internal/uploads"
)

// crash is a moment at which a process ends, as it is seen from the calls that
// are made of the platform.
type crash struct {
	name   string
	call   providers.Call
	nth    int  // of the calls of that kind, from 1
	after  bool // the platform has answered, and nobody hears of it; else the call is not made
	worker bool // it is the worker that ends, not the dispatcher
	// before, if set, must be true of the record when the process ends.
	before string
	// lose has the answer of the first finish lost, so that a probe is due.
	lose bool
}

// crashes are before and after each step of an upload of two parts.
func crashes() []crash {
	return []crash{
		{name: "begin not sent", call: providers.CallBegin, nth: 1},
		{name: "begin answered", call: providers.CallBegin, nth: 1, after: true},
		{name: "begin recorded", call: providers.CallPut, nth: 1, before: `state = 'uploading'`},
		{name: "part not sent", call: providers.CallPut, nth: 1, worker: true},
		{name: "part answered", call: providers.CallPut, nth: 1, after: true, worker: true},
		{name: "part recorded", call: providers.CallPut, nth: 2, before: `acked_parts = 1`},
		{name: "part recorded, worker", call: providers.CallPut, nth: 2, worker: true, before: `acked_parts = 1`},
		{name: "finish intent written", call: providers.CallFinish, nth: 1, before: `finish_intent_at IS NOT NULL`},
		{name: "finish answered", call: providers.CallFinish, nth: 1, after: true},
		{name: "probe not sent", call: providers.CallProbe, nth: 1, lose: true},
		{name: "probe answered", call: providers.CallProbe, nth: 1, after: true, lose: true},
	}
}

// TestCrashes ends the dispatcher, or the worker, right before and right after
// each call of every platform: what it held of the record, of the queue and of
// the platform breaks off in that moment, so that nothing more comes of it.
// Another one takes over. Each time there is one asset, with the right bytes.
func TestCrashes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		start func(t *testing.T, accounts int) platform
		size  int // two parts
	}{
		"tencentugc": {startTencentUGC, mib + 100},
		"tencentvod": {startTencentVOD, mib + 100},
		"tencentcos": {startTencentCOS, 16*mib + 100},
		"cdnetworks": {startCDNetworks, 4*mib + 100},
		"tencentsmh": {startTencentSMH, 16*mib + 100},
		"s3":         {startS3, 16*mib + 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			points := crashes()
			p := tt.start(t, len(points))
			from := startSource(t)
			o := startOurs(t, from, p.accounts)
			o.stop()
			for i, c := range points {
				key := fmt.Sprintf("film-%d.mp4", i)
				data, err := from.put(t.Context(), key, tt.size)
				if err != nil {
					t.Fatal(err)
				}
				before := finished(p)
				u := o.crash(t, c, client.Submission{Account: p.accounts[i].Name, Source: client.Source{Bucket: bucket, Key: key}})
				if u.State != "completed" {
					t.Errorf("%s: %s, %+v", c.name, u.State, u.Failure)
					o.log.print(t, u.ID, 60)
					continue
				}
				made := slices.DeleteFunc(finished(p), func(f file) bool { return slices.Contains(before, f) })
				if len(made) != 1 || p.digest(t, made[0]) != sha256.Sum256(data) || !strings.HasSuffix(made[0].asset, u.Asset.ID) {
					t.Errorf("%s: the platform has %+v of it, recorded is %+v; want one asset with its bytes", c.name, made, u.Asset)
				}
			}
		})
	}
}

// crash submits, has the crash come about, and returns the upload when it has ended.
func (o *ours) crash(t *testing.T, c crash, s client.Submission) client.Upload {
	t.Helper()
	healthy := service.Providers()
	doomed := &doomed{crash: c, ctx: t.Context(), end: make(chan struct{}), ended: make(chan struct{})}
	mortal := make(map[string]providers.Provider)
	for name, p := range healthy {
		mortal[name] = &mortalProvider{Provider: p, doomed: doomed}
	}
	toPostgres, toNATS := cutLink(t, o.cfg.Postgres.DSN.Reveal()), cutLink(t, o.cfg.NATS.URL)
	cut := o.cfg
	cut.NATS.URL = toNATS.url
	cfg, workerNATS := cut, o.cfg.NATS
	cfg.Postgres.DSN = providers.Secret(toPostgres.url)
	if c.worker {
		cfg, workerNATS = o.cfg, cut.NATS
	}
	api, stopDispatcher := o.dispatch(t, cfg, mortal, doomed)
	stopWorker := o.workWith(t, workerNATS, mortal, doomed)
	u, _, err := api.Submit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-doomed.end:
	case <-time.After(patience):
		o.log.print(t, u.ID, 60)
		t.Fatalf("%s: the moment did not come", c.name)
	}
	if c.before != "" {
		until(t, c.before, func() bool {
			var yes bool
			err := o.db.QueryRow(t.Context(), `SELECT `+c.before+` FROM uploads WHERE id = $1`, u.ID).Scan(&yes)
			return err == nil && yes
		})
	}
	toPostgres.cut()
	toNATS.cut()
	close(doomed.ended)
	// What has died holds its leases and jobs until they run out.
	if c.worker {
		go stopWorker()
		stopWorker = o.workWith(t, o.cfg.NATS, healthy, nil)
	} else {
		go stopDispatcher()
		api, stopDispatcher = o.dispatch(t, o.cfg, healthy, nil)
		_, err := o.db.Exec(t.Context(), `UPDATE uploads SET lease_until = now() WHERE lease_until > now()`)
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := api.Wait(t.Context(), u.ID, nil)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	stopDispatcher()
	stopWorker()
	return got
}

// dispatch starts a dispatcher.
func (o *ours) dispatch(t *testing.T, cfg config.Dispatcher, known map[string]providers.Provider, d *doomed) (*client.Client, func()) {
	t.Helper()
	ready := make(chan string, 1)
	stop := background(t, func(ctx context.Context) error {
		return d.excuse(service.RunDispatcher(ctx, cfg, known, o.log.logger(), func(addr string) { ready <- addr }))
	})
	select {
	case addr := <-ready:
		api, err := client.New("http://"+addr, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		return api, stop
	case <-time.After(patience):
		t.Fatal("the dispatcher is not ready")
		return nil, nil
	}
}

// workWith starts a worker.
func (o *ours) workWith(t *testing.T, nats config.NATS, known map[string]providers.Provider, d *doomed) (stop func()) {
	t.Helper()
	cfg := o.cfg
	return background(t, func(ctx context.Context) error {
		worker := config.Worker{ID: "w1", Pool: "default", Slots: 2, NATS: nats, Staging: cfg.Staging, StopGrace: time.Nanosecond}
		return d.excuse(service.RunWorker(ctx, worker, known, o.log.logger()))
	})
}

// doomed is a crash that is to come.
type doomed struct {
	crash

	ctx   context.Context // of the test
	end   chan struct{}   // closed when the moment has come
	ended chan struct{}   // closed when the process is cut off

	mu    sync.Mutex
	calls map[providers.Call]int
}

var errCrashed = errors.New("the process has ended")

// excuse drops what a process says that was cut off. Without a crash to come
// there is no excuse.
func (d *doomed) excuse(err error) error {
	if d == nil {
		return err
	}
	select {
	case <-d.ended:
		return nil
	default:
		return err
	}
}

// around makes a call, unless the process ends before it; what it answers is
// heard of, unless the process ends then.
func (d *doomed) around(call providers.Call, do func() error) error {
	d.mu.Lock()
	if d.calls == nil {
		d.calls = map[providers.Call]int{}
	}
	d.calls[call]++
	now := call == d.call && d.calls[call] == d.nth
	d.mu.Unlock()
	if !now {
		return do()
	}
	if d.after {
		_ = do() // nobody hears of it
	}
	close(d.end)
	select {
	case <-d.ended:
	case <-d.ctx.Done():
	}
	return errCrashed
}

// mortalProvider is a platform of which a process makes calls that ends.
type mortalProvider struct {
	providers.Provider

	*doomed
}

func (p *mortalProvider) Begin(ctx context.Context, a providers.Account, m providers.Media) (begun providers.Begun, err error) {
	err = p.around(providers.CallBegin, func() error {
		begun, err = p.Provider.Begin(ctx, a, m)
		return err
	})
	return begun, err
}

func (p *mortalProvider) PutPart(ctx context.Context, s providers.Session, part parts.Part, b providers.Body) (receipt parts.Receipt, err error) {
	err = p.around(providers.CallPut, func() error {
		receipt, err = p.Provider.PutPart(ctx, s, part, b)
		return err
	})
	return receipt, err
}

func (p *mortalProvider) Finish(ctx context.Context, s providers.Session, stored []parts.Stored) (asset uploads.Asset, err error) {
	err = p.around(providers.CallFinish, func() error {
		asset, err = p.Provider.Finish(ctx, s, stored)
		return err
	})
	if p.lose && err == nil {
		return uploads.Asset{}, &providers.Error{Kind: providers.UnknownOutcome, Call: "finish", Message: "the answer was lost"}
	}
	return asset, err
}

func (p *mortalProvider) Probe(ctx context.Context, a providers.Account, m providers.Media, s providers.Session) (out providers.Outcome, err error) {
	err = p.around(providers.CallProbe, func() error {
		out, err = p.Provider.Probe(ctx, a, m, s)
		return err
	})
	return out, err
}

// NeededDigests is the platform's own choice.
func (p *mortalProvider) NeededDigests(a providers.Account, m providers.Media) []hashing.Kind {
	if chooser, ok := p.Provider.(providers.DigestChooser); ok {
		return chooser.NeededDigests(a, m)
	}
	return p.Limits().ObjectDigests
}

// link is a way to a server that can be cut: all connections on it break off,
// and no other comes about.
type link struct {
	url      string
	target   string
	listener net.Listener

	mu    sync.Mutex
	conns []net.Conn
	ended bool
}

// cutLink returns a way to the server of an address, which is cut with the test
// at the latest.
func cutLink(t *testing.T, address string) *link {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{target: u.Host}
	if l.listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = l.listener.Addr().String()
	l.url = u.String()
	var running sync.WaitGroup
	running.Go(func() { l.accept(&running) })
	t.Cleanup(func() { l.cut(); running.Wait() })
	return l
}

func (l *link) accept(running *sync.WaitGroup) {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target) //nolint:noctx // to a server of the test, and cut with it
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, near, far)
		ended := l.ended
		l.mu.Unlock()
		if ended {
			l.cut()
		}
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			running.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
				_ = pair[1].Close()
			})
		}
	}
}

func (l *link) cut() {
	_ = l.listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// startS3 starts a bucket that uploads are brought to.
func startS3(t *testing.T, accounts int) platform {
	t.Helper()
	const name, archive = "s3", "archive"
	server := devtest.S3(t, archive)
	c := server.Config()
	store, err := staging.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return platform{
		name: name,
		accounts: named(name, accounts, func(int) config.Account {
			return config.Account{
				Settings: map[string]string{"endpoint": server.Endpoint(), "bucket": archive, "region": "us-east-1", "path_style": "true"},
				Secrets:  secrets("access_key", c.AccessKey.Reveal(), "secret_key", c.SecretKey.Reveal()),
			}
		}),
		files: func() (files []file) {
			err := store.List(context.WithoutCancel(t.Context()), archive, "", func(o uploads.Object) error {
				files = append(files, file{received: o.Size, asset: archive + "/" + o.Key})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			return files
		},
		read: func(f file) (io.ReadCloser, error) {
			o, err := store.Stat(t.Context(), archive, strings.TrimPrefix(f.asset, archive+"/"))
			if err != nil {
				return nil, err
			}
			return store.Open(t.Context(), o, 0, o.Size)
		},
	}
}

// digest fetches finished media and returns their SHA-256.
func (p platform) digest(t *testing.T, f file) (sum [sha256.Size]byte) {
	t.Helper()
	if p.read == nil {
		return digestOf(t, fetcher(t), f.url)
	}
	body, err := p.read(f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, body); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}
