package service_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/notification"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/client"
	"mediaferry/internal/config"
	"mediaferry/internal/devstack"
	"mediaferry/internal/devstack/devtest"
	"mediaferry/internal/staging"
	"mediaferry/internal/uploads"
)

// publishing replaces the bundle's store by one that publishes its events.
func (b *bundle) publishing(t *testing.T, subject string) {
	t.Helper()
	b.s3 = devtest.S3With(t, devstack.S3Options{Buckets: []string{"staging"}, NATSURL: b.nats.URL(), Subject: subject})
	if os.Getenv(devtest.S3Env) != "" {
		askForEvents(t, b.s3.Config(), "staging")
	}
	s3 := b.s3.Config()
	var err error
	if b.staging, err = staging.New(s3); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.staging.Close)
	b.cfg.Staging.Endpoint, b.cfg.Staging.AccessKey, b.cfg.Staging.SecretKey = s3.Endpoint, s3.AccessKey.Reveal(), s3.SecretKey
}

// askForEvents has MinIO tell of a bucket, as `mc event add` does.
func askForEvents(t *testing.T, s3 staging.Config, bucket string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	store, err := minio.New(strings.TrimPrefix(s3.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s3.AccessKey.Reveal(), s3.SecretKey.Reveal(), ""), Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	events := notification.NewConfig(notification.NewArn("minio", "sqs", "", "_", "nats"))
	events.AddEvents(notification.ObjectCreatedAll, notification.ObjectRemovedAll)
	var all notification.Configuration
	all.AddQueue(events)
	if err := store.SetBucketNotification(t.Context(), bucket, all); err != nil {
		t.Fatal(err)
	}
}

// What the store tells of its bucket becomes uploads at the accounts of the rules,
// however often it is told.
func TestNotificationsOfAStore(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.publishing(t, "mf.notify.staging")
	second := b.cfg.Accounts[0]
	second.Name = "acc2"
	b.cfg.Accounts = append(b.cfg.Accounts, second)
	b.cfg.Notifications = []config.Notification{
		{Bucket: "staging", Prefix: "films/", Accounts: []string{"acc", "acc2"}, Labels: map[string]string{"rule": "films"}},
		{Bucket: "staging", Suffix: ".mp4", Accounts: []string{"acc"}},
	}
	b.dispatcher(t)
	b.dispatcher(t)
	b.worker(t, "w1")
	conn, err := nats.Connect(b.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	told, err := conn.SubscribeSync("mf.notify.>")
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	settled := func() {
		t.Helper()
		eventually(t, "every message is settled", func() bool {
			stream, err := js.Stream(t.Context(), "NOTIFY")
			return err == nil && stream.CachedInfo().State.Msgs == 0
		})
	}
	uploadsNow := func() []string {
		t.Helper()
		page, err := b.api.List(t.Context(), client.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, u := range page.Uploads {
			all = append(all, u.Account+" "+u.Source.Key+" "+u.Labels["rule"])
		}
		slices.Sort(all)
		return all
	}

	contents := map[string][]byte{}
	for key, size := range map[string]int{"films/A film, part 1+2 ß%20.mp4": mib, "films/big.mp4": 20 * mib, "other.mp4": 10, "notes.txt": 10} {
		contents[key] = b.put(t, key, size)
	}
	if err := b.staging.Delete(t.Context(), "staging", "notes.txt"); err != nil {
		t.Fatal(err)
	}
	var messages []*nats.Msg
	for len(messages) < 5 {
		msg, err := told.NextMsg(testPatience)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s", msg.Data)
		messages = append(messages, msg)
	}
	want := []string{
		"acc films/A film, part 1+2 ß%20.mp4 films", "acc films/big.mp4 films", "acc other.mp4 ",
		"acc2 films/A film, part 1+2 ß%20.mp4 films", "acc2 films/big.mp4 films",
	}
	// The stream may take a while until it has what the server has.
	eventually(t, "every object is submitted", func() bool { return len(uploadsNow()) >= len(want) })
	settled()
	if diff := cmp.Diff(want, uploadsNow()); diff != "" {
		t.Fatalf("uploads (-want +got):\n%s", diff)
	}
	for range 3 { // the store tells it again
		for _, msg := range messages {
			if err := conn.Publish(msg.Subject, msg.Data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := conn.Publish("mf.notify.staging", []byte("<xml>")); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message that is none to be set aside", func() bool {
		aside, err := b.api.ListSetAside(t.Context(), 0, 10)
		return err == nil && len(aside.Messages) == 1 && strings.Contains(aside.Messages[0].Reason, "is not an S3 event message")
	})
	settled()
	if diff := cmp.Diff(want, uploadsNow()); diff != "" {
		t.Errorf("uploads after it was told again (-want +got):\n%s", diff)
	}
	page, err := b.api.List(t.Context(), client.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range page.Uploads {
		b.mustComplete(t, u.ID, contents[u.Source.Key])
	}
	// The same bytes once more are another event.
	b.put(t, "other.mp4", 10)
	eventually(t, "another upload of what was put again", func() bool { return len(uploadsNow()) == len(want)+1 })
}

// Submissions by SQL are taken up as soon as they are committed, by one of the
// dispatchers, and what is wrong with one is told where the upload is looked for.
func TestSubmissionsBySQL(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	stop := b.dispatcher(t)
	b.dispatcher(t)
	b.worker(t, "w1")
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	const many = 70 // more than are asked for one by one
	contents := make([][]byte, many)
	for i := range contents {
		contents[i] = b.put(t, fmt.Sprintf("films/%d.mp4", i), 100+i)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	submit := func(arguments string) string {
		t.Helper()
		var id string
		if err := tx.QueryRow(t.Context(), "SELECT mediaferry.submit("+arguments+")").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	ids := make([]string, many)
	for i := range ids {
		ids[i] = submit(fmt.Sprintf("'acc', 'staging', 'films/%d.mp4', idempotency_key => 'film-%d', labels => '{\"n\": \"%d\"}'", i, i, i))
	}
	bad := map[string][2]string{
		submit("'acc', 'staging', 'films/none.mp4'"):                                {"source_missing", "source.key"},
		submit("'nobody', 'staging', 'films/1.mp4'"):                                {"unknown_account", "account"},
		submit("'acc', 'staging', 'films/1.mp4', etag => 'other'"):                  {"invalid", "source.etag"},
		submit("'acc', 'not-there', 'films/1.mp4', idempotency_key => 'not-there'"): {"source_missing", "source.key"},
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := b.query(t)
	eventually(t, "all but the one of nobody are taken up", func() bool { return left("SELECT count(*)::text FROM submissions") == "1" })
	// That one is left to others for a while.
	if _, err := conn.Exec(t.Context(), "UPDATE submissions SET submitted_at = submitted_at - $1::interval, due_at = now()", uploads.SettingsSpread); err != nil {
		t.Fatal(err)
	}
	takenUp := func() {
		t.Helper()
		eventually(t, "all are taken up", func() bool { return left("SELECT count(*)::text FROM submissions") == "0" })
	}
	takenUp()
	for i, id := range ids {
		b.mustComplete(t, id, contents[i])
	}
	for id, want := range bad {
		u := b.wait(t, id)
		if u.State != string(uploads.Failed) || u.Failure.Cause != want[0] || !strings.HasPrefix(u.Failure.Message, want[1]+": ") {
			t.Errorf("%s is %s, %+v; want %v", id, u.State, u.Failure, want)
		}
		if _, err := b.api.Retry(t.Context(), id); err == nil || !strings.Contains(err.Error(), "submit it again") {
			t.Errorf("a retry of %s: %v", id, err)
		}
	}
	if n := left("SELECT count(*)::text FROM uploads"); n != fmt.Sprint(many+len(bad)) {
		t.Errorf("%s uploads, want %d", n, many+len(bad))
	}

	// One dispatcher looks for them every five seconds. One that is committed right
	// after such a look is taken up before the next only by who heard of it. A busy
	// machine may delay some, not all.
	stop()
	fastest := time.Hour
	for n := 0; n < 20 && fastest > 4*time.Second; n++ {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("SELECT mediaferry.submit('acc', 'staging', 'films/%d.mp4')", n)); err != nil {
			t.Fatal(err)
		}
		committed := time.Now()
		takenUp()
		if n > 0 {
			fastest = min(fastest, time.Since(committed))
		}
	}
	if fastest > 4*time.Second {
		t.Errorf("it took %s at best: nobody heard of the commit", fastest)
	}

	// By HTTP, the same submission under the same key is the same upload.
	u, created, err := b.api.Submit(t.Context(), client.Submission{
		Account: "acc", Source: client.Source{Bucket: "staging", Key: "films/3.mp4"}, IdempotencyKey: "film-3", Labels: map[string]string{"n": "3"},
	})
	if err != nil || created || u.ID != ids[3] {
		t.Errorf("by HTTP: %s, new %t, %v; want %s", u.ID, created, err, ids[3])
	}

	// While staging is away they wait, and go on by themselves.
	b.s3.Stop()
	var id string
	if err := conn.QueryRow(t.Context(), "SELECT mediaferry.submit('acc', 'staging', 'films/1.mp4')").Scan(&id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was tried in vain", func() bool { return left("SELECT count(*)::text FROM submissions WHERE tries > 0") == "1" })
	if err := b.s3.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is taken up", func() bool { return left("SELECT count(*)::text FROM submissions") == "0" })
	if u := b.mustComplete(t, id, contents[1]); u.Source.Size != int64(len(contents[1])) || bytes.Equal(contents[0], contents[1]) {
		t.Errorf("%+v", u.Source)
	}
}

// While an account is added, dispatchers run with the settings of before and those
// of after. What comes by NATS or SQL for the account is left to who has it.
func TestSubmissionsToAnAccountThatIsBeingAdded(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	data := b.put(t, "film.mp4", mib)
	stop := b.dispatcher(t)
	b.worker(t, "w1")
	conn, err := pgx.Connect(t.Context(), b.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	var id string
	if err := conn.QueryRow(t.Context(), "SELECT mediaferry.submit('two', 'staging', 'film.mp4')").Scan(&id); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(b.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "mf.submit.default", []byte(`{"account":"two","source":{"bucket":"staging","key":"film.mp4"},"idempotency_key":"by-nats"}`)); err != nil {
		t.Fatal(err)
	}
	left := b.query(t)
	eventually(t, "the submission by SQL was looked at", func() bool {
		return left("SELECT count(*)::text FROM submissions WHERE due_at > submitted_at + '1s'") == "1"
	})
	eventually(t, "that by NATS was too", func() bool {
		intake, err := js.Consumer(t.Context(), "SUBMIT", "intake")
		return err == nil && intake.CachedInfo().Delivered.Stream == 1
	})
	stop()
	b.secondAccount()
	b.dispatcher(t)
	eventually(t, "that by SQL is taken", func() bool { return left("SELECT count(*)::text FROM submissions") == "0" })
	b.mustComplete(t, id, data)
	eventually(t, "that by NATS is taken", func() bool {
		return left("SELECT count(*)::text FROM uploads WHERE idempotency_key = 'by-nats'") == "1"
	})
	if n := left("SELECT count(*)::text FROM set_aside"); n != "0" {
		t.Errorf("%s messages are set aside", n)
	}
}
