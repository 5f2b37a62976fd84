package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/postgres/db"
	"mediaferry/internal/uploads"
)

// InsertBatch accepts a batch and all its uploads in one transaction: on return
// they are durable. Where its idempotency key is taken by an equal batch nothing
// is inserted, created is false and id is of the one that is there; another
// batch under the key is uploads.ErrKeyTaken.
func (s *Store) InsertBatch(ctx context.Context, b *uploads.NewBatch) (id uploads.ID, created bool, err error) {
	first, err := json.Marshal(append([]uploads.Rejected{}, b.FirstRejected...))
	if err != nil {
		return id, false, fmt.Errorf("encode rejected objects: %w", err)
	}
	err = s.inTx(ctx, "insert a batch", func(tx pgx.Tx) error {
		n, err := s.q.InsertBatch(ctx, tx, db.InsertBatchParams{
			ID: b.ID, Tenant: b.Tenant, IdempotencyKey: optional(b.IdempotencyKey), RequestHash: b.RequestHash,
			SourceBucket: b.Source.Bucket, SourceKey: b.Source.Key, Prefix: b.Prefix,
			Rejected: int32(b.Rejected), FirstRejected: first, //nolint:gosec // of at most a hundred thousand
		})
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			id, _, err = s.batchByKey(ctx, tx, b.Tenant, b.IdempotencyKey, b.RequestHash)
			return err
		}
		id, created = b.ID, true
		_, err = insertBulkTx(ctx, tx, b.Tenant, b.ID, b.Items)
		return err
	})
	return id, created && err == nil, err
}

// BatchByKey finds the batch that was submitted under an idempotency key. Where
// the key belongs to another submission it fails with uploads.ErrKeyTaken.
func (s *Store) BatchByKey(ctx context.Context, tenant, key string, requestHash []byte) (id uploads.ID, found bool, err error) {
	id, found, err = s.batchByKey(ctx, s.pool, tenant, key, requestHash)
	if err != nil {
		return id, false, unavailable("look up a batch", err)
	}
	return id, found, nil
}

func (s *Store) batchByKey(ctx context.Context, on db.DBTX, tenant, key string, requestHash []byte) (id uploads.ID, found bool, err error) {
	there, err := s.q.BatchByKey(ctx, on, tenant, &key)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return id, false, nil
	case err != nil:
		return id, false, fmt.Errorf("look up idempotency key: %w", err)
	case !bytes.Equal(there.RequestHash, requestHash):
		return id, false, fmt.Errorf("%w: batch %s", uploads.ErrKeyTaken, there.ID)
	}
	return there.ID, true, nil
}

// Batch returns a batch of the tenant and how its uploads stand, or
// uploads.ErrNoBatch. It counts all of them.
func (s *Store) Batch(ctx context.Context, tenant string, id uploads.ID) (uploads.Batch, error) {
	row, err := s.q.Batch(ctx, s.pool, id, tenant)
	if errors.Is(err, pgx.ErrNoRows) {
		return uploads.Batch{}, fmt.Errorf("%w: %s", uploads.ErrNoBatch, id)
	}
	if err != nil {
		return uploads.Batch{}, unavailable("read batch", err)
	}
	b, err := toBatch(row)
	if err != nil {
		return b, err
	}
	states, err := s.q.BatchStates(ctx, s.pool, &id, tenant)
	if err != nil {
		return b, unavailable("count the uploads of a batch", err)
	}
	b.States = make(map[uploads.State]uploads.BatchPart, len(states))
	for _, r := range states {
		b.States[uploads.State(r.State)] = uploads.BatchPart{Uploads: int(r.Uploads), Bytes: r.Bytes, AckedBytes: r.AckedBytes}
	}
	return b, nil
}

// Batches returns a page of batches, newest first, without the states of their uploads.
func (s *Store) Batches(ctx context.Context, f uploads.BatchFilter) ([]uploads.Batch, error) {
	rows, err := s.q.Batches(ctx, s.pool, db.BatchesParams{
		Tenant: f.Tenant, Account: optional(f.Account), After: optional(f.After), Page: int32(f.Limit), //nolint:gosec // at most 1000
	})
	if err != nil {
		return nil, unavailable("list batches", err)
	}
	out := make([]uploads.Batch, len(rows))
	for i, r := range rows {
		if out[i], err = toBatch(db.BatchRow(r)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func toBatch(r db.BatchRow) (uploads.Batch, error) {
	b := uploads.Batch{
		ID: r.ID, Tenant: r.Tenant, IdempotencyKey: value(r.IdempotencyKey),
		Source: uploads.Object{Bucket: r.SourceBucket, Key: r.SourceKey}, Prefix: r.Prefix, Accounts: r.Accounts,
		Uploads: int(r.Uploads), Bytes: r.Bytes, SubmittedAt: r.SubmittedAt, Rejected: int(r.Rejected),
	}
	if err := json.Unmarshal(r.FirstRejected, &b.FirstRejected); err != nil {
		return b, fmt.Errorf("decode rejected objects: %w", err)
	}
	return b, nil
}
