package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
	"mediaferry/internal/uploads"
)

// elsewhere is a platform whose answer to finish is that of another upload.
type elsewhere struct {
	*providertest.Fake

	named string
	probe error // in place of the answer to a probe
}

func (p elsewhere) Finish(ctx context.Context, session providers.Session, stored []parts.Stored) (uploads.Asset, error) {
	asset, err := p.Fake.Finish(ctx, session, stored)
	if p.named != "" {
		asset.ID = p.named
	}
	return asset, err
}

func (p elsewhere) Probe(ctx context.Context, account providers.Account, media providers.Media, session providers.Session) (providers.Outcome, error) {
	if p.probe != nil {
		return providers.Outcome{}, p.probe
	}
	return p.Fake.Probe(ctx, account, media, session)
}

// TestFinishNamesAnotherAsset: where the platform knows media by their digest, the
// asset is the one that has the upload's, whatever finish has answered.
func TestFinishNamesAnotherAsset(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		named   string
		probe   error
		steps   int
		compare bool   // the link says that the ids are the same
		want    string // the asset, "" for the upload's own
	}{
		"its own":                     {steps: 1, compare: true},
		"another's":                   {named: "another", steps: 2},
		"another's, and nobody tells": {named: "another", probe: errors.New("no answer"), steps: 1, want: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, record, fake := outageSetup(t)
				limits := fake.Limits()
				limits.KnownBy = hashing.SHA1
				fake = providertest.NewFake(limits)
				platform := elsewhere{Fake: fake, named: tt.named, probe: tt.probe}
				d := New(Config{}, record, idle{}, nil, plain{}, map[string]providers.Provider{"fake": platform},
					[]Account{{Account: providers.Account{Name: "acc"}, Provider: "fake", Pool: "default", Window: 256 * mib}}, zap.NewNop())
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go d.done.run(ctx)
				data := []byte("film")
				media := providers.Media{Upload: uploads.ID{1}, Epoch: 1, Size: int64(len(data)), PartSize: mib}
				begun, err := fake.Begin(ctx, providers.Account{Name: "acc"}, media)
				if err != nil {
					t.Fatal(err)
				}
				part := parts.Part{Number: 1, Length: int64(len(data))}
				body := providertest.NewBody(limits, data)
				receipt, err := fake.PutPart(ctx, begun.Session, part, body)
				if err != nil {
					t.Fatal(err)
				}
				step := uploads.Step{
					ID: media.Upload, Account: "acc", Provider: "fake", State: uploads.Finishing, Epoch: 1, PartSize: mib,
					Source: uploads.Object{Bucket: "b", Key: "k", Size: media.Size}, BucketAsked: true,
				}
				if step.Session, err = json.Marshal(begun.Session); err != nil {
					t.Fatal(err)
				}
				steps := 0
				for ; record.done == nil && steps < 5; steps++ {
					if err := d.finish(ctx, step, []parts.Stored{{Part: part, Receipt: receipt, Digest: body.Digest()}}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if record.intent {
						step.Intent = time.Now()
					}
				}
				if record.done == nil || record.failed != nil {
					t.Fatalf("not completed: %+v", record.failed)
				}
				want := tt.want
				if want == "" {
					out, err := fake.Probe(ctx, providers.Account{Name: "acc"}, media, begun.Session)
					if err != nil {
						t.Fatal(err)
					}
					want = out.Asset.ID
				}
				if got := record.done.Asset.ID; got != want || steps != tt.steps {
					t.Errorf("asset %q after %d steps, want %q after %d", got, steps, want, tt.steps)
				}
				var compared bool
				for _, l := range record.done.Links {
					compared = compared || l.Compared && strings.HasPrefix(l.Kind, "asset by")
				}
				if compared != tt.compare {
					t.Errorf("links %+v", record.done.Links)
				}
				settle()
			})
		})
	}
}

func (r *holdsRecord) MismatchesAt(context.Context, uploads.ID, int, uploads.DigestStage) (int, error) {
	return 0, nil
}
