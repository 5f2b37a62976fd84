package service_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/client"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// halfway stops an upload of 16 parts when the platform has some of them, without
// a worker, and returns its id.
func (b *bundle) halfway(t *testing.T, key string) (id string) {
	t.Helper()
	mid := make(chan struct{})
	held := make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth > 8 {
			if nth == 9 {
				close(mid)
			}
			<-held
			return false, &providers.Error{Kind: providers.Transient, Call: "put", Message: "held"}
		}
		return true, nil
	})
	stop := b.stoppableWorker(t, "first")
	id = b.submit(t, key).ID
	<-mid
	b.awaitShown(t, id, "parts have arrived", func(u client.Upload) bool { return u.AckedParts > 0 })
	close(held)
	stop()
	b.platform.SetHook(nil)
	conn, err := nats.Connect(b.cfg.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	emptied(t, js, "ACKS") // all that the worker said is in the record
	return id
}

// emptied returns once a stream has nothing left: its messages are settled a
// moment after what comes of them is to be seen.
func emptied(t *testing.T, js jetstream.JetStream, stream string) {
	t.Helper()
	await(t, stream+" is empty", func() (left uint64, empty bool) {
		s, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		left = s.CachedInfo().State.Msgs
		return left, left == 0
	})
}

func (b *bundle) reconcile(t *testing.T, r client.Reconciliation) client.Finding {
	t.Helper()
	all := await(t, "nobody has it in hand", func() (all []client.Finding, wanted bool) {
		if err := b.api.Reconcile(t.Context(), r, func(page []client.Finding) { all = append(all, page...) }); err != nil {
			t.Fatal(err)
		}
		return all, len(all) != 1 || all[0].Action != string(uploads.RemedyInHand)
	})
	if len(all) != 1 {
		t.Fatalf("findings %+v, want one", all)
	}
	return all[0]
}

// Parts that the ledger has lost are adopted from the platform, and not sent again.
func TestReconcileAdoptsParts(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 16*mib)
	b.dispatcher(t)
	id := b.halfway(t, "film.mp4")
	// As in an older backup, but without a queue that tells: the ledger is empty.
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, s := range []string{"DELETE FROM part_acks", "UPDATE uploads SET acked_parts = 0, acked_bytes = 0"} {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	there := b.platform.Seen(uuid.MustParse(id))
	look := b.reconcile(t, client.Reconciliation{All: true, DryRun: true})
	if look.Action != string(uploads.RemedyAdopt) || look.LedgerParts != 0 || look.PlatformParts == 0 {
		t.Errorf("a dry run finds %+v", look)
	}
	if u, err := b.api.Show(t.Context(), id); err != nil || u.AckedParts != 0 {
		t.Errorf("a dry run adopted %d parts, %v", u.AckedParts, err)
	}
	if got := b.reconcile(t, client.Reconciliation{Upload: id}); got.Action != look.Action || got.PlatformParts != look.PlatformParts {
		t.Errorf("found %+v, want %+v", got, look)
	}
	if u, err := b.api.Show(t.Context(), id); err != nil || u.AckedParts != look.PlatformParts {
		t.Errorf("%d parts are in the ledger, %v; the platform has %d", u.AckedParts, err, look.PlatformParts)
	}
	b.worker(t, "w1")
	b.mustComplete(t, id, data)
	if sent := b.platform.Seen(uuid.MustParse(id)).Bytes - there.Bytes; sent > int64(16-look.PlatformParts)*mib {
		t.Errorf("%d bytes were sent, and the platform lacked %d parts of 1 MiB", sent, 16-look.PlatformParts)
	}
}

// What the ledger has and the platform lacks is sent again, in a new epoch.
func TestReconcileBeginsAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 16*mib)
	b.dispatcher(t)
	id := b.halfway(t, "film.mp4")
	b.platform.LoseSessions(uuid.MustParse(id))
	got := b.reconcile(t, client.Reconciliation{Account: "acc"})
	if got.Action != string(uploads.RemedyBeginAgain) || got.LedgerParts == 0 || got.Holding != "nothing" {
		t.Errorf("found %+v", got)
	}
	b.worker(t, "w1")
	if u := b.mustComplete(t, id, data); u.Epoch != 2 {
		t.Errorf("epoch %d, want 2", u.Epoch)
	}
	if got := b.reconcile(t, client.Reconciliation{Upload: id}); got.Action != string(uploads.RemedyNone) {
		t.Errorf("a completed upload: %+v", got)
	}
}

// A healthy upload goes on, and no asset is made twice by asking.
func TestReconcileOfAHealthyUpload(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 16*mib)
	b.dispatcher(t)
	id := b.halfway(t, "film.mp4")
	got := b.reconcile(t, client.Reconciliation{All: true})
	if got.Action != string(uploads.RemedyGoOn) && got.Action != string(uploads.RemedyAdopt) {
		t.Errorf("found %+v", got)
	}
	b.worker(t, "w1")
	if u := b.mustComplete(t, id, data); u.Epoch != 1 {
		t.Errorf("epoch %d, want 1", u.Epoch)
	}
	for _, bad := range []client.Reconciliation{{}, {All: true, Account: "acc"}, {Account: "nobody"}, {Upload: "x"}} {
		if err := b.api.Reconcile(t.Context(), bad, func([]client.Finding) {}); !client.IsInvalid(err) {
			t.Errorf("%+v: %v, want a complaint", bad, err)
		}
	}
}

// Messages that nobody can read are in the record with their reasons, those around
// them are not held up, and one that is put back is taken like any other.
func TestMessagesThatNobodyCanRead(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", 3*mib)
	b.dispatcher(t)
	b.worker(t, "w1")
	nc, err := nats.Connect(b.cfg.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	const nobody = "019e0000-0000-7000-8000-000000000001"
	// The database refuses this one alone: as with what no check foresees.
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "ALTER TABLE part_failures ADD CONSTRAINT no_poison CHECK (code <> 'poison')"); err != nil {
		t.Fatal(err)
	}
	for subject, body := range map[string]string{
		"mf.job.default.part.acc." + nobody + ".1.1": "{",
		"mf.job.default.nonsense":                    "x",
		"mf.ack.acc." + nobody:                       `{"upload":"` + nobody + `","account":"acc","failure":{"kind":"transient","code":"poison","started":"2026-11-01T00:00:00Z","failed":"2026-11-01T00:00:00Z"}}`,
		"mf.ack.acc.x":                               "",
		"mf.submit.default":                          "not json",
		"mf.submit.a.b":                              "{}",
	} {
		if _, err := js.Publish(t.Context(), subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	b.mustComplete(t, b.submit(t, "film.mp4").ID, data)
	page := await(t, "6 messages are set aside", func() (client.SetAsideList, bool) {
		page, err := b.api.ListSetAside(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return page, len(page.Messages) >= 6
	})
	var submission int64
	for _, m := range page.Messages {
		if m.Reason == "" || m.Seq == 0 || !strings.HasPrefix(m.Subject, "mf.") || (m.Stream == "JOBS") != (m.Worker == "w1") {
			t.Errorf("set aside %+v", m)
		}
		if m.Subject == "mf.submit.default" {
			submission = m.Number
		}
	}
	if len(page.Messages) != 6 {
		t.Fatalf("%d messages are set aside, want 6: %+v", len(page.Messages), page.Messages)
	}
	// Put back it is refused again, under another number, and the first is gone.
	if err := b.api.ReplaySetAside(t.Context(), submission); err != nil {
		t.Fatal(err)
	}
	var again client.SetAside
	eventually(t, "it is set aside again", func() bool {
		page, err := b.api.ListSetAside(t.Context(), 0, 1)
		if err != nil || len(page.Messages) == 0 {
			return false
		}
		again = page.Messages[0]
		return again.Number > submission && again.Subject == "mf.submit.default"
	})
	if m, err := b.api.ShowSetAside(t.Context(), again.Number); err != nil || string(m.Payload) != "not json" {
		t.Errorf("put back it came again as %+v, %v", m, err)
	}
	if _, err := b.api.ShowSetAside(t.Context(), submission); !client.IsNotFound(err) {
		t.Errorf("message %d is still there: %v", submission, err)
	}
	if err := b.api.DropSetAside(t.Context(), again.Number); err != nil {
		t.Error(err)
	}
	for _, stream := range []string{"JOBS", "ACKS", "SUBMIT"} {
		emptied(t, js, stream)
	}
}
