-- What became of the uploads that were submitted last?
SELECT id::text, tenant, account, provider AS platform, name, size, state, epoch,
       acked_bytes, submitted_at, finished_at,
       extract(epoch FROM total_time)::float8 AS total_seconds,
       bytes_per_second::float8               AS bytes_per_second,
       instant, asset_id, failure_cause
FROM report.upload_summary
WHERE submitted_at >= :'since'
ORDER BY upload_summary.id DESC
LIMIT 1000
