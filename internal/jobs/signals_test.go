package jobs

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	from, to := s.connect(Config{}), s.connect(Config{})
	mustStop := func(stop func(), err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	upload, other := newID(t), newID(t)
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

	all, one := make(chan Live, 10), make(chan Live, 10)
	mustStop(to.SubscribeLive(uuid.Nil, func(l Live) { all <- l }))
	mustStop(to.SubscribeLive(upload, func(l Live) { one <- l }))
	live := Live{
		Upload: upload, Account: "acme", Worker: "w1", Stage: "sending", Run: parts.Run{First: 1, Count: 2}, Bytes: 5, Total: 10, At: at,
	}
	elsewhere := live
	elsewhere.Upload = other
	must(from.PublishLive(elsewhere))
	must(from.PublishLive(live))
	if diff := cmp.Diff([]Live{elsewhere, live, live}, []Live{
		receive(t, all, "progress"), receive(t, all, "progress"), receive(t, one, "progress of one upload"),
	}); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}

	cancels := make(chan uploads.ID, 10)
	mustStop(to.SubscribeCancels(func(id uploads.ID) { cancels <- id }))
	must(from.nc.Publish("mf.cancel.everything", nil)) // is skipped
	must(from.PublishCancel(upload))
	if got := receive(t, cancels, "the cancellation"); got != upload {
		t.Errorf("cancelled %s, want %s", got, upload)
	}

	beats := make(chan Worker, 10)
	mustStop(to.SubscribeHeartbeats(func(w Worker) { beats <- w }))
	must(from.nc.Publish("mf.worker.w1", []byte("{"))) // is skipped
	want := Worker{ID: "w1", Pool: "main", Slots: 4, Busy: 2, BytesMoved: 1 << 40, Version: "1.2.3", Started: at, At: at.Add(time.Minute)}
	must(from.PublishHeartbeat(want))
	if diff := cmp.Diff(want, receive(t, beats, "the heartbeat")); diff != "" {
		t.Errorf("heartbeat (-want +got):\n%s", diff)
	}
	if err := from.PublishHeartbeat(Worker{ID: "host.local", Pool: "main"}); err == nil {
		t.Error("a worker's id with a dot was taken")
	}
}

func TestSubmissions(t *testing.T) {
	t.Parallel()
	c, _ := setup(t, Config{})
	type submission struct {
		tenant, id, payload string
	}
	got := make(chan submission, 10)
	fail := make(chan struct{}, 1)
	kept := make(chan uploads.SetAside, 10)
	fail <- struct{}{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := c.ConsumeSubmissions(ctx, func(_ context.Context, tenant, id string, at time.Time, payload []byte) ([]byte, error) {
			if age := time.Since(at); age < 0 || age > time.Hour {
				t.Errorf("it came %s ago", age)
			}
			got <- submission{tenant, id, string(payload)}
			select {
			case <-fail:
				return nil, errors.New("postgres is away")
			default:
				return []byte("taken " + string(payload)), nil
			}
		}, func(_ context.Context, m uploads.SetAside) error { kept <- m; return nil })
		if err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { stop(); <-ended })

	inbox, err := c.nc.SubscribeSync(c.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.js.PublishMsg(t.Context(), &nats.Msg{
		Subject: "mf.submit.news", Data: []byte("this"), Header: nats.Header{SubmitReplyHeader: {inbox.Subject}},
	}); err != nil {
		t.Fatal(err)
	}
	first := receive(t, got, "the submission")
	again := receive(t, got, "the submission after the error")
	if first != again || first.tenant != "news" || first.payload != "this" || first.id == "" {
		t.Errorf("got %+v, then %+v", first, again)
	}
	reply, err := inbox.NextMsg(patience)
	if err != nil || string(reply.Data) != "taken this" {
		t.Errorf("reply %v, %v", reply, err)
	}
	// Nobody wants to hear of this one, and the other has no tenant.
	for _, subject := range []string{"mf.submit.news", "mf.submit.a.b"} {
		if _, err := c.js.Publish(t.Context(), subject, []byte("that")); err != nil {
			t.Fatal(err)
		}
	}
	if next := receive(t, got, "the second submission"); next.payload != "that" || next.id == first.id {
		t.Errorf("got %+v", next)
	}
	if m := receive(t, kept, "the message without a tenant"); m.Subject != "mf.submit.a.b" || m.Stream != streamSubmit || string(m.Payload) != "that" {
		t.Errorf("set aside %+v", m)
	}
	eventually(t, "the stream is empty", func() bool { return messages(t, c, streamSubmit) == 0 })
}
