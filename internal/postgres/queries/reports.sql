-- name: TakeRollUps :one
-- One at a time adds to the roll-ups: held to the end of the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('roll-ups', 0));

-- name: AwaitRollUps :exec
SELECT pg_advisory_xact_lock(hashtextextended('roll-ups', 0));

-- name: FoldParts :many
-- Adds parts to the roll-ups: of epochs that go on, those up to the first gap, of
-- those that are over, all. In a transaction that took the roll-ups before: its
-- snapshot has what the one before it folded.
WITH due AS MATERIALIZED (
    SELECT e.upload_id, e.epoch, e.folded, u.tenant, u.account, u.provider,
        (u.epoch > e.epoch OR u.state::text IN ('completed', 'failed', 'cancelled')) AS over
    FROM upload_epochs e JOIN uploads u ON u.id = e.upload_id
    WHERE NOT e.ended AND (e.upload_id, e.epoch) > (@after_upload::uuid, @after_epoch::int)
      AND (u.epoch > e.epoch OR u.state::text IN ('completed', 'failed', 'cancelled') OR u.acked_parts - e.folded >= @worth::int)
    ORDER BY e.upload_id, e.epoch LIMIT @most_epochs::int
), taken AS MATERIALIZED (
    SELECT d.upload_id, d.epoch, d.tenant, d.account, d.provider, a.part, a.length, a.worker, a.delivery, a.found, a.started_at, a.acked_at
    FROM due d CROSS JOIN LATERAL (
        SELECT p.part, p.length, p.worker, p.delivery, p.found, p.started_at, p.acked_at, row_number() OVER (ORDER BY p.part) AS nth
        FROM part_acks p
        WHERE p.upload_id = d.upload_id AND p.epoch = d.epoch AND p.part > d.folded
        ORDER BY p.part LIMIT @most_parts::int
    ) a
    WHERE d.over OR a.part = d.folded + a.nth
), minutes AS (
    INSERT INTO rollup_minutes AS r (minute, tenant, account, provider, worker, parts, bytes, part_time, redelivered_parts)
    SELECT date_trunc('minute', t.acked_at), t.tenant, t.account, t.provider, t.worker, count(*), sum(t.length), sum(t.acked_at - t.started_at),
        count(*) FILTER (WHERE t.delivery > 1)
    FROM taken t WHERE NOT t.found GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT ON CONSTRAINT rollup_minutes_pkey DO UPDATE SET parts = r.parts + excluded.parts, bytes = r.bytes + excluded.bytes,
        part_time = r.part_time + excluded.part_time, redelivered_parts = r.redelivered_parts + excluded.redelivered_parts
), durations AS (
    INSERT INTO rollup_durations AS r (day, tenant, account, provider, measure, step, count, seconds)
    SELECT date_trunc('day', s.acked_at, 'UTC'), s.tenant, s.account, s.provider, 'part',
        ceil(ln(greatest(s.seconds, 0.001)) / ln(1.05::float8))::int, count(*), sum(s.seconds)
    FROM (
        SELECT t.acked_at, t.tenant, t.account, t.provider, extract(epoch FROM t.acked_at - t.started_at)::float8 AS seconds
        FROM taken t WHERE NOT t.found
    ) s GROUP BY 1, 2, 3, 4, 6
    ON CONFLICT ON CONSTRAINT rollup_durations_pkey DO UPDATE SET count = r.count + excluded.count, seconds = r.seconds + excluded.seconds
), counted AS (
    SELECT t.upload_id, t.epoch, max(t.part)::int AS upto, count(*)::int AS parts,
        (count(*) FILTER (WHERE NOT t.found))::int AS sent_parts,
        coalesce(sum(t.length) FILTER (WHERE NOT t.found), 0)::bigint AS sent_bytes,
        coalesce(sum(t.length) FILTER (WHERE t.found), 0)::bigint AS found_bytes,
        coalesce(sum(t.length) FILTER (WHERE NOT t.found AND t.delivery > 1), 0)::bigint AS redelivered_bytes
    FROM taken t GROUP BY t.upload_id, t.epoch
)
UPDATE upload_epochs e SET folded = coalesce(c.upto, e.folded),
    ended = d.over AND coalesce(c.parts, 0) < @most_parts::int,
    sent_parts = e.sent_parts + coalesce(c.sent_parts, 0), sent_bytes = e.sent_bytes + coalesce(c.sent_bytes, 0),
    found_bytes = e.found_bytes + coalesce(c.found_bytes, 0),
    redelivered_bytes = e.redelivered_bytes + coalesce(c.redelivered_bytes, 0)
FROM due d LEFT JOIN counted c ON c.upload_id = d.upload_id AND c.epoch = d.epoch
WHERE e.upload_id = d.upload_id AND e.epoch = d.epoch
RETURNING e.upload_id, e.epoch, coalesce(c.parts, 0)::int AS parts;

-- name: FoldCalls :exec
-- Adds the calls of published rates to the roll-ups.
WITH counted AS MATERIALIZED (
    SELECT c.account, c.call, c.taken, c.waits, c.counted_at FROM call_rates c WHERE c.taken > 0 OR c.waits > 0
    ORDER BY c.account, c.call FOR UPDATE
), cleared AS (
    UPDATE call_rates r SET taken = 0, waits = 0 FROM counted c WHERE r.account = c.account AND r.call = c.call
)
INSERT INTO rollup_calls AS r (hour, account, call, calls, waits)
SELECT date_trunc('hour', c.counted_at, 'UTC'), c.account, c.call, c.taken, c.waits FROM counted c
ON CONFLICT ON CONSTRAINT rollup_calls_pkey DO UPDATE SET calls = r.calls + excluded.calls, waits = r.waits + excluded.waits;

-- name: OpenEpochs :one
-- Epochs of these uploads that the roll-ups do not have whole.
SELECT count(*) FROM upload_epochs WHERE NOT ended AND upload_id = ANY(@ids::uuid[]);

-- name: MonthUploads :one
-- What there is of a month's uploads, and what keeps it from being pruned.
SELECT count(*) AS uploads,
    count(*) FILTER (WHERE u.state = 'failed') AS failed,
    count(*) FILTER (WHERE u.state NOT IN ('completed', 'failed', 'cancelled') OR u.abort_due OR u.withdraw_due) AS unfinished,
    count(*) FILTER (WHERE u.finished_at >= @cutoff::timestamptz) AS late,
    coalesce((array_agg(u.id ORDER BY u.id) FILTER (WHERE u.state NOT IN ('completed', 'cancelled') OR u.abort_due OR u.withdraw_due
        OR u.finished_at >= @cutoff::timestamptz))[1]::text, '')::text AS example
FROM uploads u WHERE u.id >= @low::uuid AND u.id < @high::uuid;

-- name: PrunableUploads :many
-- A batch of a month's uploads, locked so that none of them is retried meanwhile.
SELECT id, (coalesce((state IN ('completed', 'cancelled') OR state = 'failed' AND @with_failed::bool)
    AND NOT abort_due AND NOT withdraw_due AND finished_at < @cutoff::timestamptz, false))::bool AS prunable
FROM uploads WHERE id >= @low::uuid AND id < @high::uuid
ORDER BY id LIMIT @most::int FOR UPDATE;

-- name: RollUpUploads :exec
INSERT INTO rollup_uploads AS r (day, tenant, account, provider, outcome, cause, uploads, bytes, instant_uploads, instant_bytes,
    sent_bytes, found_bytes, again_bytes, redelivered_bytes, failed_bytes, within_5m, within_1h, within_1d)
SELECT u.day, u.tenant, u.account, u.provider, u.outcome, u.cause, count(*), sum(u.size), count(*) FILTER (WHERE u.instant),
    coalesce(sum(u.size) FILTER (WHERE u.instant), 0), sum(u.sent_bytes), sum(u.found_bytes), sum(u.again_bytes), sum(u.redelivered_bytes),
    sum(u.failed_bytes), count(*) FILTER (WHERE u.seconds <= 300), count(*) FILTER (WHERE u.seconds <= 3600),
    count(*) FILTER (WHERE u.seconds <= 86400)
FROM ended_uploads u WHERE u.id = ANY(@ids::uuid[]) GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT ON CONSTRAINT rollup_uploads_pkey DO UPDATE SET uploads = r.uploads + excluded.uploads, bytes = r.bytes + excluded.bytes,
    instant_uploads = r.instant_uploads + excluded.instant_uploads, instant_bytes = r.instant_bytes + excluded.instant_bytes,
    sent_bytes = r.sent_bytes + excluded.sent_bytes, found_bytes = r.found_bytes + excluded.found_bytes,
    again_bytes = r.again_bytes + excluded.again_bytes, redelivered_bytes = r.redelivered_bytes + excluded.redelivered_bytes,
    failed_bytes = r.failed_bytes + excluded.failed_bytes, within_5m = r.within_5m + excluded.within_5m,
    within_1h = r.within_1h + excluded.within_1h, within_1d = r.within_1d + excluded.within_1d;

-- name: RollUpDurations :exec
INSERT INTO rollup_durations AS r (day, tenant, account, provider, measure, step, count, seconds)
SELECT u.day, u.tenant, u.account, u.provider, u.measure, ceil(ln(greatest(u.seconds, 0.001)) / ln(1.05::float8))::int, count(*), sum(u.seconds)
FROM upload_durations u WHERE u.upload_id = ANY(@ids::uuid[]) GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT ON CONSTRAINT rollup_durations_pkey DO UPDATE SET count = r.count + excluded.count, seconds = r.seconds + excluded.seconds;

-- name: RollUpFailures :exec
INSERT INTO rollup_failures AS r (hour, account, kind, code, failures, excused, uploads, last_at)
SELECT date_trunc('hour', f.failed_at, 'UTC'), f.account, f.kind, f.code, count(*), count(*) FILTER (WHERE f.excused),
    count(DISTINCT f.upload_id), max(f.failed_at)
FROM part_failures f WHERE f.upload_id = ANY(@ids::uuid[]) GROUP BY 1, 2, 3, 4
ON CONFLICT ON CONSTRAINT rollup_failures_pkey DO UPDATE SET failures = r.failures + excluded.failures, excused = r.excused + excluded.excused,
    uploads = r.uploads + excluded.uploads, last_at = greatest(r.last_at, excluded.last_at);

-- name: DeleteUploads :execrows
-- With all that is kept of them but the ledger's months, which are dropped whole.
WITH changes AS (DELETE FROM state_changes c WHERE c.upload_id = ANY(@ids::uuid[])),
    failures AS (DELETE FROM part_failures f WHERE f.upload_id = ANY(@ids::uuid[])),
    links AS (DELETE FROM digest_links l WHERE l.upload_id = ANY(@ids::uuid[])),
    events AS (DELETE FROM outbox o WHERE o.upload_id = ANY(@ids::uuid[])),
    epochs AS (DELETE FROM upload_epochs e WHERE e.upload_id = ANY(@ids::uuid[])),
    strays AS (DELETE FROM part_acks_default a WHERE a.upload_id = ANY(@ids::uuid[]))
DELETE FROM uploads u WHERE u.id = ANY(@ids::uuid[]);
