-- +goose Up
-- What analysts read. The views are an API: columns are added, never changed.

CREATE SCHEMA report;

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
COMMENT ON VIEW report.throughput_per_minute IS 'Parts and bytes acknowledged, by minute, account and worker.';
COMMENT ON COLUMN report.throughput_per_minute.bytes_per_second IS 'Mean over the whole minute.';

CREATE VIEW report.upload_summary AS
SELECT u.id, u.tenant, u.account, u.provider, u.batch_id, u.name, u.size, u.state::text AS state, u.epoch,
       u.part_count, u.acked_parts, u.acked_bytes, u.found_bytes,
       u.submitted_at, u.begun_at, u.first_ack_at, u.last_ack_at, u.finished_at,
       u.finished_at - u.submitted_at AS total_time,
       CASE WHEN u.last_ack_at > u.begun_at AND u.acked_bytes > u.found_bytes
            THEN (u.acked_bytes - u.found_bytes) / extract(epoch FROM u.last_ack_at - u.begun_at) END AS bytes_per_second,
       u.state = 'completed' AND u.part_count IS NULL AS instant,
       u.asset ->> 'id'      AS asset_id,
       u.failure ->> 'cause' AS failure_cause
FROM uploads u;
COMMENT ON VIEW report.upload_summary IS 'One row for each upload: sizes, progress, milestones and outcome.';

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
COMMENT ON VIEW report.failures_by_cause IS 'Failed tries by hour, account, kind and the platform''s code.';

-- +goose Down
DROP SCHEMA report CASCADE;
