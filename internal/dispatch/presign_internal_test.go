package dispatch

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// covering is a platform that takes a cover beside the media.
type covering struct{ *checkable }

func (c covering) Limits() providers.Limits {
	l := c.checkable.Limits()
	l.Attachments, l.MaxAttachment = []string{"cover"}, 1<<20
	return l
}

func (c covering) Stat(_ context.Context, bucket, key string) (uploads.Object, error) {
	return uploads.Object{Bucket: bucket, Key: key, ETag: "e", Size: 1}, nil
}

func (c covering) TakeCalls(context.Context, string, providers.Call, int, providers.Rate) (time.Duration, error) {
	return 0, nil
}

func (c covering) InsertBatch(_ context.Context, b *uploads.NewBatch) (uploads.ID, bool, error) {
	for _, it := range b.Items {
		c.took = append(c.took, it.Submission.Source.Key)
	}
	return b.ID, true, nil
}

func (c covering) Batch(context.Context, string, uploads.ID) (uploads.Batch, error) {
	return uploads.Batch{}, nil
}

// What a tenant puts by URL is submitted for no other one: not by its key, not
// as a cover, and not by a prefix, which does not even tell that it is there.
func TestFilesPutByURLAreTheTenants(t *testing.T) {
	t.Parallel()
	const ours, theirs, plain = "incoming/films/1/a.mp4", "incoming/films2/1/b.mp4", "in-house.mp4"
	setup := func() (*checkable, *Dispatcher) {
		c := &checkable{keys: []string{plain, ours, theirs}}
		platform := covering{c}
		d := New(Config{Presign: Presign{Bucket: "inbox"}}, platform, c, platform, nil, map[string]providers.Provider{"fake": platform}, []Account{
			{Account: providers.Account{Name: "main"}, Tenant: "films", Provider: "fake", Window: 1 << 20},
		}, zap.NewNop())
		return c, d
	}
	of := func(bucket, key string) uploads.Submission {
		return uploads.Submission{Tenant: "films", Account: "main", Source: uploads.Object{Bucket: bucket, Key: key}}
	}
	fields := func(err error) (names []string) {
		for _, f := range uploads.FieldErrors(err) {
			names = append(names, f.Field)
		}
		return names
	}

	_, d := setup()
	for key, refused := range map[string]bool{
		ours: false, plain: false, "incoming.mp4": false, "a/incoming/x": false, "incoming/": false,
		theirs: true, "incoming/x": true, "/incoming/films2/x": true, "incoming/films/../films2/x": true,
	} {
		one := of("inbox", key)
		if _, err := d.checkSubmission(&one); (err != nil) != refused {
			t.Errorf("%s: %v", key, err)
		} else if refused && !cmp.Equal(fields(err), []string{"source.key"}) {
			t.Errorf("%s: %v", key, err)
		}
		one = of("elsewhere", key)
		if _, err := d.checkSubmission(&one); err != nil {
			t.Errorf("%s in another bucket: %v", key, err)
		}
		one = of("inbox", ours)
		one.Options = map[string]string{"cover": key}
		if err := d.checkAttachments(t.Context(), d.accounts["main"], one); (err != nil) != refused {
			t.Errorf("%s as a cover: %v", key, err)
		} else if refused && !cmp.Equal(fields(err), []string{"options.cover"}) {
			t.Errorf("%s as a cover: %v", key, err)
		}
	}

	for prefix, want := range map[string][]string{"": {plain, ours}, "in": {plain, ours}, "incoming/": {ours}, "incoming/films": {ours}} {
		c, d := setup()
		res, err := d.SubmitPrefix(t.Context(), of("inbox", prefix), "")
		if diff := cmp.Diff(want, c.took); err != nil || diff != "" || len(res.Rejected) > 0 {
			t.Errorf("prefix %q: %v, rejected %v (-want +got):\n%s", prefix, err, res.Rejected, diff)
		}
		c, d = setup()
		_, _, err = d.SubmitBatch(t.Context(), uploads.BatchSubmission{Submission: of("inbox", prefix), Prefix: true, Accounts: []string{"main"}})
		if diff := cmp.Diff(want, c.took); err != nil || diff != "" {
			t.Errorf("batch of %q: %v (-want +got):\n%s", prefix, err, diff)
		}
	}
}
