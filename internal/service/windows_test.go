package service_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

// second adds an account "second" at a platform of its own.
func (b *bundle) second(p providers.Provider) {
	b.cfg.Accounts = append(b.cfg.Accounts, config.Account{
		Name: "second", Tenant: "default", Provider: "second", Pool: "default", Window: 64 * mib,
	})
	b.extra = map[string]providers.Provider{"second": p}
}

func (b *bundle) submitTo(t *testing.T, account, name string) string {
	t.Helper()
	u, _, err := b.api.Submit(t.Context(), client.Submission{
		Account: account, Name: name, Source: client.Source{Bucket: "staging", Key: "film.mp4"}, Priority: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// account waits until what the API shows of account second is as wanted.
func (b *bundle) account(t *testing.T, what string, wanted func(client.Account) bool) client.Account {
	t.Helper()
	return await(t, "the account is "+what, func() (a client.Account, _ bool) {
		all, err := b.api.Accounts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a = range all {
			if a.Name == "second" {
				break
			}
		}
		return a, wanted(a)
	})
}

// arrive waits until the uploads are completed at a platform of the test's own.
func (b *bundle) arrive(t *testing.T, platform *providertest.Fake, ids []string, want []byte) {
	t.Helper()
	for _, id := range ids {
		u := b.wait(t, id)
		if u.State != string(uploads.Completed) {
			t.Fatalf("state %s (%+v), want completed", u.State, u.Failure)
		}
		if got, ok := platform.Content(u.Asset.ID); !ok || !bytes.Equal(got, want) {
			t.Errorf("the asset has %d bytes that are not the %d of the source", len(got), len(want))
		}
	}
}

func held(call providers.Call) func(client.Account) bool {
	return func(a client.Account) bool {
		for _, h := range a.Held {
			if h.Call == string(call) && !h.DownSince.IsZero() {
				return true
			}
		}
		return false
	}
}

// down refuses connections while it is told to, to parts or to everything.
type down struct {
	*providertest.Fake
	parts, all atomic.Bool
	refused    atomic.Int64
}

var errDial = &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}

func (d *down) PutPart(ctx context.Context, s providers.Session, p parts.Part, body providers.Body) (parts.Receipt, error) {
	if d.parts.Load() || d.all.Load() {
		d.refused.Add(1)
		return parts.Receipt{}, providers.TransportError("put", providers.Transient, errDial)
	}
	return d.Fake.PutPart(ctx, s, p, body)
}

func newDown() *down {
	d := &down{Fake: providertest.NewFake(limits())}
	d.SetHook(func(call providers.Call, _ int) (bool, error) {
		if call != providers.CallPut && d.all.Load() {
			d.refused.Add(1)
			return false, providers.TransportError(string(call), providers.Transient, errDial)
		}
		return true, nil
	})
	return d
}

// A platform refuses every connection: its account is held, little is tried,
// nothing fails, the other account goes on, and when the platform is back all
// of it arrives.
func TestAPlatformThatIsDownIsHeld(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"parts", "everything"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := setup(t, limits())
			platform := newDown()
			call := providers.CallPut
			if what == "everything" {
				platform.all.Store(true)
				call = providers.CallBegin
			}
			platform.parts.Store(true)
			b.second(platform)
			data := b.put(t, "film.mp4", 3*mib)
			b.dispatcher(t)
			b.dispatcher(t)
			b.worker(t, "w1")
			ids := make([]string, 40)
			for i := range ids {
				ids[i] = b.submitTo(t, "second", fmt.Sprintf("%d.mp4", i))
			}
			a := b.account(t, "held", held(call))
			if a.Held[0].Why == "" || a.Held[0].Until.IsZero() {
				t.Errorf("held for %+v", a.Held[0])
			}
			// The others' uploads do not notice.
			for i := range 4 { // the longer the outage, the longer the hold
				begun := time.Now()
				b.mustComplete(t, b.submitTo(t, "acc", fmt.Sprintf("other-%d.mp4", i)), data)
				t.Logf("an upload to a platform that is well took %s", time.Since(begun))
			}
			tried := platform.refused.Load()
			time.Sleep(2 * time.Second) // of outage, of which little is heard
			if more := platform.refused.Load() - tried; more > 30 {
				t.Errorf("%d calls in two seconds of outage", more)
			}
			platform.all.Store(false)
			platform.parts.Store(false)
			b.arrive(t, platform.Fake, ids, data)
			b.account(t, "free again", func(a client.Account) bool { return len(a.Held) == 0 })
		})
	}
}

// A platform takes connections and is silent. The slots that it has taken come
// back, all but one, and uploads to the other account finish while it hangs. The
// first may wait for what was pulled before the account was held.
func TestAHangingPlatformLeavesTheSlots(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	hanging := &silent{Fake: providertest.NewFake(limits()), release: make(chan struct{})}
	b.second(hanging)
	data := b.put(t, "film.mp4", 3*mib)
	b.dispatcher(t)
	b.stallTimeout = 3 * time.Second
	b.worker(t, "w1") // four slots
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = b.submitTo(t, "second", fmt.Sprintf("%d.mp4", i))
	}
	b.account(t, "held", held(providers.CallPut))
	for i := range 4 {
		begun := time.Now()
		b.mustComplete(t, b.submitTo(t, "acc", fmt.Sprintf("other-%d.mp4", i)), data)
		t.Logf("an upload to a platform that is well took %s", time.Since(begun))
	}
	// What was pulled before the hold has been given up; after that one call asks.
	eventually(t, "one call stays at the silent platform", func() bool { return hanging.now.Load() <= 1 })
	if most := hanging.most(2 * time.Second); most > 1 {
		t.Errorf("%d calls at the silent platform at once", most)
	}
	close(hanging.release)
	b.arrive(t, hanging.Fake, ids, data)
}

// silent takes no byte and answers nothing until it is released.
type silent struct {
	*providertest.Fake
	release chan struct{}
	now     atomic.Int64
}

func (s *silent) PutPart(ctx context.Context, ps providers.Session, p parts.Part, body providers.Body) (parts.Receipt, error) {
	s.now.Add(1)
	defer s.now.Add(-1)
	select {
	case <-ctx.Done():
		return parts.Receipt{}, providers.TransportError("put", providers.Transient, context.Cause(ctx))
	case <-s.release:
	}
	return s.Fake.PutPart(ctx, ps, p, body)
}

// most returns the most calls at once that are seen for a while.
func (s *silent) most(d time.Duration) (most int64) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		most = max(most, s.now.Load())
	}
	return most
}

// counting measures what is in flight at the platform, throttles what is above
// its own bound, and counts the calls that assemble.
type counting struct {
	*providertest.Fake
	bound     int64 // bytes in flight above which it throttles
	inFlight  atomic.Int64
	throttled atomic.Int64

	mu       sync.Mutex
	most     int64
	finishes int
}

func (c *counting) PutPart(ctx context.Context, s providers.Session, p parts.Part, body providers.Body) (parts.Receipt, error) {
	now := c.inFlight.Add(p.Length)
	defer c.inFlight.Add(-p.Length)
	c.mu.Lock()
	c.most = max(c.most, now)
	c.mu.Unlock()
	if now > c.bound {
		c.throttled.Add(1)
		return parts.Receipt{}, &providers.Error{Kind: providers.Throttled, Call: "put", Code: "503", Message: "slow down", RetryAfter: 200 * time.Millisecond}
	}
	return c.Fake.PutPart(ctx, s, p, body)
}

func (c *counting) note(call providers.Call, _ int) (bool, error) {
	if call == providers.CallFinish {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.finishes++
	}
	return true, nil
}

// Invariant 8: under several dispatchers, bytes in flight stay within the window
// and calls within the published rate, and who waits for a call does not ask
// again and again.
func TestBytesInFlightAndCallsStayWithinTheirBounds(t *testing.T) {
	t.Parallel()
	const rate, per = 10, 2 * time.Second
	l := limits()
	l.Calls = map[providers.Call]providers.Rate{providers.CallFinish: {Count: rate, Per: per}}
	b := setup(t, l)
	platform := &counting{Fake: providertest.NewFake(l), bound: 1 << 40}
	platform.SetHook(platform.note)
	b.second(platform)
	b.cfg.Accounts[1].Window = 32 * mib
	data := b.put(t, "film.mp4", 9*mib)
	// A call may be late at the platform, and the next one not; what is held against
	// the rate is when the record let each of them go.
	execSQL(t, b.dsn, `CREATE TABLE public.let_go (at timestamptz);
		CREATE FUNCTION public.note_let_go() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO public.let_go SELECT NEW.filled_at FROM generate_series((OLD.taken + 1)::int, NEW.taken::int); RETURN NULL; END $$;
		CREATE TRIGGER note_let_go AFTER UPDATE ON public.call_rates FOR EACH ROW EXECUTE FUNCTION public.note_let_go()`)
	for range 3 {
		b.dispatcher(t)
	}
	b.worker(t, "w1")
	b.worker(t, "w2")
	b.worker(t, "w3")
	ids := make([]string, 30)
	for i := range ids {
		ids[i] = b.submitTo(t, "second", fmt.Sprintf("%d.mp4", i))
	}
	b.arrive(t, platform.Fake, ids, data)
	platform.mu.Lock()
	defer platform.mu.Unlock()
	if platform.most > 32*mib {
		t.Errorf("%d bytes at the platform at once, of a window of %d", platform.most, 32*mib)
	}
	query := b.query(t)
	if n := query(`SELECT count(*)::text FROM public.let_go`); n != strconv.Itoa(len(ids)) || platform.finishes != len(ids) {
		t.Errorf("finish was called %d times and let go %s times for %d uploads", platform.finishes, n, len(ids))
	}
	within := query(fmt.Sprintf(`SELECT coalesce(min(took), interval '1 hour')::text FROM
		(SELECT at - lag(at, %d) OVER (ORDER BY at) AS took FROM public.let_go) AS calls`, rate))
	if query(fmt.Sprintf(`SELECT (interval '%s' >= interval '%d milliseconds')::text`, within, per.Milliseconds())) != "true" {
		t.Errorf("%d calls within %s", rate+1, within)
	}
}

// A platform that throttles brings the window down to what it takes, its pauses
// are kept, and everything arrives.
func TestThrottlingCutsTheWindow(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	platform := &counting{Fake: providertest.NewFake(limits()), bound: 2 * mib}
	b.second(platform)
	data := b.put(t, "film.mp4", 24*mib)
	b.dispatcher(t)
	b.worker(t, "w1")
	ids := make([]string, 6)
	for i := range ids {
		ids[i] = b.submitTo(t, "second", fmt.Sprintf("%d.mp4", i))
	}
	cut := b.account(t, "cut", func(a client.Account) bool { return a.Window < a.MaxWindow && a.CutFor != "" })
	if cut.MaxWindow != 64*mib || cut.CutAt.IsZero() {
		t.Errorf("%+v", cut)
	}
	b.arrive(t, platform.Fake, ids, data)
	if n := platform.throttled.Load(); n > 100 {
		t.Errorf("throttled %d times", n)
	}
}
