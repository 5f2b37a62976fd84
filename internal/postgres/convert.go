package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mediaferry/internal/hashing"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// optional returns nil for the zero value: NULL.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// value returns the zero value for NULL.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func marshalMaps(options, labels map[string]string) (o, l json.RawMessage, err error) {
	encode := func(m map[string]string) json.RawMessage {
		if len(m) == 0 {
			return json.RawMessage("{}")
		}
		raw, merr := json.Marshal(m)
		if merr != nil {
			err = fmt.Errorf("encode options and labels: %w", merr)
		}
		return raw
	}
	return encode(options), encode(labels), err
}

func unmarshalMap(raw json.RawMessage) (map[string]string, error) {
	if len(raw) == 0 || string(raw) == "{}" {
		return nil, nil // an empty map is nil
	}
	var m map[string]string
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("decode map: %w", err)
	}
	return m, nil
}

func digestTexts(digests []hashing.Digest) []string {
	texts := make([]string, len(digests))
	for i, d := range digests {
		texts[i] = d.String()
	}
	return texts
}

func parseDigests(texts []string) ([]hashing.Digest, error) {
	var out []hashing.Digest
	for _, t := range texts {
		d, err := hashing.Parse(t)
		if err != nil {
			return nil, fmt.Errorf("stored digest: %w", err)
		}
		out = append(out, d)
	}
	return out, nil
}

// stepRow is a row of any statement that claims steps: they return the same columns.
type stepRow interface {
	db.ClaimStepsRow | db.ClaimQueuedRow | db.ClaimRenewalsRow | db.ClaimProbesRow
}

// toSteps returns the steps that were claimed under one lease.
func toSteps[R stepRow](rows []R, lease uploads.Lease, claimed time.Time) ([]uploads.Step, error) {
	steps := make([]uploads.Step, len(rows))
	for i, r := range rows {
		var err error
		if steps[i], err = toStep(db.ClaimStepsRow(r), lease, claimed); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

func toStep(r db.ClaimStepsRow, lease uploads.Lease, claimed time.Time) (uploads.Step, error) {
	options, err := unmarshalMap(r.Options)
	if err != nil {
		return uploads.Step{}, fmt.Errorf("options of %s: %w", r.ID, err)
	}
	digests, err := parseDigests(r.Digests)
	if err != nil {
		return uploads.Step{}, fmt.Errorf("digests of %s: %w", r.ID, err)
	}
	pass, err := parseDigests(r.PassDigests)
	if err != nil {
		return uploads.Step{}, fmt.Errorf("digests of %s: %w", r.ID, err)
	}
	bucket, asked, err := parseBucketText(r.BucketDigest)
	if err != nil {
		return uploads.Step{}, fmt.Errorf("digests of %s: %w", r.ID, err)
	}
	var log []uploads.Evidence
	if err := json.Unmarshal(r.FinishLog, &log); err != nil {
		return uploads.Step{}, fmt.Errorf("finish log of %s: %w", r.ID, err)
	}
	return uploads.Step{
		ID: r.ID, Lease: lease, Tenant: r.Tenant, Account: r.Account, Provider: r.Provider, Pool: r.Pool,
		State: uploads.State(r.State), Epoch: int(r.Epoch),
		Source: uploads.Object{
			Bucket: r.SourceBucket, Key: r.SourceKey, Version: r.SourceVersion, ETag: r.SourceEtag, Size: r.Size,
		},
		Name: r.Name, ContentType: r.ContentType, Options: options, Digests: digests, PassDigests: pass,
		BucketDigest: bucket, BucketAsked: asked, Session: r.Session,
		PartSize: value(r.PartSize), Tries: int(r.StepTries), Intent: value(r.IntentBefore), AbortDue: r.AbortDue,
		CancelDue: r.CancelDue,
		FinishLog: log, ClaimedAt: claimed,
	}, nil
}

func toUpload(r db.UploadRow) (uploads.Upload, error) {
	u := uploads.Upload{
		ID: r.ID, Tenant: r.Tenant, Account: r.Account, Provider: r.Provider, Batch: value(r.BatchID),
		IdempotencyKey: value(r.IdempotencyKey),
		Source: uploads.Object{
			Bucket: r.SourceBucket, Key: r.SourceKey, Version: r.SourceVersion, ETag: r.SourceEtag, Size: r.Size,
		},
		Name: r.Name, ContentType: r.ContentType, Priority: int(r.Priority), NotBefore: value(r.NotBefore),
		State: uploads.State(r.State), Epoch: int(r.Epoch), PartSize: value(r.PartSize), PartCount: int(value(r.PartCount)),
		AckedParts: int(r.AckedParts), AckedBytes: r.AckedBytes, FoundBytes: r.FoundBytes,
		SubmittedAt: r.SubmittedAt, BegunAt: value(r.BegunAt), FirstAckAt: value(r.FirstAckAt),
		LastAckAt: value(r.LastAckAt), FinishedAt: value(r.FinishedAt), CancelDue: r.CancelDue, WaitsFor: r.WaitsFor,
	}
	if r.Paused {
		u.Pauses = []uploads.Pause{{
			Scope: uploads.ScopeUpload, Name: r.ID.String(), Note: uploads.Note{Reason: r.PauseReason, By: r.PausedBy}, At: value(r.PausedAt),
		}}
	}
	if u.State.Active() && r.StepAt.After(time.Now()) {
		u.NextActionAt = r.StepAt
	}
	var err error
	if u.Options, err = unmarshalMap(r.Options); err != nil {
		return u, fmt.Errorf("options of %s: %w", r.ID, err)
	}
	if u.Labels, err = unmarshalMap(r.Labels); err != nil {
		return u, fmt.Errorf("labels of %s: %w", r.ID, err)
	}
	if len(r.Asset) > 0 {
		u.Asset = new(uploads.Asset)
		if err := json.Unmarshal(r.Asset, u.Asset); err != nil {
			return u, fmt.Errorf("asset of %s: %w", r.ID, err)
		}
	}
	if len(r.Failure) > 0 {
		u.Failure = new(uploads.Failure)
		if err := json.Unmarshal(r.Failure, u.Failure); err != nil {
			return u, fmt.Errorf("failure of %s: %w", r.ID, err)
		}
	}
	return u, nil
}

const maxText = 4 << 10 // bytes of a platform's words that are kept

// clean makes what a platform said fit for a text column: Postgres takes no
// NUL and no broken UTF-8, and one such message would hold up its whole batch.
func clean(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// cleanNotes makes notes fit for the record.
func cleanNotes(notes []uploads.Evidence) []uploads.Evidence {
	out := make([]uploads.Evidence, len(notes))
	for i, n := range notes {
		out[i] = uploads.Evidence{At: n.At, Call: n.Call, Answer: clean(n.Answer)}
	}
	return out
}

func cleanAsset(a uploads.Asset) uploads.Asset {
	a.ID, a.URL = clean(a.ID), clean(a.URL)
	for k, v := range a.Detail {
		a.Detail[k] = clean(v)
	}
	return a
}

// inIDOrder returns items in the order of their uploads. Statements that change
// many uploads take them in the order in which they are named, and two that take
// theirs in different orders may wait for each other until one is cut off.
func inIDOrder[T any](items []T, id func(T) uploads.ID) []T {
	return slices.SortedFunc(slices.Values(items), func(a, b T) int {
		x, y := id(a), id(b)
		return bytes.Compare(x[:], y[:])
	})
}
