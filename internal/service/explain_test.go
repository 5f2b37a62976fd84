package service_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/client"
	"mediaferry/internal/providers"
	"mediaferry/internal/sealing"
	"mediaferry/internal/uploads"
)

// explainWithin is how soon after a stall the explanation names its cause. Where the
// machine answers few questions in that time, it may take a hundred.
const (
	explainWithin = 10 * time.Second
	explainAfter  = 100
)

// stall makes an upload stand still, or nearly, and returns it.
type stall func(t *testing.T, b *bundle) (id string)

// refuse fails every call of one kind in one way.
func (b *bundle) refuse(call providers.Call, err *providers.Error) {
	b.platform.SetHook(func(c providers.Call, _ int) (bool, error) {
		if c == call {
			return false, err
		}
		return true, nil
	})
}

// Each stall is brought about in the running system, and explain names its cause,
// what it waits for and, where that is known, when it acts next.
func TestExplain(t *testing.T) {
	t.Parallel()
	stalls := map[string]struct {
		make     stall
		cause    string
		waitsFor string // part of it
		timed    bool   // it says when it acts next
	}{
		"rate budget": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.dispatcher(t)
			b.submit(t, "film.mp4")
			b.put(t, "other.mp4", mib)
			eventually(t, "the budget is spent", func() bool { return b.platform.Calls(providers.CallBegin) == 1 })
			return b.submit(t, "other.mp4").ID
		}, "rate_budget", "rate", true},
		"paused": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.dispatcher(t)
			id := b.submit(t, "film.mp4").ID
			if _, err := b.api.PauseAccount(t.Context(), "acc", client.Note{Reason: "audit"}); err != nil {
				t.Fatal(err)
			}
			return id
		}, "paused", "resume the account", false},
		"no worker in the pool": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.dispatcher(t)
			return b.submit(t, "film.mp4").ID
		}, "no_worker", "start a worker", false},
		"session lapsed": {func(t *testing.T, b *bundle) string {
			t.Helper()
			ended := t.Context().Done() // before the dispatcher is told to stop
			var lost sync.Once
			var id atomic.Value
			b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
				if call == providers.CallBegin && nth > 1 {
					<-ended // the platform takes its time for a new session
				}
				if call == providers.CallPut && nth > 2 {
					lost.Do(func() { b.platform.LoseSessions(id.Load().(uuid.UUID)) })
				}
				return true, nil
			})
			b.dispatcher(t)
			u := b.submit(t, "film.mp4").ID
			id.Store(uuid.MustParse(u))
			b.worker(t, "w1")
			eventually(t, "a new session is asked for", func() bool { return b.platform.Calls(providers.CallBegin) > 1 })
			return u
		}, "session_lapsed", "new session", false},
		"source changed": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.dispatcher(t)
			id := b.submit(t, "film.mp4").ID
			if _, err := b.staging.Put(t.Context(), "staging", "film.mp4", "", bytes.NewReader(make([]byte, mib)), mib); err != nil {
				t.Fatal(err)
			}
			b.worker(t, "w1")
			return id
		}, "source_changed", "submit the object", false},
		"slow but moving": {func(t *testing.T, b *bundle) string {
			t.Helper()
			ended := t.Context().Done()
			b.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
				if call == providers.CallPut { // four slots, so about eight parts a second of forty
					select {
					case <-time.After(500 * time.Millisecond):
					case <-ended:
					}
				}
				return true, nil
			})
			b.dispatcher(t)
			b.worker(t, "w1")
			id := b.submit(t, "film.mp4").ID
			b.awaitShown(t, id, "parts have arrived", func(u client.Upload) bool { return u.AckedParts > 1 })
			return id
		}, "moving", "", true},
		"throttled": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.refuse(providers.CallPut, &providers.Error{Kind: providers.Throttled, Code: "SlowDown", Message: "too many", RetryAfter: time.Minute})
			b.dispatcher(t)
			b.worker(t, "w1")
			return b.submit(t, "film.mp4").ID
		}, "throttled", "the platform", true},
		"wrong credentials": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.platform.Revoke("acc", true)
			b.dispatcher(t)
			return b.submit(t, "film.mp4").ID
		}, "unauthorized", "credentials", false},
		"platform down": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.refuse(providers.CallBegin, &providers.Error{Kind: providers.Transient, Message: "connection refused"})
			b.dispatcher(t)
			return b.submit(t, "film.mp4").ID
		}, "platform_down", "the platform", false},
		"needs human": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
				switch call {
				case providers.CallFinish:
					return true, &providers.Error{Kind: providers.UnknownOutcome, Call: "finish", Message: "reset"}
				case providers.CallProbe:
					return false, &providers.Error{Kind: providers.SessionLost, Call: "probe", Message: "cannot be read"}
				default:
					return true, nil
				}
			})
			b.dispatcher(t)
			b.worker(t, "w1")
			query := b.query(t)
			id := b.submit(t, "film.mp4").ID
			eventually(t, "a probe", func() bool { return b.platform.Calls(providers.CallProbe) > 0 })
			// The patience for probes is over.
			query(`UPDATE uploads SET finish_intent_at = finish_intent_at - interval '1 hour' RETURNING id::text`)
			return id
		}, "needs_human", "a person", false},
		"waiting for not_before": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.dispatcher(t)
			u, _, err := b.api.Submit(t.Context(), client.Submission{
				Account: "acc", Source: client.Source{Bucket: "staging", Key: "film.mp4"}, NotBefore: time.Now().Add(time.Hour),
			})
			if err != nil {
				t.Fatal(err)
			}
			return u.ID
		}, "not_before", "time", true},
		"NATS unreachable": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.dispatcher(t)
			b.worker(t, "w1")
			platform := holdAfter(b.platform, 2)
			reached := platform.held
			b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
				if call == providers.CallPut && nth > 2 {
					platform.held <- struct{}{}
					<-platform.open
				}
				return true, nil
			})
			id := b.submit(t, "film.mp4").ID
			<-reached
			b.nats.Stop()
			t.Cleanup(func() { // so that the processes can say goodbye
				if err := b.nats.Start(); err != nil {
					t.Error(err)
				}
				close(platform.open)
			})
			return id
		}, "queue_unreachable", "NATS", false},
		"consumer paused": {func(t *testing.T, b *bundle) string {
			t.Helper()
			b.dispatcher(t)
			js := b.jetstream(t)
			eventually(t, "the pool's consumer is made, and paused", func() bool {
				_, err := js.PauseConsumer(t.Context(), "JOBS", "default", time.Now().Add(time.Hour))
				return err == nil
			})
			b.worker(t, "w1")
			return b.submit(t, "film.mp4").ID
		}, "queue_paused", "nats consumer resume JOBS default", true},
		"seal key lost": {func(t *testing.T, b *bundle) string {
			t.Helper()
			stop := b.dispatcher(t)
			id := b.submit(t, "film.mp4").ID
			eventually(t, "a session is open", func() bool { u, err := b.api.Show(t.Context(), id); return err == nil && u.State == "uploading" })
			stop()
			b.cfg.SealKey = providers.Secret(sealing.NewKey())
			b.dispatcher(t)
			b.worker(t, "w1")
			return id
		}, "session_sealed", "old_seal_keys", false},
	}
	var right atomic.Int32
	t.Cleanup(func() {
		figure("figure explain_right %d count", right.Load())
		figure("figure explain_of %d count", len(stalls))
	})
	for name, want := range stalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			if want.cause == "rate_budget" {
				l.Calls = map[providers.Call]providers.Rate{providers.CallBegin: {Count: 1, Per: time.Hour}}
			}
			b := setup(t, l)
			b.put(t, "film.mp4", 40*mib)
			id := want.make(t, b)
			stalled := time.Now()
			var e client.Explanation
			var err error
			var took time.Duration
			for tries := 1; ; tries++ {
				e, err = b.api.Explain(t.Context(), id)
				took = time.Since(stalled)
				if err == nil && e.Cause == want.cause {
					t.Logf("right after %s and %d questions: %s", took.Round(time.Millisecond), tries, e.Summary)
					break
				}
				if took > explainWithin && (tries >= explainAfter || took > testPatience) {
					t.Fatalf("explained as %+v, %v; want %s", e, err, want.cause)
				}
				time.Sleep(50 * time.Millisecond)
			}
			if !strings.Contains(e.WaitsFor, want.waitsFor) || (want.waitsFor == "") != (e.WaitsFor == "") {
				t.Errorf("waits for %q, want %q", e.WaitsFor, want.waitsFor)
			}
			if want.timed && !e.NextAt.After(stalled) {
				t.Errorf("acts next at %s, want a time to come", e.NextAt)
			}
			if e.Summary == "" || len(e.Facts) == 0 || e.Upload != id {
				t.Errorf("told too little: %+v", e)
			}
			if !t.Failed() && took <= explainWithin {
				right.Add(1)
			}
		})
	}
}

// jetstream is an operator's connection to the queue.
func (b *bundle) jetstream(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(b.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// What is explained of an upload that is not the tenant's is that there is none.
func TestExplainOfAnother(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.dispatcher(t)
	if _, err := b.api.Explain(t.Context(), uuid.NewString()); !client.IsNotFound(err) {
		t.Errorf("Explain = %v, want not found", err)
	}
	b.put(t, "film.mp4", mib)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	b.wait(t, id)
	if e, err := b.api.Explain(t.Context(), id); err != nil || e.Cause != string(uploads.WhyCompleted) || e.WaitsFor != "" {
		t.Errorf("Explain = %+v, %v; want completed, waiting for nothing", e, err)
	}
}

// figure prints a line that is kept.
func figure(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) // nobody is left to tell
}
