-- name: ClaimSubmissions :many
-- Takes submissions by SQL that are due, oldest first.
WITH due AS (
    SELECT s.id FROM submissions s
    WHERE s.upload_id IS NULL AND s.due_at <= now() AND (s.lease_until IS NULL OR s.lease_until < now())
    ORDER BY s.due_at LIMIT @most::int
    FOR UPDATE SKIP LOCKED
)
UPDATE submissions t SET lease_token = @lease_token, lease_until = now() + @lease::interval
FROM due WHERE t.id = due.id
RETURNING t.id, t.tenant, t.account, t.idempotency_key, t.source_bucket, t.source_key, t.source_version, t.source_etag,
    t.name, t.content_type, t.options, t.labels, t.digests, t.priority, t.not_before, t.tries,
    (clock_timestamp() - t.submitted_at)::interval AS age;

-- name: AcceptSubmissions :many
-- Submissions become uploads and are gone; those whose idempotency key is taken
-- are left alone and not returned.
WITH held AS (
    SELECT s.id, s.tenant, s.account, s.idempotency_key, s.source_bucket, s.source_key, s.content_type, s.options, s.labels,
        s.priority, s.not_before, s.submitted_at, t.provider, t.pool, t.known_by, t.request_hash, t.source_version,
        t.source_etag, t.size, t.name, t.digests
    FROM submissions s
    JOIN (SELECT unnest(@ids::uuid[]) AS id, unnest(@providers::text[]) AS provider, unnest(@pools::text[]) AS pool,
            unnest(@known_by::text[]) AS known_by, unnest(@request_hashes::bytea[]) AS request_hash,
            unnest(@source_versions::text[]) AS source_version, unnest(@source_etags::text[]) AS source_etag,
            unnest(@sizes::bigint[]) AS size, unnest(@names::text[]) AS name, unnest(@digests::text[]) AS digests) AS t ON t.id = s.id
    WHERE s.lease_token = @lease_token AND s.upload_id IS NULL
    ORDER BY s.id FOR UPDATE OF s
), made AS (
    INSERT INTO uploads (id, tenant, account, provider, pool, idempotency_key, request_hash, source_bucket, source_key,
        source_version, source_etag, size, name, content_type, options, labels, digests, bucket_digest, known_by, priority,
        not_before, submitted_at, step_at)
    SELECT h.id, h.tenant, h.account, h.provider, h.pool, h.idempotency_key, h.request_hash, h.source_bucket, h.source_key,
        h.source_version, h.source_etag, h.size, h.name, h.content_type, h.options, h.labels,
        string_to_array(h.digests, ' '), '', h.known_by, h.priority, h.not_before, h.submitted_at,
        greatest(now(), h.not_before)
    FROM held h ORDER BY h.idempotency_key COLLATE "C" -- as others do that insert many
    ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
)
DELETE FROM submissions d USING made WHERE d.id = made.id RETURNING d.id;

-- name: JoinSubmissions :many
-- Submissions whose idempotency key has an upload already: that of an equal one
-- is theirs. Those of another one are returned.
WITH theirs AS (
    SELECT s.id, u.id AS upload_id, u.request_hash = t.request_hash AS equal
    FROM submissions s
    JOIN (SELECT unnest(@ids::uuid[]) AS id, unnest(@request_hashes::bytea[]) AS request_hash) AS t ON t.id = s.id
    JOIN uploads u ON u.tenant = s.tenant AND u.idempotency_key = s.idempotency_key
    WHERE s.lease_token = @lease_token AND s.upload_id IS NULL
), joined AS (
    UPDATE submissions j SET upload_id = y.upload_id, lease_token = NULL, lease_until = NULL
    FROM theirs y WHERE j.id = y.id AND y.equal
)
SELECT y.id FROM theirs y WHERE NOT y.equal;

-- name: RefuseSubmissions :many
-- Submissions that are wrong become failed uploads, with their event. The
-- idempotency key stays free for the one that is right.
WITH held AS (
    SELECT s.id, s.tenant, s.account, s.source_bucket, s.source_key, s.source_version, s.source_etag, s.content_type,
        s.options, s.labels, s.digests, s.priority, s.not_before, s.submitted_at, t.provider, t.pool, t.name, t.failure
    FROM submissions s
    JOIN (SELECT unnest(@ids::uuid[]) AS id, unnest(@providers::text[]) AS provider, unnest(@pools::text[]) AS pool,
            unnest(@names::text[]) AS name, unnest(@failures::text[])::jsonb AS failure) AS t ON t.id = s.id
    WHERE s.lease_token = @lease_token AND s.upload_id IS NULL
    ORDER BY s.id FOR UPDATE OF s
), made AS (
    INSERT INTO uploads (id, tenant, account, provider, pool, request_hash, source_bucket, source_key, source_version,
        source_etag, size, name, content_type, options, labels, digests, priority, not_before, submitted_at, state, reason,
        failure, finished_at)
    SELECT h.id, h.tenant, h.account, h.provider, h.pool, '', h.source_bucket, h.source_key, h.source_version,
        h.source_etag, 0, h.name, h.content_type, h.options, h.labels, h.digests, h.priority, h.not_before, h.submitted_at,
        'failed', h.failure ->> 'cause', h.failure, now()
    FROM held h
    RETURNING id, tenant, account, state, name, size, labels, failure, finished_at
), told AS (
    INSERT INTO outbox (tenant, type, upload_id, payload)
    SELECT m.tenant, 'failed', m.id,
        jsonb_build_object('upload', m.id, 'tenant', m.tenant, 'account', m.account, 'state', m.state, 'name', m.name,
            'size', m.size, 'labels', m.labels, 'asset', NULL, 'failure', m.failure, 'at', m.finished_at)
    FROM made m
)
DELETE FROM submissions d USING made WHERE d.id = made.id RETURNING d.id;

-- name: PostponeSubmissions :exec
-- Gives submissions back that were claimed; tries counts where it is not for a stop.
UPDATE submissions SET due_at = now() + @delay::interval, tries = tries + @tries::int, lease_token = NULL, lease_until = NULL
WHERE id = ANY(@ids::uuid[]) AND lease_token = @lease_token AND upload_id IS NULL;
