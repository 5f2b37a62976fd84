package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// noBucket is a server without the bucket.
type noBucket struct{ *checkable }

type bucketError struct{ error }

func (bucketError) SourceKind() string { return parts.SourceMissing }

func (noBucket) List(context.Context, string, string, func(uploads.Object) error) error {
	return bucketError{errors.New("no such bucket")}
}

func (c noBucket) InsertBulk(_ context.Context, _ string, _ uploads.ID, items []uploads.BulkItem) ([]uploads.BulkOutcome, error) {
	for _, it := range items {
		c.took = append(c.took, it.Submission.Source.Key)
	}
	return nil, nil
}

// A bucket that is not there is the fault of the lines that name it, however many
// they are, and not of the others.
func TestLinesOfNoBucket(t *testing.T) {
	t.Parallel()
	c := &checkable{}
	d := New(Config{}, noBucket{c}, c, noBucket{c}, nil, map[string]providers.Provider{"fake": c}, []Account{
		{Account: providers.Account{Name: "main"}, Tenant: "default", Provider: "fake", Window: 1 << 20},
	}, zap.NewNop())
	lines := []uploads.Line{{Number: 1, Submission: uploads.Submission{
		Account: "main", Source: uploads.Object{Bucket: "inbox", Key: "good.mp4", ETag: "e", Size: 1},
	}}}
	for i := range askedSingly + 1 {
		lines = append(lines, uploads.Line{Number: i + 2, Submission: uploads.Submission{
			Account: "main", Source: uploads.Object{Bucket: "nowhere", Key: fmt.Sprintf("%d.mp4", i)},
		}})
	}
	res, err := d.SubmitMany(t.Context(), "default", lines)
	if err != nil {
		t.Fatal(err)
	}
	if res.Submitted != 1 || len(c.took) != 1 || len(res.Rejected) != askedSingly+1 {
		t.Errorf("%d submitted, %d refused", res.Submitted, len(res.Rejected))
	}
	for _, l := range res.Rejected {
		if f := uploads.FieldErrors(l.Err); len(f) != 1 || f[0].Field != "source.key" {
			t.Errorf("line %d: %v", l.Number, l.Err)
		}
	}
}
