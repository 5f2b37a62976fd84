-- Which share of each tenant's uploads was completed, and how soon?
SELECT tenant,
       sum(ended)::bigint     AS ended,
       sum(completed)::bigint AS completed,
       sum(failed)::bigint    AS failed,
       sum(cancelled)::bigint AS cancelled,
       sum(completed)::float8 / nullif(sum(completed + failed), 0)::float8 AS completed_share,
       sum(within_5m)::float8 / nullif(sum(completed + failed), 0)::float8 AS within_5m_share,
       sum(within_1h)::float8 / nullif(sum(completed + failed), 0)::float8 AS within_1h_share,
       sum(within_1d)::float8 / nullif(sum(completed + failed), 0)::float8 AS within_1d_share
FROM report.sla_by_tenant
WHERE day >= date_trunc('day', :'since'::timestamptz, 'UTC')
GROUP BY tenant
ORDER BY tenant
LIMIT 10000
