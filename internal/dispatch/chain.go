package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

type chainStore interface {
	RecordLinks(ctx context.Context, id uploads.ID, epoch int, links []uploads.DigestLink) error
	MismatchesAt(ctx context.Context, id uploads.ID, epoch int, stage uploads.DigestStage) (int, error)
	DropCheckpoint(ctx context.Context, id uploads.ID) error
	DigestChain(ctx context.Context, tenant string, id uploads.ID) ([]uploads.DigestLink, error)
}

// How often bytes that are not the object's fail an upload: when they were read
// so from staging, and when the platform found so of what it had put together.
const (
	maxSourceTries   = 3
	maxPlatformTries = 2
)

// DigestChain returns the comparisons of digests of a tenant's upload, or
// uploads.ErrNotFound.
func (d *Dispatcher) DigestChain(ctx context.Context, tenant string, id uploads.ID) ([]uploads.DigestLink, error) {
	return d.store.DigestChain(ctx, tenant, id)
}

// askBucket fills the digest that staging keeps of the object, where intake
// only listed it. What is another object by now is left to the reads to tell.
func (d *Dispatcher) askBucket(ctx context.Context, step *uploads.Step) error {
	if step.BucketAsked {
		return nil
	}
	object, kept, err := d.staging.StatDigest(ctx, step.Source.Bucket, step.Source.Key)
	if err != nil {
		if e, ok := errors.AsType[sourceKind](err); ok && e.SourceKind() == parts.SourceMissing {
			return nil
		}
		return &providers.Error{Kind: providers.Transient, Call: "read the object's checksum", Err: err}
	}
	if object.ETag == step.Source.ETag {
		step.BucketDigest, step.BucketAsked = kept, true
	}
	return nil
}

// passKinds is what a digest pass makes: what the platform needs, what is known
// already and can so be compared, and what parts can be compared with.
func passKinds(needed []hashing.Kind, known []uploads.KnownDigest) []hashing.Kind {
	kinds := slices.Clone(needed)
	for _, k := range known {
		kinds = append(kinds, k.Kind)
	}
	kinds = append(kinds, hashing.CRC64NVME)
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// trusted drops the parts found upstream where bytes of this upload were wrong
// before: they may be those, so all are sent again.
func (d *Dispatcher) trusted(ctx context.Context, step uploads.Step, found []parts.Stored) ([]parts.Stored, error) {
	if step.Epoch == 0 || len(found) == 0 {
		return found, nil
	}
	for _, stage := range []uploads.DigestStage{uploads.StageStaging, uploads.StagePlatform} {
		n, err := d.store.MismatchesAt(ctx, step.ID, 0, stage)
		if err != nil || n > 0 {
			return nil, err
		}
	}
	return found, nil
}

// checkSource compares the bytes that were read, part by part, with what is
// known of the object (invariant 7). It comes before anything is assembled, so
// bytes that are wrong make no asset: they are all read and sent again, and
// where that does not help the upload fails. agrees says that finish may go on.
func (d *Dispatcher) checkSource(
	ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session, stored []parts.Stored,
) (links []uploads.DigestLink, agrees bool, err error) {
	links, wrong := sourceLinks(step.Known(), p.Limits().PartDigest, stored)
	if wrong == nil {
		return links, true, nil
	}
	if err := d.store.RecordLinks(ctx, step.ID, step.Epoch, links); err != nil {
		return nil, false, err
	}
	n, err := d.store.MismatchesAt(ctx, step.ID, 0, uploads.StageStaging)
	if err != nil {
		return nil, false, err
	}
	f := stagingFailure(*wrong)
	if _, err := d.store.RecordReports(ctx, []parts.Report{{Upload: step.ID, Account: step.Account, Epoch: step.Epoch, Failure: &f}}); err != nil {
		return nil, false, err
	}
	d.log.Warn("read bytes are not the object's", zap.Stringer("upload", step.ID), zap.Int("epoch", step.Epoch),
		zap.String("account", step.Account), zap.String("stage", string(f.Stage)), zap.String("message", f.Message))
	// Where the bucket's digest agrees, to read again does not make the
	// submitter's right.
	settled := slices.ContainsFunc(links, func(l uploads.DigestLink) bool { return l.Matched })
	if settled || n+1 >= maxSourceTries {
		return nil, false, d.fail(ctx, step, uploads.Failure{
			Cause: sourceCause(wrong.ExpectedFrom), Message: f.Message, Stage: uploads.StageStaging,
		})
	}
	return nil, false, d.sendAgain(ctx, step, p, session, "the bytes read are not the object's")
}

// sendAgain discards a session whose parts are not to be trusted, and has all
// of them read and sent in another one.
func (d *Dispatcher) sendAgain(ctx context.Context, step uploads.Step, p providers.Provider, session providers.Session, reason string) error {
	abortCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := p.Abort(abortCtx, session); err != nil {
		d.log.Warn("session is left to lapse", zap.Stringer("upload", step.ID), zap.Error(err))
	}
	return d.beginAgain(ctx, step.ID, step.Account, step.Epoch, step.Lease, reason)
}

// sourceLinks compares what is known of an object with what its parts add up
// to. wrong is the first link that does not match.
func sourceLinks(known []uploads.KnownDigest, part hashing.Kind, stored []parts.Stored) (links []uploads.DigestLink, wrong *uploads.DigestLink) {
	chosen := uploads.ReadDigest(known, part, len(stored))
	if chosen.IsZero() {
		why := "nothing is known of the object's bytes"
		if len(known) > 0 {
			why = "what is known of the object does not follow from its parts"
		}
		return []uploads.DigestLink{uploads.Uncompared(uploads.StageStaging, why)}, nil
	}
	read, err := wholeOf(chosen.Kind, stored)
	if err != nil {
		return []uploads.DigestLink{uploads.Uncompared(uploads.StageStaging, err.Error())}, nil
	}
	for _, k := range known {
		if k.Kind == chosen.Kind {
			links = append(links, uploads.Compare(uploads.StageStaging, k, read, uploads.FromWorker))
		}
	}
	for i := range links {
		if !links[i].Matched {
			return links, &links[i]
		}
	}
	return links, nil
}

// wholeOf combines the digests of the parts, in order. It fails where that of
// a part is not known, as of one that was found upstream.
func wholeOf(kind hashing.Kind, stored []parts.Stored) (whole hashing.Digest, err error) {
	for i, s := range stored {
		digest := s.Read
		if digest.Kind != kind {
			digest = s.Digest
		}
		switch {
		case digest.Kind != kind:
			return whole, fmt.Errorf("the %s of part %d is not known", kind, s.Number)
		case i == 0:
			whole = digest
		default:
			if whole, err = hashing.Combine(kind, whole, digest, s.Length); err != nil {
				return whole, fmt.Errorf("part %d: %w", s.Number, err)
			}
		}
	}
	return whole, nil
}

// checkPass compares what a digest pass found with what is known of the object.
// Where they differ the pass is made again, from the first byte. agrees says
// that its sums may be used.
func (d *Dispatcher) checkPass(ctx context.Context, r parts.Report) (agrees bool, err error) {
	of, err := d.store.Assignable(ctx, []uploads.ID{r.Upload})
	if err != nil {
		return false, err
	}
	upload, ok := of[r.Upload]
	if !ok || upload.State != uploads.Digesting || upload.Source.ETag != r.Digested.Object.ETag {
		return true, nil // nobody waits for it; what it is of is recorded all the same
	}
	var links []uploads.DigestLink
	var wrong *uploads.DigestLink
	for _, k := range upload.Known {
		i := slices.IndexFunc(r.Digested.Sums, func(sum hashing.Digest) bool { return sum.Kind == k.Kind })
		if i < 0 || k.From == uploads.FromPass {
			continue
		}
		link := uploads.Compare(uploads.StageStaging, k, r.Digested.Sums[i], uploads.FromPass)
		links = append(links, link)
		if !link.Matched && wrong == nil {
			wrong = &link
		}
	}
	if len(links) > 0 {
		if err := d.store.RecordLinks(ctx, r.Upload, upload.Epoch, links); err != nil {
			return false, err
		}
	}
	if wrong == nil {
		return true, nil
	}
	if err := d.store.DropCheckpoint(ctx, r.Upload); err != nil {
		return false, err
	}
	f := stagingFailure(*wrong)
	report := parts.Report{
		Upload: r.Upload, Account: r.Account, Epoch: upload.Epoch, Worker: r.Worker, Delivery: r.Delivery, Failure: &f,
	}
	if _, err := d.store.RecordReports(ctx, []parts.Report{report}); err != nil {
		return false, err
	}
	return false, d.judge(ctx, report)
}

// sourceCause is the cause of an upload that fails because the bytes read are
// not what is known of its object: whose word they differ from decides.
func sourceCause(from string) uploads.Cause {
	if from == uploads.FromSubmitter {
		return uploads.CauseDigestMismatch
	}
	return uploads.CauseMismatch
}

// stagingFailure says which digest of the object differed.
func stagingFailure(wrong uploads.DigestLink) parts.Failure {
	now := time.Now()
	return parts.Failure{
		Kind: string(providers.Mismatch), Stage: uploads.StageStaging, Against: wrong.ExpectedFrom,
		Message: fmt.Sprintf("%s of the object is %s (%s), of the bytes read %s (%s)",
			wrong.Kind, wrong.Expected, wrong.ExpectedFrom, wrong.Got, wrong.GotFrom),
		Started: now, Failed: now,
	}
}

// assetLink is the comparison that finish made of the assembled bytes.
func assetLink(asset uploads.Asset) uploads.DigestLink {
	if asset.Check == nil {
		return uploads.Uncompared(uploads.StagePlatform, "the platform names no digest of the assembled bytes")
	}
	return uploads.DigestLink{
		Stage: uploads.StagePlatform, Kind: asset.Check.Kind, Expected: asset.Check.Expected, ExpectedFrom: uploads.FromParts,
		Got: asset.Check.Got, GotFrom: uploads.FromPlatform, Compared: true, Matched: asset.Check.Expected == asset.Check.Got,
	}
}
