package service_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/client"
	"mediaferry/internal/config"
)

// fields are the places that an answer of the API complains of.
func fields(e *client.Error) (places []string) {
	for _, f := range e.Fields {
		places = append(places, f.Location)
	}
	return places
}

// problemOf returns the answer of the API that err is.
func problemOf(t *testing.T, err error) *client.Error {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		t.Fatalf("%v is no answer of the API", err)
	}
	return e
}

// secondAccount is another one at the same platform.
func (b *bundle) secondAccount() {
	b.cfg.Accounts = append(b.cfg.Accounts, config.Account{Name: "two", Tenant: "default", Provider: "fake", Pool: "default", Window: 64 * mib})
}

// One object goes to every account of a batch, which is known again by its key,
// also to callers at the same time, and tells how its uploads stand.
func TestBatchOfOneObject(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.secondAccount()
	data := b.put(t, "film.mp4", 3*mib)
	b.dispatcher(t)
	ask := client.BatchSubmission{
		Accounts: []string{"acc", "two"}, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4"},
		Labels: map[string]string{"show": "7"}, AccountOptions: map[string]map[string]string{"two": {"class": "9"}}, IdempotencyKey: "b1",
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	ids, fresh := map[string]bool{}, 0
	for range 4 {
		wg.Go(func() {
			got, created, err := b.api.SubmitBatch(t.Context(), ask)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("submit: %v", err)
			}
			if ids[got.ID] = true; created {
				fresh++
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || fresh != 1 {
		t.Fatalf("%d batches, %d times new; want one", len(ids), fresh)
	}
	other := ask
	other.Labels = nil
	if _, _, err := b.api.SubmitBatch(t.Context(), other); problemOf(t, err).Status != 409 {
		t.Errorf("another batch under the key: %v, want 409", err)
	}

	list, err := b.api.Batches(t.Context(), client.BatchFilter{})
	if err != nil || len(list.Batches) != 1 || list.Batches[0].Uploads != 2 || list.Batches[0].Bytes != 6*mib {
		t.Fatalf("the list is %+v, %v", list, err)
	}
	id := list.Batches[0].ID
	page, err := b.api.List(t.Context(), client.Filter{Batch: id})
	if err != nil || len(page.Uploads) != 2 {
		t.Fatalf("its uploads are %+v, %v", page, err)
	}
	for _, u := range page.Uploads {
		if want := map[string]string(nil); u.Account == "two" {
			want = map[string]string{"class": "9"}
			if diff := cmp.Diff(want, u.Options); diff != "" {
				t.Error(diff)
			}
		} else if u.Options != nil || u.Labels["show"] != "7" {
			t.Errorf("options %v and labels %v of %s", u.Options, u.Labels, u.Account)
		}
	}
	if paused, err := b.api.PauseMatching(t.Context(), client.Change{Batch: id}); err != nil || paused.Changed != 2 {
		t.Errorf("pause the batch: %+v, %v", paused, err)
	}
	if resumed, err := b.api.ResumeMatching(t.Context(), client.Change{Batch: id}); err != nil || resumed.Changed != 2 {
		t.Errorf("resume the batch: %+v, %v", resumed, err)
	}
	b.worker(t, "w1")
	for _, u := range page.Uploads {
		b.mustComplete(t, u.ID, data)
	}
	got, err := b.api.Batch(t.Context(), id)
	if err != nil || got.Open != 0 || got.AckedBytes != 6*mib || got.States["completed"] != (client.BatchPart{Uploads: 2, Bytes: 6 * mib}) {
		t.Errorf("at the end: %+v, %v", got, err)
	}
	if b.query(t)("DELETE FROM uploads WHERE batch_id IS NOT NULL RETURNING (SELECT count(*)::text FROM batches)") != "1" {
		t.Error("the batch went before its uploads")
	}
	if _, err := b.api.Batch(t.Context(), id); !client.IsNotFound(err) {
		t.Errorf("a batch without uploads: %v, want 404", err)
	}
}

// What one account cannot take, no account is given.
func TestBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.secondAccount()
	b.put(t, "film.mp4", mib)
	b.dispatcher(t)
	for name, tc := range map[string]struct {
		ask  client.BatchSubmission
		want []string
	}{
		"accounts": {
			client.BatchSubmission{Accounts: []string{"acc", "nobody", "acc"}, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4"}},
			[]string{"body.accounts[2]", "body.accounts[1]"},
		},
		"none": {client.BatchSubmission{Accounts: []string{}, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4"}}, []string{"body.accounts"}},
		"options": {
			client.BatchSubmission{Accounts: []string{"acc"}, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4"}, AccountOptions: map[string]map[string]string{"two": {}}},
			[]string{"body.account_options.two"},
		},
		"object":   {client.BatchSubmission{Accounts: []string{"acc", "two"}, Source: client.BatchSource{Bucket: "staging", Key: "gone.mp4"}}, []string{"body.source.key"}},
		"priority": {client.BatchSubmission{Accounts: []string{"acc", "two"}, Priority: 101, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4"}}, []string{"body.priority"}},
		"prefix":   {client.BatchSubmission{Accounts: []string{"acc", "two"}, Source: client.BatchSource{Bucket: "staging", Prefix: new("nothing/")}}, []string{"body.source.prefix"}},
		"sources": {
			client.BatchSubmission{Accounts: []string{"acc", "nobody"}, ContentType: "\n", Priority: 101, Sources: []client.BatchSource{
				{Bucket: "staging", Key: "film.mp4"}, {Bucket: "staging", Key: "film.mp4", Name: "a/b"}, {Bucket: "x"}, {Bucket: "staging", Prefix: new(""), Match: "[a"},
			}},
			[]string{
				"body.priority", "body.accounts[1]", "body.sources[0].content_type", "body.sources[1].content_type", "body.sources[1].name",
				"body.sources[2].bucket", "body.sources[2].key", "body.sources[2].content_type", "body.sources[3].match", "body.sources[3].content_type",
			},
		},
		"source beside": {
			client.BatchSubmission{Accounts: []string{"acc"}, Name: "x", Source: client.BatchSource{Bucket: "staging", Key: "film.mp4"}, Sources: []client.BatchSource{{Bucket: "staging", Key: "film.mp4"}}},
			[]string{"body.sources"},
		},
		"options of its own": {
			client.BatchSubmission{Accounts: []string{"acc", "two"}, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4"}, AccountOptions: map[string]map[string]string{"two": {"class": strings.Repeat("x", 9000)}}},
			[]string{"body.account_options.two.class"},
		},
		"none there": {
			client.BatchSubmission{Accounts: []string{"acc"}, Sources: []client.BatchSource{{Bucket: "staging", Key: "gone.mp4"}, {Bucket: "staging", Prefix: new("nothing/")}}},
			[]string{"body.sources"},
		},
		"match alone": {client.BatchSubmission{Accounts: []string{"acc"}, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4", Match: "*"}}, []string{"body.source.match"}},
		"both":        {client.BatchSubmission{Accounts: []string{"acc"}, Source: client.BatchSource{Bucket: "staging", Key: "film.mp4", Prefix: new("a/")}}, []string{"body.source.prefix"}},
	} {
		_, _, err := b.api.SubmitBatch(t.Context(), tc.ask)
		if diff := cmp.Diff(tc.want, fields(problemOf(t, err))); diff != "" {
			t.Errorf("%s (-want +got):\n%s\n%v", name, diff, err)
		}
	}
	if n := b.query(t)("SELECT count(*)::text FROM uploads"); n != "0" {
		t.Errorf("%s uploads were taken", n)
	}
}

// Everything below a prefix is one batch; what is not taken is told, also later.
// Bulk lines and prefixes for one account have their batch too.
func TestBatchOfAPrefix(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.secondAccount()
	for i := range 3 {
		b.put(t, fmt.Sprintf("a/film-%d.mp4", i), mib)
	}
	b.put(t, "a/empty.mp4", 0)
	b.dispatcher(t)
	got, created, err := b.api.SubmitBatch(t.Context(), client.BatchSubmission{
		Accounts: []string{"acc", "two"}, Source: client.BatchSource{Bucket: "staging", Prefix: new("a/")}, IdempotencyKey: "p",
	})
	if err != nil || !created || got.Uploads != 6 || got.Open != 6 || got.Rejected != 2 || len(got.FirstRejected) != 2 {
		t.Fatalf("%+v, %v, %v", got, created, err)
	}
	if r := got.FirstRejected[0]; r.Key != "a/empty.mp4" || r.Account != "acc" || !strings.Contains(r.Error, "empty") {
		t.Errorf("rejected %+v", r)
	}
	b.put(t, "a/late.mp4", mib)
	again, created, err := b.api.SubmitBatch(t.Context(), client.BatchSubmission{
		Accounts: []string{"two", "acc"}, Source: client.BatchSource{Bucket: "staging", Prefix: new("a/")}, IdempotencyKey: "p",
	})
	if diff := cmp.Diff(got.FirstRejected, again.FirstRejected); err != nil || created || again.ID != got.ID || diff != "" {
		t.Errorf("again: %+v, %v, %v\n%s", again, created, err, diff)
	}

	prefix, err := b.api.SubmitPrefix(t.Context(), client.PrefixSubmission{Account: "acc", Bucket: "staging", Prefix: "a/"})
	if err != nil {
		t.Fatal(err)
	}
	bulk := b.bulk(t, "text/csv", "account,bucket,key\nacc,staging,a/film-1.mp4\ntwo,staging,a/film-2.mp4\n")
	var ids []string
	for after := ""; ; {
		list, err := b.api.Batches(t.Context(), client.BatchFilter{Account: "acc", After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range list.Batches {
			ids = append(ids, one.ID)
		}
		if after = list.Next; after == "" {
			break
		}
	}
	if want := []string{bulk.Batch, prefix.Batch, got.ID}; !slices.Equal(ids, want) {
		t.Errorf("batches are %v, want %v", ids, want)
	}
	if one, err := b.api.Batch(t.Context(), bulk.Batch); err != nil || one.Uploads != 2 || !slices.Equal(one.Accounts, []string{"acc", "two"}) {
		t.Errorf("the bulk's: %+v, %v", one, err)
	}
}

// Several objects and prefixes are one batch, each object under its own name. What
// is not there, or not taken, is listed, and the rest is brought.
func TestBatchOfSeveralSources(t *testing.T) {
	t.Parallel()
	b := setup(t, limits())
	b.secondAccount()
	for _, key := range []string{"a/one.mp4", "a/two.mov", "b/three.mp4", "b/four.txt"} {
		b.put(t, key, mib)
	}
	b.put(t, "b/empty.mp4", 0)
	b.dispatcher(t)
	ask := client.BatchSubmission{
		Accounts: []string{"acc", "two"}, ContentType: "video/mp4", IdempotencyKey: "several",
		Sources: []client.BatchSource{
			{Bucket: "staging", Key: "a/one.mp4"},
			{Bucket: "staging", Key: "a/two.mov", Name: "second.mov", ContentType: "video/quicktime"},
			{Bucket: "staging", Key: "gone.mp4"},
			{Bucket: "staging", Prefix: new("b/"), Match: "b/*.mp4"},
			{Bucket: "staging", Prefix: new("c/")},
		},
	}
	got, created, err := b.api.SubmitBatch(t.Context(), ask)
	if err != nil || !created || got.Uploads != 6 || got.Source != nil {
		t.Fatalf("%+v, %v, %v", got, created, err)
	}
	var rejected []string
	for _, r := range got.FirstRejected {
		rejected = append(rejected, r.Key+" "+r.Account)
	}
	if want := []string{"gone.mp4 ", "b/empty.mp4 acc", "b/empty.mp4 two", "c/ "}; !slices.Equal(rejected, want) || got.Rejected != 4 {
		t.Errorf("rejected %q, want %q", rejected, want)
	}
	page, err := b.api.List(t.Context(), client.Filter{Batch: got.ID})
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for _, u := range slices.Backward(page.Uploads) { // from the first
		made = append(made, u.Source.Key+" "+u.Account+" "+u.Name+" "+u.ContentType)
	}
	want := []string{
		"a/one.mp4 acc one.mp4 video/mp4", "a/one.mp4 two one.mp4 video/mp4",
		"a/two.mov acc second.mov video/quicktime", "a/two.mov two second.mov video/quicktime",
		"b/three.mp4 acc three.mp4 video/mp4", "b/three.mp4 two three.mp4 video/mp4",
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("uploads (-want +got):\n%s", diff)
	}
	if again, created, err := b.api.SubmitBatch(t.Context(), ask); err != nil || created || again.ID != got.ID {
		t.Errorf("again: %+v, %v, %v", again, created, err)
	}
	ask.Sources[1].Name = "other.mov"
	if _, _, err := b.api.SubmitBatch(t.Context(), ask); problemOf(t, err).Status != 409 {
		t.Errorf("another name under the key: %v, want 409", err)
	}
}
