package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"mediaferry/client"
	"mediaferry/internal/api/apitest"
	"mediaferry/internal/uploads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, url, tenant string) *client.Client {
	t.Helper()
	c, err := client.New(url, tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func setup(t *testing.T) (*apitest.UseCases, *client.Client, string) {
	t.Helper()
	uc := &apitest.UseCases{
		Names: []string{"main"},
		Objects: []uploads.Object{
			{Bucket: "inbox", Key: "a/1.mp4", Size: 10},
			{Bucket: "inbox", Key: "a/2.mp4", Size: 20},
		},
		Workers: []uploads.WorkerStatus{{ID: "w1", Pool: "default", Slots: 16}},
	}
	url := apitest.Start(t, uc)
	return uc, connect(t, url, ""), url
}

func first() client.Submission {
	return client.Submission{
		Account: "main", Source: client.Source{Bucket: "inbox", Key: "a/1.mp4"}, IdempotencyKey: "k",
	}
}

func TestCallsReachTheAPI(t *testing.T) {
	t.Parallel()
	_, c, url := setup(t)
	ctx := t.Context()
	u, created, err := c.Submit(ctx, first())
	if err != nil || !created || u.State != "queued" {
		t.Fatalf("submit: %+v, %v, %v", u, created, err)
	}
	if again, created, err := c.Submit(ctx, first()); err != nil || created || again.ID != u.ID {
		t.Errorf("submit again: %+v, %v, %v", again, created, err)
	}
	res, err := c.SubmitPrefix(ctx, client.PrefixSubmission{Account: "main", Bucket: "inbox", Prefix: "a/"})
	if err != nil || res.Submitted != 2 || len(res.Rejected) != 0 {
		t.Fatalf("prefix: %+v, %v", res, err)
	}
	page, err := c.List(ctx, client.Filter{Account: "main", States: []string{"queued", "failed"}, Batch: res.Batch, Limit: 1})
	if err != nil || len(page.Uploads) != 1 || page.Next != page.Uploads[0].ID {
		t.Fatalf("list: %+v, %v", page, err)
	}
	page, err = c.List(ctx, client.Filter{Batch: res.Batch, After: page.Next})
	if err != nil || len(page.Uploads) != 1 || page.Next != "" {
		t.Fatalf("second page: %+v, %v", page, err)
	}
	cancelled, err := c.Cancel(ctx, u.ID)
	if err != nil || cancelled.State != "cancelled" {
		t.Errorf("cancel: %+v, %v", cancelled, err)
	}
	if shown, err := c.Show(ctx, u.ID); err != nil || cmp.Diff(cancelled, shown) != "" {
		t.Errorf("show: %+v, %v", shown, err)
	}
	if _, err := connect(t, url, "other").Show(ctx, u.ID); !client.IsNotFound(err) {
		t.Errorf("another tenant is told %v", err)
	}
	if workers, err := c.Workers(ctx); err != nil || len(workers) != 1 || workers[0].ID != "w1" {
		t.Errorf("workers: %+v, %v", workers, err)
	}
	if accounts, err := c.Accounts(ctx); err != nil || len(accounts) != 1 || accounts[0].Name != "main" {
		t.Errorf("accounts: %+v, %v", accounts, err)
	}
}

func TestErrorsAreDecoded(t *testing.T) {
	t.Parallel()
	uc, c, _ := setup(t)
	_, _, err := c.Submit(t.Context(), client.Submission{Priority: 1000})
	e, ok := errors.AsType[*client.Error](err)
	if !ok || !client.IsInvalid(err) {
		t.Fatalf("submit of nothing: %v", err)
	}
	want := []client.FieldError{
		{Location: "body.account", Message: "is missing; name one of the configured accounts"},
		{Location: "body.source.bucket", Message: "is missing; give the staging bucket's name"},
		{Location: "body.source.key", Message: "is missing; give the object's key"},
		{Location: "body.priority", Message: "is 1000; give a number from -100 to 100"},
	}
	if diff := cmp.Diff(want, e.Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	uc.Fail(&uploads.UnavailableError{What: "nats", Full: true})
	_, _, err = c.Submit(t.Context(), first())
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 503 || e.RetryAfter != 5*time.Second || client.IsInvalid(err) {
		t.Errorf("no room: %v", err)
	}
	if _, err := c.Show(t.Context(), uuid.NewString()); err == nil || client.IsNotFound(err) {
		t.Errorf("without room, show: %v", err)
	}
	if _, err := client.New("localhost:80", ""); err == nil {
		t.Error("an URL without scheme is taken")
	}
}

func TestAnswerOfSomethingElse(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	_, err := connect(t, srv.URL, "").Show(t.Context(), uuid.NewString())
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Error() != "the API answered 404 Not Found" {
		t.Errorf("got %v", err)
	}
}

// The upload moves on when the change before has been seen, so each is reported.
func TestWaitFollowsToTheEnd(t *testing.T) {
	t.Parallel()
	uc, c, _ := setup(t)
	u, _, err := c.Submit(t.Context(), first())
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.MustParse(u.ID)
	steps := []func(*uploads.Upload){
		func(u *uploads.Upload) { u.State = uploads.Uploading },
		func(u *uploads.Upload) { u.AckedBytes = 5 },
		func(u *uploads.Upload) { u.State, u.AckedBytes = uploads.Completed, 10 },
	}
	var seen []string
	done, err := c.Wait(t.Context(), u.ID, func(u client.Upload) {
		seen = append(seen, u.State)
		if len(steps) == 2 { // a dispatcher that is away is waited for
			uc.FailOnce(&uploads.UnavailableError{What: "postgres", Err: errors.New("gone")})
		}
		if len(steps) > 0 {
			uc.Change(id, steps[0])
			steps = steps[1:]
		}
	})
	if err != nil || done.State != "completed" {
		t.Fatalf("waited: %+v, %v", done, err)
	}
	if diff := cmp.Diff([]string{"queued", "uploading", "uploading", "completed"}, seen); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	_, c, _ := setup(t)
	if _, err := c.Wait(t.Context(), uuid.NewString(), nil); !client.IsNotFound(err) {
		t.Errorf("an unknown upload: %v", err)
	}
	u, _, err := c.Submit(t.Context(), first())
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = c.Wait(ctx, u.ID, func(client.Upload) { cancel(why) })
	if !errors.Is(err, why) {
		t.Errorf("a cancelled wait: %v", err)
	}
}
