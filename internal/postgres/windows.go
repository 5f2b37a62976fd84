package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/parts"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
	"mediaferry/internal/windows"
)

// AdjustWindow changes an account's window: change is given it as it is, a zero
// one if nothing is known, and the time of the database. What it returns is
// committed on return. Dispatchers that adjust one window at once take turns.
func (s *Store) AdjustWindow(ctx context.Context, account string, change func(now time.Time, w windows.Window) windows.Window) (windows.Window, error) {
	var w windows.Window
	err := s.inTx(ctx, "adjust the window of "+account, func(tx pgx.Tx) error {
		r, err := s.q.LockWindow(ctx, tx, account)
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		w = change(r.Now, toWindow(db.WindowsRow{
			WindowBytes: r.WindowBytes, Threshold: r.Threshold, Goodput: r.Goodput, Mark: r.Mark, GrownAt: r.GrownAt,
			CutAt: r.CutAt, CutFor: r.CutFor, Acked: r.Acked, SampledAt: r.SampledAt,
		}))
		if err := s.q.SetWindow(ctx, tx, db.SetWindowParams{
			Account: account, WindowBytes: w.Bytes, Threshold: w.Threshold, Goodput: w.Goodput, Mark: w.Mark,
			GrownAt: optional(w.GrownAt), CutAt: optional(w.CutAt), CutFor: clean(w.CutFor), Acked: w.Acked, SampledAt: optional(w.Since),
		}); err != nil {
			return fmt.Errorf("set: %w", err)
		}
		return nil
	})
	return w, err
}

// SetWindowLimits records the configured maxima of the accounts' windows, in bytes,
// for who reads report.runnable_bytes. It may be repeated.
func (s *Store) SetWindowLimits(ctx context.Context, limits map[string]int64) error {
	var accounts []string
	var most []int64
	for account, limit := range limits {
		accounts, most = append(accounts, account), append(most, limit)
	}
	if err := s.q.SetWindowLimits(ctx, s.pool, accounts, most); err != nil {
		return unavailable("record the limits of windows", err)
	}
	return nil
}

// Windows returns the windows of all accounts of which something is known, and
// the time of the database.
func (s *Store) Windows(ctx context.Context) (map[string]windows.Window, time.Time, error) {
	rows, err := s.q.Windows(ctx, s.pool)
	if err != nil {
		return nil, time.Time{}, unavailable("read windows", err)
	}
	now := time.Now()
	out := make(map[string]windows.Window, len(rows))
	for _, r := range rows {
		now = r.Now
		out[r.Account] = toWindow(r)
	}
	return out, now, nil
}

func toWindow(r db.WindowsRow) windows.Window {
	return windows.Window{
		Bytes: r.WindowBytes, Threshold: r.Threshold, Goodput: r.Goodput, Mark: r.Mark, GrownAt: value(r.GrownAt),
		CutAt: value(r.CutAt), CutFor: r.CutFor, Acked: r.Acked, Since: value(r.SampledAt),
	}
}

// AdjustHold changes the hold of an account's call, as AdjustWindow does.
func (s *Store) AdjustHold(ctx context.Context, account string, call providers.Call, change func(now time.Time, h windows.Hold) windows.Hold) (windows.Hold, error) {
	var h windows.Hold
	err := s.inTx(ctx, fmt.Sprintf("adjust the hold of %s of %s", call, account), func(tx pgx.Tx) error {
		r, err := s.q.LockHold(ctx, tx, account, string(call))
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		h = change(r.Now, toHold(db.HoldsRow{
			Failures: r.Failures, DownSince: r.DownSince, HeldUntil: r.HeldUntil, HeldFor: r.HeldFor,
			Asked: r.Asked, Asking: r.Asking, UpAt: r.UpAt,
		}))
		if err := s.q.SetHold(ctx, tx, db.SetHoldParams{
			Account: account, Call: string(call), Failures: int32(h.Failures), DownSince: optional(h.Down), //nolint:gosec // one call at a time adds to it
			HeldUntil: optional(h.Until), HeldFor: clean(h.Why), Asked: int32(h.Asked), Asking: h.Asking, UpAt: optional(h.Up), //nolint:gosec // about one a minute
		}); err != nil {
			return fmt.Errorf("set: %w", err)
		}
		return nil
	})
	return h, err
}

// Holds returns the holds of all accounts by call, those that say something,
// and the time of the database.
func (s *Store) Holds(ctx context.Context) (map[windows.Call]windows.Hold, time.Time, error) {
	rows, err := s.q.Holds(ctx, s.pool)
	if err != nil {
		return nil, time.Time{}, unavailable("read holds", err)
	}
	now := time.Now()
	out := make(map[windows.Call]windows.Hold, len(rows))
	for _, r := range rows {
		now = r.Now
		out[windows.Call{Account: r.Account, Call: r.Call}] = toHold(r)
	}
	return out, now, nil
}

func toHold(r db.HoldsRow) windows.Hold {
	return windows.Hold{
		Failures: int(r.Failures), Down: value(r.DownSince), Until: value(r.HeldUntil), Why: r.HeldFor,
		Asked: int(r.Asked), Asking: r.Asking, Up: value(r.UpAt),
	}
}

// Release makes due now what of an account waited for a call to be answered:
// feeding again, or control steps.
func (s *Store) Release(ctx context.Context, account string, call providers.Call) error {
	release := s.q.ReleaseSteps
	if call == providers.CallPut {
		release = s.q.ReleaseFeeding
	}
	if err := release(ctx, s.pool, account); err != nil {
		return unavailable("release what waited", err)
	}
	return nil
}

// InFlight returns how many bytes of the account are in flight, and how many may
// be, 0 if nothing is known of its window.
func (s *Store) InFlight(ctx context.Context, account string) (inFlight, window int64, err error) {
	r, err := s.q.InFlight(ctx, s.pool, account)
	if err != nil {
		return 0, 0, unavailable("read bytes in flight", err)
	}
	return r.InFlight, r.WindowBytes, nil
}

// InFlightPlans returns the plans of the account's uploads with bytes in flight.
func (s *Store) InFlightPlans(ctx context.Context, account string) (map[uploads.ID]parts.Plan, error) {
	rows, err := s.q.InFlightUploads(ctx, s.pool, account)
	if err != nil {
		return nil, unavailable("read plans in flight", err)
	}
	out := make(map[uploads.ID]parts.Plan, len(rows))
	for _, r := range rows {
		out[r.ID] = parts.Plan{Size: r.Size, PartSize: value(r.PartSize)}
	}
	return out, nil
}

// TakeCalls spends calls of an account's published rate, which all dispatchers
// share. It returns 0 if they may be made now, else how long to wait before
// asking again, behind those that wait already. Calls that are taken are spent,
// whether they are made or not.
func (s *Store) TakeCalls(ctx context.Context, account string, call providers.Call, calls int, rate providers.Rate) (wait time.Duration, err error) {
	return s.takeCalls(ctx, s.pool, account, call, calls, rate)
}

func (s *Store) takeCalls(ctx context.Context, tx db.DBTX, account string, call providers.Call, calls int, rate providers.Rate) (time.Duration, error) {
	perSecond, burst := rate.Spend()
	seconds, err := s.q.TakeCalls(ctx, tx, db.TakeCallsParams{
		Account: account, Call: string(call), Calls: float64(calls), PerSecond: perSecond, Burst: burst,
	})
	if err != nil {
		return 0, unavailable("take calls", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// CallLevels returns how many calls are spent of each published rate and have
// not leaked out; rates tells what those of an account's call are.
func (s *Store) CallLevels(ctx context.Context, rate func(windows.Call) (providers.Rate, bool)) (map[windows.Call]float64, error) {
	rows, err := s.q.CallLevels(ctx, s.pool)
	if err != nil {
		return nil, unavailable("read call rates", err)
	}
	out := make(map[windows.Call]float64, len(rows))
	for _, r := range rows {
		key := windows.Call{Account: r.Account, Call: r.Call}
		if published, ok := rate(key); ok {
			perSecond, _ := published.Spend()
			out[key] = max(0, r.Level-r.Now.Sub(r.FilledAt).Seconds()*perSecond)
		}
	}
	return out, nil
}
