-- How long do uploads wait before anything is done for them?
SELECT day, tenant, account, platform, waits, mean_seconds, p50_seconds, p95_seconds, p99_seconds
FROM report.queue_wait
WHERE day >= date_trunc('day', :'since'::timestamptz, 'UTC')
ORDER BY day DESC, tenant, account, platform
LIMIT 10000
