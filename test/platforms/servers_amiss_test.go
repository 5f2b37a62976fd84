package platforms_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/client"
	"mediaferry/internal/upstreams"
)

// TestServersThatAreThereAndDoNotWork has one of our own servers answer and yet
// not do its work, in the middle of an upload, for a while. Nothing fails of it;
// what was sent is not sent again, and there is one asset. What is in hand in that
// moment may be.
func TestServersThatAreThereAndDoNotWork(t *testing.T) {
	t.Parallel()
	for name, amiss := range map[string]func(o *ours, t *testing.T) (mend func()){
		"NATS takes messages and delivers none": (*ours).deliverNothing,
		"Postgres takes no changes":             (*ours).takeNoChanges,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const size = 24 * mib
			p := startTencentVOD(t, 1)
			from := startSource(t)
			data, err := from.put(t.Context(), "film.mp4", size)
			if err != nil {
				t.Fatal(err)
			}
			o := startOurs(t, from, p.accounts)
			p.faults(upstreams.Fault{Action: upstreams.ActionServerPart, DelayMS: 150})
			u, _, err := o.api.Submit(t.Context(), client.Submission{Account: p.accounts[0].Name, Source: client.Source{Bucket: bucket, Key: "film.mp4"}})
			if err != nil {
				t.Fatal(err)
			}
			until(t, "parts at the platform", func() bool { return received(p) > size/6 })
			mend := amiss(o, t)
			mend()
			p.clear()
			u, err = o.api.Wait(t.Context(), u.ID, nil)
			if err != nil || u.Asset == nil {
				o.log.print(t, u.ID, 40)
				t.Fatalf("%s, %+v, %v", u.State, u.Failure, err)
			}
			if got := digestOf(t, fetcher(t), u.Asset.URL); got != sha256.Sum256(data) {
				t.Error("the asset's bytes are not the object's")
			}
			if all := finished(p); len(all) != 1 || all[0].received > size+2*mib {
				t.Errorf("the platform has %+v, want one asset, and next to nothing sent twice", all)
			}
		})
	}
}

// amissFor is longer than jobs and steps are left to whoever has them.
const amissFor = 12 * time.Second

// deliverNothing pauses every consumer.
func (o *ours) deliverNothing(t *testing.T) (mend func()) {
	t.Helper()
	conn, err := nats.Connect(o.cfg.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	consumers := map[string]string{"JOBS": "default", "ACKS": "ledger"}
	for stream, name := range consumers {
		if _, err := js.PauseConsumer(t.Context(), stream, name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(amissFor) // nothing is to happen
	return func() {
		for stream, name := range consumers {
			if _, err := js.ResumeConsumer(t.Context(), stream, name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// takeNoChanges makes the database read-only for every connection from now on,
// and ends those that there are. A submission is refused as one to be made again.
func (o *ours) takeNoChanges(t *testing.T) (mend func()) {
	t.Helper()
	admin, err := pgx.ConnectConfig(t.Context(), o.db.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.WithoutCancel(t.Context())) })
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	set := func(to string) {
		t.Helper()
		exec(fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = %s', current_database()); END $$`, to))
	}
	set("on")
	exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mediaferry'`)
	until(t, "refusal that says what is the matter", func() bool {
		_, _, err := o.api.Submit(t.Context(), client.Submission{
			Account: o.cfg.Accounts[0].Name, Source: client.Source{Bucket: bucket, Key: "film.mp4"}, IdempotencyKey: "another",
		})
		e, ok := errors.AsType[*client.Error](err)
		return ok && e.Status == http.StatusServiceUnavailable
	})
	time.Sleep(amissFor) // nothing is to happen
	return func() { set("off") }
}
