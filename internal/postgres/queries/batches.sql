-- name: InsertBatch :execrows
-- Nothing where the key is taken; who asks waits for another transaction that
-- inserts the same one.
INSERT INTO batches (id, tenant, idempotency_key, request_hash, source_bucket, source_key, prefix, rejected, first_rejected)
VALUES (@id, @tenant, sqlc.narg(idempotency_key), @request_hash, @source_bucket, @source_key, @prefix, @rejected, @first_rejected)
ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;

-- name: BatchByKey :one
SELECT id, request_hash FROM batches WHERE tenant = $1 AND idempotency_key = $2;

-- name: Batch :one
SELECT id, tenant, idempotency_key, source_bucket, source_key, prefix, rejected, first_rejected, accounts, uploads, bytes, submitted_at
FROM batches WHERE id = @id AND tenant = @tenant;

-- name: Batches :many
-- Newest first; after is the last id of the page before.
SELECT id, tenant, idempotency_key, source_bucket, source_key, prefix, rejected, first_rejected, accounts, uploads, bytes, submitted_at
FROM batches
WHERE tenant = @tenant AND (sqlc.narg(account)::text IS NULL OR sqlc.narg(account) = ANY(accounts))
  AND (sqlc.narg(after)::uuid IS NULL OR id < sqlc.narg(after))
ORDER BY id DESC LIMIT @page::int;

-- name: BatchStates :many
SELECT state, count(*) AS uploads, sum(size)::bigint AS bytes, sum(acked_bytes)::bigint AS acked_bytes
FROM uploads WHERE batch_id = @batch_id AND tenant = @tenant GROUP BY state;
