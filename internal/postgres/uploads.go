package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// Insert accepts submissions: on return they are durable. An item whose
// idempotency key is taken by an equal submission is not inserted; its ID is
// set to the one that is there, and created is false for it. One that is taken
// by another submission makes the whole call fail with uploads.ErrKeyTaken.
func (s *Store) Insert(ctx context.Context, in *uploads.Intake) (created map[uploads.ID]bool, err error) {
	options, labels, err := marshalMaps(in.Options, in.Labels)
	if err != nil {
		return nil, err
	}
	p := db.InsertUploadsParams{
		Tenant: in.Tenant, Account: in.Account, Provider: in.Provider, Pool: in.Pool,
		BatchID: optional(in.Batch), SourceBucket: in.Bucket, Options: options, Labels: labels,
		Digests: digestTexts(in.Digests), BucketDigest: bucketText(in.BucketDigest, in.BucketAsked), KnownBy: string(in.KnownBy), Priority: int16(in.Priority), NotBefore: optional(in.NotBefore), //nolint:gosec // validated
	}
	for _, it := range in.Items {
		p.Ids = append(p.Ids, it.ID)
		p.IdempotencyKeys = append(p.IdempotencyKeys, it.IdempotencyKey)
		p.RequestHashes = append(p.RequestHashes, it.RequestHash)
		p.SourceKeys = append(p.SourceKeys, it.Source.Key)
		p.SourceVersions = append(p.SourceVersions, it.Source.Version)
		p.SourceEtags = append(p.SourceEtags, it.Source.ETag)
		p.Sizes = append(p.Sizes, it.Source.Size)
		p.Names = append(p.Names, it.Name)
		p.ContentTypes = append(p.ContentTypes, it.ContentType)
	}
	created = make(map[uploads.ID]bool, len(in.Items))
	err = s.inTx(ctx, "insert uploads", func(tx pgx.Tx) error {
		ids, err := s.q.InsertUploads(ctx, tx, p)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		for _, id := range ids {
			created[id] = true
		}
		for i := range in.Items {
			it := &in.Items[i]
			if created[it.ID] {
				continue
			}
			there, err := s.q.UploadByKey(ctx, tx, in.Tenant, &it.IdempotencyKey)
			if err != nil {
				return fmt.Errorf("look up idempotency key: %w", err)
			}
			if !bytes.Equal(there.RequestHash, it.RequestHash) {
				return fmt.Errorf("%w: upload %s", uploads.ErrKeyTaken, there.ID)
			}
			it.ID = there.ID
		}
		return nil
	})
	return created, err
}

// ByKey finds the upload that was submitted under an idempotency key. Where the
// key belongs to another submission it fails with uploads.ErrKeyTaken.
func (s *Store) ByKey(ctx context.Context, tenant, key string, requestHash []byte) (id uploads.ID, found bool, err error) {
	there, err := s.q.UploadByKey(ctx, s.pool, tenant, &key)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return uploads.ID{}, false, nil
	case err != nil:
		return uploads.ID{}, false, unavailable("look up idempotency key", err)
	case !bytes.Equal(there.RequestHash, requestHash):
		return uploads.ID{}, false, fmt.Errorf("%w: upload %s", uploads.ErrKeyTaken, there.ID)
	}
	return there.ID, true, nil
}

// Upload returns one upload of a tenant, or uploads.ErrNotFound.
func (s *Store) Upload(ctx context.Context, tenant string, id uploads.ID) (uploads.Upload, error) {
	row, err := s.q.Upload(ctx, s.pool, id, tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return uploads.Upload{}, fmt.Errorf("%w: %s", uploads.ErrNotFound, id)
	}
	if err != nil {
		return uploads.Upload{}, unavailable("read upload", err)
	}
	u, err := toUpload(row)
	if err != nil {
		return u, err
	}
	pauses, err := s.Pauses(ctx)
	holding(&u, pauses)
	return u, err
}

// Uploads returns a page of the uploads that the filter selects, newest first.
func (s *Store) Uploads(ctx context.Context, f uploads.Filter) ([]uploads.Upload, error) {
	page := f.Limit
	if page == 0 {
		page = 100
	}
	states := make([]string, len(f.States))
	for i, st := range f.States {
		states[i] = string(st)
	}
	causes := make([]string, len(f.Causes))
	for i, c := range f.Causes {
		causes[i] = string(c)
	}
	_, labels, err := marshalMaps(nil, f.Labels)
	if err != nil {
		return nil, err
	}
	pauses, err := s.Pauses(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.listed(ctx, f.Batch, db.UploadsParams{
		Tenant: f.Tenant, Account: optional(f.Account), States: states, Causes: causes, Labels: labels,
		Paused: f.Paused, Search: optional(f.Search), After: optional(f.After), Page: int32(page),
	})
	if err != nil {
		return nil, unavailable("list uploads", err)
	}
	out := make([]uploads.Upload, 0, len(rows))
	for _, r := range rows {
		u, err := toUpload(r)
		if err != nil {
			return nil, err
		}
		holding(&u, pauses)
		out = append(out, u)
	}
	return out, nil
}

// listed reads a page, of a batch if it is not zero.
func (s *Store) listed(ctx context.Context, batch uploads.ID, p db.UploadsParams) ([]db.UploadRow, error) {
	var out []db.UploadRow
	if batch != (uploads.ID{}) {
		rows, err := s.q.UploadsOfBatch(ctx, s.pool, db.UploadsOfBatchParams{
			BatchID: batch, Tenant: p.Tenant, Account: p.Account, States: p.States, Causes: p.Causes, Labels: p.Labels,
			Paused: p.Paused, Search: p.Search, After: p.After, Page: p.Page,
		})
		for _, r := range rows {
			out = append(out, db.UploadRow(r))
		}
		return out, err
	}
	rows, err := s.q.Uploads(ctx, s.pool, p)
	for _, r := range rows {
		out = append(out, db.UploadRow(r))
	}
	return out, err
}

// AccountLoads returns what each account has in hand; accounts with nothing
// are left out.
func (s *Store) AccountLoads(ctx context.Context) (map[string]uploads.AccountLoad, error) {
	rows, err := s.q.AccountLoads(ctx, s.pool)
	if err != nil {
		return nil, unavailable("read account loads", err)
	}
	out := make(map[string]uploads.AccountLoad, len(rows))
	for _, r := range rows {
		out[r.Account] = uploads.AccountLoad{
			Active: int(r.Active), Opening: int(r.Opening), Outstanding: r.Outstanding, InFlight: r.InFlight,
		}
	}
	return out, nil
}

// ClaimQueued claims queued uploads of the accounts, at most perAccount each.
// Uploads of a provider that is not in digesting come back in state beginning.
func (s *Store) ClaimQueued(ctx context.Context, accounts, digesting []string, perAccount int, lease time.Duration) ([]uploads.Step, error) {
	token, asked := uuid.New(), time.Now()
	rows, err := s.q.ClaimQueued(ctx, s.pool, db.ClaimQueuedParams{
		DigestingProviders: digesting, LeaseToken: &token, Lease: lease, Accounts: accounts,
		PerAccount: int32(perAccount), //nolint:gosec // a small constant
	})
	if err != nil {
		return nil, unavailable("claim queued uploads", err)
	}
	return toSteps(rows, token, asked)
}

// ClaimSteps claims up to most control steps that are due, of the accounts, or of
// all if accounts is nil. For those in state finishing the intent to call finish is
// durable on return.
func (s *Store) ClaimSteps(ctx context.Context, most int, accounts []string, lease time.Duration) ([]uploads.Step, error) {
	token, asked := uuid.New(), time.Now()
	rows, err := s.q.ClaimSteps(ctx, s.pool, db.ClaimStepsParams{
		LeaseToken: &token, Lease: lease, Most: int32(most), Accounts: accounts, //nolint:gosec // a small constant
	})
	if err != nil {
		return nil, unavailable("claim steps", err)
	}
	return toSteps(rows, token, asked)
}

// MoveToDigesting gives up the lease of a queued upload, whose digest a worker is to make.
func (s *Store) MoveToDigesting(ctx context.Context, step uploads.Step) (bool, error) {
	return s.moveClaimed(ctx, step, uploads.Digesting, "digest needed", false)
}

// MoveToBeginning keeps the lease of a queued upload, whose digests are in
// step. It is false too where the upload waits for another one of the same bytes.
func (s *Store) MoveToBeginning(ctx context.Context, step uploads.Step) (bool, error) {
	return s.moveClaimed(ctx, step, uploads.Beginning, "digest known", true)
}

func (s *Store) moveClaimed(ctx context.Context, step uploads.Step, to uploads.State, reason string, keepLease bool) (bool, error) {
	waits, err := s.q.MoveClaimed(ctx, s.pool, db.MoveClaimedParams{
		ToState: db.UploadState(to), Reason: reason, Digests: digestTexts(step.Digests), PassDigests: digestTexts(step.PassDigests), KeepLease: keepLease,
		ID: step.ID, LeaseToken: &step.Lease,
	})
	if err != nil {
		return false, unavailable("move upload", err)
	}
	return len(waits) == 1 && !waits[0], nil
}

// RecordOpened makes sessions durable, with the parts that were found
// upstream, and starts their epochs. It returns the uploads for which it took,
// in their state afterwards: finishing where every part was found. A session
// of any other upload belongs to nobody, and its opener discards it.
func (s *Store) RecordOpened(ctx context.Context, opened []parts.Opened) (map[uploads.ID]uploads.State, error) {
	var p db.RecordBegunParams
	var found []parts.Report
	for _, o := range inIDOrder(opened, func(o parts.Opened) uploads.ID { return o.Upload }) {
		p.Ids = append(p.Ids, o.Upload)
		p.LeaseTokens = append(p.LeaseTokens, o.Lease)
		p.Epochs = append(p.Epochs, int32(o.Epoch)) //nolint:gosec // counts sessions
		p.PartSizes = append(p.PartSizes, o.Plan.PartSize)
		p.PartCounts = append(p.PartCounts, int32(o.Plan.Count())) //nolint:gosec // bounded by the provider's limits
		p.Sessions = append(p.Sessions, o.Session)
		p.Expires = append(p.Expires, o.Expires)
		p.BucketDigests = append(p.BucketDigests, bucketText(o.BucketDigest, o.BucketAsked))
		if len(o.Found) > 0 {
			found = append(found, foundReport(o.Upload, o.Epoch, o.Found))
		}
	}
	took := make(map[uploads.ID]uploads.State, len(opened))
	begun := func(tx db.DBTX) error {
		ids, err := s.q.RecordBegun(ctx, tx, p)
		if err != nil {
			return fmt.Errorf("record begun: %w", err)
		}
		for _, id := range ids {
			took[id] = uploads.Uploading
		}
		return nil
	}
	if len(found) == 0 {
		// One statement is a transaction of its own, without the round trips of one.
		if err := begun(s.pool); err != nil {
			return nil, unavailable("record sessions", err)
		}
		return took, nil
	}
	err := s.inTx(ctx, "record sessions", func(tx pgx.Tx) error {
		if err := begun(tx); err != nil {
			return err
		}
		landed, err := s.recordAcks(ctx, tx, found, true)
		if err != nil {
			return err
		}
		for _, l := range landed {
			took[l.Upload] = l.State
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return took, nil
}

// RecordFinished moves uploads to completed with their assets. It returns
// those for which it took; the others' leases have passed to someone else.
func (s *Store) RecordFinished(ctx context.Context, finished []parts.Finished) (map[uploads.ID]bool, error) {
	var p db.RecordAssetsParams
	var links linkColumns
	for _, f := range inIDOrder(finished, func(f parts.Finished) uploads.ID { return f.Upload }) {
		asset, err := json.Marshal(cleanAsset(f.Asset))
		if err != nil {
			return nil, fmt.Errorf("encode asset of %s: %w", f.Upload, err)
		}
		p.Ids = append(p.Ids, f.Upload)
		p.LeaseTokens = append(p.LeaseTokens, f.Lease)
		p.Assets = append(p.Assets, string(asset))
		p.Instants = append(p.Instants, f.Instant)
		p.Reasons = append(p.Reasons, f.Reason)
		for _, l := range f.Links {
			p.LinkIds = append(p.LinkIds, f.Upload)
			links.add(l)
		}
	}
	p.Stages, p.Kinds, p.Expected, p.ExpectedFrom = links.Stages, links.Kinds, links.Expected, links.ExpectedFrom
	p.Got, p.GotFrom, p.Compared, p.Matched, p.Notes = links.Got, links.GotFrom, links.Compared, links.Matched, links.Notes
	ids, err := s.q.RecordAssets(ctx, s.pool, p)
	if err != nil {
		return nil, unavailable("record assets", err)
	}
	took := make(map[uploads.ID]bool, len(ids))
	for _, id := range ids {
		took[id] = true
	}
	return took, nil
}

// Postpone gives up the lease and makes the step due again after delay.
// keepIntent says that finish may have taken effect; tries is 0 where the
// step was not really tried. notes are added to the step's finish log.
func (s *Store) Postpone(ctx context.Context, step uploads.Step, delay time.Duration, tries int, keepIntent bool, notes ...uploads.Evidence) error {
	log, err := json.Marshal(cleanNotes(notes))
	if err != nil {
		return fmt.Errorf("encode finish log of %s: %w", step.ID, err)
	}
	_, err = s.q.PostponeStep(ctx, s.pool, db.PostponeStepParams{
		Delay: delay, Tries: int32(tries), KeepIntent: keepIntent, Notes: log, ID: step.ID, LeaseToken: &step.Lease, //nolint:gosec // 0 or 1
	})
	if err != nil {
		return unavailable("postpone step", err)
	}
	return nil
}

// BeginAgain sends an upload whose upstream session is lost back to beginning.
// lease is zero for one in state uploading. It reports whether it took.
func (s *Store) BeginAgain(ctx context.Context, id uploads.ID, epoch int, lease uploads.Lease, reason string, delay time.Duration) (bool, error) {
	n, err := s.q.BeginAgain(ctx, s.pool, db.BeginAgainParams{
		Reason: reason, Delay: delay, ID: id, Epoch: int32(epoch), LeaseToken: optional(lease), //nolint:gosec // counts sessions
	})
	if err != nil {
		return false, unavailable("begin again", err)
	}
	return n == 1, nil
}

// Fail moves an upload to failed. lease is zero where it is workers that tell
// why. With uploads.CauseNeedsHuman the upstream session is kept, and a retry
// probes before anything else. Where the bytes read from staging were wrong, what
// digest passes found of the object goes with it: a retry makes a pass of its own.
// It reports whether it took; where it did not, nothing is changed.
func (s *Store) Fail(ctx context.Context, id uploads.ID, epoch int, lease uploads.Lease, f uploads.Failure) (bool, error) {
	f.Code, f.Message, f.Evidence = clean(f.Code), clean(f.Message), cleanNotes(f.Evidence)
	failure, err := json.Marshal(f)
	if err != nil {
		return false, fmt.Errorf("encode failure of %s: %w", id, err)
	}
	failed, err := s.q.Fail(ctx, s.pool, db.FailParams{
		Reason: string(f.Cause), Failure: failure, OutcomeUnknown: f.Cause == uploads.CauseNeedsHuman,
		ForgetPass: f.Stage == uploads.StageStaging, ID: id, Epoch: int32(epoch), LeaseToken: optional(lease), //nolint:gosec // counts sessions
	})
	if err != nil {
		return false, unavailable("fail upload", err)
	}
	return len(failed) == 1, nil
}

// ClaimRenewals claims up to most uploads in state uploading whose upstream
// session lapses within the margin of their provider.
func (s *Store) ClaimRenewals(ctx context.Context, margins map[string]time.Duration, most int, lease time.Duration) ([]uploads.Step, error) {
	token, asked := uuid.New(), time.Now()
	p := db.ClaimRenewalsParams{LeaseToken: &token, Lease: lease, Most: int32(most)} //nolint:gosec // a small constant
	for provider, margin := range margins {
		p.Providers, p.Margins = append(p.Providers, provider), append(p.Margins, margin)
	}
	rows, err := s.q.ClaimRenewals(ctx, s.pool, p)
	if err != nil {
		return nil, unavailable("claim renewals", err)
	}
	return toSteps(rows, token, asked)
}

// RecordRenewed keeps the prolonged session of a claimed step. It reports
// whether the epoch and the lease were still the step's.
func (s *Store) RecordRenewed(ctx context.Context, step uploads.Step, session []byte, expires time.Time, keepLease bool) (bool, error) {
	n, err := s.q.RecordRenewed(ctx, s.pool, db.RecordRenewedParams{
		Session: session, Expires: optional(expires), KeepLease: keepLease,
		ID: step.ID, Epoch: int32(step.Epoch), LeaseToken: &step.Lease, //nolint:gosec // counts sessions
	})
	if err != nil {
		return false, unavailable("record renewal", err)
	}
	return n == 1, nil
}

// ReleaseLease gives up the lease of a step of which nothing came.
func (s *Store) ReleaseLease(ctx context.Context, step uploads.Step) error {
	if err := s.q.ReleaseLease(ctx, s.pool, step.ID, &step.Lease); err != nil {
		return unavailable("release lease", err)
	}
	return nil
}

// RefuseSession notes that the platform refused an upload's session of a number,
// which makes it due for renewal at once. It returns how many sessions were
// refused in a row, and for how long this one has waited for its renewal;
// present is false if it is not that of an upload in the state any more. It may
// be repeated: each session counts once.
func (s *Store) RefuseSession(
	ctx context.Context, id uploads.ID, state uploads.State, epoch, number int,
) (refusals int, waits time.Duration, present bool, err error) {
	r, err := s.q.RefuseSession(ctx, s.pool, db.RefuseSessionParams{
		ID: id, State: db.UploadState(state), Epoch: int32(epoch), Number: int32(number), //nolint:gosec // count sessions
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, 0, false, nil
	case err != nil:
		return 0, 0, false, unavailable("note a refused session", err)
	}
	return int(r.Refusals), r.Waits, true, nil
}

// RenewLeases keeps steps in hand from being claimed by another process while
// a call of theirs takes long. It returns the uploads whose lease
// is still that of the step.
func (s *Store) RenewLeases(ctx context.Context, inHand map[uploads.ID]uploads.Lease, lease time.Duration) (kept map[uploads.ID]bool, err error) {
	var ids, tokens []uuid.UUID
	for id, token := range inHand {
		ids, tokens = append(ids, id), append(tokens, token)
	}
	renewed, err := s.q.RenewLeases(ctx, s.pool, lease, ids, tokens)
	if err != nil {
		return nil, unavailable("renew leases", err)
	}
	kept = make(map[uploads.ID]bool, len(renewed))
	for _, id := range renewed {
		kept[id] = true
	}
	return kept, nil
}

// RecordAborted clears the upstream session of an upload that has ended.
func (s *Store) RecordAborted(ctx context.Context, step uploads.Step) error {
	if _, err := s.q.RecordAborted(ctx, s.pool, step.ID, &step.Lease); err != nil {
		return unavailable("record abort", err)
	}
	return nil
}

// KnownDigests returns the digests known of the object.
func (s *Store) KnownDigests(ctx context.Context, o uploads.Object) ([]hashing.Digest, error) {
	texts, err := s.q.KnownDigests(ctx, s.pool, db.KnownDigestsParams{Bucket: o.Bucket, Key: o.Key, Version: o.Version, Etag: o.ETag})
	if err != nil {
		return nil, unavailable("read digests", err)
	}
	return parseDigests(texts)
}

// RecordDigested keeps the digests of an object and lets the upload that
// waited for them begin. It reports whether the upload still waited.
func (s *Store) RecordDigested(ctx context.Context, id uploads.ID, o uploads.Object, digests []hashing.Digest) (bool, error) {
	var n int64
	err := s.inTx(ctx, "record digests", func(tx pgx.Tx) error {
		err := s.q.InsertDigests(ctx, tx, db.InsertDigestsParams{
			Bucket: o.Bucket, Key: o.Key, Version: o.Version, Etag: o.ETag, Digests: digestTexts(digests),
		})
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		n, err = s.q.RecordDigested(ctx, tx, digestTexts(digests), id, o.ETag)
		if err != nil {
			return fmt.Errorf("move: %w", err)
		}
		return nil
	})
	return n == 1, err
}

// RecordCheckpoint keeps how far a digest pass has come. An older checkpoint
// than the one that is there is dropped.
func (s *Store) RecordCheckpoint(ctx context.Context, id uploads.ID, o uploads.Object, c hashing.Checkpoint) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode checkpoint of %s: %w", id, err)
	}
	_, err = s.q.RecordCheckpoint(ctx, s.pool, db.RecordCheckpointParams{Checkpoint: raw, ID: id, Etag: o.ETag, DigestOffset: c.Offset})
	if err != nil {
		return unavailable("record checkpoint", err)
	}
	return nil
}

// Digesting lists uploads whose digest a worker is to make.
func (s *Store) Digesting(ctx context.Context, most int) ([]uploads.DigestWait, error) {
	rows, err := s.q.Digesting(ctx, s.pool, int32(most)) //nolint:gosec // a small constant
	if err != nil {
		return nil, unavailable("list digesting uploads", err)
	}
	out := make([]uploads.DigestWait, len(rows))
	for i, r := range rows {
		out[i] = uploads.DigestWait{ID: r.ID, Account: r.Account, Pool: r.Pool, FeedCount: r.FeedCount, Due: r.Due}
	}
	return out, nil
}

// TouchDigesting counts a publication of an upload's digest job, before it is
// published. It reports whether the upload still waits for its digest.
func (s *Store) TouchDigesting(ctx context.Context, id uploads.ID, grace time.Duration) (bool, error) {
	n, err := s.q.TouchDigesting(ctx, s.pool, grace, id)
	if err != nil {
		return false, unavailable("touch digesting upload", err)
	}
	return n == 1, nil
}

// Assignable returns what a worker may be told of each upload; those with
// nothing to work on are left out.
func (s *Store) Assignable(ctx context.Context, ids []uploads.ID) (map[uploads.ID]parts.Assignable, error) {
	rows, err := s.q.Assignable(ctx, s.pool, ids)
	if err != nil {
		return nil, unavailable("read assignments", err)
	}
	out := make(map[uploads.ID]parts.Assignable, len(rows))
	for _, r := range rows {
		a := parts.Assignable{
			Account: r.Account, Provider: r.Provider, State: uploads.State(r.State), Epoch: int(r.Epoch),
			Source: uploads.Object{
				Bucket: r.SourceBucket, Key: r.SourceKey, Version: r.SourceVersion, ETag: r.SourceEtag, Size: r.Size,
			},
			PartSize: value(r.PartSize), Session: r.Session, SessionNumber: int(r.SessionNumber),
		}
		if a.Known, err = toKnown(r.Digests, r.PassDigests, r.BucketDigest); err != nil {
			return nil, fmt.Errorf("digests of %s: %w", r.ID, err)
		}
		if len(r.DigestCheckpoint) > 0 {
			a.Checkpoint = new(hashing.Checkpoint)
			if err := json.Unmarshal(r.DigestCheckpoint, a.Checkpoint); err != nil {
				return nil, fmt.Errorf("checkpoint of %s: %w", r.ID, err)
			}
		}
		out[r.ID] = a
	}
	return out, nil
}

// TakeEvents hands up to most events of the outbox to publish, oldest first,
// and removes them once it has returned nil. An event may be handed out again
// after a crash, under the same number.
func (s *Store) TakeEvents(ctx context.Context, most int, publish func([]uploads.Event) error) (n int, err error) {
	err = s.inTx(ctx, "take events", func(tx pgx.Tx) error {
		rows, err := s.q.NextEvents(ctx, tx, int32(most)) //nolint:gosec // a small constant
		if err != nil || len(rows) == 0 {
			return err
		}
		events := make([]uploads.Event, len(rows))
		ids := make([]int64, len(rows))
		for i, r := range rows {
			events[i] = uploads.Event{Number: r.ID, Tenant: r.Tenant, Type: r.Type, Payload: r.Payload}
			ids[i] = r.ID
		}
		if err := publish(events); err != nil {
			return err
		}
		n = len(rows)
		return s.q.DeleteEvents(ctx, tx, ids)
	})
	return n, err
}
