-- +goose Up
-- As before, at less cost: of months of hours nearly all are in the
-- roll-ups alone, so they are looked up in what is not folded yet, which is
-- little, and not grouped again.
CREATE OR REPLACE VIEW report.throughput_per_hour AS
WITH unfolded AS MATERIALIZED (
    SELECT date_trunc('hour', p.acked_at, 'UTC') AS hour, p.tenant, p.account, p.provider, p.worker,
           count(*) AS parts, sum(p.length)::bigint AS bytes, sum(p.acked_at - p.started_at) AS part_time
    FROM unfolded_parts p WHERE NOT p.found
    GROUP BY 1, 2, 3, 4, 5
)
SELECT h.hour, h.tenant, h.account, h.platform, h.worker, h.parts, h.bytes,
       h.bytes::float8 / 3600                            AS bytes_per_second,
       date_part('epoch', h.part_time) / h.parts::float8 AS mean_part_seconds
FROM (
    SELECT r.hour, r.tenant, r.account, r.provider AS platform, r.worker, r.parts + coalesce(u.parts, 0) AS parts,
           r.bytes + coalesce(u.bytes, 0) AS bytes, r.part_time + coalesce(u.part_time, '0') AS part_time
    FROM rollup_hours r
    LEFT JOIN unfolded u ON u.hour = r.hour AND u.tenant = r.tenant AND u.account = r.account AND u.provider = r.provider
        AND u.worker = r.worker
    UNION ALL
    SELECT u.hour, u.tenant, u.account, u.provider, u.worker, u.parts, u.bytes, u.part_time
    FROM unfolded u
    WHERE NOT EXISTS (SELECT FROM rollup_hours r WHERE r.hour = u.hour AND r.account = u.account AND r.worker = u.worker
        AND r.tenant = u.tenant AND r.provider = u.provider)
) h;

-- +goose Down
CREATE OR REPLACE VIEW report.throughput_per_hour AS
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
