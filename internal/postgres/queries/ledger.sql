-- name: RecordAcks :many
-- The ledger transaction. Stale epochs, parts outside the plan and repeated
-- acks drop out; what is new is counted on its upload, and the count that
-- covers every byte moves it to finishing, here and nowhere else.
WITH locked AS MATERIALIZED (
    SELECT u.id, u.epoch, u.size, u.part_size, u.fed FROM uploads u
    WHERE u.id = ANY(@touched::uuid[]) AND u.state::text = 'uploading' -- text: by primary key, see store.go
    ORDER BY u.id FOR UPDATE -- in id order: two batches cannot deadlock
), fresh AS (
    INSERT INTO part_acks (upload_id, epoch, part, "offset", length, receipt, digest, read_digest, confirmed, worker, delivery, found, started_at, acked_at)
    SELECT a.upload_id, a.epoch, a.part, a."offset", a.length, a.receipt, a.digest, a.read_digest, a.confirmed, a.worker, a.delivery, a.found, a.started_at, a.acked_at
    FROM (SELECT unnest(@upload_ids::uuid[]) AS upload_id, unnest(@epochs::int[]) AS epoch, unnest(@parts::int[]) AS part,
            unnest(@offsets::bigint[]) AS "offset", unnest(@lengths::bigint[]) AS length, unnest(@receipts::text[]) AS receipt,
            unnest(@digests::text[]) AS digest, unnest(@read_digests::text[]) AS read_digest,
            unnest(@confirmed::bool[]) AS confirmed, unnest(@workers::text[]) AS worker, unnest(@deliveries::int[]) AS delivery,
            unnest(@founds::bool[]) AS found, unnest(@started_ats::timestamptz[]) AS started_at,
            unnest(@acked_ats::timestamptz[]) AS acked_at) AS a
    JOIN locked l ON l.id = a.upload_id AND l.epoch = a.epoch
        AND a.part >= 1 AND a."offset" = (a.part - 1) * l.part_size
        AND a.length = least(l.part_size, l.size - a."offset")
    ON CONFLICT DO NOTHING
    RETURNING upload_id, part, length, found
), counted AS (
    -- ahead: of runs that were withdrawn, so the feed is behind them.
    SELECT f.upload_id, count(*)::int AS parts, sum(f.length)::bigint AS bytes,
        coalesce(sum(f.length) FILTER (WHERE f.found), 0)::bigint AS found,
        coalesce(sum(f.length) FILTER (WHERE NOT f.found AND f.part > l.fed), 0)::bigint AS ahead
    FROM fresh f JOIN locked l ON l.id = f.upload_id GROUP BY f.upload_id
)
UPDATE uploads u SET
    fed_bytes = u.fed_bytes + c.ahead,
    acked_parts = u.acked_parts + c.parts,
    acked_bytes = u.acked_bytes + c.bytes,
    found_bytes = u.found_bytes + c.found,
    first_ack_at = coalesce(u.first_ack_at, now()),
    last_ack_at = now(), refusals = 0,
    state = CASE WHEN u.acked_parts + c.parts = u.part_count THEN 'finishing' ELSE u.state END,
    reason = CASE WHEN u.acked_parts + c.parts = u.part_count THEN 'last byte acknowledged' ELSE u.reason END,
    step_at = CASE WHEN u.acked_parts + c.parts = u.part_count THEN now() ELSE u.step_at END
FROM counted c WHERE u.id = c.upload_id
RETURNING u.id, u.account, u.state, c.parts, c.bytes;

-- name: InsertFailures :exec
-- What failed while the account's platform was down is excused: it says nothing
-- of the upload. An outage beyond the patience excuses no more.
INSERT INTO part_failures (upload_id, account, epoch, part, kind, code, message, stage, worker, delivery, started_at, failed_at, excused)
SELECT f.upload_id, f.account, f.epoch, f.part, f.kind, f.code, f.message, f.stage, f.worker, f.delivery, f.started_at, f.failed_at,
    f.kind = ANY(@silent_kinds::text[]) AND EXISTS (SELECT 1 FROM call_holds h
        WHERE h.account = f.account AND h.down_since > now() - @patience::interval
          AND (h.call = @call::text OR f.part = 0 AND f.worker = '')) -- a control step may be any call
FROM (SELECT unnest(@upload_ids::uuid[]) AS upload_id, unnest(@accounts::text[]) AS account, unnest(@epochs::int[]) AS epoch,
        unnest(@parts::int[]) AS part, unnest(@kinds::text[]) AS kind, unnest(@codes::text[]) AS code,
        unnest(@messages::text[]) AS message, unnest(@stages::text[]) AS stage, unnest(@workers::text[]) AS worker, unnest(@deliveries::int[]) AS delivery,
        unnest(@started_ats::timestamptz[]) AS started_at, unnest(@failed_ats::timestamptz[]) AS failed_at) AS f
ON CONFLICT DO NOTHING;

-- name: CountFailures :one
SELECT count(*) FROM part_failures WHERE upload_id = @upload_id AND epoch = @epoch AND part = @part AND NOT excused;

-- name: CountSteps :one
SELECT count(*) FROM part_failures WHERE upload_id = @upload_id AND epoch = @epoch AND part = 0 AND kind = @kind;

-- name: Receipts :many
-- What finish is given: the parts of the current epoch in order.
SELECT a.upload_id, a.part, a."offset", a.length, a.receipt, a.digest, a.read_digest FROM part_acks a
JOIN uploads u ON u.id = a.upload_id AND u.epoch = a.epoch
WHERE a.upload_id = ANY(@ids::uuid[])
ORDER BY a.upload_id, a.part;

-- name: AckedParts :one
SELECT coalesce(array_agg(part), '{}')::int[] FROM part_acks
WHERE upload_id = @upload_id AND epoch = @epoch AND part BETWEEN @first_part::int AND @last_part::int;

-- name: TakeFeedLock :exec
-- One feeder per account at a time: held to the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('feed ' || @account::text, 0));

-- name: InFlight :one
-- What is in flight, and what may be; 0 where nothing is known of the window.
SELECT coalesce(sum(fed_bytes + found_bytes - acked_bytes), 0)::bigint AS in_flight,
    coalesce((SELECT window_bytes FROM account_windows w WHERE w.account = @account), 0)::bigint AS window_bytes
FROM uploads u WHERE u.account = @account AND u.state = 'uploading';

-- name: InFlightUploads :many
SELECT id, size, part_size FROM uploads
WHERE account = @account AND state = 'uploading' AND fed_bytes + found_bytes > acked_bytes;

-- name: Feedable :many
-- Who is next: priority first, then age.
SELECT id, pool, epoch, size, part_size, fed, fed_bytes, found_bytes, acked_parts, feed_count FROM uploads
WHERE account = @account AND state = 'uploading' AND NOT paused AND NOT withdraw_due AND probe_since IS NULL AND fed < part_count
  AND account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
  AND tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant')
ORDER BY priority DESC, id LIMIT @most::int;

-- name: RecordFed :many
UPDATE uploads u SET fed = f.fed, fed_bytes = u.fed_bytes + f.bytes, feed_count = u.feed_count + 1,
    feed_after = now() + @grace::interval
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@epochs::int[]) AS epoch, unnest(@fed_before::int[]) AS fed_before,
        unnest(@feds::int[]) AS fed, unnest(@bytes::bigint[]) AS bytes,
        unnest(@ledger_reads::bool[]) AS ledger_read, unnest(@acked_before::int[]) AS acked_before) AS f
WHERE u.id = f.id AND u.state::text = 'uploading' AND NOT u.paused AND NOT u.withdraw_due AND u.probe_since IS NULL AND u.epoch = f.epoch
  AND u.fed = f.fed_before AND (NOT f.ledger_read OR u.acked_parts = f.acked_before)
RETURNING u.id;

-- name: Sweepable :many
-- Uploads with bytes in flight that have not been fed for a while; recent are
-- those that were.
SELECT id, account, pool, epoch, size, part_size, fed, feed_count, (feed_after > now())::bool AS recent FROM uploads
WHERE state = 'uploading' AND NOT paused AND NOT withdraw_due AND probe_since IS NULL AND fed_bytes + found_bytes > acked_bytes
  AND account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
  AND tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant')
  AND (feed_after <= now() OR @everything::bool)
  AND NOT EXISTS (SELECT 1 FROM call_holds h WHERE h.account = uploads.account AND h.call = @call::text AND h.held_until > now())
ORDER BY feed_after LIMIT @most::int;

-- name: RecordSwept :execrows
-- What is published once more by the ids of its last feed is not counted, and
-- looked at again when that feed's grace is over, or sooner.
UPDATE uploads SET feed_count = feed_count + CASE WHEN @same::bool THEN 0 ELSE 1 END,
    feed_after = CASE WHEN @same::bool THEN least(feed_after, now() + @grace::interval) ELSE now() + @grace::interval END
WHERE id = @id AND state = 'uploading' AND epoch = @epoch AND feed_count = @feed_count AND NOT paused AND NOT withdraw_due AND probe_since IS NULL;

-- name: HoldFeeding :exec
-- After a failure that was handed back: nothing is fed again before the delay is over.
UPDATE uploads SET feed_after = greatest(feed_after, now() + @delay::interval)
WHERE id = @id AND epoch = @epoch AND state IN ('uploading', 'digesting');

-- name: StreamMark :one
SELECT stream, created, last_seq FROM stream_marks WHERE stream = $1;

-- name: SetStreamMark :exec
INSERT INTO stream_marks (stream, created, last_seq, seen_at) VALUES (@stream, @created, @last_seq, now())
ON CONFLICT ON CONSTRAINT stream_marks_pkey DO UPDATE
SET created = excluded.created, last_seq = excluded.last_seq, seen_at = now();

-- name: NextEvents :many
SELECT id, tenant, type, payload FROM outbox ORDER BY id LIMIT @most::int FOR UPDATE SKIP LOCKED;

-- name: DeleteEvents :exec
DELETE FROM outbox WHERE id = ANY(@ids::bigint[]);

-- name: TakeCalls :one
SELECT take_calls(@account::text, @call::text, @calls::float8, @per_second::float8, @burst::float8)::float8 AS wait;
