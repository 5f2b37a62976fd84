-- How near do calls come to the platforms' published rates?
SELECT hour, account, call, calls, allowed, used_share, waits
FROM report.rate_budget
WHERE hour >= date_trunc('hour', :'since'::timestamptz, 'UTC')
ORDER BY used_share DESC, hour DESC, account, call
LIMIT 1000
