-- +goose Up
-- Roll-ups: what reports need of the ledger and of pruned uploads, in little.
--
-- Nothing here is counted by time, since acks are committed in another order
-- than they are made. Of each epoch the roll-ups have the parts 1 to folded, as a
-- receiver acknowledges bytes up to the first gap, and the rest once the epoch is
-- over. The ledger only grows, so no part is missed and none is counted twice,
-- whoever folds and whenever it dies.

CREATE TABLE upload_epochs (
    upload_id         uuid    NOT NULL,
    epoch             integer NOT NULL,
    folded            integer NOT NULL DEFAULT 0,     -- the roll-ups have this part and those before it
    ended             boolean NOT NULL DEFAULT false, -- and all others, and there will be no more
    sent_parts        integer NOT NULL DEFAULT 0,     -- of those folded
    sent_bytes        bigint  NOT NULL DEFAULT 0,
    found_bytes       bigint  NOT NULL DEFAULT 0,     -- upstream before, not sent
    redelivered_bytes bigint  NOT NULL DEFAULT 0,     -- of sent_bytes, by a second delivery or a later one
    CONSTRAINT upload_epochs_pkey PRIMARY KEY (upload_id, epoch)
) WITH (fillfactor = 70);
CREATE INDEX upload_epochs_open ON upload_epochs (upload_id, epoch) WHERE NOT ended;

CREATE TABLE rollup_minutes (
    minute            timestamptz NOT NULL,
    tenant            text        NOT NULL,
    account           text        NOT NULL,
    provider          text        NOT NULL,
    worker            text        NOT NULL,
    parts             bigint      NOT NULL,
    bytes             bigint      NOT NULL,
    part_time         interval    NOT NULL, -- of all parts together
    redelivered_parts bigint      NOT NULL,
    CONSTRAINT rollup_minutes_pkey PRIMARY KEY (minute, account, worker, tenant, provider)
);

-- The same by the hour, for questions about months.
CREATE TABLE rollup_hours (
    hour      timestamptz NOT NULL, -- UTC
    tenant    text        NOT NULL,
    account   text        NOT NULL,
    provider  text        NOT NULL,
    worker    text        NOT NULL,
    parts     bigint      NOT NULL,
    bytes     bigint      NOT NULL,
    part_time interval    NOT NULL,
    CONSTRAINT rollup_hours_pkey PRIMARY KEY (hour, account, worker, tenant, provider)
);

-- How long things took, in steps of five per cent: step s has what took more than
-- 1.05^(s-1) seconds and up to 1.05^s.
CREATE TABLE rollup_durations (
    day      timestamptz      NOT NULL, -- on which it ended, UTC
    tenant   text             NOT NULL,
    account  text             NOT NULL,
    provider text             NOT NULL,
    measure  text             NOT NULL,
    step     integer          NOT NULL,
    count    bigint           NOT NULL,
    seconds  double precision NOT NULL, -- of all together
    CONSTRAINT rollup_durations_pkey PRIMARY KEY (day, account, measure, step, tenant, provider)
);

-- Uploads that were completed or cancelled, which is final. The others, and those
-- that ended just now, are counted from their rows as long as they are here.
CREATE TABLE unfolded_uploads (
    upload_id uuid NOT NULL CONSTRAINT unfolded_uploads_pkey PRIMARY KEY
);

CREATE TABLE rollup_uploads (
    day               timestamptz NOT NULL, -- on which they ended, UTC
    tenant            text        NOT NULL,
    account           text        NOT NULL,
    provider          text        NOT NULL,
    outcome           text        NOT NULL,
    cause             text        NOT NULL, -- of those that failed
    uploads           bigint      NOT NULL,
    bytes             bigint      NOT NULL,
    instant_uploads   bigint      NOT NULL,
    instant_bytes     bigint      NOT NULL,
    sent_bytes        bigint      NOT NULL,
    found_bytes       bigint      NOT NULL,
    again_bytes       bigint      NOT NULL,
    redelivered_bytes bigint      NOT NULL,
    failed_bytes      bigint      NOT NULL,
    within_5m         bigint      NOT NULL,
    within_1h         bigint      NOT NULL,
    within_1d         bigint      NOT NULL,
    CONSTRAINT rollup_uploads_pkey PRIMARY KEY (day, account, tenant, provider, outcome, cause)
);

-- Failed tries of uploads that were pruned.
CREATE TABLE rollup_failures (
    hour     timestamptz NOT NULL,
    account  text        NOT NULL,
    kind     text        NOT NULL,
    code     text        NOT NULL,
    failures bigint      NOT NULL,
    excused  bigint      NOT NULL,
    uploads  bigint      NOT NULL,
    last_at  timestamptz NOT NULL,
    CONSTRAINT rollup_failures_pkey PRIMARY KEY (hour, account, kind, code)
);

-- Calls that have a published rate.
CREATE TABLE rollup_calls (
    hour    timestamptz      NOT NULL,
    account text             NOT NULL,
    call    text             NOT NULL,
    calls   double precision NOT NULL,
    waits   bigint           NOT NULL,
    CONSTRAINT rollup_calls_pkey PRIMARY KEY (hour, account, call)
);

ALTER TABLE call_rates
    ADD COLUMN per_second double precision,                    -- as it was last asked for
    ADD COLUMN taken      double precision NOT NULL DEFAULT 0, -- calls that no roll-up has yet
    ADD COLUMN waits      bigint           NOT NULL DEFAULT 0, -- requests that were told to wait, likewise
    ADD COLUMN counted_at timestamptz;                         -- when one of the two last grew

-- As before, and counts.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION take_calls(of_account text, of_call text, calls float8, per_second float8, burst float8)
RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    r     call_rates;
    at    timestamptz;
    held  float8;
    due   timestamptz;
BEGIN
    INSERT INTO call_rates (account, call) VALUES (of_account, of_call) ON CONFLICT DO NOTHING;
    SELECT * INTO r FROM call_rates c WHERE c.account = of_account AND c.call = of_call FOR UPDATE;
    at := clock_timestamp(); -- not before the lock is ours
    held := greatest(0, r.level - extract(epoch FROM at - r.filled_at) * take_calls.per_second);
    IF held + least(calls, burst) <= burst THEN
        UPDATE call_rates c SET level = held + calls, filled_at = at,
            taken = c.taken + calls, per_second = take_calls.per_second, counted_at = at
        WHERE c.account = of_account AND c.call = of_call;
        RETURN 0;
    END IF;
    -- Not more than a minute ahead: some of those that wait may never come.
    due := least(greatest(coalesce(r.due_at, at), at + make_interval(secs => (held + least(calls, burst) - burst) / take_calls.per_second)),
        at + interval '1 minute');
    UPDATE call_rates c SET due_at = due + make_interval(secs => calls / take_calls.per_second),
        waits = c.waits + 1, per_second = take_calls.per_second, counted_at = at
    WHERE c.account = of_account AND c.call = of_call;
    RETURN greatest(extract(epoch FROM due - at), 0.001);
END $$;

CREATE FUNCTION uploads_note_submissions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unfolded_uploads (upload_id) SELECT n.id FROM new_rows n;
    RETURN NULL;
END $$;

-- An epoch begins in one statement, and here; nowhere else does one.
CREATE FUNCTION uploads_note_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO upload_epochs (upload_id, epoch) VALUES (NEW.id, NEW.epoch) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER uploads_epochs AFTER UPDATE OF epoch ON uploads FOR EACH ROW
    WHEN (NEW.epoch <> OLD.epoch) EXECUTE FUNCTION uploads_note_epoch();
CREATE TRIGGER uploads_unfolded AFTER INSERT ON uploads REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION uploads_note_submissions();
INSERT INTO unfolded_uploads (upload_id) SELECT u.id FROM uploads u;
INSERT INTO upload_epochs (upload_id, epoch)
SELECT u.id, e FROM uploads u CROSS JOIN generate_series(1, u.epoch) AS e
ON CONFLICT DO NOTHING;

-- What the roll-ups lack of the ledger. OFFSET 0: by primary key, never by
-- reading all of it.
CREATE VIEW unfolded_parts AS
SELECT e.upload_id, e.epoch, u.tenant, u.account, u.provider,
       a.part, a.length, a.worker, a.delivery, a.found, a.started_at, a.acked_at
FROM upload_epochs e
JOIN uploads u ON u.id = e.upload_id
CROSS JOIN LATERAL (
    SELECT p.part, p.length, p.worker, p.delivery, p.found, p.started_at, p.acked_at FROM part_acks p
    WHERE p.upload_id = e.upload_id AND p.epoch = e.epoch AND p.part > e.folded OFFSET 0
) a
WHERE NOT e.ended;

-- What the roll-ups lack of uploads that have ended.
CREATE VIEW unfolded_ends AS
SELECT u.id, date_trunc('day', u.finished_at, 'UTC') AS day, u.tenant, u.account, u.provider, u.state::text AS outcome,
       CASE WHEN u.state = 'failed' THEN coalesce(u.failure ->> 'cause', '') ELSE '' END AS cause,
       u.size, u.state = 'completed' AND u.part_count IS NULL AS instant,
       coalesce(e.sent_bytes, 0) AS sent_bytes, coalesce(e.found_bytes, 0) AS found_bytes,
       greatest(coalesce(e.sent_bytes, 0) - u.size, 0) AS again_bytes,
       coalesce(e.redelivered_bytes, 0) AS redelivered_bytes,
       coalesce(f.tries * u.part_size, 0) AS failed_bytes,
       date_part('epoch', u.finished_at - u.submitted_at) AS seconds
FROM unfolded_uploads n
JOIN uploads u ON u.id = n.upload_id
LEFT JOIN LATERAL (
    SELECT sum(p.sent_bytes)::bigint AS sent_bytes, sum(p.redelivered_bytes)::bigint AS redelivered_bytes,
           coalesce(sum(p.found_bytes) FILTER (WHERE p.epoch = u.epoch), 0)::bigint AS found_bytes
    FROM upload_epochs p WHERE p.upload_id = u.id
) e ON true
LEFT JOIN LATERAL (SELECT count(*) AS tries FROM part_failures p WHERE p.upload_id = u.id AND p.part > 0) f ON true
WHERE u.state IN ('completed', 'failed', 'cancelled') AND u.finished_at IS NOT NULL;

-- And of how long uploads took: each stay in a state, each wait in the queue, and
-- all of it.
CREATE VIEW unfolded_durations AS
SELECT n.upload_id, date_trunc('day', d.left_at, 'UTC') AS day, u.tenant, u.account, u.provider, d.measure, d.seconds
FROM unfolded_uploads n
JOIN uploads u ON u.id = n.upload_id
CROSS JOIN LATERAL (
    SELECT s.left_at, m.measure, m.seconds
    FROM (
        SELECT c.to_state, c.at AS entered_at, lead(c.at) OVER (ORDER BY c.id) AS left_at
        FROM state_changes c WHERE c.upload_id = n.upload_id
    ) s CROSS JOIN LATERAL (
        SELECT 'state ' || s.to_state::text AS measure, date_part('epoch', s.left_at - s.entered_at) AS seconds
        UNION ALL
        SELECT 'queue', greatest(date_part('epoch', s.left_at - greatest(s.entered_at, u.not_before)), 0) WHERE s.to_state = 'queued'
    ) m
    WHERE s.left_at IS NOT NULL
    UNION ALL
    SELECT u.finished_at, 'upload', date_part('epoch', u.finished_at - u.submitted_at) WHERE u.state = 'completed'
    OFFSET 0
) d;

CREATE OR REPLACE VIEW report.throughput_per_minute AS
SELECT m.minute, m.account, m.worker,
       sum(m.parts)::bigint                   AS parts,
       sum(m.bytes)::bigint                   AS bytes,
       sum(m.bytes) / 60.0                    AS bytes_per_second,
       sum(m.part_time) / sum(m.parts)::float8 AS mean_part_time,
       m.provider                             AS platform,
       m.tenant,
       sum(m.redelivered_parts)::bigint       AS redelivered_parts
FROM (
    SELECT r.minute, r.account, r.worker, r.provider, r.tenant, r.parts, r.bytes, r.part_time, r.redelivered_parts
    FROM rollup_minutes r
    UNION ALL
    SELECT date_trunc('minute', p.acked_at), p.account, p.worker, p.provider, p.tenant, 1, p.length,
           p.acked_at - p.started_at, (p.delivery > 1)::int
    FROM unfolded_parts p WHERE NOT p.found
) m
GROUP BY m.minute, m.account, m.worker, m.provider, m.tenant;

CREATE VIEW report.throughput_per_hour AS
SELECT h.hour, h.tenant, h.account, h.provider AS platform, h.worker,
       sum(h.parts)::bigint                                          AS parts,
       sum(h.bytes)::bigint                                          AS bytes,
       sum(h.bytes)::float8 / 3600                                   AS bytes_per_second,
       date_part('epoch', sum(h.part_time)) / sum(h.parts)::float8   AS mean_part_seconds
FROM (
    SELECT r.hour, r.tenant, r.account, r.provider, r.worker, r.parts, r.bytes, r.part_time FROM rollup_hours r
    UNION ALL
    SELECT date_trunc('hour', p.acked_at, 'UTC'), p.tenant, p.account, p.provider, p.worker, 1, p.length, p.acked_at - p.started_at
    FROM unfolded_parts p WHERE NOT p.found
) h
GROUP BY h.hour, h.tenant, h.account, h.provider, h.worker;

CREATE OR REPLACE VIEW report.failures_by_cause AS
SELECT f.hour, f.account, f.kind, f.code,
       sum(f.failures)::bigint AS failures,
       sum(f.uploads)::bigint  AS uploads,
       max(f.last_at)          AS last_at,
       sum(f.excused)::bigint  AS excused
FROM (
    SELECT r.hour, r.account, r.kind, r.code, r.failures, r.uploads, r.last_at, r.excused FROM rollup_failures r
    UNION ALL
    SELECT date_trunc('hour', p.failed_at, 'UTC'), p.account, p.kind, p.code, count(*), count(DISTINCT p.upload_id), max(p.failed_at),
           count(*) FILTER (WHERE p.excused)
    FROM part_failures p GROUP BY 1, 2, 3, 4
) f
GROUP BY f.hour, f.account, f.kind, f.code;

CREATE VIEW report.durations AS
SELECT d.day, d.tenant, d.account, d.provider AS platform, d.measure,
       power(1.05::float8, d.step::float8) AS up_to_seconds,
       sum(d.count)::bigint        AS count,
       sum(d.seconds)              AS seconds
FROM (
    SELECT r.day, r.tenant, r.account, r.provider, r.measure, r.step, r.count, r.seconds FROM rollup_durations r
    UNION ALL
    SELECT u.day, u.tenant, u.account, u.provider, u.measure, ceil(ln(greatest(u.seconds, 0.001)) / ln(1.05::float8))::int, 1, u.seconds
    FROM unfolded_durations u
    UNION ALL
    SELECT date_trunc('day', p.acked_at, 'UTC'), p.tenant, p.account, p.provider, 'part',
           ceil(ln(greatest(date_part('epoch', p.acked_at - p.started_at), 0.001)) / ln(1.05::float8))::int, 1,
           date_part('epoch', p.acked_at - p.started_at)
    FROM unfolded_parts p WHERE NOT p.found
) d
GROUP BY d.day, d.tenant, d.account, d.provider, d.measure, d.step;

CREATE VIEW report.percentiles AS
SELECT d.day, d.tenant, d.account, d.platform, d.measure,
       d.of_all                                                             AS count,
       sum(d.seconds) / d.of_all                                            AS mean_seconds,
       min(d.up_to_seconds) FILTER (WHERE d.so_far >= 0.50 * d.of_all)      AS p50_seconds,
       min(d.up_to_seconds) FILTER (WHERE d.so_far >= 0.95 * d.of_all)      AS p95_seconds,
       min(d.up_to_seconds) FILTER (WHERE d.so_far >= 0.99 * d.of_all)      AS p99_seconds
FROM (
    SELECT s.day, s.tenant, s.account, s.platform, s.measure, s.up_to_seconds, s.seconds,
           (sum(s.count) OVER (PARTITION BY s.day, s.tenant, s.account, s.platform, s.measure))::bigint AS of_all,
           (sum(s.count) OVER (PARTITION BY s.day, s.tenant, s.account, s.platform, s.measure ORDER BY s.up_to_seconds))::bigint AS so_far
    FROM report.durations s
) d
GROUP BY d.day, d.tenant, d.account, d.platform, d.measure, d.of_all;

CREATE VIEW report.time_in_state AS
SELECT d.day, d.tenant, d.account, d.platform,
       substr(d.measure, 7)           AS state,
       sum(d.count)::bigint           AS stays,
       sum(d.seconds)                 AS seconds,
       sum(d.seconds) / sum(d.count)::float8 AS mean_seconds
FROM report.durations d WHERE d.measure LIKE 'state %'
GROUP BY d.day, d.tenant, d.account, d.platform, d.measure;

CREATE VIEW report.queue_wait AS
SELECT p.day, p.tenant, p.account, p.platform, p.count AS waits, p.mean_seconds, p.p50_seconds, p.p95_seconds, p.p99_seconds
FROM report.percentiles p WHERE p.measure = 'queue';

CREATE VIEW report.uploads_per_day AS
SELECT e.day, e.tenant, e.account, e.provider AS platform, e.outcome, e.cause,
       sum(e.uploads)::bigint AS uploads, sum(e.bytes)::bigint AS bytes,
       sum(e.instant_uploads)::bigint AS instant_uploads, sum(e.instant_bytes)::bigint AS instant_bytes,
       sum(e.sent_bytes)::bigint AS sent_bytes, sum(e.found_bytes)::bigint AS found_bytes,
       sum(e.again_bytes)::bigint AS again_bytes, sum(e.redelivered_bytes)::bigint AS redelivered_bytes,
       sum(e.failed_bytes)::bigint AS failed_bytes,
       sum(e.within_5m)::bigint AS within_5m, sum(e.within_1h)::bigint AS within_1h, sum(e.within_1d)::bigint AS within_1d
FROM (
    SELECT r.day, r.tenant, r.account, r.provider, r.outcome, r.cause, r.uploads, r.bytes, r.instant_uploads, r.instant_bytes,
           r.sent_bytes, r.found_bytes, r.again_bytes, r.redelivered_bytes, r.failed_bytes, r.within_5m, r.within_1h, r.within_1d
    FROM rollup_uploads r
    UNION ALL
    SELECT u.day, u.tenant, u.account, u.provider, u.outcome, u.cause, 1, u.size, u.instant::int, CASE WHEN u.instant THEN u.size ELSE 0 END,
           u.sent_bytes, u.found_bytes, u.again_bytes, u.redelivered_bytes, u.failed_bytes,
           (u.seconds <= 300)::int, (u.seconds <= 3600)::int, (u.seconds <= 86400)::int
    FROM unfolded_ends u
) e
GROUP BY e.day, e.tenant, e.account, e.provider, e.outcome, e.cause;

CREATE VIEW report.bytes_sent_twice AS
SELECT u.day, u.tenant, u.account, u.platform,
       sum(u.sent_bytes)::bigint        AS sent_bytes,
       sum(u.again_bytes)::bigint       AS again_bytes,
       sum(u.redelivered_bytes)::bigint AS redelivered_bytes,
       sum(u.failed_bytes)::bigint      AS failed_bytes
FROM report.uploads_per_day u
GROUP BY u.day, u.tenant, u.account, u.platform;

CREATE VIEW report.instant_savings AS
SELECT u.day, u.tenant, u.account, u.platform,
       sum(u.uploads)::bigint         AS uploads,
       sum(u.bytes)::bigint           AS bytes,
       sum(u.instant_uploads)::bigint AS instant_uploads,
       sum(u.instant_bytes)::bigint   AS instant_bytes,
       sum(u.found_bytes)::bigint     AS found_bytes,
       sum(u.instant_bytes + u.found_bytes)::float8 / sum(u.bytes)::float8 AS saved_share
FROM report.uploads_per_day u WHERE u.outcome = 'completed'
GROUP BY u.day, u.tenant, u.account, u.platform;

CREATE VIEW report.sla_by_tenant AS
SELECT u.day, u.tenant,
       sum(u.uploads)::bigint AS ended,
       coalesce(sum(u.uploads) FILTER (WHERE u.outcome = 'completed'), 0)::bigint AS completed,
       coalesce(sum(u.uploads) FILTER (WHERE u.outcome = 'failed'), 0)::bigint    AS failed,
       coalesce(sum(u.uploads) FILTER (WHERE u.outcome = 'cancelled'), 0)::bigint AS cancelled,
       coalesce(sum(u.within_5m) FILTER (WHERE u.outcome = 'completed'), 0)::bigint AS within_5m,
       coalesce(sum(u.within_1h) FILTER (WHERE u.outcome = 'completed'), 0)::bigint AS within_1h,
       coalesce(sum(u.within_1d) FILTER (WHERE u.outcome = 'completed'), 0)::bigint AS within_1d
FROM report.uploads_per_day u
GROUP BY u.day, u.tenant;

CREATE VIEW report.rate_budget AS
SELECT c.hour, c.account, c.call,
       sum(c.calls)                                     AS calls,
       max(r.per_second) * 3600                         AS allowed,
       sum(c.calls) / nullif(max(r.per_second) * 3600, 0) AS used_share,
       sum(c.waits)::bigint                             AS waits
FROM (
    SELECT l.hour, l.account, l.call, l.calls, l.waits FROM rollup_calls l
    UNION ALL
    SELECT date_trunc('hour', n.counted_at, 'UTC'), n.account, n.call, n.taken, n.waits
    FROM call_rates n WHERE n.taken > 0 OR n.waits > 0
) c
LEFT JOIN call_rates r ON r.account = c.account AND r.call = c.call
GROUP BY c.hour, c.account, c.call;

-- What the roll-ups lag behind, for who watches them.
CREATE VIEW report.roll_ups AS
SELECT (SELECT count(*) FROM upload_epochs e WHERE NOT e.ended)                                AS open_epochs,
       (SELECT count(*) FROM unfolded_parts)                                                   AS unfolded_parts,
       (SELECT count(*) FROM unfolded_uploads)                                                 AS unfolded_uploads,
       (SELECT max(m.minute) FROM rollup_minutes m)                                            AS last_minute;

CREATE VIEW report.version AS SELECT 2 AS version;

COMMENT ON SCHEMA report IS 'What analysts read, version 2. An API: views and columns are added and none is changed or taken away; report.version counts up with each addition.';
COMMENT ON VIEW report.version IS 'One row: which version of this schema is here.';
COMMENT ON COLUMN report.version.version IS 'Counts up with every migration that adds to the schema.';

COMMENT ON VIEW report.throughput_per_minute IS 'Parts and bytes acknowledged, by minute, account, worker, platform and tenant. Parts found upstream were not sent and are not in it.';
COMMENT ON COLUMN report.throughput_per_minute.minute IS 'In which the worker had the platform''s answer.';
COMMENT ON COLUMN report.throughput_per_minute.account IS 'The account.';
COMMENT ON COLUMN report.throughput_per_minute.worker IS 'The worker that sent them.';
COMMENT ON COLUMN report.throughput_per_minute.parts IS 'Parts acknowledged.';
COMMENT ON COLUMN report.throughput_per_minute.bytes IS 'Bytes acknowledged.';
COMMENT ON COLUMN report.throughput_per_minute.bytes_per_second IS 'Mean over the whole minute.';
COMMENT ON COLUMN report.throughput_per_minute.mean_part_time IS 'From the start of a part to the platform''s answer.';
COMMENT ON COLUMN report.throughput_per_minute.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.throughput_per_minute.tenant IS 'Whose uploads they are of.';
COMMENT ON COLUMN report.throughput_per_minute.redelivered_parts IS 'Of parts, those whose job had been delivered before.';

COMMENT ON VIEW report.throughput_per_hour IS 'The same by the hour, for questions about months.';
COMMENT ON COLUMN report.throughput_per_hour.hour IS 'In which the worker had the platform''s answer, UTC.';
COMMENT ON COLUMN report.throughput_per_hour.tenant IS 'Whose uploads they are of.';
COMMENT ON COLUMN report.throughput_per_hour.account IS 'The account.';
COMMENT ON COLUMN report.throughput_per_hour.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.throughput_per_hour.worker IS 'The worker that sent them.';
COMMENT ON COLUMN report.throughput_per_hour.parts IS 'Parts acknowledged.';
COMMENT ON COLUMN report.throughput_per_hour.bytes IS 'Bytes acknowledged.';
COMMENT ON COLUMN report.throughput_per_hour.bytes_per_second IS 'Mean over the whole hour.';
COMMENT ON COLUMN report.throughput_per_hour.mean_part_seconds IS 'From the start of a part to the platform''s answer.';

COMMENT ON COLUMN report.upload_summary.id IS 'The upload.';
COMMENT ON COLUMN report.upload_summary.tenant IS 'Whose it is.';
COMMENT ON COLUMN report.upload_summary.account IS 'Where it is bound for.';
COMMENT ON COLUMN report.upload_summary.provider IS 'The account''s platform.';
COMMENT ON COLUMN report.upload_summary.batch_id IS 'Ties uploads that were submitted together.';
COMMENT ON COLUMN report.upload_summary.name IS 'As it was submitted.';
COMMENT ON COLUMN report.upload_summary.size IS 'Bytes of the staging object.';
COMMENT ON COLUMN report.upload_summary.state IS 'queued, digesting, beginning, uploading, finishing, completed, failed or cancelled.';
COMMENT ON COLUMN report.upload_summary.epoch IS 'Upstream sessions so far; 0 before the first.';
COMMENT ON COLUMN report.upload_summary.part_count IS 'Parts of the plan; NULL before it is made, and for an instant upload.';
COMMENT ON COLUMN report.upload_summary.acked_parts IS 'Parts in the ledger, of the present epoch.';
COMMENT ON COLUMN report.upload_summary.acked_bytes IS 'Bytes in the ledger, of the present epoch.';
COMMENT ON COLUMN report.upload_summary.found_bytes IS 'Of acked_bytes, those that were upstream when the epoch began or was last reconciled.';
COMMENT ON COLUMN report.upload_summary.submitted_at IS 'When it was accepted.';
COMMENT ON COLUMN report.upload_summary.begun_at IS 'When its first upstream session was open.';
COMMENT ON COLUMN report.upload_summary.first_ack_at IS 'When its first part came into the ledger.';
COMMENT ON COLUMN report.upload_summary.last_ack_at IS 'When its newest part came into the ledger.';
COMMENT ON COLUMN report.upload_summary.finished_at IS 'When it was completed, failed or cancelled.';
COMMENT ON COLUMN report.upload_summary.total_time IS 'From submitted_at to finished_at.';
COMMENT ON COLUMN report.upload_summary.bytes_per_second IS 'Bytes sent in the present epoch over the time from begun_at to last_ack_at.';
COMMENT ON COLUMN report.upload_summary.instant IS 'The platform had the bytes already, and no part was sent.';
COMMENT ON COLUMN report.upload_summary.asset_id IS 'The platform''s id of the finished media.';
COMMENT ON COLUMN report.upload_summary.failure_cause IS 'Why it failed, in one word.';

COMMENT ON COLUMN report.failures_by_cause.hour IS 'In which they failed, UTC.';
COMMENT ON COLUMN report.failures_by_cause.account IS 'The account.';
COMMENT ON COLUMN report.failures_by_cause.kind IS 'transient, throttled, unauthorized, session_lost, rejected, mismatch, unknown_outcome, or a word for what failed on our side.';
COMMENT ON COLUMN report.failures_by_cause.code IS 'The platform''s own; empty if it gave none.';
COMMENT ON COLUMN report.failures_by_cause.failures IS 'Failed tries.';
COMMENT ON COLUMN report.failures_by_cause.uploads IS 'How many uploads they are of.';
COMMENT ON COLUMN report.failures_by_cause.last_at IS 'When the newest of them failed.';
COMMENT ON COLUMN report.failures_by_cause.excused IS 'Of failures, those while the platform was down, which count for nothing.';

COMMENT ON VIEW report.durations IS 'How long things took, counted in steps of five per cent; percentiles of any group are sums over it.';
COMMENT ON COLUMN report.durations.day IS 'On which it ended, UTC.';
COMMENT ON COLUMN report.durations.tenant IS 'Whose upload it is of.';
COMMENT ON COLUMN report.durations.account IS 'The account.';
COMMENT ON COLUMN report.durations.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.durations.measure IS 'upload: from submission to completion; queue: in queued, from not_before on; part: from its start to the platform''s answer; state and a state: one stay in it.';
COMMENT ON COLUMN report.durations.up_to_seconds IS 'The upper end of the step, a power of 1.05; the lower end is five per cent below.';
COMMENT ON COLUMN report.durations.count IS 'How many fall into the step.';
COMMENT ON COLUMN report.durations.seconds IS 'What they took together, exactly.';

COMMENT ON VIEW report.percentiles IS 'Percentiles of durations by day, tenant, account and platform, to the next step of five per cent.';
COMMENT ON COLUMN report.percentiles.day IS 'On which it ended, UTC.';
COMMENT ON COLUMN report.percentiles.tenant IS 'Whose upload it is of.';
COMMENT ON COLUMN report.percentiles.account IS 'The account.';
COMMENT ON COLUMN report.percentiles.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.percentiles.measure IS 'As in report.durations.';
COMMENT ON COLUMN report.percentiles.count IS 'How many there are.';
COMMENT ON COLUMN report.percentiles.mean_seconds IS 'The mean, exactly.';
COMMENT ON COLUMN report.percentiles.p50_seconds IS 'Half of them took no longer.';
COMMENT ON COLUMN report.percentiles.p95_seconds IS '95 of 100 took no longer.';
COMMENT ON COLUMN report.percentiles.p99_seconds IS '99 of 100 took no longer.';

COMMENT ON VIEW report.time_in_state IS 'How long uploads stayed in each state. A stay counts when it is over.';
COMMENT ON COLUMN report.time_in_state.day IS 'On which the state was left, UTC.';
COMMENT ON COLUMN report.time_in_state.tenant IS 'Whose uploads they are.';
COMMENT ON COLUMN report.time_in_state.account IS 'The account.';
COMMENT ON COLUMN report.time_in_state.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.time_in_state.state IS 'The state; failed is left by a retry.';
COMMENT ON COLUMN report.time_in_state.stays IS 'How often it was left.';
COMMENT ON COLUMN report.time_in_state.seconds IS 'All stays together.';
COMMENT ON COLUMN report.time_in_state.mean_seconds IS 'Their mean.';

COMMENT ON VIEW report.queue_wait IS 'How long uploads waited in queued, from when they might have begun.';
COMMENT ON COLUMN report.queue_wait.day IS 'On which the wait was over, UTC.';
COMMENT ON COLUMN report.queue_wait.tenant IS 'Whose uploads they are.';
COMMENT ON COLUMN report.queue_wait.account IS 'The account.';
COMMENT ON COLUMN report.queue_wait.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.queue_wait.waits IS 'How many; an upload that was retried waits again.';
COMMENT ON COLUMN report.queue_wait.mean_seconds IS 'The mean, exactly.';
COMMENT ON COLUMN report.queue_wait.p50_seconds IS 'Half of them waited no longer.';
COMMENT ON COLUMN report.queue_wait.p95_seconds IS '95 of 100 waited no longer.';
COMMENT ON COLUMN report.queue_wait.p99_seconds IS '99 of 100 waited no longer.';

COMMENT ON VIEW report.uploads_per_day IS 'Uploads that have ended, those that were pruned among them.';
COMMENT ON COLUMN report.uploads_per_day.day IS 'On which they ended, UTC.';
COMMENT ON COLUMN report.uploads_per_day.tenant IS 'Whose they are.';
COMMENT ON COLUMN report.uploads_per_day.account IS 'The account.';
COMMENT ON COLUMN report.uploads_per_day.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.uploads_per_day.outcome IS 'completed, failed or cancelled. A failed upload that is retried is counted by what becomes of it.';
COMMENT ON COLUMN report.uploads_per_day.cause IS 'Why they failed; empty for the others.';
COMMENT ON COLUMN report.uploads_per_day.uploads IS 'How many.';
COMMENT ON COLUMN report.uploads_per_day.bytes IS 'The sizes of their objects.';
COMMENT ON COLUMN report.uploads_per_day.instant_uploads IS 'Completed without a part, since the platform had the bytes.';
COMMENT ON COLUMN report.uploads_per_day.instant_bytes IS 'The sizes of those.';
COMMENT ON COLUMN report.uploads_per_day.sent_bytes IS 'Bytes sent and acknowledged, over all epochs.';
COMMENT ON COLUMN report.uploads_per_day.found_bytes IS 'Bytes that were upstream when the last epoch began, and were not sent in it.';
COMMENT ON COLUMN report.uploads_per_day.again_bytes IS 'Bytes sent and acknowledged beyond the size of the object: sent in an epoch that was given up, and again.';
COMMENT ON COLUMN report.uploads_per_day.redelivered_bytes IS 'Bytes of parts whose job was delivered before; how much an earlier delivery sent nobody knows, so at most so much was sent twice.';
COMMENT ON COLUMN report.uploads_per_day.failed_bytes IS 'A part''s size for each failed try of a part; at most so much was sent in vain.';
COMMENT ON COLUMN report.uploads_per_day.within_5m IS 'Ended within five minutes of their submission.';
COMMENT ON COLUMN report.uploads_per_day.within_1h IS 'Within an hour.';
COMMENT ON COLUMN report.uploads_per_day.within_1d IS 'Within a day.';

COMMENT ON VIEW report.bytes_sent_twice IS 'What was sent more than once, by uploads that have ended: again_bytes is known, the other two are bounds.';
COMMENT ON COLUMN report.bytes_sent_twice.day IS 'On which they ended, UTC.';
COMMENT ON COLUMN report.bytes_sent_twice.tenant IS 'Whose they are.';
COMMENT ON COLUMN report.bytes_sent_twice.account IS 'The account.';
COMMENT ON COLUMN report.bytes_sent_twice.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.bytes_sent_twice.sent_bytes IS 'Bytes sent and acknowledged, over all epochs.';
COMMENT ON COLUMN report.bytes_sent_twice.again_bytes IS 'Of sent_bytes, those beyond the sizes of the objects.';
COMMENT ON COLUMN report.bytes_sent_twice.redelivered_bytes IS 'At most so much besides, by deliveries that did not come to their report.';
COMMENT ON COLUMN report.bytes_sent_twice.failed_bytes IS 'At most so much besides, by tries that failed.';

COMMENT ON VIEW report.instant_savings IS 'What completed uploads did not have to send.';
COMMENT ON COLUMN report.instant_savings.day IS 'On which they were completed, UTC.';
COMMENT ON COLUMN report.instant_savings.tenant IS 'Whose they are.';
COMMENT ON COLUMN report.instant_savings.account IS 'The account.';
COMMENT ON COLUMN report.instant_savings.platform IS 'The account''s provider.';
COMMENT ON COLUMN report.instant_savings.uploads IS 'Completed uploads.';
COMMENT ON COLUMN report.instant_savings.bytes IS 'The sizes of their objects.';
COMMENT ON COLUMN report.instant_savings.instant_uploads IS 'Completed without a part, since the platform had the bytes.';
COMMENT ON COLUMN report.instant_savings.instant_bytes IS 'The sizes of those.';
COMMENT ON COLUMN report.instant_savings.found_bytes IS 'Bytes that were upstream when the last epoch began, mostly of an earlier one.';
COMMENT ON COLUMN report.instant_savings.saved_share IS 'instant_bytes and found_bytes over bytes.';

COMMENT ON VIEW report.sla_by_tenant IS 'What became of each tenant''s uploads, and how soon.';
COMMENT ON COLUMN report.sla_by_tenant.day IS 'On which they ended, UTC.';
COMMENT ON COLUMN report.sla_by_tenant.tenant IS 'The tenant.';
COMMENT ON COLUMN report.sla_by_tenant.ended IS 'All of them.';
COMMENT ON COLUMN report.sla_by_tenant.completed IS 'Those with an asset.';
COMMENT ON COLUMN report.sla_by_tenant.failed IS 'Failed, and not retried since.';
COMMENT ON COLUMN report.sla_by_tenant.cancelled IS 'Withdrawn.';
COMMENT ON COLUMN report.sla_by_tenant.within_5m IS 'Completed within five minutes of their submission.';
COMMENT ON COLUMN report.sla_by_tenant.within_1h IS 'Completed within an hour.';
COMMENT ON COLUMN report.sla_by_tenant.within_1d IS 'Completed within a day.';

COMMENT ON VIEW report.rate_budget IS 'What was used of the platforms'' published rates. Calls without a published rate are not in it.';
COMMENT ON COLUMN report.rate_budget.hour IS 'In which they were made, UTC, give or take ten seconds.';
COMMENT ON COLUMN report.rate_budget.account IS 'The account.';
COMMENT ON COLUMN report.rate_budget.call IS 'The call.';
COMMENT ON COLUMN report.rate_budget.calls IS 'Calls made.';
COMMENT ON COLUMN report.rate_budget.allowed IS 'Calls that the present rate allows in an hour.';
COMMENT ON COLUMN report.rate_budget.used_share IS 'calls over allowed.';
COMMENT ON COLUMN report.rate_budget.waits IS 'Requests for calls that were told to wait; the same call may be told more than once.';

COMMENT ON VIEW report.roll_ups IS 'How far the roll-ups are behind the ledger. The views count what is behind from the ledger itself, so none of them is late.';
COMMENT ON COLUMN report.roll_ups.open_epochs IS 'Epochs of which the roll-ups do not have everything.';
COMMENT ON COLUMN report.roll_ups.unfolded_parts IS 'Parts in the ledger that no roll-up has; much more than the windows hold means that folding stands still.';
COMMENT ON COLUMN report.roll_ups.unfolded_uploads IS 'Uploads that no roll-up has: those in hand, those that have failed, and those that ended just now.';
COMMENT ON COLUMN report.roll_ups.last_minute IS 'The newest minute of the roll-ups.';

COMMENT ON COLUMN report.account_windows.account IS 'The account.';
COMMENT ON COLUMN report.account_windows.goodput_bytes_per_second IS 'Acknowledged lately, smoothed.';
COMMENT ON COLUMN report.account_windows.sampled_at IS 'When the sample under way began.';
COMMENT ON COLUMN report.account_windows.cut_at IS 'When the window was last halved.';
COMMENT ON COLUMN report.account_windows.cut_for IS 'Why it was.';
COMMENT ON COLUMN report.account_windows.in_flight_bytes IS 'Fed and not yet acknowledged.';
COMMENT ON COLUMN report.account_windows.uploading IS 'Uploads whose parts travel.';
COMMENT ON COLUMN report.account_windows.held_call IS 'The kind of call that waits.';
COMMENT ON COLUMN report.account_windows.held_until IS 'When the next such call may be made.';
COMMENT ON COLUMN report.account_windows.held_for IS 'What the platform said last.';
COMMENT ON COLUMN report.account_windows.down_since IS 'Since when no such call was answered; NULL if the platform only asked for a pause.';

-- +goose Down
COMMENT ON SCHEMA report IS NULL;
DROP VIEW report.version, report.roll_ups, report.rate_budget, report.sla_by_tenant, report.instant_savings, report.bytes_sent_twice,
    report.uploads_per_day, report.queue_wait, report.time_in_state, report.percentiles, report.durations,
    report.failures_by_cause, report.throughput_per_hour, report.throughput_per_minute;
DROP VIEW unfolded_durations, unfolded_ends, unfolded_parts;
CREATE VIEW report.throughput_per_minute AS
SELECT date_trunc('minute', a.acked_at) AS minute,
       u.account,
       a.worker,
       count(*)                          AS parts,
       sum(a.length)::bigint             AS bytes,
       sum(a.length) / 60.0              AS bytes_per_second,
       avg(a.acked_at - a.started_at)    AS mean_part_time
FROM part_acks a
JOIN uploads u ON u.id = a.upload_id
WHERE NOT a.found
GROUP BY 1, 2, 3;
CREATE VIEW report.failures_by_cause AS
SELECT date_trunc('hour', f.failed_at) AS hour,
       f.account,
       f.kind,
       f.code,
       count(*)                     AS failures,
       count(DISTINCT f.upload_id)  AS uploads,
       max(f.failed_at)             AS last_at
FROM part_failures f
GROUP BY 1, 2, 3, 4;
DROP TRIGGER uploads_epochs ON uploads;
DROP TRIGGER uploads_unfolded ON uploads;
DROP FUNCTION uploads_note_epoch, uploads_note_submissions;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION take_calls(of_account text, of_call text, calls float8, per_second float8, burst float8)
RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    r     call_rates;
    at    timestamptz;
    held  float8;
    due   timestamptz;
BEGIN
    INSERT INTO call_rates (account, call) VALUES (of_account, of_call) ON CONFLICT DO NOTHING;
    SELECT * INTO r FROM call_rates WHERE account = of_account AND call = of_call FOR UPDATE;
    at := clock_timestamp(); -- not before the lock is ours
    held := greatest(0, r.level - extract(epoch FROM at - r.filled_at) * per_second);
    IF held + least(calls, burst) <= burst THEN
        UPDATE call_rates SET level = held + calls, filled_at = at WHERE account = of_account AND call = of_call;
        RETURN 0;
    END IF;
    -- Not more than a minute ahead: some of those that wait may never come.
    due := least(greatest(coalesce(r.due_at, at), at + make_interval(secs => (held + least(calls, burst) - burst) / per_second)),
        at + interval '1 minute');
    UPDATE call_rates SET due_at = due + make_interval(secs => calls / per_second)
    WHERE account = of_account AND call = of_call;
    RETURN greatest(extract(epoch FROM due - at), 0.001);
END $$;
-- +goose StatementEnd
ALTER TABLE call_rates DROP COLUMN per_second, DROP COLUMN taken, DROP COLUMN waits, DROP COLUMN counted_at;
DROP TABLE rollup_calls, rollup_failures, rollup_uploads, rollup_durations, rollup_hours, rollup_minutes, unfolded_uploads, upload_epochs;
