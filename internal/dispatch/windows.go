package dispatch

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

type windowStore interface {
	AdjustWindow(ctx context.Context, account string, change func(now time.Time, w windows.Window) windows.Window) (windows.Window, error)
	AdjustHold(ctx context.Context, account string, call providers.Call, change func(now time.Time, h windows.Hold) windows.Hold) (windows.Hold, error)
	Windows(ctx context.Context) (map[string]windows.Window, time.Time, error)
	Holds(ctx context.Context) (map[windows.Call]windows.Hold, time.Time, error)
	Release(ctx context.Context, account string, call providers.Call) error
	TakeCalls(ctx context.Context, account string, call providers.Call, calls int, rate providers.Rate) (wait time.Duration, err error)
	CallLevels(ctx context.Context, rate func(windows.Call) (providers.Rate, bool)) (map[windows.Call]float64, error)
}

// flow is what this process has seen of an account since it last told the
// record. What is lost with the process is a second of a measurement.
type flow struct {
	mu        sync.Mutex
	acked     int64     // bytes
	full      bool      // work waited for the window
	congested string    // why the window is to be cut
	down      bool      // parts are not answered at all
	putDue    time.Time // when calls of the rate for parts are due; zero if they are
}

func (f *flow) note(change func(f *flow)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// putLater notes when calls of the rate for parts are due.
func (f *flow) putLater(due time.Time) { f.note(func(f *flow) { f.putDue = due }) }

func (f *flow) putAgain() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.putDue
}

// take returns what was seen, and begins anew.
func (f *flow) take() (o windows.Observed, saw bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o = windows.Observed{Acked: f.acked, Full: f.full, Congested: f.congested, Down: f.down}
	f.acked, f.full, f.congested, f.down = 0, false, "", false
	return o, o != windows.Observed{}
}

// limits are what the account's window keeps within.
func (a Account) limits() windows.Limits {
	return windows.Limits{Least: min(parts.MaxRunBytes, a.Window), Most: a.Window}
}

// adjustWindows tells the record what was seen of each account in the last
// second, or at once where a window is to be cut, and takes over what other
// dispatchers have found out.
func (d *Dispatcher) adjustWindows(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(d.accounts)) {
		seen, saw := d.flows[name].take()
		if !saw {
			continue
		}
		limits := d.accounts[name].limits()
		var before int64
		w, err := d.store.AdjustWindow(ctx, name, func(now time.Time, w windows.Window) windows.Window {
			seen.At, before = now, w.Within(limits).Bytes
			return w.After(seen, limits)
		})
		if err != nil {
			return err // a lost second of measurement; a cut that was due is seen again
		}
		if w.Bytes != before {
			d.log.Info("window changed", zap.String("account", name), zap.Int64("bytes", w.Bytes), zap.Int64("before", before),
				zap.Float64("goodput", w.Goodput), zap.String("cut_for", seen.Congested))
		}
		if w.Bytes > before {
			d.wakeFeeder(name)
		}
	}
	holds, now, err := d.store.Holds(ctx)
	if err != nil {
		return err
	}
	open, up := d.holds.replace(holds, now)
	for _, call := range up {
		if err := d.store.Release(ctx, call.Account, providers.Call(call.Call)); err != nil {
			return err // what waited is due again when its time has come
		}
	}
	for _, call := range open {
		d.wakeFor(call.Account, providers.Call(call.Call))
	}
	return nil
}

// holds is what this process knows of the record's holds: all that say
// something, a second old at most, and what it changed itself at once.
type holds struct {
	mu   sync.Mutex
	by   map[windows.Call]windows.Hold
	skew time.Duration // how far the database's clock is ahead of ours
}

func newHolds() *holds { return &holds{by: make(map[windows.Call]windows.Hold)} }

// get returns a hold and the time by which to read it.
func (h *holds) get(account string, call providers.Call) (windows.Hold, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.by[windows.Call{Account: account, Call: string(call)}], time.Now().Add(h.skew)
}

func (h *holds) set(account string, call providers.Call, hold windows.Hold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.by[windows.Call{Account: account, Call: string(call)}] = hold
}

// replace takes over the record's holds and returns the calls that went out of
// a hold, and of those the ones whose platform was down.
func (h *holds) replace(by map[windows.Call]windows.Hold, now time.Time) (open, up []windows.Call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for call, before := range h.by {
		if before.Until.IsZero() || !by[call].Open(now) {
			continue
		}
		open = append(open, call)
		if !before.Down.IsZero() {
			up = append(up, call)
		}
	}
	h.by, h.skew = by, time.Until(now)
	return open, up
}

// putOff runs a write that puts something off because the call held is, if one
// is named. If the hold has ended before the write is durable, the release of
// what waited may have missed it, and is repeated.
func (d *Dispatcher) putOff(ctx context.Context, account string, held providers.Call, write func() error) error {
	if err := write(); err != nil || held == "" {
		return err
	}
	if hold, now := d.holds.get(account, held); !hold.Open(now) {
		return nil // who ends it releases
	}
	if err := d.store.Release(ctx, account, held); err != nil {
		return err
	}
	d.wakeFor(account, held)
	return nil
}

// ask says how long a call has to wait, 0 if it may be made now. While the
// platform is down one call at a time may, to see whether it is back: who is
// told 0 then makes the call, or the next is allowed only after a while.
func (d *Dispatcher) ask(ctx context.Context, account string, call providers.Call) (wait time.Duration, err error) {
	hold, now := d.holds.get(account, call)
	switch {
	case hold.Open(now):
		return 0, nil
	case hold.Held(now):
		return hold.Until.Sub(now), nil
	}
	may := false
	hold, err = d.store.AdjustHold(ctx, account, call, func(at time.Time, h windows.Hold) windows.Hold {
		now = at
		h, may = h.Ask(at)
		return h
	})
	if err != nil {
		return 0, err
	}
	d.holds.set(account, call, hold)
	if may {
		return 0, nil
	}
	return max(hold.Until.Sub(now), time.Millisecond), nil
}

// silent reports whether an error of the kind may mean that the platform is
// down. Anything else is an answer, whatever it says.
func silent(kind providers.Kind) bool {
	return kind == providers.Transient || kind == providers.Throttled || kind == providers.UnknownOutcome
}

// noteCall takes what became of a control call into its hold. A call that our
// own stop cut short says nothing. The hold that is returned says whether the
// failure is excused; it is zero where it could not be recorded.
func (d *Dispatcher) noteCall(ctx context.Context, account string, call providers.Call, err error) windows.Hold {
	if err == nil {
		d.answered(ctx, account, call)
		return windows.Hold{}
	}
	if ctx.Err() != nil {
		return windows.Hold{}
	}
	e := providerError(err)
	if !silent(e.Kind) {
		d.answered(ctx, account, call)
		return windows.Hold{}
	}
	return d.failed(ctx, account, call, windows.Failed{Times: 1, RetryAfter: e.RetryAfter, Why: why(string(e.Kind), e.Code, e.Error())})
}

// excused reports how long a failed step has to wait for its platform, where
// the failure says nothing of the upload.
func (d *Dispatcher) excused(hold windows.Hold) (wait time.Duration, yes bool) {
	now := time.Now().Add(d.holds.ahead())
	if !hold.Excuses(now) {
		return 0, false
	}
	return max(hold.Until.Sub(now), time.Second), true
}

// asked is for how long a platform has the call wait that it throttled: what it
// says is bounded, so that a wrong clock or a slip of the pen there does not put
// an upload to sleep for days.
func asked(retryAfter time.Duration) time.Duration { return min(retryAfter, windows.LongestRetryAfter) }

func (h *holds) ahead() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.skew
}

// failed takes calls that were not answered into their hold. Its own failure is
// not the caller's: the next one is counted.
func (d *Dispatcher) failed(ctx context.Context, account string, call providers.Call, f windows.Failed) windows.Hold {
	var before windows.Hold
	f.Jitter = rand.Float64() //nolint:gosec // jitter needs no secrecy
	after, err := d.store.AdjustHold(ctx, account, call, func(now time.Time, h windows.Hold) windows.Hold {
		before, f.At = h, now
		return h.After(f)
	})
	if err != nil {
		d.log.Warn("failure is not counted for its account", zap.String("account", account), zap.Error(err))
		return windows.Hold{}
	}
	d.holds.set(account, call, after)
	if before.Down.IsZero() && !after.Down.IsZero() {
		d.log.Warn("platform is down: calls are held and ask now and then", zap.String("account", account),
			zap.String("call", string(call)), zap.Int("failures", after.Failures), zap.String("why", after.Why))
		if call == providers.CallPut {
			d.flows[account].note(func(f *flow) { f.congested, f.down = after.Why, true })
			d.adjusts.wake()
			// What is queued would take one slot after another from other accounts. It
			// is neither in the ledger nor in the queue now, and so the sweep's.
			if err := d.queue.WithdrawRuns(ctx, account); err != nil {
				d.log.Warn("runs of a held account stay on the queue", zap.String("account", account), zap.Error(err))
			}
		}
	}
	if after.Until.After(before.Until) {
		time.AfterFunc(time.Until(after.Until.Add(-d.holds.ahead())), func() { d.wakeFor(account, call) })
	}
	return after
}

// answered ends a row of failures. It costs nothing where there was none.
func (d *Dispatcher) answered(ctx context.Context, account string, call providers.Call) {
	hold, now := d.holds.get(account, call)
	if hold.Failures == 0 && hold.Down.IsZero() {
		return
	}
	// What the call did is done, also while stopping.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var before windows.Hold
	after, err := d.store.AdjustHold(ctx, account, call, func(at time.Time, h windows.Hold) windows.Hold {
		before, now = h, at
		return h.Answered(at)
	})
	if err != nil {
		d.log.Warn("answer is not counted for its account", zap.String("account", account), zap.Error(err))
		return // the next answer is
	}
	// Before the release: from here on, who puts a step off sees that nothing holds it.
	d.holds.set(account, call, after)
	if !before.Down.IsZero() {
		if err := d.store.Release(ctx, account, call); err != nil {
			d.log.Warn("what waited for the platform is not released yet", zap.String("account", account), zap.Error(err))
			d.holds.set(account, call, before) // the next look at the record's holds releases it
		}
		d.log.Info("platform answers again", zap.String("account", account), zap.String("call", string(call)),
			zap.Duration("outage", now.Sub(before.Down)), zap.Int("asked", before.Asked))
		d.wakeFor(account, call)
	}
}

// wakeFor wakes what waited for a call.
func (d *Dispatcher) wakeFor(account string, call providers.Call) {
	if call == providers.CallPut {
		d.sweeps.wake()
		d.wakeFeeder(account)
		return
	}
	d.steps.wake()
	d.opens.wake()
}

// noteReports takes what workers say of the platforms into flows and holds. It
// comes before the ledger, which excuses failures by the hold.
func (d *Dispatcher) noteReports(ctx context.Context, reports []parts.Report) {
	type seen struct {
		answered bool
		failed   windows.Failed
	}
	var accounts map[string]*seen
	for i := range reports {
		r := &reports[i]
		of, ok := d.flows[r.Account]
		if !ok {
			continue
		}
		if len(r.Acks) == 0 && r.Failure == nil {
			continue
		}
		if accounts == nil {
			accounts = make(map[string]*seen, 1)
		}
		a := accounts[r.Account]
		if a == nil {
			a = &seen{}
			accounts[r.Account] = a
		}
		if len(r.Acks) > 0 {
			a.answered = true
			var bytes int64
			for _, ack := range r.Acks {
				bytes += ack.Length
			}
			of.note(func(f *flow) { f.acked += bytes })
		}
		f := r.Failure
		switch {
		case f == nil || f.Part == 0 || f.Code == parts.CodeUnfit || strings.HasPrefix(f.Kind, "source_"):
		case !silent(providers.Kind(f.Kind)):
			a.answered = true
		default:
			a.failed.Times++
			a.failed.RetryAfter = max(a.failed.RetryAfter, f.RetryAfter)
			a.failed.Why = why(f.Kind, f.Code, f.Message)
			if providers.Kind(f.Kind) == providers.Throttled || f.Code == "" || f.Code == parts.CodeStalled {
				of.note(func(f *flow) { f.congested = a.failed.Why })
				d.adjusts.wake()
			}
		}
	}
	for account, a := range accounts {
		// What asks for a pause gets it, also where others were answered.
		if a.failed.Times > 0 && (!a.answered || a.failed.RetryAfter > 0) {
			d.failed(ctx, account, providers.CallPut, a.failed)
		}
		if a.answered {
			d.answered(ctx, account, providers.CallPut)
		}
	}
}

// why says in a few words what a platform answered. It begins with the kind, by
// which an explanation tells throttling.
func why(kind, code, message string) string {
	const most = 200 // bytes
	text := kind
	if code != "" {
		text += " (" + code + ")"
	}
	// A provider's error says both too, behind the call.
	before, after, _ := strings.Cut(message, text)
	text += ": " + strings.TrimSuffix(before, ": ") + after
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// Accounts returns every account with what it has in hand and what holds it.
func (d *Dispatcher) Accounts(ctx context.Context) ([]uploads.AccountStatus, error) {
	loads, err := d.store.AccountLoads(ctx)
	if err != nil {
		return nil, err
	}
	known, now, err := d.store.Windows(ctx)
	if err != nil {
		return nil, err
	}
	holds, _, err := d.store.Holds(ctx)
	if err != nil {
		return nil, err
	}
	levels, err := d.store.CallLevels(ctx, d.rateOf)
	if err != nil {
		return nil, err
	}
	pauses, err := d.store.Pauses(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]uploads.AccountStatus, 0, len(d.accounts))
	for name, a := range d.accounts {
		w := known[name].Within(a.limits())
		status := uploads.AccountStatus{
			Name: name, Tenant: a.Tenant, Provider: a.Provider, Pool: a.Pool,
			Window: w.Bytes, MaxWindow: a.Window, Goodput: int64(w.GoodputAt(now)), CutAt: w.CutAt, CutFor: w.CutFor,
			InFlight: loads[name].InFlight, Active: loads[name].Active, Pauses: a.pausesOf(pauses),
		}
		for _, call := range []providers.Call{
			providers.CallBegin, providers.CallPut, providers.CallFinish, providers.CallProbe, providers.CallAbort,
		} {
			key := windows.Call{Account: name, Call: string(call)}
			if h := holds[key]; !h.Open(now) {
				status.Held = append(status.Held, uploads.HeldCall{Call: string(call), Until: h.Until, Why: h.Why, Down: h.Down, Asked: h.Asked})
			}
			if rate, ok := d.rateOf(key); ok {
				status.Rates = append(status.Rates, uploads.CallRate{Call: string(call), Count: rate.Count, Per: rate.Per, Spent: levels[key]})
			}
		}
		out = append(out, status)
	}
	slices.SortFunc(out, func(a, b uploads.AccountStatus) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// rateOf returns the published rate of an account's call, if there is one.
func (d *Dispatcher) rateOf(call windows.Call) (providers.Rate, bool) {
	p, ok := d.providers[d.accounts[call.Account].Provider]
	if !ok {
		return providers.Rate{}, false
	}
	rate, ok := p.Limits().Calls[providers.Call(call.Call)]
	return rate, ok
}

// budget says how long a control call has to wait, 0 if it is made now: for a
// platform that is down or asked for a pause, and then held names the call, or
// for the published rate, which it spends.
func (d *Dispatcher) budget(ctx context.Context, step uploads.Step, call providers.Call) (wait time.Duration, held providers.Call, err error) {
	if hold, now := d.holds.get(step.Account, call); hold.Held(now) {
		return hold.Until.Sub(now), call, nil // spends nothing
	}
	if rate, bounded := d.rateOf(windows.Call{Account: step.Account, Call: string(call)}); bounded {
		if wait, err := d.store.TakeCalls(ctx, step.Account, call, 1, rate); err != nil || wait > 0 {
			return wait, "", err
		}
	}
	wait, err = d.ask(ctx, step.Account, call)
	return wait, call, err
}

// wait gives a step back for as long as its call has to wait; held is the call
// whose hold it waits for, if it is one. No try is counted.
func (d *Dispatcher) wait(
	ctx context.Context, step uploads.Step, wait time.Duration, held providers.Call, keepIntent bool, err error, notes ...uploads.Evidence,
) error {
	if err == nil && wait < time.Minute {
		time.AfterFunc(wait, d.steps.wake)
	}
	return errors.Join(err, d.putOff(ctx, step.Account, held, func() error {
		return d.postpone(ctx, step, wait, 0, keepIntent, notes...)
	}))
}
