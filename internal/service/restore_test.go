package service_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/client"
	"mediaferry/internal/hashing"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// admin runs statements on the server of the bundle, outside of its database.
func (b *bundle) admin(t *testing.T, statements ...string) {
	t.Helper()
	u, err := url.Parse(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/postgres"
	ctx := context.WithoutCancel(t.Context()) // cleanups run it too
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func (b *bundle) database(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// cut ends every connection to the database, and returns when they are gone.
func cut(name string) string {
	return "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '" + name + "'"
}

// backup copies the database, as it is at that moment, and returns what puts the
// copy in its place. Whoever is connected loses the connection in both cases.
func (b *bundle) backup(t *testing.T) (restore func()) {
	t.Helper()
	name := b.database(t)
	saved := name + "_saved"
	b.admin(t, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false", cut(name),
		"CREATE DATABASE "+saved+" TEMPLATE "+name, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS true")
	t.Cleanup(func() { b.admin(t, "DROP DATABASE IF EXISTS "+saved+" WITH (FORCE)") })
	return func() {
		b.admin(t, "DROP DATABASE "+name+" WITH (FORCE)", "ALTER DATABASE "+saved+" RENAME TO "+name)
	}
}

// The record is restored from a backup that was made in mid-upload, after the
// upload was finished: the platform is asked, and finish is not called again.
func TestARecordRestoredFromAnOlderBackup(t *testing.T) {
	t.Parallel()
	for _, alive := range []bool{false, true} {
		t.Run(map[bool]string{false: "while stopped", true: "under a live dispatcher"}[alive], func(t *testing.T) {
			t.Parallel()
			b := setup(t, limits())
			data := b.put(t, "film.mp4", 24*mib)
			mid, saved := make(chan struct{}), make(chan struct{})
			b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
				if call == providers.CallPut && nth > 12 {
					if nth == 13 {
						close(mid)
					}
					<-saved
				}
				return true, nil
			})
			stop := b.dispatcher(t)
			b.worker(t, "w1")
			id := b.submit(t, "film.mp4").ID
			<-mid
			restore := b.backup(t)
			close(saved)
			first := b.mustComplete(t, id, data)
			if !alive {
				stop()
			}
			restore()
			if !alive {
				b.dispatcher(t)
			}
			u := b.awaitShown(t, id, "it has ended again", func(u client.Upload) bool { return u.Final() })
			again := b.mustComplete(t, id, data)
			if again.Asset.ID != first.Asset.ID {
				t.Errorf("asset %s, want %s: that of before", again.Asset.ID, first.Asset.ID)
			}
			if n := b.platform.Calls(providers.CallFinish); n != 1 {
				t.Errorf("finish was called %d times, want once", n)
			}
			if b.platform.Calls(providers.CallProbe) == 0 {
				t.Errorf("nobody probed, and the upload is %s", u.State)
			}
		})
	}
}

// An upload that was submitted after the backup is unknown altogether. It is
// submitted again, with its key, and a platform that finds media by their bytes
// has the asset of before.
func TestAnUploadThatARestoredRecordDoesNotKnow(t *testing.T) {
	t.Parallel()
	l := limits()
	l.ObjectDigests, l.KnownBy = []hashing.Kind{hashing.SHA1}, hashing.SHA1
	b := setup(t, l)
	data := b.put(t, "film.mp4", 3*mib)
	stop := b.dispatcher(t)
	b.worker(t, "w1")
	restore := b.backup(t)
	submission := client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: "film.mp4"}, IdempotencyKey: "film"}
	var u client.Upload
	eventually(t, "the record to be back from the backup, which cut all connections", func() bool {
		var err error
		u, _, err = b.api.Submit(t.Context(), submission)
		return err == nil
	})
	first := b.mustComplete(t, u.ID, data)
	stop()
	restore()
	b.dispatcher(t)
	b.awaitError(t, first.ID, http.StatusNotFound)
	again, created, err := b.api.Submit(t.Context(), submission)
	if err != nil || !created || again.ID == first.ID {
		t.Fatalf("submitted again: %+v, created %t, %v; want an upload of its own", again, created, err)
	}
	if got := b.wait(t, again.ID); got.Asset == nil || got.Asset.ID != first.Asset.ID {
		t.Errorf("%s with asset %+v, want %s: that of before", got.State, got.Asset, first.Asset.ID)
	}
	if n := b.platform.Calls(providers.CallFinish); n != 1 {
		t.Errorf("finish was called %d times, want once", n)
	}
}

// What nobody can tell is left to a human, and goes on when one says so.
func TestARestoredUploadThatNobodyCanTell(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.put(t, "film.mp4", 3*mib)
	stop := b.dispatcher(t)
	id := b.submit(t, "film.mp4").ID
	b.awaitShown(t, id, "its session is open", func(u client.Upload) bool { return u.State == string(uploads.Uploading) })
	stop()
	query := b.query(t)
	query("WITH back AS (UPDATE record_marks SET tick = 0) UPDATE uploads SET state = 'queued', epoch = 0, session = NULL RETURNING id::text")
	b.platform.SetHook(func(call providers.Call, _ int) (bool, error) {
		if call == providers.CallProbe {
			return false, &providers.Error{Kind: providers.SessionLost, Call: "probe", Message: "the session cannot be read"}
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	u := b.wait(t, id)
	if u.State != string(uploads.Failed) || u.Failure.Cause != string(uploads.CauseNeedsHuman) {
		t.Fatalf("%s with %+v, want failed with needs_human", u.State, u.Failure)
	}
	if seen := b.platform.Seen(uuid.MustParse(id)); seen.Begins != 1 {
		t.Errorf("%d sessions were opened, want the one of before", seen.Begins)
	}
}
