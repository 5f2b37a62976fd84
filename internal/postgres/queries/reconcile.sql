-- name: Tick :one
-- Counts the record up, if it is not behind what was seen of it, and says what it
-- came to.
UPDATE record_marks SET tick = tick + 1 WHERE tick >= @seen RETURNING record, tick;

-- name: RecordMark :one
SELECT record, tick FROM record_marks;

-- name: CatchUp :execrows
-- The record is behind what the queue has heard of it: seen. Whoever comes
-- second finds that it has caught up.
UPDATE record_marks SET tick = @seen::bigint
WHERE tick < @seen::bigint;

-- name: DoubtAll :execrows
-- Nobody knows what became of any upload upstream. Steps in hand lose their
-- leases. Publish ids of the time that is lost are not used again: the queue
-- would drop what comes under them.
UPDATE uploads SET probe_since = now(), step_at = now(), step_tries = 0, lease_token = NULL, lease_until = NULL,
    feed_count = feed_count + 1048576
WHERE state IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing');

-- name: SkipEventNumbers :exec
-- By drawing them: to set a sequence takes a right that the service need not have.
SELECT max(nextval(pg_get_serial_sequence('outbox', 'id'))) FROM generate_series(1, 100000);

-- name: ClaimProbes :many
-- Takes uploads of which it is to be asked what the platform holds. When that
-- began stands in for the intent of a finishing call, and has the same effect.
WITH due AS (
    SELECT d.id FROM uploads d
    WHERE d.probe_since IS NOT NULL AND d.step_at <= now()
      AND (sqlc.narg(accounts)::text[] IS NULL OR d.account = ANY(sqlc.narg(accounts)::text[]))
      AND d.state IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing')
      AND (d.lease_until IS NULL OR d.lease_until < now())
    ORDER BY d.step_at LIMIT @most::int
    FOR UPDATE SKIP LOCKED
)
UPDATE uploads u SET lease_token = @lease_token, lease_until = now() + @lease::interval
FROM due WHERE u.id = due.id
RETURNING u.id, u.tenant, u.account, u.provider, u.pool, u.state, u.epoch, u.source_bucket, u.source_key,
    u.source_version, u.source_etag, u.size, u.name, u.content_type, u.options, u.digests, u.pass_digests, u.bucket_digest, u.session,
    u.session_expires, u.part_size, u.step_tries, u.probe_since AS intent_before, u.finish_log, u.abort_due, u.cancel_due;

-- name: ClaimProbe :one
-- The same for one upload, in doubt or not. look leaves it as it is.
UPDATE uploads u SET lease_token = @lease_token, lease_until = now() + @lease::interval,
    probe_since = CASE WHEN @look::bool THEN u.probe_since ELSE coalesce(u.probe_since, now()) END
WHERE u.id = @id AND u.tenant = @tenant AND u.state::text IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing')
  AND (u.lease_until IS NULL OR u.lease_until < now())
RETURNING u.id, u.tenant, u.account, u.provider, u.pool, u.state, u.epoch, u.source_bucket, u.source_key,
    u.source_version, u.source_etag, u.size, u.name, u.content_type, u.options, u.digests, u.pass_digests, u.bucket_digest, u.session,
    u.session_expires, u.part_size, u.step_tries, u.probe_since AS intent_before, u.finish_log, u.abort_due, u.cancel_due;

-- name: RecordProbedAsset :execrows
-- A probe found the asset of an upload that the record has somewhere before it.
UPDATE uploads SET state = 'completed', reason = @reason, asset = @asset::jsonb, finished_at = now(),
    begun_at = coalesce(begun_at, now()), session = NULL, session_expires = NULL, abort_due = false, cancel_due = false,
    lease_token = NULL, lease_until = NULL, step_tries = 0, probe_since = NULL
WHERE id = @id AND lease_token = @lease_token
  AND state IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing');

-- name: RecordProbed :execrows
-- A probe found the upload no further than the record has it, or its parts are
-- in the ledger by now. What was fed is forgotten, since the queue may hold none
-- of it: all that the ledger lacks is fed again.
UPDATE uploads SET probe_since = NULL, finish_intent_at = NULL, step_at = now(), step_tries = 0, feed_after = now(),
    fed = 0, fed_bytes = 0, found_bytes = acked_bytes, lease_token = NULL, lease_until = NULL
WHERE id = @id AND epoch = @epoch AND lease_token = @lease_token;

-- name: HeldSteps :many
-- Which of these finishing steps are still their claimant's, and not in doubt.
SELECT id FROM uploads
WHERE id = ANY(@ids::uuid[]) AND lease_token = ANY(@lease_tokens::uuid[]) AND state::text = 'finishing' AND probe_since IS NULL;
