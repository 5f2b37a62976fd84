package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// A worker has no record of its own: what it cannot read goes to the dispatchers,
// and only then leaves the queue.
func TestAMessageThatIsNoJobIsSetAside(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{AckWait: time.Hour})
	upload := newID(t)
	subject, err := jobSubject(partJob(upload, 1))
	if err != nil {
		t.Fatal(err)
	}
	bodies := []string{"", "{", `{"upload":"x"}`, `{"upload":"` + anID + `","account":"acme","pool":"main"}`, strings.Repeat("x", uploads.MaxSetAside+1)}
	for _, body := range bodies {
		msg := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{"From": {"somebody"}}}
		if _, err := c.js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, c, partJob(upload, 1))
	log, _ := watch()
	r := run(t, &Runner{Conn: c, Slots: 1, Worker: "w1", Log: log})
	r.next().settle <- done
	eventually(t, "the queue is empty", func() bool { return messages(t, c, streamJobs) == 0 })
	ledger := record(t, c)
	for i, body := range bodies {
		m := receive(t, ledger.kept, "the message")
		want := uploads.SetAside{
			Stream: streamJobs, Subject: subject, Seq: uint64(i + 1), Headers: map[string][]string{"From": {"somebody"}},
			Size: int64(len(body)), Worker: "w1",
		}
		if m.Reason == "" || m.Published.IsZero() || m.Whole() != (len(body) <= uploads.MaxSetAside) {
			t.Errorf("message %d: reason %q, published %s, whole %t", i, m.Reason, m.Published, m.Whole())
		}
		if kept := body[:min(len(body), uploads.MaxSetAside)]; string(m.Payload) != kept {
			t.Errorf("message %d: %d bytes are kept that are not the first %d", i, len(m.Payload), len(kept))
		}
		m.Reason, m.Published, m.Payload = "", time.Time{}, nil
		if diff := cmp.Diff(want, m); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i, diff)
		}
	}
	eventually(t, "the reports are acked", func() bool { return messages(t, c, streamAcks) == 0 })
}

// What cannot be kept now stays where it is.
func TestAMessageIsNotTakenOffBeforeItIsKept(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	if _, err := c.js.Publish(t.Context(), "mf.ack.acme."+anID, []byte("{")); err != nil {
		t.Fatal(err)
	}
	tried := make(chan uint64, 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.ConsumeReports(ctx, func(context.Context, []parts.Report) error { return nil },
			func(_ context.Context, m uploads.SetAside) error {
				tried <- m.Seq
				return &uploads.UnavailableError{What: "postgres", Full: true, Err: errors.New("no space left on device")}
			})
	}()
	t.Cleanup(func() { stop(); <-ended })
	first := receive(t, tried, "a first try")
	if again := receive(t, tried, "another try"); again != first {
		t.Errorf("message %d was tried, then %d", first, again)
	}
	if n := messages(t, c, streamAcks); n != 1 {
		t.Errorf("%d messages on the stream, want the one that is not kept", n)
	}
}

// A batch is refused for one report of it: that one is set aside, and each of the
// others is recorded.
func TestAReportThatIsRefusedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	upload := newID(t)
	const many = 50
	var reports []parts.Report
	for n := range many {
		reports = append(reports, report(upload, n+1, 1))
	}
	send(t, c, reports...)
	for _, body := range []string{
		"{", `{"upload":"` + upload.String() + `","account":"other"}`,
		fmt.Sprintf(`{"upload":%q,"account":"acme","epoch":4294967297}`, upload),
		fmt.Sprintf(`{"upload":%q,"account":"acme","worker":"a\u0000b"}`, upload),
	} {
		if _, err := c.js.Publish(t.Context(), ackSubject("acme", upload), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	refuse := map[int]bool{7: true, 8: true, 31: true}
	var recorded [many + 1]atomic.Int32
	kept := make(chan uploads.SetAside, 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.ConsumeReports(ctx, func(_ context.Context, batch []parts.Report) error {
			for _, r := range batch {
				if refuse[r.Delivery] {
					return fmt.Errorf("record reports: %w", &uploads.RefusedError{Reason: "postgres refuses it", Err: errors.New("SQLSTATE 22021")})
				}
			}
			for _, r := range batch {
				recorded[r.Delivery].Add(1)
			}
			return nil
		}, func(_ context.Context, m uploads.SetAside) error { kept <- m; return nil })
	}()
	t.Cleanup(func() { stop(); <-ended })
	aside := map[int]bool{}
	for range len(refuse) + 4 {
		m := receive(t, kept, "a message that is set aside")
		var r parts.Report
		if json.Unmarshal(m.Payload, &r) == nil && r.Delivery > 0 {
			aside[r.Delivery] = true
		}
	}
	eventually(t, "the stream is empty", func() bool { return messages(t, c, streamAcks) == 0 })
	if diff := cmp.Diff(refuse, aside); diff != "" {
		t.Errorf("set aside (-want +got):\n%s", diff)
	}
	for n := 1; n <= many; n++ {
		if got := recorded[n].Load(); (got > 0) == refuse[n] {
			t.Errorf("report %d was recorded %d times", n, got)
		}
	}
}

// A submission that is refused for good is answered, and kept.
func TestARefusedSubmissionIsSetAside(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	kept := make(chan uploads.SetAside, 3)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	ids := make(chan string, 3)
	go func() {
		defer close(ended)
		_ = c.ConsumeSubmissions(ctx, func(_ context.Context, _, id string, _ time.Time, _ []byte) ([]byte, error) {
			ids <- id
			return []byte("no"), &uploads.RefusedError{Reason: "message: is not a submission"}
		}, func(_ context.Context, m uploads.SetAside) error { kept <- m; return nil })
	}()
	t.Cleanup(func() { stop(); <-ended })
	inbox, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer inbox.Unsubscribe() //nolint:errcheck // only so that Close does not wait for the answers that nobody reads
	msg := &nats.Msg{Subject: "mf.submit.news", Data: []byte("x"), Header: nats.Header{SubmitReplyHeader: {inbox.Subject}, "Nats-Msg-Id": {"once"}}}
	if _, err := c.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	m := receive(t, kept, "the submission")
	if m.Reason != "message: is not a submission" || m.Subject != "mf.submit.news" {
		t.Errorf("set aside %+v", m)
	}
	if reply, err := inbox.NextMsg(patience); err != nil || string(reply.Data) != "no" {
		t.Errorf("reply %v, %v", reply, err)
	}
	eventually(t, "the stream is empty", func() bool { return messages(t, c, streamSubmit) == 0 })
	// Put back, it is taken again: its publish id does not have it dropped.
	if err := c.PutBack(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if again := receive(t, kept, "the submission put back"); again.Seq == m.Seq || !bytes.Equal(again.Payload, m.Payload) {
		t.Errorf("after %+v came %+v", m, again)
	}
	// Put back twice, as where a dispatcher died before it forgot the message, it is
	// the same submission each time.
	if err := c.PutBack(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	receive(t, kept, "the submission put back again")
	if first, second, third := <-ids, <-ids, <-ids; first == "" || second != first || third != first {
		t.Errorf("it was %s, then %s, then %s", first, second, third)
	}
}

// A notification is acked when it is taken, set aside when it is refused, and
// comes again otherwise.
func TestNotificationsAreSettled(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	for _, text := range []string{"good", "bad", "later"} {
		if _, err := c.js.Publish(t.Context(), "mf.notify.staging.x", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	kept := make(chan uploads.SetAside, 2)
	taken := make(chan string, 5)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.ConsumeNotifications(ctx, func(_ context.Context, payload []byte) error {
			taken <- string(payload)
			switch string(payload) {
			case "bad":
				return &uploads.RefusedError{Reason: "message: is bad"}
			case "later":
				return &uploads.UnavailableError{What: "staging", Err: errors.New("gone")}
			}
			return nil
		}, func(_ context.Context, m uploads.SetAside) error { kept <- m; return nil })
	}()
	t.Cleanup(func() { stop(); <-ended })
	if m := receive(t, kept, "the bad one"); m.Reason != "message: is bad" || m.Stream != streamNotify || string(m.Payload) != "bad" {
		t.Errorf("set aside %+v", m)
	}
	eventually(t, "one message is left", func() bool { return messages(t, c, streamNotify) == 1 })
	for later := 0; later < 2; {
		if receive(t, taken, "a message") == "later" {
			later++
		}
	}
}

func TestTheQueueKeepsTheHighestTick(t *testing.T) {
	t.Parallel()
	a, s := setup(t, Config{})
	b := s.connect(Config{})
	record := newID(t)
	tell := func(c *Conn, tick, wantTold int64) {
		t.Helper()
		told, err := c.Tell(t.Context(), parts.RecordMark{Record: record, Tick: tick})
		if err != nil || told != wantTold {
			t.Errorf("told %d: %d was told before, %v; want %d", tick, told, err, wantTold)
		}
	}
	tell(a, 1, 0)
	tell(a, 2, 0) // its own word is nobody else's
	tell(b, 4, 2)
	tell(a, 3, 4)
	tell(a, 4, 4)
	tell(b, 4, 0)
	if told, err := a.Told(t.Context(), record); err != nil || told != 4 {
		t.Errorf("the queue has %d, %v; want 4", told, err)
	}
	if told, err := a.Told(t.Context(), newID(t)); err != nil || told != 0 {
		t.Errorf("of another record the queue has %d, %v", told, err)
	}
	if _, err := a.js.Publish(t.Context(), recordSubject(record), []byte("what")); err != nil {
		t.Fatal(err)
	}
	tell(a, 5, 0)
	if _, err := a.js.Publish(t.Context(), recordSubject(record), []byte("9223372036854775807 x")); err != nil {
		t.Fatal(err)
	}
	tell(a, 6, 0) // nobody could count on from there
	s.stop()
	var away *uploads.UnavailableError
	if _, err := a.Told(t.Context(), record); !errors.As(err, &away) || away.What != "nats" {
		t.Errorf("while the server is away: %v", err)
	}
	s.start()
}

// Whatever comes in on a stream is either what it should be or refused: nothing
// else gets past these functions.
func FuzzDecodeReport(f *testing.F) {
	id := uploads.ID{15: 1}
	good, err := json.Marshal(report(id, 1, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"upload":"` + id.String() + `","account":"acme","failure":{"part":1,"failed":"2026-01-01T00:00:00Z"}}`))
	f.Add([]byte(`{"upload":"` + id.String() + `","account":"acme","digested":{"sums":["sha1:00"]}}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeReport(ackSubject("acme", id), data)
		if err != nil {
			return
		}
		if r.Account != "acme" || r.Upload != id {
			t.Fatalf("%q is a report on %s at %s", data, r.Upload, r.Account)
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeReport(ackSubject("acme", id), again); err != nil {
			t.Fatalf("%q was read and is written as %q: %v", data, again, err)
		}
	})
}

func FuzzDecodeJob(f *testing.F) {
	job := partJob(uploads.ID{15: 1}, 1)
	good, err := json.Marshal(job)
	if err != nil {
		f.Fatal(err)
	}
	subject, err := jobSubject(job)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"upload":"` + anID + `","pool":"main"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		msg := &nats.Msg{Subject: subject, Reply: "$JS.ACK.JOBS.main.1.1.1.1700000000000000000.0", Data: data, Sub: &nats.Subscription{}}
		got, _, err := decodeJob(msg)
		if err == nil && got != job && (got.Upload != job.Upload || got.Run.First != job.Run.First || got.Epoch != job.Epoch) {
			t.Fatalf("%q under %s is %+v", data, subject, got)
		}
	})
}

func FuzzReadWord(f *testing.F) {
	f.Add([]byte("12 abc"))
	f.Add([]byte("-1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if w := readWord(data, 3); w.tick < 0 || w.seq != 3 {
			t.Fatalf("%q is %+v", data, w)
		}
	})
}
