package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/hashing"
	"mediaferry/internal/jobs"
	"mediaferry/internal/parts"
	"mediaferry/internal/postgres"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/sealing"
	"mediaferry/internal/service"
	"mediaferry/internal/staging"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) {
	runAsWorker()
	runAsNATS()
	// These tests wait, for leases and holds to end and for servers to start, more
	// than they compute. The command line may still say otherwise.
	testing.Init()
	if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	devtest.Main(m)
}

const (
	mib          = 1 << 20
	testPatience = 3 * time.Minute // a hold alone may last one
	testGrace    = time.Minute     // for what a stopping dispatcher has in hand
)

// bundle is real servers, a platform in memory, and the two processes over them.
type bundle struct {
	nats     *devstack.NATS
	s3       *devstack.S3
	staging  *staging.Store
	platform *providertest.Fake
	dsn      string
	url      string // of the API of the dispatcher started last
	api      *client.Client
	cfg      config.Dispatcher
	extra    map[string]providers.Provider

	stallTimeout time.Duration // of workers that are started from here on; 0 for their default
}

func limits() providers.Limits {
	return providers.Limits{
		Limits:     parts.Limits{MinPart: 1, MaxPart: 64 * mib, Preferred: mib, MaxParts: 1000, MaxSize: 1 << 30},
		PartDigest: hashing.CRC64NVME,
	}
}

// setup starts everything but the processes.
func setup(t *testing.T, l providers.Limits) *bundle {
	t.Helper()
	b := &bundle{platform: providertest.NewFake(l), nats: devtest.NATS(t), s3: devtest.S3(t, "staging")}
	var err error
	b.dsn = devtest.Postgres(t, func(ctx context.Context, dsn string) error {
		_, err := postgres.MigrateUp(ctx, dsn)
		return err
	})
	if b.staging, err = staging.New(b.s3.Config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.staging.Close)
	s3 := b.s3.Config()
	b.cfg = config.Dispatcher{
		NATS: config.NATS{URL: b.nats.URL()}, Postgres: config.Postgres{DSN: providers.Secret(b.dsn), MaxConns: 8},
		Staging: config.Staging{Endpoint: s3.Endpoint, Region: "us-east-1", AccessKey: s3.AccessKey.Reveal(), SecretKey: s3.SecretKey, PathStyle: true},
		API:     config.API{Listen: "127.0.0.1:0", Auth: config.AuthNone}, SealKey: providers.Secret(sealing.NewKey()),
		SweepInterval: 200 * time.Millisecond, StopGrace: testGrace,
		Accounts: []config.Account{{Name: "acc", Tenant: "default", Provider: "fake", Pool: "default", Window: 64 * mib}},
	}
	return b
}

// background runs a process until stop is called, and fails the test if it fails.
func background(t *testing.T, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	var once atomic.Bool
	stop = func() {
		if once.Swap(true) {
			return
		}
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("process ended: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func (b *bundle) known() map[string]providers.Provider {
	known := map[string]providers.Provider{"fake": b.platform}
	maps.Copy(known, b.extra)
	return known
}

// dispatcher starts a dispatcher and waits until it takes submissions.
func (b *bundle) dispatcher(t *testing.T) (stop func()) {
	t.Helper()
	return b.loggedDispatcher(t, zaptest.NewLogger(t).Named("dispatcher"))
}

func (b *bundle) loggedDispatcher(t *testing.T, log *zap.Logger) (stop func()) {
	t.Helper()
	ready := make(chan string, 1)
	stop = background(t, func(ctx context.Context) error {
		return service.RunDispatcher(ctx, b.cfg, b.known(), log, func(addr string) { ready <- addr })
	})
	select {
	case addr := <-ready:
		b.url = "http://" + addr
		var err error
		if b.api, err = client.New(b.url, "default"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.api.Close)
	case <-time.After(testPatience):
		t.Fatal("the dispatcher is not ready")
	}
	return stop
}

// worker starts a worker.
func (b *bundle) worker(t *testing.T, id string) {
	t.Helper()
	b.stoppableWorker(t, id)
}

func (b *bundle) stoppableWorker(t *testing.T, id string) (stop func()) {
	t.Helper()
	cfg := config.Worker{
		ID: id, Pool: "default", Slots: 4, NATS: b.cfg.NATS, Staging: b.cfg.Staging,
		StallTimeout: b.stallTimeout, StopGrace: time.Second,
	}
	log := zaptest.NewLogger(t).Named(id)
	return background(t, func(ctx context.Context) error { return service.RunWorker(ctx, cfg, b.known(), log) })
}

// query returns a function that reads one value of the record as text.
func (b *bundle) query(t *testing.T) func(sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return func(sql string) (value string) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// put stores random bytes in staging and returns them.
func (b *bundle) put(t *testing.T, key string, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", key))))
	_, _ = random.Read(data)
	if _, err := b.staging.Put(t.Context(), "staging", key, "video/mp4", bytes.NewReader(data), int64(size)); err != nil {
		t.Fatal(err)
	}
	return data
}

func (b *bundle) submit(t *testing.T, key string) client.Upload {
	t.Helper()
	u, _, err := b.api.Submit(t.Context(), client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: key}})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// wait returns the upload when it has ended.
func (b *bundle) wait(t *testing.T, id string) client.Upload {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	u, err := b.api.Wait(ctx, id, nil)
	if err != nil {
		t.Fatalf("wait for %s in state %s: %v", id, u.State, err)
	}
	return u
}

// mustComplete waits and compares the asset with the bytes.
func (b *bundle) mustComplete(t *testing.T, id string, want []byte) client.Upload {
	t.Helper()
	u := b.wait(t, id)
	if u.State != string(uploads.Completed) {
		t.Fatalf("state %s (%+v), want completed", u.State, u.Failure)
	}
	got, ok := b.platform.Content(u.Asset.ID)
	if !ok || !bytes.Equal(got, want) {
		t.Fatalf("the asset has %d bytes that are not the %d of the source", len(got), len(want))
	}
	if seen := b.platform.Seen(uuid.MustParse(id)); len(seen.Assets) != 1 {
		t.Errorf("%d assets, want 1", len(seen.Assets))
	}
	return u
}

func TestFilesOfAllSizesArrive(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.dispatcher(t)
	b.worker(t, "w1")
	b.worker(t, "w2")
	sizes := []int{1, mib - 1, mib, mib + 1, 16 * mib, 16*mib + 1, 40*mib + 12345}
	ids, data := make([]string, len(sizes)), make([][]byte, len(sizes))
	for i, size := range sizes {
		key := fmt.Sprintf("film-%d.mp4", size)
		data[i] = b.put(t, key, size)
		ids[i] = b.submit(t, key).ID
	}
	for i, id := range ids {
		b.mustComplete(t, id, data[i])
		if seen := b.platform.Seen(uuid.MustParse(id)); seen.Bytes != int64(sizes[i]) {
			t.Errorf("%d bytes were sent for a file of %d", seen.Bytes, sizes[i])
		}
	}
}

func TestTheQueueIsLostInMidUpload(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 48*mib)
	b.dispatcher(t)
	b.worker(t, "w1")

	// The platform holds every part call after the tenth until the store is gone.
	lost := make(chan struct{})
	reached := make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth > 10 {
			if nth == 11 {
				close(reached)
			}
			<-lost
		}
		return true, nil
	})
	id := b.submit(t, "film.mp4").ID
	<-reached
	b.nats.Stop()
	if err := b.nats.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := b.nats.Start(); err != nil {
		t.Fatal(err)
	}
	close(lost)
	b.mustComplete(t, id, data)
}

func TestAChangedSourceFailsTheUpload(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", 20*mib)
	b.dispatcher(t)
	id := b.submit(t, "film.mp4").ID
	if _, err := b.staging.Put(t.Context(), "staging", "film.mp4", "", bytes.NewReader(make([]byte, 20*mib)), 20*mib); err != nil {
		t.Fatal(err)
	}
	b.worker(t, "w1")
	u := b.wait(t, id)
	if u.State != string(uploads.Failed) || u.Failure.Cause != string(uploads.CauseSourceChanged) {
		t.Errorf("%s with %+v, want failed with source_changed", u.State, u.Failure)
	}
	if seen := b.platform.Seen(uuid.MustParse(id)); len(seen.Assets) != 0 {
		t.Errorf("%d assets of mixed bytes", len(seen.Assets))
	}
}

// The table of break points of the control steps: each call is refused, or
// takes effect and is reported as failed. One asset comes of it each time.
func TestBreakPointsOfControlSteps(t *testing.T) {
	t.Parallel()
	kinds := []providers.Kind{providers.Transient, providers.Throttled, providers.UnknownOutcome, providers.SessionLost}
	for _, call := range []providers.Call{providers.CallBegin, providers.CallPut, providers.CallFinish} {
		for _, kind := range kinds {
			for _, apply := range []bool{false, true} {
				if apply && call == providers.CallFinish && kind != providers.UnknownOutcome {
					continue // a provider that calls a finish that took effect a definite failure is wrong
				}
				t.Run(fmt.Sprintf("%s/%s/applied=%v", call, kind, apply), func(t *testing.T) {
					t.Parallel()
					b := setup(t, limits())
					data := b.put(t, "film.mp4", 3*mib)
					b.platform.SetHook(func(c providers.Call, nth int) (bool, error) {
						if c == call && nth == 1 {
							return apply, &providers.Error{Kind: kind, Call: string(call), Message: "injected"}
						}
						return true, nil
					})
					b.dispatcher(t)
					b.worker(t, "w1")
					b.mustComplete(t, b.submit(t, "film.mp4").ID, data)
				})
			}
		}
	}
}

// A dispatcher dies between the intent and the answer of finish; the next one
// asks the platform before it calls again.
func TestFinishThatOutlivesItsDispatcher(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 3*mib)
	inFinish := make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallFinish && nth == 1 {
			close(inFinish)
			return true, &providers.Error{Kind: providers.UnknownOutcome, Call: "finish", Message: "the answer was lost"}
		}
		return true, nil
	})
	stop := b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-inFinish
	stop()
	b.dispatcher(t)
	b.mustComplete(t, id, data)
	if n := b.platform.Calls(providers.CallFinish); n != 1 {
		t.Errorf("finish was called %d times, want once: the probe found the asset", n)
	}
	if n := b.platform.Calls(providers.CallProbe); n == 0 {
		t.Error("nobody probed")
	}
}

func TestRejectedAndUnauthorizedFailWithTheirCause(t *testing.T) {
	t.Parallel()
	for kind, cause := range map[providers.Kind]uploads.Cause{
		providers.Rejected: uploads.CauseRejected, providers.Unauthorized: uploads.CauseUnauthorized,
	} {
		for _, call := range []providers.Call{providers.CallBegin, providers.CallPut, providers.CallFinish} {
			t.Run(fmt.Sprintf("%s at %s", kind, call), func(t *testing.T) {
				t.Parallel()
				b := setup(t, limits())
				b.put(t, "film.mp4", 3*mib)
				b.platform.SetHook(func(c providers.Call, _ int) (bool, error) {
					if c == call {
						return false, &providers.Error{Kind: kind, Call: string(call), Code: "E42", Message: "no"}
					}
					return true, nil
				})
				b.dispatcher(t)
				b.worker(t, "w1")
				u := b.wait(t, b.submit(t, "film.mp4").ID)
				if u.State != string(uploads.Failed) || u.Failure.Cause != string(cause) || u.Failure.Code != "E42" {
					t.Errorf("%s with %+v, want failed with %s and the platform's code", u.State, u.Failure, cause)
				}
			})
		}
	}
}

func TestALostSessionOpensANewEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 24*mib)
	half, lost := make(chan struct{}), make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth >= 12 {
			if nth == 12 {
				close(half)
			}
			<-lost
		}
		return true, nil
	})
	b.dispatcher(t)
	id := b.submit(t, "film.mp4").ID
	b.worker(t, "w1")
	<-half
	b.platform.LoseSessions(uuid.MustParse(id))
	close(lost)
	if u := b.mustComplete(t, id, data); u.Epoch < 2 {
		t.Errorf("epoch %d, want a second session", u.Epoch)
	}
}

func TestDigestPassThenInstantUpload(t *testing.T) {
	t.Parallel()
	l := limits()
	l.ObjectDigests = []hashing.Kind{hashing.SHA1}
	b := setup(t, l)
	data := b.put(t, "film.mp4", 9*mib)
	b.dispatcher(t)
	b.worker(t, "w1")
	first := b.mustComplete(t, b.submit(t, "film.mp4").ID, data)
	again := b.submit(t, "film.mp4").ID
	u := b.wait(t, again)
	if u.State != string(uploads.Completed) || !u.Instant || u.Asset.ID != first.Asset.ID {
		t.Errorf("the same bytes again: %+v, want the first asset at once", u)
	}
	if seen := b.platform.Seen(uuid.MustParse(again)); seen.Bytes != 0 {
		t.Errorf("%d bytes were sent again", seen.Bytes)
	}
}

func TestCancelDiscardsTheSession(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", 40*mib)
	begun, release := make(chan struct{}), make(chan struct{})
	aborted := make(chan struct{})
	var once, abortOnce atomic.Bool
	b.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
		switch call {
		case providers.CallPut:
			if !once.Swap(true) {
				close(begun)
			}
			<-release
		case providers.CallAbort:
			if !abortOnce.Swap(true) {
				close(aborted)
			}
		case providers.CallBegin, providers.CallFinish, providers.CallProbe:
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-begun
	u, err := b.api.Cancel(t.Context(), id)
	if err != nil || u.State != string(uploads.Cancelled) {
		t.Fatalf("Cancel = %+v, %v", u, err)
	}
	close(release)
	select {
	case <-aborted:
	case <-time.After(testPatience):
		t.Error("the upstream session was not discarded")
	}
	if seen := b.platform.Seen(uuid.MustParse(id)); len(seen.Assets) != 0 {
		t.Error("a cancelled upload has an asset")
	}
}

// lapsing is a platform whose sessions lapse and can be renewed. It opens them when
// most of their life is over, and once one is renewed its clock stands behind the
// end that the session had at first.
type lapsing struct {
	*providertest.Fake

	mu      sync.Mutex
	valid   map[string]time.Time // end of each session, by its data
	ahead   time.Duration        // of its clock, before ours
	late    bool                 // a session was renewed after its end
	renewed chan struct{}        // closed by the first renewal
}

// Sessions are renewed in the last third of their life, ten minutes here.
const (
	lapsingLife = 30 * time.Minute
	lapsingLeft = 10*time.Minute + time.Second
)

func (l *lapsing) prolong(s providers.Session, left time.Duration) providers.Session {
	s.Expires = time.Now().Add(left)
	l.valid[string(s.Data)] = s.Expires
	return s
}

func (l *lapsing) Begin(ctx context.Context, a providers.Account, m providers.Media) (providers.Begun, error) {
	begun, err := l.Fake.Begin(ctx, a, m)
	l.mu.Lock()
	defer l.mu.Unlock()
	begun.Session = l.prolong(begun.Session, lapsingLeft)
	return begun, err
}

func (l *lapsing) Renew(_ context.Context, _ providers.Account, _ providers.Media, s providers.Session) (providers.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ahead == 0 {
		l.late = time.Now().After(l.valid[string(s.Data)])
		l.ahead = lapsingLeft
		close(l.renewed)
	}
	return l.prolong(s, lapsingLife), nil
}

func (l *lapsing) PutPart(ctx context.Context, s providers.Session, p parts.Part, b providers.Body) (parts.Receipt, error) {
	l.mu.Lock()
	lapsed := time.Now().Add(l.ahead).After(l.valid[string(s.Data)])
	l.mu.Unlock()
	if lapsed {
		return parts.Receipt{}, &providers.Error{Kind: providers.SessionLost, Call: "put", Message: "the session has lapsed"}
	}
	return l.Fake.PutPart(ctx, s, p, b)
}

// An upload that takes longer than its session lasts: the session is renewed
// ahead of its end, and the parts stay in their epoch.
func TestSessionsAreRenewedAheadOfTheirEnd(t *testing.T) {
	t.Parallel()
	l := limits()
	l.SessionLife = lapsingLife
	b := setup(t, l)
	platform := &lapsing{Fake: b.platform, valid: map[string]time.Time{}, renewed: make(chan struct{})}
	b.extra = map[string]providers.Provider{"fake": platform}
	data := b.put(t, "film.mp4", 24*mib)
	ended := t.Context().Done()
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth > 4 { // the upload takes longer than its session lasts at first
			select {
			case <-platform.renewed:
			case <-ended:
			}
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	u := b.mustComplete(t, b.submit(t, "film.mp4").ID, data)
	platform.mu.Lock()
	defer platform.mu.Unlock()
	if platform.ahead == 0 || platform.late || u.Epoch != 1 {
		t.Errorf("renewed %t, too late %t, epoch %d; want it renewed in time in its first epoch", platform.ahead > 0, platform.late, u.Epoch)
	}
}

// Failed is left by a retry alone, which opens a new epoch.
func TestRetryOfAFailedUpload(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 3*mib)
	var mended atomic.Bool
	b.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
		if call == providers.CallPut && !mended.Load() {
			return false, &providers.Error{Kind: providers.Rejected, Call: "put", Message: "no"}
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	if u := b.wait(t, id); u.State != string(uploads.Failed) {
		t.Fatalf("state %s, want failed", u.State)
	}
	mended.Store(true)
	_ = await(t, "the old session is discarded, before which a retry is refused", func() (error, bool) {
		_, err := b.api.Retry(t.Context(), id)
		return err, err == nil
	})
	if u := b.mustComplete(t, id, data); u.Epoch != 2 || u.Failure != nil {
		t.Errorf("epoch %d with failure %+v, want the second without", u.Epoch, u.Failure)
	}
	if _, err := b.api.Retry(t.Context(), id); err == nil {
		t.Error("a completed upload was retried")
	}
}

// A platform that hangs holds up its own account alone.
func TestAHangingPlatformHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.cfg.Accounts = append(b.cfg.Accounts, config.Account{
		Name: "hung", Tenant: "default", Provider: "hung", Pool: "default", Window: 64 * mib,
	})
	hung := providertest.NewFake(limits())
	release := make(chan struct{})
	hung.SetHook(func(providers.Call, int) (bool, error) {
		<-release
		return true, nil
	})
	defer close(release)
	b.extra = map[string]providers.Provider{"hung": hung}
	data := b.put(t, "film.mp4", 3*mib)
	b.dispatcher(t)
	b.worker(t, "w1")
	for i := range 300 { // more than are claimed or called at once
		_, _, err := b.api.Submit(t.Context(), client.Submission{
			Account: "hung", Name: fmt.Sprintf("%d.mp4", i), Source: client.Source{Bucket: "staging", Key: "film.mp4"}, Priority: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b.mustComplete(t, b.submit(t, "film.mp4").ID, data)
}

func TestASubmissionMayBeRepeatedWhenItsObjectIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", mib)
	b.dispatcher(t)
	s := client.Submission{Account: "acc", IdempotencyKey: "film-7", Source: client.Source{Bucket: "staging", Key: "film.mp4"}}
	first, created, err := b.api.Submit(t.Context(), s)
	if err != nil || !created {
		t.Fatalf("first: created %v, %v", created, err)
	}
	if err := b.staging.Delete(t.Context(), "staging", "film.mp4"); err != nil {
		t.Fatal(err)
	}
	if again, created, err := b.api.Submit(t.Context(), s); err != nil || created || again.ID != first.ID {
		t.Errorf("again: %s created %v, %v; want %s as it is", again.ID, created, err, first.ID)
	}
	s.Name = "other.mp4"
	if _, _, err := b.api.Submit(t.Context(), s); err == nil {
		t.Error("another submission under the key was taken")
	}
}

func TestBadSubmissionsKeepNothing(t *testing.T) {
	t.Parallel()
	l := limits()
	l.MaxSize = 100
	b := setup(t, l)
	b.put(t, "empty.mp4", 0)
	b.put(t, "large.mp4", 101)
	b.put(t, "film.mp4", 10)
	b.dispatcher(t)
	tests := []struct {
		name  string
		s     client.Submission
		field string
	}{
		{"missing object", client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: "nowhere.mp4"}}, "source.key"},
		{"missing bucket", client.Submission{Account: "acc", Source: client.Source{Bucket: "nowhere", Key: "film.mp4"}}, "source.key"},
		{"empty file", client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: "empty.mp4"}}, "source.key"},
		{"too large", client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: "large.mp4"}}, "source.key"},
		{"unknown account", client.Submission{Account: "other", Source: client.Source{Bucket: "staging", Key: "film.mp4"}}, "account"},
		{"bad name", client.Submission{Account: "acc", Name: "a/b", Source: client.Source{Bucket: "staging", Key: "film.mp4"}}, "name"},
	}
	for _, tt := range tests {
		_, _, err := b.api.Submit(t.Context(), tt.s)
		e, ok := errors.AsType[*client.Error](err)
		if !ok || e.Status != http.StatusUnprocessableEntity || len(e.Fields) == 0 || e.Fields[0].Location != "body."+tt.field {
			t.Errorf("%s: %v, want 422 about %s", tt.name, err, tt.field)
		}
	}
	if list, err := b.api.List(t.Context(), client.Filter{}); err != nil || len(list.Uploads) != 0 {
		t.Errorf("%d uploads, %v; want none kept", len(list.Uploads), err)
	}
}

// Postgres and NATS go away in mid-run and come back; the upload goes on.
func TestNATSAwayAndBack(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 48*mib)
	reached, back := make(chan struct{}), make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth == 5 {
			close(reached)
			<-back
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-reached
	b.nats.Stop()
	close(back)
	if err := b.nats.Start(); err != nil {
		t.Fatal(err)
	}
	b.mustComplete(t, id, data)
}

func TestPostgresConnectionsCut(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 32*mib)
	reached := make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth == 5 {
			close(reached)
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-reached
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // read only
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	b.mustComplete(t, id, data)
}

// Staging goes away in mid-run and comes back; the upload goes on.
func TestStagingAwayAndBack(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 48*mib)
	reached, away := make(chan struct{}), make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth == 5 {
			close(reached)
			<-away
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-reached
	b.s3.Stop()
	close(away)
	if err := b.s3.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustComplete(t, id, data)
}

func TestWrongStagingCredentialsAreNamedAtTheStart(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.cfg.Staging.SecretKey = "not-the-secret"
	err := service.RunDispatcher(t.Context(), b.cfg, b.known(), zaptest.NewLogger(t), nil)
	if err == nil || !strings.Contains(err.Error(), "staging.secret_key") {
		t.Errorf("dispatcher: %v, want the settings named", err)
	}
	if err != nil && strings.Contains(err.Error(), "not-the-secret") {
		t.Errorf("the secret is in the error: %v", err)
	}
	worker := config.Worker{ID: "w1", Pool: "default", Slots: 1, NATS: b.cfg.NATS, Staging: b.cfg.Staging}
	if err := service.RunWorker(t.Context(), worker, b.known(), zaptest.NewLogger(t)); err == nil || !strings.Contains(err.Error(), "staging.secret_key") {
		t.Errorf("worker: %v, want the settings named", err)
	}
}

// Services start in any order: a dispatcher and a worker wait for what they
// need, and work once it is there.
func TestServersThatComeLate(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 3*mib)
	b.nats.Stop()
	b.s3.Stop()
	b.worker(t, "w1")
	ready := make(chan string, 1)
	log := zaptest.NewLogger(t).Named("dispatcher")
	background(t, func(ctx context.Context) error {
		return service.RunDispatcher(ctx, b.cfg, b.known(), log, func(addr string) { ready <- addr })
	})
	if err := b.s3.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.nats.Start(); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.api, err = client.New("http://"+<-ready, "default"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.api.Close)
	b.mustComplete(t, b.submit(t, "film.mp4").ID, data)
}

// Two dispatchers and two workers at once: each upload has one asset, every byte
// is sent once, and the account's window holds for both together.
func TestTwoDispatchersShareTheWork(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.cfg.Accounts[0].Window = 32 * mib
	b.dispatcher(t)
	b.dispatcher(t)
	b.worker(t, "w1")
	b.worker(t, "w2")
	ids, data := make([]string, 24), make([][]byte, 24)
	for i := range ids {
		key := fmt.Sprintf("film-%d.mp4", i)
		data[i] = b.put(t, key, (i%6+1)*mib+i)
		ids[i] = b.submit(t, key).ID
	}
	inFlight := b.query(t)
	for range 50 {
		var n int64
		_, _ = fmt.Sscan(inFlight(`SELECT coalesce(sum(fed_bytes + found_bytes - acked_bytes), 0)::text FROM uploads WHERE state = 'uploading'`), &n)
		if n > 32*mib {
			t.Errorf("%d bytes in flight, of a window of %d", n, 32*mib)
		}
	}
	for i, id := range ids {
		b.mustComplete(t, id, data[i])
		if seen := b.platform.Seen(uuid.MustParse(id)); seen.Bytes != int64(len(data[i])) || seen.Finishes != 1 {
			t.Errorf("upload %d: %d bytes sent of %d, finished %d times", i, seen.Bytes, len(data[i]), seen.Finishes)
		}
	}
}

// A submission by NATS is answered after its commit; one that is wrong is
// answered with what is wrong, and its redelivery is no second upload.
func TestSubmissionsByNATS(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", mib)
	b.dispatcher(t)
	b.worker(t, "w1")
	nc, err := nats.Connect(b.cfg.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	submit := func(body string) (reply struct {
		Upload *client.Upload
		Errors []string
	},
	) {
		t.Helper()
		inbox, err := nc.SubscribeSync(nc.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		msg := &nats.Msg{Subject: "mf.submit.default", Data: []byte(body), Header: nats.Header{jobs.SubmitReplyHeader: {inbox.Subject}}}
		if err := nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
		answer, err := inbox.NextMsg(testPatience)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(answer.Data, &reply); err != nil {
			t.Fatal(err)
		}
		return reply
	}
	good := submit(`{"account": "acc", "source": {"bucket": "staging", "key": "film.mp4"}}`)
	if good.Upload == nil || len(good.Errors) > 0 {
		t.Fatalf("a good submission: %+v", good)
	}
	b.mustComplete(t, good.Upload.ID, data)
	for body, want := range map[string]string{
		`{"account": "acc", "source": {"bucket": "staging", "key": "nowhere.mp4"}}`: "source.key",
		`{"account": "acc", "sauce": {}}`:                                           "sauce",
		`not json`:                                                                  "message",
	} {
		if got := submit(body); got.Upload != nil || len(got.Errors) == 0 || !strings.HasPrefix(got.Errors[0], want) {
			t.Errorf("%s: %+v, want an error about %s", body, got, want)
		}
	}
	if list, err := b.api.List(t.Context(), client.Filter{}); err != nil || len(list.Uploads) != 1 {
		t.Errorf("%d uploads, %v; want the one that was right", len(list.Uploads), err)
	}
}
