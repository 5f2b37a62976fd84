-- How long do uploads, parts and stays in each state take: the middle one, and the slow ones?
SELECT account, platform, measure, of_all AS count,
       sum(seconds) / of_all                                         AS mean_seconds,
       min(up_to_seconds) FILTER (WHERE so_far >= 0.50 * of_all)     AS p50_seconds,
       min(up_to_seconds) FILTER (WHERE so_far >= 0.95 * of_all)     AS p95_seconds,
       min(up_to_seconds) FILTER (WHERE so_far >= 0.99 * of_all)     AS p99_seconds
FROM (
    SELECT account, platform, measure, up_to_seconds, sum(seconds) AS seconds,
           sum(sum(count)) OVER (PARTITION BY account, platform, measure)::bigint AS of_all,
           sum(sum(count)) OVER (PARTITION BY account, platform, measure ORDER BY up_to_seconds)::bigint AS so_far
    FROM report.durations
    WHERE day >= date_trunc('day', :'since'::timestamptz, 'UTC')
    GROUP BY account, platform, measure, up_to_seconds
) steps
GROUP BY account, platform, measure, of_all
ORDER BY account, platform, measure
LIMIT 10000
