package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/client"
	"mediaferry/internal/devstack"
	"mediaferry/internal/providers"
)

// awaitFull submits until it is refused, and returns what was accepted before. The
// refusal is a 503 that names what is full.
func (b *bundle) awaitFull(t *testing.T, what string, size int) (accepted map[string][]byte) {
	t.Helper()
	accepted = map[string][]byte{}
	data := b.put(t, "small.mp4", size)
	for end := time.Now().Add(testPatience); time.Now().Before(end); {
		u, _, err := b.api.Submit(t.Context(), client.Submission{
			Account: "acc", Source: client.Source{Bucket: "staging", Key: "small.mp4"}, Name: strings.Repeat("n", 200),
		})
		if err == nil {
			accepted[u.ID] = data
			continue
		}
		e, ok := errors.AsType[*client.Error](err)
		if ok && e.Status == http.StatusServiceUnavailable && strings.Contains(e.Detail, what+" has no room left") && e.RetryAfter > 0 {
			return accepted
		}
		t.Fatalf("submission: %v, want a 503 that says that %s has no room left", err, what)
	}
	t.Fatalf("%s never said that it has no room left", what)
	return nil
}

// reopened submits until it is accepted again.
func (b *bundle) reopened(t *testing.T) string {
	t.Helper()
	var u client.Upload
	eventually(t, "submissions are taken again", func() bool {
		var err error
		u, _, err = b.api.Submit(t.Context(), client.Submission{Account: "acc", Source: client.Source{Bucket: "staging", Key: "small.mp4"}})
		return err == nil
	})
	return u.ID
}

// NATS has no room left in mid-upload: reports cannot be published, intake is
// closed, and when there is room again all goes on. Nothing is sent twice.
func TestNATSHasNoRoomLeft(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.nats.Stop()
	b.nats.MaxStore = 4 * mib
	if err := b.nats.Start(); err != nil {
		t.Fatal(err)
	}
	data := b.put(t, "film.mp4", 24*mib)
	mid, full := make(chan struct{}), make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth > 12 {
			if nth == 13 {
				close(mid)
			}
			<-full
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-mid
	nc, err := nats.Connect(b.cfg.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = js.Publish(t.Context(), "mf.event.default.ballast", make([]byte, 64<<10))
	}
	for err = nil; err == nil; { // and the crumbs
		_, err = js.Publish(t.Context(), "mf.event.default.ballast", nil)
	}
	close(full)
	accepted := b.awaitFull(t, "nats", mib)
	stream, err := js.Stream(t.Context(), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("mf.event.default.ballast")); err != nil {
		t.Fatal(err)
	}
	b.mustComplete(t, id, data)
	accepted[b.reopened(t)] = b.put(t, "small.mp4", mib)
	for id, data := range accepted {
		b.mustComplete(t, id, data)
	}
	b.nothingWasLost(t)
}

// nothingWasLost checks that no message was set aside and no attempt counted.
func (b *bundle) nothingWasLost(t *testing.T) {
	t.Helper()
	query := b.query(t)
	for _, table := range []string{"set_aside", "part_failures"} {
		if n := query("SELECT count(*)::text FROM " + table); n != "0" {
			t.Errorf("%s has %s rows, want none", table, n)
		}
	}
}

// tmpfs mounts a file system of a few megabytes.
func tmpfs(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=0755", size), "tmpfs", path).CombinedOutput()
	if err != nil {
		t.Skipf("a disk that is full needs a file system of its own, and none can be mounted here: %s", bytes.TrimSpace(out))
	}
	t.Cleanup(func() {
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "umount", path).CombinedOutput()
		if err != nil {
			t.Errorf("umount %s: %s", path, out)
		}
	})
}

// Postgres has no room left on its disk while acks arrive: they stay on their
// stream, submissions are refused over HTTP and kept on theirs, and when there is
// room again all goes on.
func TestPostgresHasNoRoomLeft(t *testing.T) {
	t.Parallel()
	dir, err := devstack.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	disk := dir.Join("disk")
	tmpfs(t, disk, 192<<20)
	server, err := devstack.StartPostgres(t.Context(), filepath.Join(disk, "postgres"), devstack.PostgresOptions{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	b := setup(t, limits())
	b.dsn = server.DSN()
	b.cfg.Postgres.DSN = providers.Secret(b.dsn)
	data := b.put(t, "film.mp4", 40*mib)
	mid, full := make(chan struct{}), make(chan struct{})
	b.platform.SetHook(func(call providers.Call, nth int) (bool, error) {
		if call == providers.CallPut && nth > 4 {
			if nth == 5 {
				close(mid)
			}
			<-full
		}
		return true, nil
	})
	b.dispatcher(t)
	b.worker(t, "w1")
	id := b.submit(t, "film.mp4").ID
	<-mid
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	accepted := b.awaitFull(t, "postgres", mib)
	close(full)
	nc, err := nats.Connect(b.cfg.NATS.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "mf.submit.default",
		[]byte(`{"account": "acc", "source": {"bucket": "staging", "key": "small.mp4"}, "name": "`+strings.Repeat("s", 200)+`", "labels": {"by": "nats"}}`)); err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(t.Context(), "SUBMIT", "intake")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was refused and came again", func() bool {
		info, err := consumer.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken := info.NumPending == 0 && info.NumAckPending == 0 // there was room for one more row
		return taken || info.NumRedelivered > 0
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	b.mustComplete(t, id, data)
	accepted[b.reopened(t)] = b.put(t, "small.mp4", mib)
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var byNATS string
	eventually(t, "what was submitted by NATS is an upload", func() bool {
		return conn.QueryRow(t.Context(), "SELECT id::text FROM uploads WHERE labels ->> 'by' = 'nats'").Scan(&byNATS) == nil
	})
	accepted[byNATS] = b.put(t, "small.mp4", mib)
	for id, data := range accepted {
		b.mustComplete(t, id, data)
	}
	b.nothingWasLost(t)
}

// fill writes a file until there is no room left for another byte.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, mib); len(chunk) > 0; {
		if n, err := file.Write(chunk); err != nil && n == 0 {
			chunk = chunk[:len(chunk)/2]
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
