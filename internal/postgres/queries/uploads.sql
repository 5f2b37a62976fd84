-- name: InsertUploads :many
-- One statement for one submission or thousands. What is already there under
-- its idempotency key is left alone and not returned.
INSERT INTO uploads (id, tenant, account, provider, pool, batch_id, idempotency_key, request_hash,
    source_bucket, source_key, source_version, source_etag, size, name, content_type, options, labels,
    digests, bucket_digest, known_by, priority, not_before, step_at)
SELECT s.id, @tenant::text, @account::text, @provider::text, @pool::text, sqlc.narg(batch_id)::uuid,
    nullif(s.idempotency_key, ''), s.request_hash, @source_bucket::text, s.source_key, s.source_version,
    s.source_etag, s.size, s.name, s.content_type, @options::jsonb, @labels::jsonb, @digests::text[], @bucket_digest::text,
    @known_by::text, @priority::smallint, sqlc.narg(not_before)::timestamptz, greatest(now(), sqlc.narg(not_before)::timestamptz)
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@idempotency_keys::text[]) AS idempotency_key,
        unnest(@request_hashes::bytea[]) AS request_hash, unnest(@source_keys::text[]) AS source_key,
        unnest(@source_versions::text[]) AS source_version, unnest(@source_etags::text[]) AS source_etag,
        unnest(@sizes::bigint[]) AS size, unnest(@names::text[]) AS name,
        unnest(@content_types::text[]) AS content_type) AS s
ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id;

-- name: UploadByKey :one
SELECT id, request_hash FROM uploads WHERE tenant = $1 AND idempotency_key = $2;

-- name: Upload :one
SELECT id, tenant, account, provider, batch_id, idempotency_key, source_bucket, source_key, source_version,
    source_etag, size, name, content_type, options, labels, priority, not_before, state, epoch, part_size,
    part_count, acked_parts, acked_bytes, found_bytes, asset, failure, submitted_at, begun_at, first_ack_at,
    last_ack_at, finished_at, step_at, paused, pause_reason, paused_by, paused_at, cancel_due,
    coalesce((SELECT f.upload_id FROM flights f WHERE waits AND f.account = uploads.account AND f.flight = uploads.flight),
        '00000000-0000-0000-0000-000000000000')::uuid AS waits_for
FROM uploads WHERE id = @id AND tenant = @tenant;

-- name: Uploads :many
-- Newest first; after is the last id of the page before. Plans are made once for all
-- values: what is to be looked up in an index must not be beside an OR.
SELECT id, tenant, account, provider, batch_id, idempotency_key, source_bucket, source_key, source_version,
    source_etag, size, name, content_type, options, labels, priority, not_before, state, epoch, part_size,
    part_count, acked_parts, acked_bytes, found_bytes, asset, failure, submitted_at, begun_at, first_ack_at,
    last_ack_at, finished_at, step_at, paused, pause_reason, paused_by, paused_at, cancel_due,
    coalesce((SELECT f.upload_id FROM flights f WHERE waits AND f.account = uploads.account AND f.flight = uploads.flight),
        '00000000-0000-0000-0000-000000000000')::uuid AS waits_for
FROM uploads
WHERE tenant = @tenant
  AND (sqlc.narg(account)::text IS NULL OR account = sqlc.narg(account))
  AND (cardinality(@states::text[]) = 0 OR state::text = ANY(@states::text[]))
  AND (cardinality(@causes::text[]) = 0 OR failure ->> 'cause' = ANY(@causes::text[]))
  AND labels @> @labels::jsonb
  AND (sqlc.narg(paused)::bool IS NULL OR paused = sqlc.narg(paused))
  AND (sqlc.narg(search)::text IS NULL OR position(lower(sqlc.narg(search)) IN lower(name)) > 0
      OR position(lower(sqlc.narg(search)) IN lower(source_key)) > 0)
  AND id < coalesce(sqlc.narg(after)::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY id DESC LIMIT @page;

-- name: UploadsOfBatch :many
-- Uploads, of one batch.
SELECT id, tenant, account, provider, batch_id, idempotency_key, source_bucket, source_key, source_version,
    source_etag, size, name, content_type, options, labels, priority, not_before, state, epoch, part_size,
    part_count, acked_parts, acked_bytes, found_bytes, asset, failure, submitted_at, begun_at, first_ack_at,
    last_ack_at, finished_at, step_at, paused, pause_reason, paused_by, paused_at, cancel_due,
    coalesce((SELECT f.upload_id FROM flights f WHERE waits AND f.account = uploads.account AND f.flight = uploads.flight),
        '00000000-0000-0000-0000-000000000000')::uuid AS waits_for
FROM uploads
WHERE batch_id = @batch_id::uuid AND tenant = @tenant
  AND (sqlc.narg(account)::text IS NULL OR account = sqlc.narg(account))
  AND (cardinality(@states::text[]) = 0 OR state::text = ANY(@states::text[]))
  AND (cardinality(@causes::text[]) = 0 OR failure ->> 'cause' = ANY(@causes::text[]))
  AND labels @> @labels::jsonb
  AND (sqlc.narg(paused)::bool IS NULL OR paused = sqlc.narg(paused))
  AND (sqlc.narg(search)::text IS NULL OR position(lower(sqlc.narg(search)) IN lower(name)) > 0
      OR position(lower(sqlc.narg(search)) IN lower(source_key)) > 0)
  AND id < coalesce(sqlc.narg(after)::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY id DESC LIMIT @page;

-- name: AccountLoads :many
-- What each account has in hand: bounded by the windows, so a small scan.
-- Paused uploads keep no other from being opened.
SELECT account,
    count(*) AS active,
    count(*) FILTER (WHERE state IN ('digesting', 'beginning') AND NOT paused AND NOT waits) AS opening,
    coalesce(sum(size - acked_bytes) FILTER (WHERE state = 'uploading' AND NOT paused), 0)::bigint AS outstanding,
    coalesce(sum(fed_bytes + found_bytes - acked_bytes) FILTER (WHERE state = 'uploading'), 0)::bigint AS in_flight
FROM uploads WHERE state IN ('digesting', 'beginning', 'uploading')
GROUP BY account;

-- name: ClaimQueued :many
-- Takes queued uploads of accounts that have room, most urgent first. Where
-- no digest is missing, claiming is the move to beginning.
WITH due AS (
    SELECT q.id FROM unnest(@accounts::text[]) AS a(account)
    CROSS JOIN LATERAL (
        SELECT u.id FROM uploads u
        WHERE u.account = a.account AND u.state = 'queued' AND NOT u.paused AND u.probe_since IS NULL AND u.step_at <= now()
          AND (u.lease_until IS NULL OR u.lease_until < now())
          AND u.account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
          AND u.tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant')
        ORDER BY u.priority DESC, u.id LIMIT @per_account::int
        FOR UPDATE SKIP LOCKED
    ) q
)
UPDATE uploads u SET
    state = CASE WHEN u.provider = ANY(@digesting_providers::text[]) THEN u.state ELSE 'beginning' END,
    reason = '', lease_token = @lease_token, lease_until = now() + @lease::interval
FROM due WHERE u.id = due.id
RETURNING u.id, u.tenant, u.account, u.provider, u.pool, u.state, u.epoch, u.source_bucket, u.source_key,
    u.source_version, u.source_etag, u.size, u.name, u.content_type, u.options, u.digests, u.pass_digests, u.bucket_digest, u.session,
    u.session_expires, u.part_size, u.step_tries, u.finish_intent_at AS intent_before, u.finish_log, u.abort_due, u.cancel_due;

-- name: ClaimSteps :many
-- Takes control steps that are due: beginning again, finishing, discarding a
-- session. For finishing the intent is committed here, before the call; what
-- it was before tells whether an earlier call may have taken effect. A pause
-- holds up neither a cancellation nor the discarding of a session.
WITH due AS (
    SELECT d.id, d.finish_intent_at AS intent_before FROM uploads d
    WHERE (d.state IN ('beginning', 'finishing') OR d.abort_due) AND NOT d.waits AND d.probe_since IS NULL AND d.step_at <= now()
      AND (d.abort_due OR d.cancel_due OR NOT d.paused
          AND d.account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
          AND d.tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant'))
      AND (sqlc.narg(accounts)::text[] IS NULL OR d.account = ANY(sqlc.narg(accounts)::text[]))
      -- Not while the platform is not to be called: see windows.Hold.
      AND NOT EXISTS (SELECT 1 FROM call_holds h WHERE h.account = d.account AND h.held_until > now()
          AND h.call = CASE WHEN d.abort_due THEN 'abort' WHEN d.state = 'beginning' THEN 'begin'
              WHEN d.finish_intent_at IS NULL THEN 'finish' ELSE 'probe' END)
      AND (d.lease_until IS NULL OR d.lease_until < now())
    ORDER BY d.step_at LIMIT @most::int
    FOR UPDATE SKIP LOCKED
)
UPDATE uploads u SET lease_token = @lease_token, lease_until = now() + @lease::interval,
    finish_intent_at = CASE WHEN u.state = 'finishing' AND NOT u.cancel_due THEN coalesce(u.finish_intent_at, now())
        ELSE u.finish_intent_at END
FROM due WHERE u.id = due.id
RETURNING u.id, u.tenant, u.account, u.provider, u.pool, u.state, u.epoch, u.source_bucket, u.source_key,
    u.source_version, u.source_etag, u.size, u.name, u.content_type, u.options, u.digests, u.pass_digests, u.bucket_digest, u.session,
    u.session_expires, u.part_size, u.step_tries, due.intent_before, u.finish_log, u.abort_due, u.cancel_due;

-- name: MoveClaimed :many
-- queued to digesting or beginning, by the holder of the lease, who loses it
-- where the upload has to wait for another one of the same bytes.
UPDATE uploads SET state = @to_state, reason = @reason, digests = @digests::text[], pass_digests = @pass_digests::text[],
    lease_token = CASE WHEN @keep_lease::bool THEN lease_token END,
    lease_until = CASE WHEN @keep_lease::bool THEN lease_until END
WHERE id = @id AND state = 'queued' AND lease_token = @lease_token
RETURNING waits;

-- name: RecordBegun :many
-- A session is open: the epoch counts up and its parts are still to be sent.
UPDATE uploads u SET state = 'uploading', reason = '', epoch = b.epoch, part_size = b.part_size,
    part_count = b.part_count, session = b.session, session_expires = nullif(b.expires, '0001-01-01 00:00:00+00'::timestamptz),
    fed = 0, fed_bytes = 0, found_bytes = 0, acked_parts = 0, acked_bytes = 0, feed_after = now(),
    begun_at = coalesce(u.begun_at, now()), session_number = u.session_number + 1, lease_token = NULL, lease_until = NULL, step_tries = 0,
    digest_checkpoint = NULL, finish_intent_at = NULL, finish_log = '[]',
    bucket_digest = coalesce(nullif(b.bucket_digest, ''), u.bucket_digest)
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@lease_tokens::uuid[]) AS lease_token, unnest(@bucket_digests::text[]) AS bucket_digest,
        unnest(@epochs::int[]) AS epoch, unnest(@part_sizes::bigint[]) AS part_size,
        unnest(@part_counts::int[]) AS part_count, unnest(@sessions::bytea[]) AS session,
        unnest(@expires::timestamptz[]) AS expires) AS b
WHERE u.id = b.id AND u.state::text = 'beginning' AND u.lease_token = b.lease_token AND u.epoch = b.epoch - 1
RETURNING u.id;

-- name: RecordAssets :many
-- The asset is there: after finish, after a probe, or at once (instant upload).
-- The links of its digest chain are kept with it.
WITH moved AS (
UPDATE uploads u SET state = 'completed', reason = a.reason, asset = a.asset::jsonb, finished_at = now(),
    begun_at = coalesce(u.begun_at, now()), session = NULL, session_expires = NULL, abort_due = false, cancel_due = false,
    part_size = CASE WHEN a.instant THEN NULL ELSE u.part_size END,
    part_count = CASE WHEN a.instant THEN NULL ELSE u.part_count END,
    acked_parts = CASE WHEN a.instant THEN 0 ELSE u.acked_parts END,
    acked_bytes = CASE WHEN a.instant THEN 0 ELSE u.acked_bytes END,
    lease_token = NULL, lease_until = NULL, step_tries = 0
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@lease_tokens::uuid[]) AS lease_token,
        unnest(@assets::text[]) AS asset, unnest(@instants::bool[]) AS instant, unnest(@reasons::text[]) AS reason) AS a
WHERE u.id = a.id AND u.lease_token = a.lease_token
  AND u.state = (CASE WHEN a.instant THEN 'beginning' ELSE 'finishing' END)::upload_state
RETURNING u.id, u.epoch
), linked AS (
    INSERT INTO digest_links (upload_id, epoch, stage, kind, expected, expected_from, got, got_from, matched, note)
    SELECT m.id, m.epoch, l.stage, l.kind, l.expected, l.expected_from, l.got, l.got_from,
        CASE WHEN l.compared THEN l.matched END, l.note
    FROM (SELECT unnest(@link_ids::uuid[]) AS id, unnest(@stages::text[]) AS stage, unnest(@kinds::text[]) AS kind,
            unnest(@expected::text[]) AS expected, unnest(@expected_from::text[]) AS expected_from,
            unnest(@got::text[]) AS got, unnest(@got_from::text[]) AS got_from, unnest(@compared::bool[]) AS compared,
            unnest(@matched::bool[]) AS matched, unnest(@notes::text[]) AS note) AS l
    JOIN moved m ON m.id = l.id
    ON CONFLICT DO NOTHING
)
SELECT id FROM moved;

-- name: PostponeStep :execrows
-- The step is tried again later. keep_intent says that the outcome of finish
-- is unknown, so that the next holder of the lease must probe. A cancellation
-- that waits for a definite answer waits no longer. Of what was asked and
-- answered the first and the last are kept.
UPDATE uploads SET step_at = CASE WHEN cancel_due AND NOT @keep_intent::bool THEN now() ELSE now() + @delay::interval END,
    step_tries = step_tries + @tries::int, lease_token = NULL, lease_until = NULL,
    finish_intent_at = CASE WHEN @keep_intent::bool THEN finish_intent_at END,
    finish_log = CASE WHEN jsonb_array_length(finish_log) < 20 THEN finish_log ELSE finish_log - 10 - 10 END || @notes::jsonb
WHERE id = @id AND lease_token = @lease_token;

-- name: BeginAgain :execrows
-- The upstream session is lost: back to beginning, which opens a new epoch. While
-- a probe is due, a lost session may be a finished one, and only its holder knows.
UPDATE uploads SET state = 'beginning', reason = @reason, step_tries = 0,
    step_at = CASE WHEN cancel_due THEN now() ELSE now() + @delay::interval END,
    lease_token = NULL, lease_until = NULL, finish_intent_at = NULL, probe_since = NULL
WHERE id = @id AND epoch = @epoch AND ((state = 'uploading' AND probe_since IS NULL)
    OR (state IN ('uploading', 'finishing') AND lease_token = sqlc.narg(lease_token)::uuid));

-- name: Fail :many
-- Fails an upload that is active and, where a lease is named, still held under
-- it. Without one it is workers that tell why, and what they say late of a part
-- is nothing to an upload that finishes. Where the outcome of finish is unknown, session and
-- intent stay for the probe of a retry. What digest passes found of the object
-- is forgotten with the failure or not at all: a probe may need it.
WITH failed AS (
UPDATE uploads SET state = 'failed', reason = @reason, failure = @failure, finished_at = now(), probe_since = NULL,
    abort_due = session IS NOT NULL AND NOT @outcome_unknown::bool,
    finish_intent_at = CASE WHEN @outcome_unknown::bool THEN finish_intent_at END, cancel_due = false,
    withdraw_due = withdraw_due OR state::text IN ('digesting', 'uploading'),
    digests = CASE WHEN @forget_pass::bool THEN ARRAY(SELECT d FROM unnest(digests) AS d WHERE d <> ALL(pass_digests)) ELSE digests END,
    pass_digests = CASE WHEN @forget_pass::bool THEN '{}' ELSE pass_digests END,
    step_at = now(), step_tries = 0, lease_token = NULL, lease_until = NULL
WHERE id = @id AND epoch = @epoch AND state IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing')
  AND (sqlc.narg(lease_token)::uuid IS NULL AND probe_since IS NULL AND state <> 'finishing'
      AND (lease_until IS NULL OR state = 'uploading') OR lease_token = sqlc.narg(lease_token)::uuid)
RETURNING id, source_bucket, source_key, source_version, source_etag
), forgotten AS (
    DELETE FROM object_digests o USING failed f
    WHERE @forget_pass::bool AND o.bucket = f.source_bucket AND o.key = f.source_key AND o.version = f.source_version AND o.etag = f.source_etag
)
SELECT id FROM failed;

-- name: RecordAborted :execrows
UPDATE uploads SET abort_due = false, session = NULL, session_expires = NULL, lease_token = NULL, lease_until = NULL
WHERE id = @id AND lease_token = @lease_token AND abort_due;

-- name: KnownDigests :many
SELECT digest FROM object_digests WHERE bucket = @bucket AND key = @key AND version = @version AND etag = @etag;

-- name: InsertDigests :exec
INSERT INTO object_digests (bucket, key, version, etag, digest, kind)
SELECT @bucket::text, @key::text, @version::text, @etag::text, d, split_part(d, ':', 1)
FROM unnest(@digests::text[]) AS d
ON CONFLICT DO NOTHING;

-- name: RecordDigested :execrows
UPDATE uploads SET state = 'beginning', reason = 'digest known', digest_checkpoint = NULL,
    digests = ARRAY(SELECT d FROM unnest(digests) AS d
        WHERE split_part(d, ':', 1) NOT IN (SELECT split_part(made, ':', 1) FROM unnest(@digests::text[]) AS made)) || @digests::text[],
    pass_digests = ARRAY(SELECT made FROM unnest(@digests::text[]) AS made WHERE made <> ALL(digests) OR made = ANY(pass_digests)),
    step_at = now(), step_tries = 0
WHERE id = @id AND state = 'digesting' AND source_etag = @etag;

-- name: RecordCheckpoint :execrows
UPDATE uploads SET digest_checkpoint = @checkpoint
WHERE id = @id AND state = 'digesting' AND source_etag = @etag
  AND coalesce((digest_checkpoint ->> 'offset')::bigint, 0) < @digest_offset::bigint;

-- name: Digesting :many
SELECT id, account, pool, feed_count, feed_after <= now() AS due FROM uploads
WHERE state = 'digesting' AND NOT paused AND NOT withdraw_due
  AND account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
  AND tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant')
ORDER BY id LIMIT @most::int;

-- name: TouchDigesting :execrows
-- Counts a publication of the digest job, so that its publish id is a new one.
UPDATE uploads SET feed_count = feed_count + 1, feed_after = now() + @delay::interval
WHERE id = @id AND state = 'digesting' AND NOT paused AND NOT withdraw_due
  AND account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
  AND tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant');

-- name: Assignable :many
-- What workers ask for; only uploads that may be worked on answer.
SELECT id, account, provider, state, epoch, source_bucket, source_key, source_version, source_etag, size, part_size,
    digests, pass_digests, bucket_digest, session, session_number, digest_checkpoint
FROM uploads WHERE id = ANY(@ids::uuid[]) AND state::text IN ('uploading', 'digesting') AND NOT paused AND NOT withdraw_due AND probe_since IS NULL
  AND account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
  AND tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant');

-- name: ClaimRenewals :many
-- Takes sessions that will lapse within their provider's margin.
WITH due AS (
    SELECT d.id FROM uploads d
    JOIN (SELECT unnest(@providers::text[]) AS provider, unnest(@margins::interval[]) AS margin) AS m ON m.provider = d.provider
    WHERE d.state = 'uploading' AND d.session_expires < now() + m.margin
      AND (d.lease_until IS NULL OR d.lease_until < now())
    ORDER BY d.session_expires LIMIT @most::int
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE uploads u SET lease_token = @lease_token, lease_until = now() + @lease::interval
FROM due WHERE u.id = due.id
RETURNING u.id, u.tenant, u.account, u.provider, u.pool, u.state, u.epoch, u.source_bucket, u.source_key,
    u.source_version, u.source_etag, u.size, u.name, u.content_type, u.options, u.digests, u.pass_digests, u.bucket_digest, u.session,
    u.session_expires, u.part_size, u.step_tries, u.finish_intent_at AS intent_before, u.finish_log, u.abort_due, u.cancel_due;

-- name: RecordRenewed :execrows
-- The same session, prolonged: the epoch and its parts stay. The lease is given
-- up where it was taken for the renewal alone.
UPDATE uploads SET session = @session, session_expires = sqlc.narg(expires)::timestamptz, session_number = session_number + 1,
    lease_token = CASE WHEN @keep_lease::bool THEN lease_token END,
    lease_until = CASE WHEN @keep_lease::bool THEN lease_until END
WHERE id = @id AND epoch = @epoch AND lease_token = @lease_token AND state IN ('uploading', 'finishing');

-- name: ReleaseLease :exec
UPDATE uploads SET lease_token = NULL, lease_until = NULL WHERE id = @id AND lease_token = @lease_token;

-- name: RefuseSession :one
-- The platform refuses a session: counted once, however many parts it is refused
-- to, and due for renewal at once. A session of before says nothing of the
-- present one, which number 0 stands for, of a worker that knows of none.
UPDATE uploads SET
    refusals = refusals + (session_refused < session_number)::int,
    session_expires = CASE WHEN session_refused < session_number THEN now() ELSE session_expires END,
    session_refused = session_number
WHERE id = @id AND epoch = @epoch AND state = @state AND @number::int IN (0, session_number)
RETURNING refusals, (now() - session_expires)::interval AS waits;

-- name: RenewLeases :many
-- Keeps the steps in hand of a process that lives from being claimed by another.
-- What is not returned has passed on.
WITH ours AS MATERIALIZED (
    SELECT l.id FROM uploads l
    WHERE l.id = ANY(@ids::uuid[]) AND l.lease_token = ANY(@lease_tokens::uuid[])
    ORDER BY l.id FOR UPDATE -- in id order, as all do: see inIDOrder
)
UPDATE uploads u SET lease_until = now() + @lease::interval
FROM ours WHERE u.id = ours.id
RETURNING u.id;
