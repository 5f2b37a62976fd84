-- How much did each account move in each hour, and by how many workers?
SELECT date_trunc('hour', minute, 'UTC')                     AS hour,
       tenant, account, platform,
       count(DISTINCT worker)                                AS workers,
       sum(parts)::bigint                                    AS parts,
       sum(bytes)::bigint                                    AS bytes,
       sum(bytes)::float8 / (60 * count(DISTINCT minute))    AS bytes_per_second_when_busy,
       extract(epoch FROM sum(mean_part_time * parts::float8))::float8 / sum(parts)::float8 AS mean_part_seconds
FROM report.throughput_per_minute
WHERE minute >= :'since'
GROUP BY 1, 2, 3, 4
ORDER BY 1 DESC, 2, 3, 4
LIMIT 10000
