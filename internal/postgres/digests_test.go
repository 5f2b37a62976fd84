package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

func digest(t *testing.T, kind hashing.Kind, data string) hashing.Digest {
	t.Helper()
	d, err := hashing.Sum(kind, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The chain has what was compared of the whole object, a row for each part, and
// the tries that did not agree, those that another try mended among them.
func TestDigestChain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 20, PartSize: 10}
	found := parts.Stored{Part: plan.Part(2)}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize, found)
	md5 := digest(t, hashing.MD5, "part")
	r := report(id, 1, plan, 1)
	r.Acks[0].Digest = md5
	r.Mended = []parts.Failure{{
		Part: 1, Kind: "mismatch", Stage: uploads.StageTransit, Message: "other bytes", Started: time.Now(), Failed: time.Now(),
	}}
	for range 2 { // delivered twice, kept once
		if _, err := b.RecordReports(t.Context(), []parts.Report{r}); err != nil {
			t.Fatal(err)
		}
	}
	known := uploads.KnownDigest{Digest: digest(t, hashing.CRC64NVME, "whole"), From: uploads.FromBucket}
	other := digest(t, hashing.CRC64NVME, "other")
	wrong := uploads.Compare(uploads.StageStaging, known, other, uploads.FromWorker)
	for range 2 { // a step that is taken again compares the same again
		if err := b.RecordLinks(t.Context(), id, 1, []uploads.DigestLink{wrong}); err != nil {
			t.Fatal(err)
		}
	}
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(steps) != 1 {
		t.Fatalf("ClaimSteps = %v, %v", steps, err)
	}
	matched := uploads.Compare(uploads.StageStaging, known, known.Digest, uploads.FromWorker)
	took, err := b.RecordFinished(t.Context(), []parts.Finished{{
		Upload: id, Lease: steps[0].Lease, Asset: uploads.Asset{ID: "a"},
		Links: []uploads.DigestLink{matched, uploads.Uncompared(uploads.StagePlatform, "names none")},
	}})
	if err != nil || !took[id] {
		t.Fatalf("RecordFinished = %v, %v", took, err)
	}

	got, err := b.DigestChain(t.Context(), "default", id)
	if err != nil {
		t.Fatal(err)
	}
	wrong.Epoch, matched.Epoch = 1, 1
	want := []uploads.DigestLink{
		wrong,
		{Epoch: 1, Stage: uploads.StagePlatform, Note: "names none"},
		matched,
		{Epoch: 1, Part: 1, Stage: uploads.StageTransit, Compared: true, Note: "other bytes"},
		{
			Epoch: 1, Part: 1, Stage: uploads.StageTransit, Kind: "md5", Expected: md5.Sum, ExpectedFrom: "worker",
			Got: md5.Sum, GotFrom: "platform", Compared: true, Matched: true,
		},
		{Epoch: 1, Part: 2, Stage: uploads.StageTransit, GotFrom: "platform", Note: "found upstream, not sent in this epoch"},
	}
	byText := cmpopts.SortSlices(func(a, b uploads.DigestLink) bool {
		return a.Part < b.Part || a.Part == b.Part && a.Got+a.Note < b.Got+b.Note
	})
	if diff := cmp.Diff(want, got, byText, cmpopts.IgnoreFields(uploads.DigestLink{}, "At")); diff != "" {
		t.Errorf("chain (-want +got):\n%s", diff)
	}
	if n, err := b.MismatchesAt(t.Context(), id, 0, uploads.StageTransit); n != 1 || err != nil {
		t.Errorf("%d mismatches in transit, %v, want 1", n, err)
	}
	if n, err := b.MismatchesAt(t.Context(), id, 2, uploads.StageTransit); n != 0 || err != nil {
		t.Errorf("%d mismatches in transit of epoch 2, %v, want none", n, err)
	}
	if _, err := b.DigestChain(t.Context(), "another", id); !errors.Is(err, uploads.ErrNotFound) {
		t.Errorf("another tenant's: %v, want not found", err)
	}
}

// Links of an upload whose lease has passed on are not kept.
func TestLinksGoWithTheLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan := parts.Plan{Size: 10, PartSize: 10}
	id := b.open(t, "film.mp4", plan.Size, plan.PartSize)
	if _, err := b.RecordReports(t.Context(), []parts.Report{report(id, 1, plan, 1)}); err != nil {
		t.Fatal(err)
	}
	took, err := b.RecordFinished(t.Context(), []parts.Finished{{
		Upload: id, Asset: uploads.Asset{ID: "a"}, Links: []uploads.DigestLink{uploads.Uncompared(uploads.StageStaging, "late")},
	}})
	if err != nil || len(took) > 0 {
		t.Fatalf("RecordFinished = %v, %v, want nothing", took, err)
	}
	if rows := b.query(t, `SELECT note FROM digest_links`); len(rows) > 0 {
		t.Errorf("links %q are kept", rows)
	}
}

// A digest is the submitter's, the bucket's or that of a pass, and stays so. When
// an upload fails since its bytes were read wrong, the pass is forgotten, and the
// others are not. A failure that comes too late to be one forgets nothing.
func TestWhoKnowsADigest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	it := item(t, "film.mp4", 10)
	said, kept := digest(t, hashing.SHA256, "said"), digest(t, hashing.CRC32C, "kept")
	in := intake(it)
	in.Digests, in.BucketDigest, in.BucketAsked = []hashing.Digest{said}, kept, true
	if _, err := b.Insert(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	steps, err := b.ClaimQueued(t.Context(), []string{"acc"}, []string{"fake"}, 10, time.Minute)
	if err != nil || len(steps) != 1 || steps[0].BucketDigest != kept || !steps[0].BucketAsked {
		t.Fatalf("claim: %+v, %v", steps, err)
	}
	if took, err := b.MoveToDigesting(t.Context(), steps[0]); err != nil || !took {
		t.Fatal(took, err)
	}
	made := digest(t, hashing.SHA1, "made")
	if took, err := b.RecordDigested(t.Context(), it.ID, it.Source, []hashing.Digest{made, said}); err != nil || !took {
		t.Fatal(took, err)
	}
	known := func() []uploads.KnownDigest {
		steps, err := b.ClaimSteps(t.Context(), 10, nil, 0)
		if err != nil || len(steps) != 1 {
			t.Fatalf("claim: %+v, %v", steps, err)
		}
		return steps[0].Known()
	}
	bucket, submitter := uploads.KnownDigest{Digest: kept, From: uploads.FromBucket}, uploads.KnownDigest{Digest: said, From: uploads.FromSubmitter}
	want := []uploads.KnownDigest{bucket, {Digest: made, From: uploads.FromPass}, submitter}
	if diff := cmp.Diff(want, known()); diff != "" {
		t.Errorf("known (-want +got):\n%s", diff)
	}
	wrong := uploads.Failure{Cause: uploads.CauseMismatch, Stage: uploads.StageStaging}
	if took, err := b.Fail(t.Context(), it.ID, 7, uploads.Lease{}, wrong); err != nil || took {
		t.Fatalf("a failure of another epoch: %v, %v, want it not taken", took, err)
	}
	if diff := cmp.Diff(want, known()); diff != "" {
		t.Errorf("known after a failure of another epoch (-want +got):\n%s", diff)
	}
	if kept, err := b.KnownDigests(t.Context(), it.Source); err != nil || len(kept) == 0 {
		t.Errorf("a second upload knows %v, %v after a failure of another epoch, want what the pass found", kept, err)
	}
	b.query(t, `UPDATE uploads SET lease_token = NULL, lease_until = NULL`)
	if took, err := b.Fail(t.Context(), it.ID, 0, uploads.Lease{}, wrong); err != nil || !took {
		t.Fatalf("Fail = %v, %v", took, err)
	}
	if changed, err := b.Apply(t.Context(), uploads.ActionRetry, "default", []uploads.ID{it.ID}, uploads.Note{}); err != nil || len(changed) != 1 {
		t.Fatalf("retry: %v, %v", changed, err)
	}
	steps, err = b.ClaimQueued(t.Context(), []string{"acc"}, []string{"fake"}, 10, time.Minute)
	if err != nil || len(steps) != 1 {
		t.Fatalf("claim: %+v, %v", steps, err)
	}
	if diff := cmp.Diff([]uploads.KnownDigest{bucket, submitter}, steps[0].Known()); diff != "" {
		t.Errorf("known without the pass (-want +got):\n%s", diff)
	}
	if again, err := b.KnownDigests(t.Context(), it.Source); err != nil || len(again) > 0 {
		t.Errorf("a second upload would still know %v, %v", again, err)
	}
}

// A bucket that keeps no digest is not asked twice.
func TestABucketWithoutADigestIsAskedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.submit(t, "film.mp4", 10)
	step := b.claim(t)
	if step.BucketAsked {
		t.Error("a listed object counts as asked")
	}
	took, err := b.RecordOpened(t.Context(), []parts.Opened{{
		Upload: step.ID, Lease: step.Lease, Epoch: 1, Plan: parts.Plan{Size: 10, PartSize: 10}, Session: []byte("s"), BucketAsked: true,
	}})
	if err != nil || len(took) != 1 {
		t.Fatal(took, err)
	}
	if ok, err := b.BeginAgain(t.Context(), step.ID, 1, uploads.Lease{}, "test", 0); err != nil || !ok {
		t.Fatal(ok, err)
	}
	steps, err := b.ClaimSteps(t.Context(), 10, nil, time.Minute)
	if err != nil || len(steps) != 1 || !steps[0].BucketAsked || !steps[0].BucketDigest.IsZero() {
		t.Errorf("claim: %+v, %v; want it asked, and none", steps, err)
	}
}
