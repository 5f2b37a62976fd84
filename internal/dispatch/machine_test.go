package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// TestInvariants does what comes to anybody's mind to uploads in any order:
// deliveries, redeliveries and losses, deaths of workers and of dispatchers
// between any two durable steps, the loss of the whole queue, platforms that
// carry a call out and say that it failed, pause, cancel and retry. The
// invariants are looked at after each step, and all must end well once nothing
// disturbs any more. For longer: -rapid.checks=2000 -rapid.steps=100.
func TestInvariants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		limits := plain()
		if rapid.Bool().Draw(rt, "knows media by digest") {
			limits = keyed()
		}
		m := &machine{world: w, t: rt, ctx: t.Context(), last: map[uploads.ID]uploads.State{}, retried: map[uploads.ID]bool{}}
		if rapid.Bool().Draw(rt, "has little patience") {
			m.patience = time.Nanosecond
		}
		m.must(w.empty(m.ctx, limits))
		if limits.KnownBy == "" { // else a session may be another upload's
			w.platform.covered = m.covered
		}
		w.platform.SetHook(m.answer)
		for i := range m.procs {
			m.procs[i], m.stops[i] = m.fresh()
		}
		defer func() {
			for _, stop := range m.stops {
				stop()
			}
		}()
		for range 2 { // as many steps again as rapid thinks of
			rt.Repeat(m.actions())
		}
		m.atRest()
	})
}

// machine is the world and what is remembered of it to check it by.
type machine struct {
	*world

	t   *rapid.T
	ctx context.Context // that of the test; actions take nothing but a *rapid.T

	procs   [2]*process
	stops   [2]func()
	ids     []uploads.ID
	keys    []string                     // of ids
	last    map[uploads.ID]uploads.State // when it was looked at before
	retried map[uploads.ID]bool          // since then
	trouble []trouble                    // that the platform still has to make
	late    []parts.Report               // of slow workers, whose jobs others have done by now
	// patience is that of every dispatcher.
	patience time.Duration
}

// trouble is how the next call of a kind fails.
type trouble struct {
	call  providers.Call
	apply bool
	kind  providers.Kind
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) fresh() (*process, func()) {
	p := m.process(dispatch.Config{FinishPatience: m.patience})
	return p, p.Start(m.ctx)
}

// answer makes the trouble that is due. It is called by many goroutines.
func (m *machine) answer(call providers.Call, _ int) (bool, error) {
	m.platform.mu.Lock()
	defer m.platform.mu.Unlock()
	for i, t := range m.trouble {
		if t.call == call {
			m.trouble = slices.Delete(m.trouble, i, i+1)
			return t.apply, &providers.Error{Kind: t.kind, Call: string(call), Message: "injected"}
		}
	}
	return true, nil
}

// covered asks the ledger itself, on a connection of the store's.
func (m *machine) covered(id uploads.ID) bool {
	receipts, err := m.store.Receipts(m.ctx, []uploads.ID{id})
	if err != nil {
		return false
	}
	u, err := m.store.Upload(m.ctx, "default", id)
	var next int64
	for _, p := range receipts[id] {
		if p.Offset != next {
			return false
		}
		next += p.Length
	}
	// One that was cancelled or failed meanwhile tells no more.
	return err == nil && next == u.Source.Size
}

// as does something with one of the dispatchers, which may die of it.
func (m *machine) as(t *rapid.T, do func(p *process) error) {
	n := rapid.IntRange(0, len(m.procs)-1).Draw(t, "dispatcher")
	p := m.procs[n]
	err := do(p)
	if p.store.isDead() {
		m.stops[n]()
		m.procs[n], m.stops[n] = m.fresh()
		return
	}
	m.must(err)
}

func (m *machine) pick(t *rapid.T) uploads.ID {
	if len(m.ids) == 0 {
		t.Skip("no uploads")
	}
	return rapid.SampledFrom(m.ids).Draw(t, "upload")
}

func (m *machine) job(t *rapid.T) parts.Job {
	jobs := m.queue.all()
	if len(jobs) == 0 {
		t.Skip("no jobs")
	}
	slices.SortFunc(jobs, func(a, b parts.Job) int { return slices.Index(m.ids, a.Upload) - slices.Index(m.ids, b.Upload) })
	return rapid.SampledFrom(jobs).Draw(t, "job")
}

func (m *machine) actions() map[string]func(*rapid.T) {
	pass := func(t *rapid.T, do func(*process) error) { m.as(t, do) }
	actions := map[string]func(*rapid.T){
		"": m.check,
		"submit": func(t *rapid.T) {
			if len(m.ids) >= 6 {
				t.Skip("enough")
			}
			key := rapid.SampledFrom([]string{"a-20", "a-20.2", "b-5", "c-40", "d-16"}).Draw(t, "object")
			m.as(t, func(p *process) error {
				id, err := m.submit(m.ctx, p, key)
				if err == nil {
					m.ids, m.keys = append(m.ids, id), append(m.keys, key)
				}
				return err
			})
		},
		"time passes": func(*rapid.T) { m.must(m.pass(m.ctx)) },
		"dispatcher dies at": func(t *rapid.T) {
			at := rapid.SampledFrom(mortalSteps()).Draw(t, "step")
			after := rapid.Bool().Draw(t, "after it")
			p := m.procs[rapid.IntRange(0, len(m.procs)-1).Draw(t, "dispatcher")]
			p.store.die(at, after)
		},
		"dispatcher stands still in finish": func(*rapid.T) {
			m.platform.mu.Lock()
			defer m.platform.mu.Unlock()
			m.platform.midFinish = func(id uploads.ID) { m.overtake([]uploads.ID{id}) }
		},
		"dispatcher stands still before finish": func(t *rapid.T) {
			p := m.procs[rapid.IntRange(0, len(m.procs)-1).Draw(t, "dispatcher")]
			p.store.mu.Lock()
			defer p.store.mu.Unlock()
			p.store.stood = time.Hour
			p.store.stall = m.overtake
		},
		"platform fails": func(t *rapid.T) {
			tr := trouble{
				call: rapid.SampledFrom([]providers.Call{
					providers.CallBegin, providers.CallPut, providers.CallFinish, providers.CallFinish, providers.CallProbe, providers.CallAbort,
				}).Draw(t, "call"),
				apply: rapid.Bool().Draw(t, "applied"),
				kind: rapid.SampledFrom([]providers.Kind{
					providers.Transient, providers.Throttled, providers.SessionLost, providers.UnknownOutcome, providers.UnknownOutcome,
				}).Draw(t, "kind"),
			}
			if tr.call == providers.CallPut && rapid.Bool().Draw(t, "for good") {
				tr.kind = providers.Rejected
			}
			if tr.call == providers.CallFinish && tr.apply {
				tr.kind = providers.UnknownOutcome // else the provider would be wrong
			}
			m.platform.mu.Lock()
			defer m.platform.mu.Unlock()
			m.trouble = append(m.trouble, tr)
		},
		"platform forgets": func(t *rapid.T) {
			if len(m.ids) == 0 {
				t.Skip("no uploads")
			}
			for _, id := range m.ids {
				m.platform.LoseSessions(id)
			}
		},
		"session is lost in mid upload": func(t *rapid.T) {
			states, err := m.states(m.ctx)
			m.must(err)
			i := slices.IndexFunc(m.ids, func(id uploads.ID) bool { return states[id] == uploads.Uploading })
			if i < 0 {
				t.Skip("none is uploading")
			}
			u, err := m.store.Upload(m.ctx, "default", m.ids[i])
			m.must(err)
			m.platform.LoseSessions(u.ID)
			m.as(t, func(p *process) error { // a worker that was told so
				return p.HandleReports(m.ctx, []parts.Report{{
					Upload: u.ID, Account: accountName, Epoch: u.Epoch, Worker: "w", Delivery: 1,
					Failure: &parts.Failure{Part: 1, Kind: string(providers.SessionLost), Started: time.Now(), Failed: time.Now()},
				}})
			})
		},
		"worker brings": func(t *rapid.T) {
			job := m.job(t)
			m.as(t, func(p *process) error { return m.work(m.ctx, p, job, 1000, false) })
		},
		"worker dies": func(t *rapid.T) {
			job := m.job(t)
			most, silent := rapid.IntRange(0, 4).Draw(t, "after parts"), rapid.Bool().Draw(t, "unreported")
			m.as(t, func(p *process) error { return m.work(m.ctx, p, job, most, silent) })
		},
		"worker is slow": func(t *rapid.T) {
			job, before := m.job(t), m.queue.takeReports(1000)
			m.as(t, func(p *process) error { return m.work(m.ctx, p, job, 1000, false) })
			m.late = append(m.late, m.queue.takeReports(1000)...)
			m.queue.reports = before
		},
		"a late report arrives": func(t *rapid.T) {
			if len(m.late) == 0 {
				t.Skip("none is late")
			}
			n := rapid.IntRange(0, len(m.late)-1).Draw(t, "which")
			r := m.late[n]
			m.late = slices.Delete(m.late, n, n+1)
			m.as(t, func(p *process) error { return p.HandleReports(m.ctx, []parts.Report{r}) })
		},
		"reports arrive": func(t *rapid.T) {
			reports := m.queue.takeReports(rapid.IntRange(1, 5).Draw(t, "how many"))
			if rapid.Bool().Draw(t, "again later") {
				for _, r := range reports {
					m.queue.report(r)
				}
			}
			m.as(t, func(p *process) error {
				err := p.HandleReports(m.ctx, reports)
				if p.store.isDead() { // not acknowledged, so delivered again
					for _, r := range reports {
						m.queue.report(r)
					}
				}
				return err
			})
		},
		"a job is lost": func(t *rapid.T) { m.queue.settle(m.job(t)) },
		"the queue is lost": func(t *rapid.T) {
			m.queue.lose()
			marks, err := m.queue.Marks(m.ctx)
			if err != nil {
				t.Fatal(err)
			}
			m.as(t, func(p *process) error { p.NoteMarks(m.ctx, marks); return nil })
		},
		"pause": func(t *rapid.T) {
			id, action := m.pick(t), rapid.SampledFrom([]uploads.Action{uploads.ActionPause, uploads.ActionResume}).Draw(t, "action")
			m.as(t, func(p *process) error {
				_, err := p.Change(m.ctx, action, "default", id, uploads.Note{})
				return ignore(err, uploads.ErrEnded)
			})
		},
		"cancel": func(t *rapid.T) {
			id := m.pick(t)
			m.as(t, func(p *process) error {
				_, err := p.Change(m.ctx, uploads.ActionCancel, "default", id, uploads.Note{})
				return ignore(err, uploads.ErrFinal)
			})
		},
		"retry": func(t *rapid.T) {
			id := m.pick(t)
			m.as(t, func(p *process) error {
				_, err := p.Change(m.ctx, uploads.ActionRetry, "default", id, uploads.Note{})
				m.retried[id] = m.retried[id] || err == nil
				return ignore(err, uploads.ErrNotFailed)
			})
		},
	}
	// What brings uploads forward comes up more often than what disturbs.
	for _, n := range []string{"", " again"} {
		actions["all goes on"+n] = func(t *rapid.T) {
			if rapid.Bool().Draw(t, "after a while") {
				m.must(m.pass(m.ctx))
			}
			m.as(t, func(p *process) error {
				err := errors.Join(p.WithdrawPass(m.ctx), p.OpenPass(m.ctx), p.StepsPass(m.ctx), p.FeedPass(m.ctx, accountName))
				most := rapid.SampledFrom([]int{1000, 1000, 1, 2}).Draw(t, "parts of a job")
				for _, job := range m.queue.all() {
					if err == nil {
						err = m.work(m.ctx, p, job, most, false)
					}
				}
				if err != nil {
					return err
				}
				switch rapid.SampledFrom([]string{"arrive", "arrive", "wait", "are late"}).Draw(t, "reports") {
				case "wait":
					return nil
				case "are late": // so late that others do the jobs
					m.late = append(m.late, m.queue.takeReports(1000)...)
					return nil
				}
				return p.HandleReports(m.ctx, m.queue.takeReports(1000)) // lost if it dies here: the sweep finds out
			})
		}
		actions["open"+n] = func(t *rapid.T) { pass(t, func(p *process) error { return p.OpenPass(m.ctx) }) }
		actions["steps"+n] = func(t *rapid.T) { pass(t, func(p *process) error { return p.StepsPass(m.ctx) }) }
		actions["feed"+n] = func(t *rapid.T) {
			pass(t, func(p *process) error { return p.FeedPass(m.ctx, accountName) })
		}
		actions["worker brings"+n] = actions["worker brings"]
		actions["a late report arrives"+n] = actions["a late report arrives"]
		actions["time passes"+n] = actions["time passes"]
		actions["reports arrive"+n] = actions["reports arrive"]
	}
	actions["withdraw"] = func(t *rapid.T) { pass(t, func(p *process) error { return p.WithdrawPass(m.ctx) }) }
	actions["sweep"] = func(t *rapid.T) { pass(t, func(p *process) error { return p.SweepPass(m.ctx) }) }
	return actions
}

// overtake has time pass for the uploads and a further dispatcher take what is
// due. It runs in a goroutine of the one that stands still.
func (m *machine) overtake(ids []uploads.ID) {
	p, stop := m.fresh()
	defer stop()
	if err := errors.Join(m.passFor(m.ctx, ids...), p.StepsPass(m.ctx)); err != nil {
		m.platform.note(err.Error())
	}
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// check looks at the invariants.
func (m *machine) check(t *rapid.T) {
	m.platform.mu.Lock()
	broken := strings.Join(m.platform.broken, "; ")
	m.platform.mu.Unlock()
	if broken != "" {
		t.Fatal(broken + "\n" + strings.Join(m.log.tail(60), "\n")) // 3 and 4
	}
	var wrong []string
	rows, err := m.db.Query(m.ctx, `
		WITH led AS (
			SELECT u.id, count(a.part) AS parts, coalesce(sum(a.length), 0) AS bytes
			FROM uploads u LEFT JOIN part_acks a ON a.upload_id = u.id AND a.epoch = u.epoch GROUP BY u.id
		)
		SELECT u.id || ': the ledger has ' || l.parts || ' parts of ' || l.bytes || ' bytes, the upload says '
			|| u.acked_parts || ' of ' || u.acked_bytes
		FROM uploads u JOIN led l ON l.id = u.id
		WHERE (l.parts, l.bytes) <> (u.acked_parts, u.acked_bytes) AND NOT (u.state = 'completed' AND u.part_count IS NULL)
		UNION ALL
		SELECT u.id || ': has an ack of epoch ' || a.epoch || ', which never was' FROM part_acks a JOIN uploads u ON u.id = a.upload_id
		WHERE a.epoch > u.epoch OR a.epoch < 1
		UNION ALL
		SELECT u.id || ': is ' || u.state || ', and its last move was to ' || c.to_state
		FROM uploads u JOIN LATERAL (SELECT to_state FROM state_changes WHERE upload_id = u.id ORDER BY id DESC LIMIT 1) c ON true
		WHERE c.to_state <> u.state
		UNION ALL
		SELECT u.id || ': waits, and nobody has its flight' FROM uploads u
		WHERE u.waits AND NOT EXISTS (SELECT FROM flights f JOIN uploads h ON h.id = f.upload_id
			WHERE f.account = u.account AND f.flight = u.flight AND NOT h.waits
			AND h.state IN ('beginning', 'uploading', 'finishing'))
		UNION ALL
		SELECT u.flight || ': ' || count(*) || ' uploads have it' FROM uploads u
		WHERE u.flight IS NOT NULL AND NOT u.waits AND u.state IN ('beginning', 'uploading', 'finishing')
		GROUP BY u.flight HAVING count(*) > 1`)
	m.must(err)
	wrong, err = pgx.CollectRows(rows, pgx.RowTo[string])
	m.must(err)
	rows, err = m.db.Query(m.ctx, `SELECT upload_id, from_state::text, to_state::text FROM state_changes WHERE from_state IS NOT NULL`)
	m.must(err)
	var id uploads.ID
	var from, to string
	_, err = pgx.ForEachRow(rows, []any{&id, &from, &to}, func() error {
		if !uploads.State(from).CanMove(uploads.State(to)) {
			wrong = append(wrong, fmt.Sprintf("%s: moved from %s to %s", id, from, to))
		}
		return nil
	})
	m.must(err)
	states, err := m.states(m.ctx)
	m.must(err)
	for _, id := range m.ids { // 1: an upload that was accepted is there; 5: final is final
		state, there := states[id]
		before := m.last[id]
		switch {
		case !there:
			wrong = append(wrong, fmt.Sprintf("%s: was accepted and is gone", id))
		case (before == uploads.Completed || before == uploads.Cancelled) && state != before,
			before == uploads.Failed && state != before && !m.retried[id]:
			wrong = append(wrong, fmt.Sprintf("%s: was %s and is %s", id, before, state))
		}
		m.last[id] = state
	}
	clear(m.retried)
	wrong = append(wrong, m.assets(states)...)
	if len(wrong) > 0 {
		t.Fatal(strings.Join(append(wrong, m.log.tail(60)...), "\n"))
	}
}

// assets looks at what the platform made: one asset at most for an upload, or
// for its bytes where the platform knows media by them.
func (m *machine) assets(states map[uploads.ID]uploads.State) (wrong []string) {
	made := map[string]map[string]bool{}
	for i, id := range m.ids {
		of := id.String()
		if m.limits.KnownBy != "" {
			of = string(contentOf(m.keys[i]))
		}
		if made[of] == nil {
			made[of] = map[string]bool{}
		}
		for _, a := range m.platform.Seen(id).Assets {
			made[of][a.ID] = true
			content, ok := m.platform.Content(a.ID)
			if !ok || string(content) != string(contentOf(m.keys[i])) {
				wrong = append(wrong, fmt.Sprintf("%s: asset %s has other bytes than %s", id, a.ID, m.keys[i]))
			}
		}
		if len(made[of]) > 1 {
			wrong = append(wrong, fmt.Sprintf("%s: has %d assets", id, len(made[of])))
		}
		if states[id] == uploads.Cancelled && m.limits.KnownBy == "" && len(made[of]) > 0 {
			wrong = append(wrong, fmt.Sprintf("%s: is cancelled and has an asset", id))
		}
	}
	return wrong
}

// atRest ends all trouble. Everything that nobody cancelled must complete.
func (m *machine) atRest() {
	m.platform.mu.Lock()
	m.trouble, m.platform.midFinish = nil, nil
	m.platform.mu.Unlock()
	for i := range m.procs {
		m.stops[i]()
		m.procs[i], m.stops[i] = m.fresh()
	}
	_, err := m.db.Exec(m.ctx, `UPDATE uploads SET paused = false`)
	m.must(err)
	for range 3 {
		m.must(m.settleAll(m.ctx, m.procs[0], 60))
		m.check(m.t)
		for _, id := range m.ids {
			_, err := m.procs[0].Change(m.ctx, uploads.ActionRetry, "default", id, uploads.Note{})
			m.retried[id] = err == nil
			m.must(ignore(err, uploads.ErrNotFailed))
		}
	}
	for _, id := range m.ids {
		u, err := m.store.Upload(m.ctx, "default", id)
		m.must(err)
		if u.State != uploads.Completed && u.State != uploads.Cancelled {
			m.t.Fatalf("%s is %s (%+v)", id, u.State, u.Failure)
		}
		if made := m.platform.Seen(id).Assets; u.State == uploads.Completed && m.limits.KnownBy == "" &&
			(len(made) != 1 || made[0].ID != u.Asset.ID) {
			m.t.Fatalf("%s has %+v, recorded is %+v", id, made, u.Asset)
		}
	}
}
