-- How much did each account move in each hour, and by how many workers?
SELECT hour, tenant, account, platform,
       count(*)                      AS workers,
       sum(parts)::bigint            AS parts,
       sum(bytes)::bigint            AS bytes,
       sum(bytes_per_second)         AS bytes_per_second,
       sum(mean_part_seconds * parts) / sum(parts)::float8 AS mean_part_seconds
FROM report.throughput_per_hour
WHERE hour >= date_trunc('hour', :'since'::timestamptz, 'UTC')
GROUP BY hour, tenant, account, platform
ORDER BY hour DESC, tenant, account, platform
LIMIT 10000
