-- Why do tries fail, and when did each kind last?
SELECT account, kind, code,
       sum(failures)::bigint AS failures,
       sum(excused)::bigint  AS while_the_platform_was_down,
       max(last_at)          AS last_at
FROM report.failures_by_cause
WHERE hour >= date_trunc('hour', :'since'::timestamptz, 'UTC')
GROUP BY account, kind, code
ORDER BY failures DESC, account, kind, code
LIMIT 10000
