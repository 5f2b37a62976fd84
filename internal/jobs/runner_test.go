package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mediaferry/internal/parts"
)

var done = parts.Settlement{Verdict: parts.Done} //nolint:gochecknoglobals // a constant of the tests

func TestRunnerHandlesAndAcks(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	upload := newID(t)
	publish(t, c, partJob(upload, 1), parts.Job{Upload: upload, Account: "acme", Pool: "main"})
	r := run(t, &Runner{Conn: c, Slots: 1})
	first := r.next()
	if first.job != partJob(upload, 1) || first.delivery != 1 || r.Busy() != 1 {
		t.Errorf("got job %+v in delivery %d, %d busy", first.job, first.delivery, r.Busy())
	}
	first.settle <- done
	second := r.next()
	if !second.job.IsDigest() {
		t.Errorf("got job %+v, want the digest job", second.job)
	}
	second.settle <- done
	eventually(t, "the stream is empty", func() bool { return messages(t, c, streamJobs) == 0 })
}

func TestJobOfADeadWorkerIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	cfg := Config{AckWait: time.Second}
	c, s := setup(t, cfg)
	doomed := s.connect(cfg)
	publish(t, c, partJob(newID(t), 1))
	a := run(t, &Runner{Conn: doomed, Slots: 1})
	a.next()
	doomed.nc.Close() // the process is gone, without a word
	b := run(t, &Runner{Conn: c, Slots: 1})
	again := b.next()
	if again.delivery != 2 {
		t.Errorf("delivery %d, want 2", again.delivery)
	}
	again.settle <- done
	a.stop()
	if err := receive(t, a.ended, "the end of the dead runner"); err != nil {
		t.Error(err)
	}
}

func TestReleaseIsDeliveredAgainAtOnce(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{AckWait: time.Hour})
	publish(t, c, partJob(newID(t), 1))
	r := run(t, &Runner{Conn: c, Slots: 1})
	r.next().settle <- parts.Settlement{Verdict: parts.Release, Delay: time.Hour}
	again := r.next()
	if again.delivery != 2 {
		t.Errorf("delivery %d, want 2", again.delivery)
	}
	again.settle <- done
}

func TestRetryIsDeliveredAgainAfterTheDelay(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{AckWait: time.Hour})
	publish(t, c, partJob(newID(t), 1))
	r := run(t, &Runner{Conn: c, Slots: 1})
	const wait = 700 * time.Millisecond
	h := r.next()
	settled := time.Now()
	h.settle <- parts.Settlement{Verdict: parts.Retry, Delay: wait}
	again := r.next()
	if took := time.Since(settled); took < wait {
		t.Errorf("came again after %s, want at least %s", took, wait)
	}
	again.settle <- done
}

// A busy worker leaves what it cannot work on to others.
func TestRunnerDoesNotPrefetch(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{AckWait: time.Hour})
	a := run(t, &Runner{Conn: c, Slots: 1})
	upload := newID(t)
	publish(t, c, partJob(upload, 1), partJob(upload, 3), partJob(upload, 5))
	mine := a.next()
	consumer, err := c.js.Consumer(t.Context(), streamJobs, "main")
	if err != nil {
		t.Fatal(err)
	}
	waiting, hand := consumer.CachedInfo().NumPending, consumer.CachedInfo().NumAckPending
	if waiting != 2 || hand != 1 {
		t.Errorf("%d wait and %d are in hand (%v), want 2 and 1", waiting, hand, err)
	}
	b := run(t, &Runner{Conn: s.connect(Config{}), Slots: 2})
	for range 2 {
		h := b.next()
		if h.delivery != 1 {
			t.Errorf("delivery %d, want the first", h.delivery)
		}
		h.settle <- done
	}
	mine.settle <- done
}

// JetStream leaves pulls above a limit of 512 unanswered by default.
func TestManyIdleSlots(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	const slots = 600
	r := run(t, &Runner{Conn: c, Slots: slots})
	eventually(t, "all slots wait", func() bool {
		consumer, err := c.js.Consumer(t.Context(), streamJobs, "main")
		return err == nil && consumer.CachedInfo().NumWaiting == slots
	})
	upload := newID(t)
	var all []parts.Job
	for i := range slots {
		all = append(all, partJob(upload, 2*i+1))
	}
	publish(t, c, all...)
	for range slots {
		defer func(h inHand) { h.settle <- done }(r.next())
	}
	if r.Busy() != slots {
		t.Errorf("%d slots are busy, want all", r.Busy())
	}
}

func TestJobIsKeptWhileAlive(t *testing.T) {
	t.Parallel()
	const ackWait = 5 * time.Second // longer than a busy machine stands still
	c, s := setup(t, Config{AckWait: ackWait})
	publish(t, c, partJob(newID(t), 1))
	a := run(t, &Runner{Conn: c, Slots: 1, AliveGrace: ackWait / 2})
	h := a.next()
	b := run(t, &Runner{Conn: s.connect(Config{}), Slots: 1})
	beat := time.NewTicker(ackWait / 10)
	defer beat.Stop()
	for range 15 { // one and a half times AckWait
		select {
		case <-beat.C:
			h.alive()
		case stolen := <-b.jobs:
			t.Fatalf("the job was delivered again (%d) while bytes moved", stolen.delivery)
		}
	}
	// And without a sign of life it goes to another worker.
	taken := b.next()
	if taken.delivery != 2 {
		t.Errorf("delivery %d, want 2", taken.delivery)
	}
	taken.settle <- done
	h.settle <- done
}

// Waiting for the platform's answer after the last byte is no death.
func TestJobIsKeptForTheGrace(t *testing.T) {
	t.Parallel()
	const ackWait = 300 * time.Millisecond
	c, s := setup(t, Config{AckWait: ackWait})
	publish(t, c, partJob(newID(t), 1))
	a := run(t, &Runner{Conn: c, Slots: 1, AliveGrace: 4 * ackWait})
	h := a.next()
	taken := time.Now()
	b := run(t, &Runner{Conn: s.connect(Config{}), Slots: 1})
	stolen := b.next()
	if quiet := time.Since(taken); quiet < 4*ackWait {
		t.Errorf("taken away after %s, want at least %s", quiet, 4*ackWait)
	}
	stolen.settle <- done
	h.settle <- done
}

func TestPanicIsARetry(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{AckWait: time.Hour})
	log, logs := watch()
	r := &Runner{Conn: c, Log: log, Handle: func(context.Context, parts.Job, int, func()) parts.Settlement { panic("boom") }}
	got := r.handle(t.Context(), parts.Job{}, 1, func() {}, log)
	if got.Verdict != parts.Retry || got.Delay < time.Second {
		t.Errorf("settled with %+v, want a Retry after a while", got)
	}
	if logs.FilterMessage("handling a job panicked").Len() != 1 {
		t.Error("the panic was not logged")
	}
	// The slot lives on.
	upload := newID(t)
	publish(t, c, partJob(upload, 1), partJob(upload, 3))
	second := make(chan struct{})
	run(t, &Runner{Conn: c, Slots: 1, Handle: func(_ context.Context, job parts.Job, _ int, _ func()) parts.Settlement {
		if job.Run.First == 1 {
			panic("boom")
		}
		close(second)
		return done
	}})
	receive(t, second, "the job after the panic")
}

func TestStopLetsJobsFinish(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{AckWait: time.Hour})
	r := run(t, &Runner{Conn: c, Slots: 3, StopGrace: time.Hour})
	upload := newID(t)
	publish(t, c, partJob(upload, 1))
	h := r.next()
	r.stop()
	publish(t, c, partJob(upload, 3))
	select {
	case err := <-r.ended:
		t.Fatalf("ended (%v) with a job in hand", err)
	case <-h.ctx.Done():
		t.Fatal("the job was cancelled within its grace period")
	case extra := <-r.jobs:
		t.Fatalf("took %+v after the stop", extra.job)
	case <-time.After(100 * time.Millisecond):
	}
	h.settle <- done
	if err := receive(t, r.ended, "the end"); err != nil {
		t.Error(err)
	}
	// The other job is there for somebody else, at once.
	next := run(t, &Runner{Conn: c, Slots: 1}).next()
	if next.job.Run.First != 3 {
		t.Errorf("got part %d, want part 3", next.job.Run.First)
	}
	next.settle <- done
}

// Invariant 10: what a stop cuts short is with another worker at once.
func TestStopCancelsAfterTheGrace(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{AckWait: time.Hour})
	publish(t, c, partJob(newID(t), 1))
	a := run(t, &Runner{Conn: c, Slots: 1, StopGrace: 50 * time.Millisecond})
	h := a.next()
	b := run(t, &Runner{Conn: s.connect(Config{}), Slots: 1})
	a.stop()
	receive(t, h.ctx.Done(), "the cancellation")
	if cause := context.Cause(h.ctx); !errors.Is(cause, ErrStopping) {
		t.Errorf("cancelled with %v, want ErrStopping", cause)
	}
	b.next().settle <- done
	if err := receive(t, a.ended, "the end"); err != nil {
		t.Error(err)
	}
}

// A message that arrives in the moment of a stop is given back, not left to
// AckWait.
func TestStopGivesBackWhatArrivesTooLate(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{AckWait: time.Hour})
	publisher := s.connect(Config{})
	upload := newID(t)
	p := puller{conn: c, stream: streamJobs, consumer: "main"}
	t.Cleanup(p.close)
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan *nats.Msg, 1)
		go func() {
			msg, err := p.pull(ctx)
			if err != nil {
				t.Error(err)
			}
			got <- msg
		}()
		subject, err := jobSubject(partJob(upload, i+1))
		if err != nil {
			t.Fatal(err)
		}
		if err := publisher.nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := publisher.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		cancel()
		msg := <-got
		if msg == nil {
			again, stop := context.WithTimeout(t.Context(), patience)
			if msg, err = p.pull(again); msg == nil {
				t.Fatalf("round %d: the message is with nobody (%v)", i, err)
			}
			stop()
		}
		if err := c.ack(msg); err != nil {
			t.Fatal(err)
		}
	}
}

// The server is told of one subscription for many pulls, and of none when they
// are over.
func TestPullsShareAnInbox(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	before := c.nc.NumSubscriptions()
	p := puller{conn: c, stream: streamJobs, consumer: "main"}
	inboxes := map[string]bool{}
	for i := range 3 {
		publish(t, c, partJob(newID(t), i+1))
		msg, err := p.pull(t.Context())
		if err != nil || msg == nil {
			t.Fatalf("pulled %v, %v", msg, err)
		}
		if err := c.ack(msg); err != nil {
			t.Fatal(err)
		}
		inboxes[p.inbox.Subject] = true
	}
	if len(inboxes) != 1 {
		t.Errorf("%d inboxes for three pulls", len(inboxes))
	}
	// One that is left may yet be answered, so its inbox serves no other.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if msg, err := p.pull(ctx); msg != nil || err != nil || p.inbox != nil {
		t.Errorf("a pull that was left gave %v, %v and keeps inbox %v", msg, err, p.inbox)
	}
	publish(t, c, partJob(newID(t), 4))
	if msg, err := p.pull(t.Context()); err != nil || msg == nil || inboxes[p.inbox.Subject] {
		t.Errorf("pulled %v, %v", msg, err)
	}
	p.close()
	if after := c.nc.NumSubscriptions(); after > before+1 { // one of the library's own, for answers
		t.Errorf("%d subscriptions are left, %d before", after, before)
	}
}

func TestRunnerOutlivesItsConsumer(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	r := run(t, &Runner{Conn: c, Slots: 2})
	publish(t, c, partJob(newID(t), 1))
	r.next().settle <- done
	if err := c.js.DeleteConsumer(t.Context(), streamJobs, "main"); err != nil {
		t.Fatal(err)
	}
	publish(t, c, partJob(newID(t), 1))
	r.next().settle <- done
}

func TestRunnerOutlivesItsStream(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{})
	log, logs := watch()
	r := run(t, &Runner{Conn: s.connect(Config{}), Slots: 2, Log: log})
	publish(t, c, partJob(newID(t), 1))
	h := r.next()
	if err := c.js.DeleteStream(t.Context(), streamJobs); err != nil {
		t.Fatal(err)
	}
	h.settle <- done
	const waiting = "waiting for stream JOBS to serve pool main"
	eventually(t, "the loss is logged", func() bool { return logs.FilterMessage(waiting).Len() > 0 })
	if err := c.EnsureStreams(t.Context()); err != nil { // not the pool: that is for the worker to do
		t.Fatal(err)
	}
	publish(t, c, partJob(newID(t), 1))
	r.next().settle <- done
	if n := logs.FilterMessage(waiting).Len(); n != 1 {
		t.Errorf("one condition was logged %d times", n)
	}
}

func TestRunnerOutlivesTheStore(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{})
	log, logs := watch()
	worker := s.connect(Config{})
	r := run(t, &Runner{Conn: worker, Slots: 2, Log: log})
	publish(t, c, partJob(newID(t), 1))
	busy := r.next() // and the other slot is idle
	for tries, quick := 0, false; !quick; tries++ {
		lost := time.Now()
		s.wipe()
		eventually(t, "streams can be made again", func() bool { return c.EnsureStreams(t.Context()) == nil })
		eventually(t, "the worker is connected again", worker.nc.IsConnected)
		// A server that is away for longer is missed by its silence first.
		quick = time.Since(lost) < pullHeartbeat || tries == 10
		publish(t, c, partJob(newID(t), 1))
		r.next().settle <- done // by the idle slot
		for _, entry := range logs.TakeAll() {
			if text := fmt.Sprint(entry.ContextMap()["error"]); quick && strings.Contains(text, errSilence.Error()) {
				t.Errorf("noticed by silence, not by the reconnection: %s", text)
			}
		}
	}
	publish(t, c, partJob(newID(t), 1))
	busy.settle <- done
	r.next().settle <- done
}

func TestRunEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{})
	doomed := s.connect(Config{})
	r := run(t, &Runner{Conn: doomed, Slots: 2})
	eventually(t, "both slots wait", func() bool {
		consumer, err := c.js.Consumer(t.Context(), streamJobs, "main")
		return err == nil && consumer.CachedInfo().NumWaiting == 2
	})
	doomed.nc.Close()
	if err := receive(t, r.ended, "the end"); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("ended with %v, want that the connection is closed", err)
	}
}

func TestRunRefusesAPoolThatIsNoToken(t *testing.T) {
	t.Parallel()
	r := &Runner{Pool: "a.b", Slots: 1, Log: zap.NewNop()}
	if err := r.Run(t.Context()); err == nil {
		t.Error("no error")
	}
}
