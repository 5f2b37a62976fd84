package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// recording is a ledger consumer whose batches the test answers.
type recording struct {
	batches chan []parts.Report
	answers chan error
	stop    context.CancelFunc
	ended   chan struct{}
	kept    chan uploads.SetAside
}

func (r *recording) keep(_ context.Context, m uploads.SetAside) error {
	r.kept <- m
	return nil
}

func record(tb testing.TB, c *Conn) *recording {
	tb.Helper()
	ctx, stop := context.WithCancel(tb.Context())
	r := &recording{batches: make(chan []parts.Report), answers: make(chan error), stop: stop, ended: make(chan struct{}), kept: make(chan uploads.SetAside, 100)}
	go func() {
		defer close(r.ended)
		err := c.ConsumeReports(ctx, func(ctx context.Context, reports []parts.Report) error {
			select {
			case r.batches <- append([]parts.Report{}, reports...):
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case err := <-r.answers:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}, r.keep)
		if err != nil {
			tb.Error(err)
		}
	}()
	tb.Cleanup(func() { stop(); <-r.ended })
	return r
}

func report(upload uploads.ID, n, acks int) parts.Report {
	at := time.Date(2026, 11, 1, 12, 0, 0, 123456000, time.UTC)
	r := parts.Report{Upload: upload, Account: "acme", Epoch: 1, Worker: "worker-1", Delivery: n}
	for i := range acks {
		r.Acks = append(r.Acks, parts.Ack{
			Part: i + 1, Offset: int64(i) << 20, Length: 1 << 20,
			Receipt: parts.Receipt{Tag: "9b2cf535f27731c974343645a3985328"},
			Digest:  hashing.New(hashing.MD5, make([]byte, 16)), Started: at, Finished: at.Add(time.Second),
		})
	}
	return r
}

func send(tb testing.TB, c *Conn, reports ...parts.Report) {
	tb.Helper()
	var sending sync.WaitGroup
	for _, r := range reports {
		sending.Go(func() {
			if err := c.Report(tb.Context(), r); err != nil {
				tb.Error(err)
			}
		})
	}
	sending.Wait()
}

func TestLoneReportComesSoon(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	r := record(t, c)
	want := report(newID(t), 1, 2)
	want.Failure = &parts.Failure{Part: 3, Kind: "throttled", Message: "slow down", RetryAfter: time.Second}
	// The first goes the way of everything that is not warm.
	send(t, c, want)
	got := receive(t, r.batches, "a batch")
	if diff := cmp.Diff([]parts.Report{want}, got); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	r.answers <- nil
	fastest := time.Hour
	for n := 0; n < 5 || fastest > batchLinger && n < 100; n++ {
		time.Sleep(2 * batchIdle) // lone is what comes some time after the one before
		sent := time.Now()
		send(t, c, want)
		receive(t, r.batches, "a batch")
		fastest = min(fastest, time.Since(sent))
		r.answers <- nil
	}
	// A busy machine may delay some, not all.
	if fastest > batchLinger {
		t.Errorf("a lone report took %s at best, want less than the %s of a busy moment", fastest, batchLinger)
	}
	eventually(t, "the stream is empty", func() bool { return messages(t, c, streamAcks) == 0 })
}

func TestReportsComeInBatches(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	upload := newID(t)
	const n = 2500
	var all []parts.Report
	for i := range n {
		all = append(all, report(upload, i, 1))
	}
	send(t, c, all...)
	r := record(t, c)
	seen := map[int]bool{}
	for len(seen) < n {
		batch := receive(t, r.batches, "a batch")
		for _, got := range batch {
			seen[got.Delivery] = true
		}
		if len(batch) > batchReports {
			t.Errorf("a batch of %d", len(batch))
		}
		if pending, err := c.PendingAcks(t.Context(), "acme", upload); err != nil || pending < len(batch) {
			t.Errorf("%d pending (%v) while a batch of %d is not recorded", pending, err, len(batch))
		}
		r.answers <- nil
	}
	eventually(t, "the stream is empty", func() bool { return messages(t, c, streamAcks) == 0 })
}

// A batch is what comes within its time, and no more than one transaction takes.
func TestCollect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := make(chan arrived, 3*batchReports)
		for range batchReports + 3 {
			in <- arrived{}
		}
		began := time.Now()
		if got, took := len(collect(t.Context(), in, nil, began)), time.Since(began); got != batchReports || took != 0 {
			t.Errorf("%d of a backlog after %s, want %d at once", got, took, batchReports)
		}
		if got, took := len(collect(t.Context(), in, nil, began)), time.Since(began); got != 3 || took != batchLinger {
			t.Errorf("%d of the rest after %s, want 3 after %s", got, took, batchLinger)
		}
		go func() {
			for range 4 {
				time.Sleep(batchLinger * 2 / 5)
				in <- arrived{}
			}
		}()
		if got := len(collect(t.Context(), in, nil, began)); got != 3 {
			t.Errorf("%d collected, want the 3 that came in time", got)
		}
		if got := len(collect(t.Context(), in, nil, began)); got != 1 {
			t.Errorf("%d collected, want the one that came late", got)
		}
		time.Sleep(batchIdle)
		for range 4 {
			in <- arrived{}
		}
		idle := time.Now()
		if got, took := len(collect(t.Context(), in, nil, began)), time.Since(idle); got != 4 || took != 0 {
			t.Errorf("%d collected after %s when nothing had come for long, want the 4 that were there at once", got, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := len(collect(ctx, in, nil, time.Now())); got != 0 {
			t.Errorf("%d collected after the stop", got)
		}
	})
}

func TestReportsComeAgainAfterAnError(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	upload := newID(t)
	r := record(t, c)
	send(t, c, report(upload, 1, 1), report(upload, 2, 1))
	refused := map[int]bool{}
	var failed time.Time
	for len(refused) < 2 {
		for _, got := range receive(t, r.batches, "a batch") {
			refused[got.Delivery] = true
		}
		failed = time.Now()
		r.answers <- errors.New("postgres is away")
	}
	recorded := map[int]bool{}
	for len(recorded) < 2 {
		for _, got := range receive(t, r.batches, "the batch again") {
			recorded[got.Delivery] = true
		}
		r.answers <- nil
	}
	if took := time.Since(failed); took < minBatchDelay/2 || took > ledgerAckWait/2 {
		t.Errorf("came again after %s, want about %s", took, minBatchDelay)
	}
	eventually(t, "the stream is empty", func() bool { return messages(t, c, streamAcks) == 0 })
}

func TestTwoDispatchersShareTheReports(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{})
	a, b := record(t, c), record(t, s.connect(Config{}))
	upload := newID(t)
	const n = 500
	seen := map[int]int{}
	for i := 0; len(seen) < n; {
		if i < n {
			send(t, c, report(upload, i, 1))
			i++
		}
		// Whoever has a batch is answered; the other one's waits.
		select {
		case batch := <-a.batches:
			for _, got := range batch {
				seen[got.Delivery]++
			}
			a.answers <- nil
		case batch := <-b.batches:
			for _, got := range batch {
				seen[got.Delivery]++
			}
			b.answers <- nil
		case <-time.After(time.Millisecond):
		}
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("report %d came %d times", id, times)
		}
	}
}

// A dispatcher that stops gives back what it has not recorded.
func TestReportsOfAStoppedDispatcherGoToAnother(t *testing.T) {
	t.Parallel()
	c, s := setup(t, Config{})
	upload := newID(t)
	var all []parts.Report
	for i := range 1500 {
		all = append(all, report(upload, i, 1))
	}
	send(t, c, all...)
	a := record(t, s.connect(Config{}))
	receive(t, a.batches, "a batch") // never answered
	a.stop()
	<-a.ended
	stopped := time.Now()
	b := record(t, c)
	seen := map[int]bool{}
	for len(seen) < len(all) {
		for _, got := range receive(t, b.batches, "a batch") {
			seen[got.Delivery] = true
		}
		b.answers <- nil
	}
	if took := time.Since(stopped); took > ledgerAckWait/2 {
		t.Errorf("took %s: they waited for AckWait", took)
	}
}

func TestReportingOutlivesEverything(t *testing.T) {
	t.Parallel()
	for name, destroy := range map[string]func(*testing.T, *Conn, *natsServer){
		"consumer deleted": func(t *testing.T, c *Conn, _ *natsServer) {
			t.Helper()
			if err := c.js.DeleteConsumer(t.Context(), streamAcks, "ledger"); err != nil {
				t.Fatal(err)
			}
		},
		"stream deleted": func(t *testing.T, c *Conn, _ *natsServer) {
			t.Helper()
			if err := c.js.DeleteStream(t.Context(), streamAcks); err != nil {
				t.Fatal(err)
			}
		},
		"restarted":  func(_ *testing.T, _ *Conn, s *natsServer) { s.stop(); s.start() },
		"store lost": func(_ *testing.T, _ *Conn, s *natsServer) { s.wipe() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := setup(t, Config{})
			r := record(t, s.connect(Config{}))
			upload := newID(t)
			send(t, c, report(upload, 1, 1))
			receive(t, r.batches, "a batch")
			r.answers <- nil
			eventually(t, "the stream is empty", func() bool { return messages(t, c, streamAcks) == 0 })
			destroy(t, c, s)
			send(t, c, report(upload, 2, 1)) // waits until there is a stream again
			for {
				batch := receive(t, r.batches, "a batch afterwards")
				r.answers <- nil
				if batch[len(batch)-1].Delivery == 2 {
					break
				}
			}
		})
	}
}

func BenchmarkConsumeReports(b *testing.B) {
	for _, acks := range []int{1, 64} {
		b.Run(fmt.Sprintf("acks=%d", acks), func(b *testing.B) {
			c, s := setup(b, Config{})
			worker := s.connect(Config{})
			upload := newID(b)
			// The backlog is made first: what is measured is one consumer.
			var sending sync.WaitGroup
			for i := range 256 {
				sending.Go(func() {
					for n := i; n < b.N; n += 256 {
						if err := worker.Report(b.Context(), report(upload, n, acks)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			sending.Wait()
			ctx, stop := context.WithCancel(b.Context())
			var got, batches atomic.Int64
			b.ResetTimer()
			err := c.ConsumeReports(ctx, func(_ context.Context, reports []parts.Report) error {
				batches.Add(1)
				if got.Add(int64(len(reports))) >= int64(b.N) {
					b.StopTimer()
					stop()
				}
				return nil
			}, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
			b.ReportMetric(float64(b.N)/float64(batches.Load()), "reports/batch")
			b.ReportMetric(float64(b.N*acks)/b.Elapsed().Seconds(), "acks/s")
		})
	}
}

func BenchmarkReport(b *testing.B) {
	c, _ := setup(b, Config{})
	r := report(newID(b), 1, 1)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.Report(b.Context(), r); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
}
