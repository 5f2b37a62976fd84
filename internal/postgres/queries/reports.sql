-- name: TakeRollUps :one
-- One at a time adds to the roll-ups: held to the end of the transaction, as is
-- the memory that its sums take.
SELECT (pg_try_advisory_xact_lock(hashtextextended('roll-ups', 0)) AND set_config('work_mem', '32MB', true) <> '')::bool;

-- name: AwaitRollUps :exec
SELECT pg_advisory_xact_lock(hashtextextended('roll-ups', 0));

-- name: FoldParts :many
-- Adds parts to the roll-ups: of epochs that go on, those up to the first gap, of
-- those that are over, all. In a transaction that took the roll-ups before: its
-- snapshot has what the one before it folded.
WITH due AS MATERIALIZED (
    SELECT row_number() OVER () AS nth, d.upload_id, d.epoch, d.folded, d.tenant, d.account, d.provider, d.over
    FROM (
        SELECT e.upload_id, e.epoch, e.folded, u.tenant, u.account, u.provider,
            (u.epoch > e.epoch OR u.state::text IN ('completed', 'failed', 'cancelled')) AS over
        FROM upload_epochs e JOIN uploads u ON u.id = e.upload_id
        WHERE NOT e.ended AND (e.upload_id, e.epoch) > (@after_upload::uuid, @after_epoch::int)
          AND (u.epoch > e.epoch OR u.state::text IN ('completed', 'failed', 'cancelled') OR u.acked_parts - e.folded >= @worth::int)
        ORDER BY e.upload_id, e.epoch LIMIT @most_epochs::int
    ) d
), taken AS MATERIALIZED (
    SELECT d.nth, a.part, a.length, a.worker, a.delivery > 1 AS redelivered, a.found, date_trunc('minute', a.acked_at) AS minute,
        a.acked_at - a.started_at AS took
    FROM due d CROSS JOIN LATERAL (
        SELECT p.part, p.length, p.worker, p.delivery, p.found, p.started_at, p.acked_at, row_number() OVER (ORDER BY p.part) AS nth
        FROM part_acks p
        WHERE p.upload_id = d.upload_id AND p.epoch = d.epoch AND p.part > d.folded
        ORDER BY p.part LIMIT @most_parts::int
    ) a
    WHERE d.over OR a.part = d.folded + a.nth
), cells AS MATERIALIZED (
    SELECT t.nth, t.minute, t.worker, t.found, max(t.part) AS upto, count(*) AS parts, sum(t.length) AS bytes, sum(t.took) AS part_time,
        count(*) FILTER (WHERE t.redelivered) AS redelivered_parts, coalesce(sum(t.length) FILTER (WHERE t.redelivered), 0) AS redelivered_bytes
    FROM taken t GROUP BY t.nth, t.minute, t.worker, t.found
), minutes AS (
    INSERT INTO rollup_minutes AS r (minute, tenant, account, provider, worker, parts, bytes, part_time, redelivered_parts)
    SELECT c.minute, d.tenant, d.account, d.provider, c.worker, sum(c.parts), sum(c.bytes), sum(c.part_time), sum(c.redelivered_parts)
    FROM cells c JOIN due d ON d.nth = c.nth WHERE NOT c.found GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT ON CONSTRAINT rollup_minutes_pkey DO UPDATE SET parts = r.parts + excluded.parts, bytes = r.bytes + excluded.bytes,
        part_time = r.part_time + excluded.part_time, redelivered_parts = r.redelivered_parts + excluded.redelivered_parts
), hours AS (
    INSERT INTO rollup_hours AS r (hour, tenant, account, provider, worker, parts, bytes, part_time)
    SELECT date_trunc('hour', c.minute, 'UTC'), d.tenant, d.account, d.provider, c.worker, sum(c.parts), sum(c.bytes), sum(c.part_time)
    FROM cells c JOIN due d ON d.nth = c.nth WHERE NOT c.found GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT ON CONSTRAINT rollup_hours_pkey DO UPDATE SET parts = r.parts + excluded.parts, bytes = r.bytes + excluded.bytes,
        part_time = r.part_time + excluded.part_time
), durations AS (
    INSERT INTO rollup_durations AS r (day, tenant, account, provider, measure, step, count, seconds)
    SELECT date_trunc('day', s.minute, 'UTC'), d.tenant, d.account, d.provider, 'part', s.step, sum(s.parts), sum(s.seconds)
    FROM (
        SELECT t.nth, t.minute, ceil(ln(greatest(date_part('epoch', t.took), 0.001)) / ln(1.05::float8))::int AS step,
            count(*) AS parts, sum(date_part('epoch', t.took)) AS seconds
        FROM taken t WHERE NOT t.found GROUP BY 1, 2, 3
    ) s JOIN due d ON d.nth = s.nth GROUP BY 1, 2, 3, 4, 6
    ON CONFLICT ON CONSTRAINT rollup_durations_pkey DO UPDATE SET count = r.count + excluded.count, seconds = r.seconds + excluded.seconds
), counted AS (
    SELECT c.nth, max(c.upto)::int AS upto, sum(c.parts)::int AS parts,
        coalesce(sum(c.parts) FILTER (WHERE NOT c.found), 0)::int AS sent_parts,
        coalesce(sum(c.bytes) FILTER (WHERE NOT c.found), 0)::bigint AS sent_bytes,
        coalesce(sum(c.bytes) FILTER (WHERE c.found), 0)::bigint AS found_bytes,
        coalesce(sum(c.redelivered_bytes) FILTER (WHERE NOT c.found), 0)::bigint AS redelivered_bytes
    FROM cells c GROUP BY c.nth
)
UPDATE upload_epochs e SET folded = coalesce(c.upto, e.folded),
    ended = d.over AND coalesce(c.parts, 0) < @most_parts::int,
    sent_parts = e.sent_parts + coalesce(c.sent_parts, 0), sent_bytes = e.sent_bytes + coalesce(c.sent_bytes, 0),
    found_bytes = e.found_bytes + coalesce(c.found_bytes, 0),
    redelivered_bytes = e.redelivered_bytes + coalesce(c.redelivered_bytes, 0)
FROM due d LEFT JOIN counted c ON c.nth = d.nth
WHERE e.upload_id = d.upload_id AND e.epoch = d.epoch
RETURNING e.upload_id, e.epoch, coalesce(c.parts, 0)::int AS parts;

-- name: EndedUploads :many
-- Uploads that are final and of which the roll-ups have every part, but not the rest.
SELECT n.upload_id FROM unfolded_uploads n JOIN uploads u ON u.id = n.upload_id
WHERE u.state::text IN ('completed', 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM upload_epochs e WHERE e.upload_id = n.upload_id AND NOT e.ended)
ORDER BY n.upload_id LIMIT @most::int;

-- name: MarkFolded :exec
DELETE FROM unfolded_uploads n WHERE n.upload_id = ANY(@ids::uuid[]);

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
FROM unfolded_ends u WHERE u.id = ANY(@ids::uuid[]) GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT ON CONSTRAINT rollup_uploads_pkey DO UPDATE SET uploads = r.uploads + excluded.uploads, bytes = r.bytes + excluded.bytes,
    instant_uploads = r.instant_uploads + excluded.instant_uploads, instant_bytes = r.instant_bytes + excluded.instant_bytes,
    sent_bytes = r.sent_bytes + excluded.sent_bytes, found_bytes = r.found_bytes + excluded.found_bytes,
    again_bytes = r.again_bytes + excluded.again_bytes, redelivered_bytes = r.redelivered_bytes + excluded.redelivered_bytes,
    failed_bytes = r.failed_bytes + excluded.failed_bytes, within_5m = r.within_5m + excluded.within_5m,
    within_1h = r.within_1h + excluded.within_1h, within_1d = r.within_1d + excluded.within_1d;

-- name: RollUpDurations :exec
INSERT INTO rollup_durations AS r (day, tenant, account, provider, measure, step, count, seconds)
SELECT u.day, u.tenant, u.account, u.provider, u.measure, ceil(ln(greatest(u.seconds, 0.001)) / ln(1.05::float8))::int, count(*), sum(u.seconds)
FROM unfolded_durations u WHERE u.upload_id = ANY(@ids::uuid[]) GROUP BY 1, 2, 3, 4, 5, 6
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
    unfolded AS (DELETE FROM unfolded_uploads n WHERE n.upload_id = ANY(@ids::uuid[])),
    epochs AS (DELETE FROM upload_epochs e WHERE e.upload_id = ANY(@ids::uuid[])),
    joined AS (DELETE FROM submissions s WHERE s.upload_id = ANY(@ids::uuid[])),
    strays AS (DELETE FROM part_acks_default a WHERE a.upload_id = ANY(@ids::uuid[]))
DELETE FROM uploads u WHERE u.id = ANY(@ids::uuid[]);
