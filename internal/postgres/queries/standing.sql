-- name: OpenUploads :many
-- Uploads that have not ended, by account and state; queued ones that are
-- paused are left out. Each part goes by an index of its own.
WITH open AS (
    SELECT account, provider, state, greatest(submitted_at, not_before) AS due_at FROM uploads
    WHERE state = 'queued' AND NOT paused
    UNION ALL
    SELECT account, provider, state, greatest(submitted_at, not_before) FROM uploads
    WHERE state IN ('digesting', 'beginning', 'uploading')
    UNION ALL
    SELECT account, provider, state, greatest(submitted_at, not_before) FROM uploads
    WHERE state = 'finishing' AND NOT waits
    UNION ALL
    SELECT account, provider, state, greatest(submitted_at, not_before) FROM uploads
    WHERE waits AND state = 'finishing'
)
SELECT account, provider, state::text AS state, count(*) AS uploads,
    greatest(extract(epoch FROM now() - min(due_at)), 0)::float8 AS oldest
FROM open GROUP BY account, provider, open.state;

-- name: Backlog :one
-- What waits for somebody.
SELECT (SELECT count(*) FROM outbox) AS events, (SELECT count(*) FROM set_aside) AS set_aside,
    (SELECT count(*) FROM uploads WHERE probe_since IS NOT NULL) AS in_doubt;
