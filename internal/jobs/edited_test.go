package jobs

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// maintain has the streams and the pool kept in order until the test ends.
func maintain(tb testing.TB, c *Conn) {
	tb.Helper()
	ctx, stop := context.WithCancel(tb.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Maintain(ctx, []string{"main"}, func(context.Context, []parts.StreamMark) {})
	}()
	tb.Cleanup(func() { stop(); <-ended })
}

// edit changes a consumer as an operator would.
func edit(tb testing.TB, c *Conn, stream, name string, change func(*jetstream.ConsumerConfig)) {
	tb.Helper()
	consumer, err := c.js.Consumer(tb.Context(), stream, name)
	if err != nil {
		tb.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	change(&cfg)
	if _, err := c.js.UpdateConsumer(tb.Context(), stream, cfg); err != nil {
		tb.Fatal(err)
	}
}

// A job that ran out of the deliveries that an operator allowed would stay on the
// queue, where the sweep takes it for one in hand.
func TestAPoolThatCountsDeliveriesIsMended(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	edit(t, c, streamJobs, "main", func(cfg *jetstream.ConsumerConfig) { cfg.MaxDeliver = 1 })
	publish(t, c, partJob(newID(t), 1))
	r := run(t, &Runner{Conn: c, Slots: 1})
	r.next().settle <- parts.Settlement{Verdict: parts.Release}
	eventually(t, "the job is in nobody's hands", func() bool { return r.Busy() == 0 })
	maintain(t, c)
	r.next().settle <- parts.Settlement{Verdict: parts.Done}
	eventually(t, "the queue is empty", func() bool { return messages(t, c, streamJobs) == 0 })
}

func TestAPoolThatWasEditedIsMended(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*jetstream.ConsumerConfig){
		"another filter": func(cfg *jetstream.ConsumerConfig) { cfg.FilterSubject = "mf.job.main.digest.>" },
		"headers only":   func(cfg *jetstream.ConsumerConfig) { cfg.HeadersOnly = true },
		"short pulls":    func(cfg *jetstream.ConsumerConfig) { cfg.MaxRequestExpires = time.Second },
		"one in hand":    func(cfg *jetstream.ConsumerConfig) { cfg.MaxAckPending = 1 },
		"long AckWait":   func(cfg *jetstream.ConsumerConfig) { cfg.AckWait = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := setup(t, Config{})
			edit(t, c, streamJobs, "main", change)
			ensure(t, c)
			publish(t, c, partJob(newID(t), 1), partJob(newID(t), 1))
			r := run(t, &Runner{Conn: c, Slots: 2})
			first, second := r.next(), r.next()
			first.settle <- parts.Settlement{Verdict: parts.Done}
			second.settle <- parts.Settlement{Verdict: parts.Done}
			eventually(t, "the queue is empty", func() bool { return messages(t, c, streamJobs) == 0 })
			before, err := c.js.Consumer(t.Context(), streamJobs, "main")
			if err != nil {
				t.Fatal(err)
			}
			if want := c.poolConsumer("main").AckWait; before.CachedInfo().Config.AckWait != want {
				t.Errorf("AckWait %s, want %s", before.CachedInfo().Config.AckWait, want)
			}
		})
	}
}

// What an operator may set is left, and nothing is changed that is in order.
func TestAPauseOfAPoolIsTheOperators(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	until := time.Now().Add(time.Hour)
	if _, err := c.js.PauseConsumer(t.Context(), streamJobs, "main", until); err != nil {
		t.Fatal(err)
	}
	edit(t, c, streamJobs, "main", func(cfg *jetstream.ConsumerConfig) { cfg.Description = "of the operator" })
	before, err := c.js.Consumer(t.Context(), streamJobs, "main")
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, c)
	after, err := c.js.Consumer(t.Context(), streamJobs, "main")
	if err != nil {
		t.Fatal(err)
	}
	if !after.CachedInfo().Paused || !reflect.DeepEqual(before.CachedInfo().Config, after.CachedInfo().Config) {
		t.Errorf("consumer %+v, want it as it was: %+v", after.CachedInfo().Config, before.CachedInfo().Config)
	}
}

// A report that ran out of deliveries would be in the way of its upload for ever:
// while one is on its way to the ledger, nothing is fed again.
func TestALedgerThatCountsDeliveriesIsMended(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	ledger := record(t, c)
	upload := newID(t)
	send(t, c, report(upload, 1, 1))
	receive(t, ledger.batches, "the first report")
	ledger.answers <- nil
	edit(t, c, streamAcks, "ledger", func(cfg *jetstream.ConsumerConfig) { cfg.MaxDeliver = 1 })
	send(t, c, report(upload, 2, 1))
	receive(t, ledger.batches, "the second report")
	ledger.answers <- &uploads.UnavailableError{What: "postgres", Err: errors.New("away")}
	receive(t, ledger.batches, "the second report again")
	ledger.answers <- nil
	eventually(t, "no report waits", func() bool { return messages(t, c, streamAcks) == 0 })
}

// A stream that confirms nothing, or keeps one message of each subject, is mended,
// once.
func TestAStreamThatWasEditedIsMended(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"nothing is confirmed": func(cfg *jetstream.StreamConfig) { cfg.NoAck = true },
		"one of each subject":  func(cfg *jetstream.StreamConfig) { cfg.MaxMsgsPerSubject = 1 },
		"subjects are rewritten": func(cfg *jetstream.StreamConfig) {
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "mf.ack.>", Destination: "other.>"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := setup(t, Config{})
			stream, err := c.js.Stream(t.Context(), streamAcks)
			if err != nil {
				t.Fatal(err)
			}
			cfg := stream.CachedInfo().Config
			change(&cfg)
			if _, err := c.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			ensure(t, c)
			upload := newID(t)
			send(t, c, report(upload, 1, 1), report(upload, 2, 1))
			if pending, err := c.PendingAcks(t.Context(), "acme", upload); err != nil || pending != 2 {
				t.Errorf("%d reports on their way, %v; want 2", pending, err)
			}
			log, seen := watch()
			c.log = log
			ensure(t, c)
			if seen.Len() > 0 {
				t.Errorf("a stream that is in order was changed: %v", seen.All())
			}
		})
	}
}

// Permissions that are taken away and given back later leave nobody deaf.
func TestPermissionsTakenAndGivenBack(t *testing.T) {
	t.Parallel()
	s := &natsServer{t: t}
	options := func(denied ...string) *server.Options {
		of := func(name string) *server.User {
			return &server.User{Username: name, Password: name, Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{">"}, Deny: denied}}}
		}
		return &server.Options{
			Host: "127.0.0.1", Port: s.port, NoSigs: true, NoLog: true, Users: []*server.User{of("dispatcher"), of("worker")},
		}
	}
	s.port = server.RANDOM_PORT
	srv, err := server.NewServer(options())
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	s.srv = srv
	connect := func(user string) *Conn {
		c, err := Connect(t.Context(), Config{URL: srv.ClientURL(), User: user, Password: providers.Secret(user), Inbox: user}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
		return c
	}
	dispatcher, worker := connect("dispatcher"), connect("worker")
	serve(t, dispatcher, func(context.Context, AssignmentRequest) (parts.Assignment, error) {
		return parts.Assignment{Provider: "s3"}, nil
	})
	asks := func() error {
		_, err := worker.AskAssignment(t.Context(), AssignmentRequest{Upload: newID(t), Account: "acme"})
		return err
	}
	if err := asks(); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{sessionSubject, "_INBOX.worker.>"} {
		if err := srv.ReloadOptions(options(subject)); err != nil {
			t.Fatal(err)
		}
		if err := asks(); err == nil {
			t.Fatalf("an answer without the right to %s", subject)
		}
		if err := srv.ReloadOptions(options()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "workers are answered again", func() bool { return asks() == nil })
	}
}

// An account that may not use JetStream any more is a queue that is away.
func TestJetStreamThatIsTakenAway(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{RequestTimeout: time.Second})
	upload := newID(t)
	if err := s.srv.GlobalAccount().DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	for doing, err := range map[string]error{
		"ensure streams": c.EnsureStreams(t.Context()),
		"publish":        c.PublishJobs(t.Context(), []parts.Publication{{Job: partJob(upload, 1), Feed: 1}}),
		"tell":           func() error { _, err := c.Tell(t.Context(), parts.RecordMark{Record: upload, Tick: 1}); return err }(),
	} {
		if away, ok := errors.AsType[*uploads.UnavailableError](err); !ok || away.What != "nats" {
			t.Errorf("%s: %v, want that nats is away", doing, err)
		}
	}
}
