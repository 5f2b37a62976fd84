-- How many bytes were sent more than once? again_bytes is known, the other two are bounds.
SELECT tenant, account, platform,
       sum(sent_bytes)::bigint        AS sent_bytes,
       sum(again_bytes)::bigint       AS again_bytes,
       sum(redelivered_bytes)::bigint AS redelivered_bytes_at_most,
       sum(failed_bytes)::bigint      AS failed_bytes_at_most,
       sum(again_bytes)::float8 / nullif(sum(sent_bytes), 0)::float8 AS again_share
FROM report.bytes_sent_twice
WHERE day >= date_trunc('day', :'since'::timestamptz, 'UTC')
GROUP BY tenant, account, platform
ORDER BY again_bytes DESC, tenant, account, platform
LIMIT 10000
