package jobs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

func TestPublishTwiceIsOnceAndFedAgainIsTwice(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	job := partJob(newID(t), 1)
	for _, step := range []struct {
		feed int64
		want int
	}{{1, 1}, {1, 1}, {2, 2}} {
		if err := c.PublishJobs(t.Context(), []parts.Publication{{Job: job, Feed: step.feed}}); err != nil {
			t.Fatal(err)
		}
		if got := messages(t, c, streamJobs); got != step.want {
			t.Errorf("after feed %d the queue holds %d, want %d", step.feed, got, step.want)
		}
	}
	// The case that matters: the message is settled, its id is still remembered.
	r := run(t, &Runner{Conn: c, Slots: 1})
	r.next().settle <- done
	r.next().settle <- done
	if err := c.PublishJobs(t.Context(), []parts.Publication{{Job: job, Feed: 3}}); err != nil {
		t.Fatal(err)
	}
	r.next().settle <- done
}

func TestPublishManyJobs(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	upload := newID(t)
	var msgs []parts.Publication
	var want []int
	for i := range 3 * maxUnconfirmed {
		msgs = append(msgs, parts.Publication{Job: partJob(upload, i+1)})
		want = append(want, i+1)
	}
	if err := c.PublishJobs(t.Context(), msgs); err != nil {
		t.Fatal(err)
	}
	got, err := c.Held(t.Context(), "acme", upload, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

func TestPublishReturnsWhenNATSIsDown(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{RequestTimeout: patience})
	s.stop()
	eventually(t, "the loss is noticed", func() bool { return !c.nc.IsConnected() })
	msgs := []parts.Publication{{Job: partJob(newID(t), 1)}, {Job: partJob(newID(t), 1)}}
	began := time.Now()
	err := c.PublishJobs(t.Context(), msgs)
	if took := time.Since(began); took > patience/2 {
		t.Errorf("returned after %s: it waited for an answer", took)
	}
	unconfirmed := &UnconfirmedError{}
	if !errors.As(err, &unconfirmed) {
		t.Fatalf("got %v, want an UnconfirmedError", err)
	}
	if diff := cmp.Diff(msgs, unconfirmed.Jobs); diff != "" {
		t.Errorf("unconfirmed jobs (-want +got):\n%s", diff)
	}
	unavailable := &uploads.UnavailableError{}
	if !errors.As(err, &unavailable) || unavailable.What != "nats" {
		t.Errorf("got %v, want nats to be named as unavailable", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Report(ctx, parts.Report{Upload: newID(t), Account: "acme"}); !errors.As(err, &unavailable) {
		t.Errorf("Report: got %v, want an UnavailableError", err)
	}
	if err := c.Ready(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("Ready: got %v, want an UnavailableError", err)
	}
}

func TestPublishNamesWhatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	// The stream takes two of three.
	stream, err := c.js.Stream(t.Context(), streamJobs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 2
	if _, err := c.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	upload := newID(t)
	msgs := []parts.Publication{{Job: partJob(upload, 1)}, {Job: partJob(upload, 3)}, {Job: partJob(upload, 5)}}
	err = c.PublishJobs(t.Context(), msgs)
	unconfirmed := &UnconfirmedError{}
	if !errors.As(err, &unconfirmed) {
		t.Fatalf("got %v, want an UnconfirmedError", err)
	}
	if diff := cmp.Diff(msgs[2:], unconfirmed.Jobs); diff != "" {
		t.Errorf("unconfirmed jobs (-want +got):\n%s", diff)
	}
	// A job that cannot be one is not sent, nor are those after it.
	err = c.PublishJobs(t.Context(), []parts.Publication{{Job: parts.Job{Upload: upload, Pool: "a.b", Account: "acme"}}, msgs[0]})
	if !errors.As(err, &unconfirmed) || len(unconfirmed.Jobs) != 2 {
		t.Errorf("got %v, want both jobs unconfirmed", err)
	}
}

func TestHeldAndWithdraw(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{AckWait: time.Hour})
	if err := c.EnsurePool(t.Context(), "spare"); err != nil {
		t.Fatal(err)
	}
	upload, other := newID(t), newID(t)
	spare, later := partJob(upload, 7), partJob(upload, 1)
	spare.Pool, later.Epoch = "spare", 2
	digest := parts.Job{Upload: upload, Account: "acme", Pool: "main"}
	publish(t, c, partJob(upload, 1), partJob(upload, 3), partJob(upload, 5), spare, later, digest, partJob(other, 9))
	held := func(id uploads.ID, epoch int, want ...int) {
		t.Helper()
		got, err := c.Held(t.Context(), "acme", id, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append([]int{}, want...), got); diff != "" {
			t.Errorf("held of epoch %d (-want +got):\n%s", epoch, diff)
		}
	}
	r := run(t, &Runner{Conn: c, Slots: 1})
	h := r.next() // in hand counts as held
	held(upload, 1, 1, 3, 5, 7)
	held(upload, 2, 1)
	held(upload, 3)
	held(other, 1, 9)
	if ok, err := c.HeldDigest(t.Context(), upload); err != nil || !ok {
		t.Errorf("digest job held: %v, %v", ok, err)
	}
	if ok, err := c.HeldDigest(t.Context(), other); err != nil || ok {
		t.Errorf("digest job of the other upload held: %v, %v", ok, err)
	}
	if _, err := c.Held(t.Context(), "acme", upload, 0); err == nil {
		t.Error("epoch 0 was taken")
	}
	if _, err := c.Held(t.Context(), "*", upload, 1); err == nil {
		t.Error("a wildcard was taken for an account")
	}
	if err := c.Withdraw(t.Context(), ">", upload); err == nil {
		t.Error("a wildcard was taken for an account")
	}

	if err := c.Withdraw(t.Context(), "acme", upload); err != nil {
		t.Fatal(err)
	}
	held(upload, 1)
	held(upload, 2)
	held(other, 1, 9)
	if ok, err := c.HeldDigest(t.Context(), upload); err != nil || ok {
		t.Errorf("digest job held after Withdraw: %v, %v", ok, err)
	}
	// The job in hand is settled late, which has no effect.
	h.settle <- parts.Settlement{Verdict: parts.Release}
	next := r.next()
	if next.job.Upload != other {
		t.Errorf("got a job of %s after Withdraw", next.job.Upload)
	}
	next.settle <- done
	if got := messages(t, c, streamJobs); got > 1 {
		t.Errorf("the queue holds %d messages", got)
	}
}

func TestPendingAcks(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	upload := newID(t)
	for i := range 3 {
		if err := c.Report(t.Context(), parts.Report{Upload: upload, Account: "acme", Delivery: i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Report(t.Context(), parts.Report{Upload: newID(t), Account: "acme"}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.PendingAcks(t.Context(), "acme", upload); err != nil || n != 3 {
		t.Errorf("%d reports pending (%v), want 3", n, err)
	}
	if n, err := c.PendingAcks(t.Context(), "acme", newID(t)); err != nil || n != 0 {
		t.Errorf("%d reports pending of an upload without (%v)", n, err)
	}
}

func TestPublishEventsOnce(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	event := func(n int64, typ string) uploads.Event {
		return uploads.Event{Number: n, Tenant: "news", Type: typ, Payload: fmt.Appendf(nil, `{"n":%d}`, n)}
	}
	if err := c.PublishEvents(t.Context(), []uploads.Event{event(1, "completed"), event(2, "completed")}); err != nil {
		t.Fatal(err)
	}
	// After a crash some are published again, with others.
	if err := c.PublishEvents(t.Context(), []uploads.Event{event(2, "completed"), event(3, "completed")}); err != nil {
		t.Fatal(err)
	}
	stream, err := c.js.Stream(t.Context(), streamEvents)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(t.Context(), "mf.event.news.completed")
	if err != nil || string(msg.Data) != `{"n":3}` {
		t.Errorf("got %v, %v", msg, err)
	}
	if got := messages(t, c, streamEvents); got != 3 {
		t.Errorf("%d events, want 3", got)
	}
	if err := c.PublishEvents(t.Context(), []uploads.Event{event(4, "completed"), event(5, "upload.completed")}); err == nil {
		t.Error("a type with a dot was taken")
	}
}

func TestEnsureStreamsLeavesWhatOperatorsSet(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	stream, err := c.js.Stream(t.Context(), streamEvents)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxAge, cfg.Subjects = 24*time.Hour, []string{"mf.event.news.>"}
	if _, err := c.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ensure(t, c)
	stream, err = c.js.Stream(t.Context(), streamEvents)
	if err != nil {
		t.Fatal(err)
	}
	cfg = stream.CachedInfo().Config
	if diff := cmp.Diff([]string{"mf.event.>"}, cfg.Subjects); diff != "" {
		t.Errorf("subjects (-want +got):\n%s", diff)
	}
	if cfg.MaxAge != 24*time.Hour {
		t.Errorf("max age %s, want what the operator set", cfg.MaxAge)
	}
}

func TestEnsurePoolSetsAckWait(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{AckWait: time.Second})
	ensure(t, s.connect(Config{AckWait: 3 * time.Second}))
	consumer, err := c.js.Consumer(t.Context(), streamJobs, "main")
	if err != nil {
		t.Fatal(err)
	}
	want := jetstream.ConsumerConfig{AckWait: 3 * time.Second, MaxDeliver: -1, FilterSubject: "mf.job.main.>"}
	have := consumer.CachedInfo().Config
	got := jetstream.ConsumerConfig{AckWait: have.AckWait, MaxDeliver: have.MaxDeliver, FilterSubject: have.FilterSubject}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("consumer (-want +got):\n%s", diff)
	}
	if err := c.EnsurePool(t.Context(), "*"); err == nil {
		t.Error("a wildcard was taken for a pool")
	}
}

func TestMaintainTellsThatTheStoreWasLost(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.connect(Config{})
	ctx, stop := context.WithCancel(t.Context())
	marks := make(chan []parts.StreamMark, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Maintain(ctx, []string{"main"}, func(_ context.Context, m []parts.StreamMark) { marks <- m })
	}()
	t.Cleanup(func() { stop(); <-ended })
	before := receive(t, marks, "the first marks")
	publish(t, c, partJob(newID(t), 1)) // Maintain has made stream and pool
	if len(before) != len(streams()) {
		t.Errorf("marks of %d streams", len(before))
	}
	s.wipe()
	now := receive(t, marks, "the marks after the loss")
	for i := range before {
		if at := before[i].Created; !at.Equal(at.Truncate(time.Microsecond)) {
			t.Errorf("created %s: Postgres would give it back as another time", at)
		}
		if !now[i].LostSince(before[i]) {
			t.Errorf("the loss of %s does not show: %+v, %+v", before[i].Stream, before[i], now[i])
		}
	}
	s.stop()
	s.start() // with its store
	again := receive(t, marks, "the marks after a restart")
	for i := range now {
		if again[i].LostSince(now[i]) {
			t.Errorf("a restart looks like a loss of %s: %+v, %+v", now[i].Stream, now[i], again[i])
		}
	}
}

func TestMarksOfMissingStreams(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.connect(Config{})
	marks, err := c.Marks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []parts.StreamMark{{Stream: "JOBS"}, {Stream: "ACKS"}, {Stream: "SUBMIT"}, {Stream: "NOTIFY"}, {Stream: "RECORD"}, {Stream: "EVENTS"}}
	if diff := cmp.Diff(want, marks); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	if _, err := c.Held(t.Context(), "acme", newID(t), 1); err == nil {
		t.Error("a missing stream looks like one that holds nothing")
	}
}

func BenchmarkPublishJobs(b *testing.B) {
	c, _ := setup(b, Config{})
	upload := newID(b)
	for feed := int64(0); b.Loop(); feed++ {
		var msgs []parts.Publication
		for i := range 1000 {
			msgs = append(msgs, parts.Publication{Job: partJob(upload, i+1), Feed: feed})
		}
		if err := c.PublishJobs(b.Context(), msgs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "jobs/s")
}

func BenchmarkHeld(b *testing.B) {
	c, _ := setup(b, Config{})
	for range 100 {
		upload := newID(b)
		var msgs []parts.Publication
		for i := range 1000 {
			msgs = append(msgs, parts.Publication{Job: partJob(upload, i+1)})
		}
		if err := c.PublishJobs(b.Context(), msgs); err != nil {
			b.Fatal(err)
		}
	}
	upload := newID(b)
	for i := range 10 {
		publish(b, c, partJob(upload, i+1))
	}
	for b.Loop() {
		if held, err := c.Held(b.Context(), "acme", upload, 1); err != nil || len(held) != 10 {
			b.Fatal(fmt.Sprint(held), err)
		}
	}
}
