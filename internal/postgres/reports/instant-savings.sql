-- What did not have to be sent, since the platform had it already?
SELECT tenant, account, platform,
       sum(uploads)::bigint         AS uploads,
       sum(bytes)::bigint           AS bytes,
       sum(instant_uploads)::bigint AS instant_uploads,
       sum(instant_bytes)::bigint   AS instant_bytes,
       sum(found_bytes)::bigint     AS found_bytes,
       sum(instant_bytes + found_bytes)::float8 / sum(bytes)::float8 AS saved_share
FROM report.instant_savings
WHERE day >= date_trunc('day', :'since'::timestamptz, 'UTC')
GROUP BY tenant, account, platform
ORDER BY saved_share DESC, tenant, account, platform
LIMIT 10000
