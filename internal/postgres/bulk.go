package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mediaferry/internal/uploads"
)

// Here rows differ in everything, and there may be a hundred thousand. Where one
// may be there already, they are copied into a table of the transaction's own,
// and inserted from there.
const (
	// What triggers and sorts are given of so many rows stays in memory.
	startBulk  = `SELECT now() FROM set_config('work_mem', '64MB', true)`
	createBulk = `CREATE TEMPORARY TABLE bulk (line integer, id uuid, account text, provider text, pool text,
		idempotency_key text, request_hash bytea, source_bucket text, source_key text, source_version text, source_etag text,
		size bigint, name text, content_type text, options jsonb, labels jsonb, digests text[], known_by text,
		priority smallint, not_before timestamptz) ON COMMIT DROP`
	insertBulk = `INSERT INTO uploads (id, tenant, account, provider, pool, batch_id, idempotency_key, request_hash,
			source_bucket, source_key, source_version, source_etag, size, name, content_type, options, labels,
			digests, bucket_digest, known_by, priority, not_before, step_at)
		SELECT id, $1, account, provider, pool, $2, idempotency_key, request_hash,
			source_bucket, source_key, source_version, source_etag, size, name, content_type, options, labels,
			digests, '', known_by, priority, not_before, greatest(now(), not_before)
		FROM bulk ORDER BY idempotency_key COLLATE "C"
		ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING`
	knownBulk = `SELECT b.line, u.request_hash = b.request_hash
		FROM bulk b JOIN uploads u ON u.tenant = $1 AND u.idempotency_key = b.idempotency_key
		WHERE u.id <> b.id ORDER BY b.line`
)

// InsertBulk accepts many submissions of a tenant as one batch: all that it does
// not return are durable on return, in one transaction. What it returns are
// those whose idempotency key is taken, in the order of their numbers.
//
// Mostly no key is: then rows are copied straight into uploads, which takes half
// as long. The first key that is taken undoes that. Either goes in the order of
// the keys, so that two that have keys in common wait for each other in one
// direction only.
func (s *Store) InsertBulk(ctx context.Context, tenant string, batch uploads.ID, items []uploads.BulkItem) (there []uploads.BulkOutcome, err error) {
	err = s.inTx(ctx, "copy many uploads", func(tx pgx.Tx) error { return copyUploads(ctx, tx, tenant, batch, items) })
	if err == nil || codeOf(err) != uniqueViolation {
		return nil, err
	}
	err = s.inTx(ctx, "insert many uploads", func(tx pgx.Tx) error {
		there, err = insertBulkTx(ctx, tx, tenant, batch, items)
		return err
	})
	return there, err
}

const uniqueViolation = "23505"

func bulkColumns() []string {
	return []string{
		"id", "account", "provider", "pool", "idempotency_key", "request_hash", "source_bucket", "source_key",
		"source_version", "source_etag", "size", "name", "content_type", "options", "labels", "digests", "known_by", "priority", "not_before",
	}
}

func bulkRow(it *uploads.BulkItem) ([]any, error) {
	options, labels, err := marshalMaps(it.Submission.Options, it.Submission.Labels)
	if err != nil {
		return nil, err
	}
	o := it.Source
	return []any{
		[16]byte(it.ID), it.Submission.Account, it.Provider, it.Pool, optional(it.IdempotencyKey), it.RequestHash, o.Bucket, o.Key,
		o.Version, o.ETag, o.Size, it.Name, it.ContentType, options, labels, digestTexts(it.Submission.Digests), it.KnownBy,
		int16(it.Submission.Priority), optional(it.Submission.NotBefore), //nolint:gosec // validated
	}, nil
}

// copyUploads inserts items if none of their idempotency keys is taken, by another
// of them neither.
func copyUploads(ctx context.Context, tx pgx.Tx, tenant string, batch uploads.ID, items []uploads.BulkItem) error {
	var now time.Time // the database's: steps are due by its clock
	if err := tx.QueryRow(ctx, startBulk).Scan(&now); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	items = slices.SortedStableFunc(slices.Values(items), func(a, b uploads.BulkItem) int {
		return strings.Compare(a.IdempotencyKey, b.IdempotencyKey)
	})
	columns := append(bulkColumns(), "tenant", "batch_id", "bucket_digest", "step_at")
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"uploads"}, columns, pgx.CopyFromSlice(len(items), func(i int) ([]any, error) {
		due := now
		if at := items[i].Submission.NotBefore; at.After(now) {
			due = at
		}
		row, err := bulkRow(&items[i])
		return append(row, tenant, [16]byte(batch), "", due), err
	}))
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// insertBulkTx is InsertBulk in a transaction that may hold more, whichever keys are taken.
func insertBulkTx(ctx context.Context, tx pgx.Tx, tenant string, batch uploads.ID, items []uploads.BulkItem) ([]uploads.BulkOutcome, error) {
	var now time.Time
	if err := tx.QueryRow(ctx, startBulk).Scan(&now); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	if _, err := tx.Exec(ctx, createBulk); err != nil {
		return nil, fmt.Errorf("make room: %w", err)
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"bulk"}, append(bulkColumns(), "line"), pgx.CopyFromSlice(len(items), func(i int) ([]any, error) {
		row, err := bulkRow(&items[i])
		return append(row, items[i].Number), err
	}))
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	if _, err := tx.Exec(ctx, insertBulk, tenant, batch); err != nil {
		return nil, fmt.Errorf("insert: %w", err)
	}
	rows, err := tx.Query(ctx, knownBulk, tenant)
	if err != nil {
		return nil, fmt.Errorf("look up idempotency keys: %w", err)
	}
	there, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o uploads.BulkOutcome, err error) {
		err = row.Scan(&o.Number, &o.Equal)
		return o, err //nolint:wrapcheck // below
	})
	if err != nil {
		return nil, fmt.Errorf("look up idempotency keys: %w", err)
	}
	return there, nil
}
