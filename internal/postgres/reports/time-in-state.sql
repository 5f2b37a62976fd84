-- In which state do uploads spend their time?
SELECT tenant, account, platform, state,
       sum(stays)::bigint                     AS stays,
       sum(seconds) / sum(stays)::float8      AS mean_seconds,
       sum(seconds) / nullif(sum(sum(seconds)) OVER (PARTITION BY tenant, account, platform), 0) AS share_of_time
FROM report.time_in_state
WHERE day >= date_trunc('day', :'since'::timestamptz, 'UTC')
GROUP BY tenant, account, platform, state
ORDER BY tenant, account, platform, share_of_time DESC
LIMIT 10000
