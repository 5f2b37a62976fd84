-- +goose Up
-- What workers could do now, for whoever decides how many there are. The length of
-- the queue does not tell: it is as long as the windows allow, whatever the backlog.

-- The configured maximum, which dispatchers write when they start; null before the
-- first one that does. window_bytes 0 stands for it.
ALTER TABLE account_windows ADD COLUMN max_bytes bigint;

CREATE VIEW report.runnable_bytes AS
SELECT r.pool, r.account,
       count(*)::bigint                                             AS uploads,
       sum(r.bytes)::bigint                                         AS backlog_bytes,
       least(sum(r.bytes), coalesce(nullif(w.window_bytes, 0), w.max_bytes))::bigint AS runnable_bytes
FROM (
    -- A digest pass is one job, whatever the size: it counts as a run.
    SELECT u.pool, u.account, u.tenant, least(u.size, 16 << 20) AS bytes
    FROM uploads u WHERE u.state = 'digesting' AND NOT u.paused
    UNION ALL
    SELECT u.pool, u.account, u.tenant, u.size - u.acked_bytes
    FROM uploads u WHERE u.state IN ('beginning', 'uploading') AND NOT u.paused AND u.probe_since IS NULL
    UNION ALL
    SELECT u.pool, u.account, u.tenant, u.size
    FROM uploads u WHERE u.state = 'queued' AND NOT u.paused AND (u.not_before IS NULL OR u.not_before <= now())
) r
LEFT JOIN account_windows w ON w.account = r.account
WHERE r.account NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'account')
  AND r.tenant NOT IN (SELECT p.name FROM pauses p WHERE p.scope = 'tenant')
  AND NOT EXISTS (SELECT 1 FROM call_holds h WHERE h.account = r.account AND h.call = 'put_part' AND h.held_until > now())
GROUP BY r.pool, r.account, w.window_bytes, w.max_bytes;

COMMENT ON VIEW report.runnable_bytes IS 'What workers could send now, by pool and account: what is due and not paused, of accounts whose parts are not held.';
COMMENT ON COLUMN report.runnable_bytes.pool IS 'Whose workers.';
COMMENT ON COLUMN report.runnable_bytes.account IS 'The account.';
COMMENT ON COLUMN report.runnable_bytes.uploads IS 'Uploads with bytes to read or send, those in hand included.';
COMMENT ON COLUMN report.runnable_bytes.backlog_bytes IS 'Their bytes that are not acknowledged; 16 MiB at most for one whose digest is computed.';
COMMENT ON COLUMN report.runnable_bytes.runnable_bytes IS 'Of these, as many as the account''s window lets travel at once. A slot carries up to 16 MiB: more slots than that find nothing to do.';

CREATE OR REPLACE VIEW report.version AS SELECT 3 AS version;
COMMENT ON SCHEMA report IS 'What analysts read, version 3. An API: views and columns are added and none is changed or taken away; report.version counts up with each addition.';

-- +goose Down
CREATE OR REPLACE VIEW report.version AS SELECT 2 AS version;
COMMENT ON SCHEMA report IS 'What analysts read, version 2. An API: views and columns are added and none is changed or taken away; report.version counts up with each addition.';
DROP VIEW report.runnable_bytes;
ALTER TABLE account_windows DROP COLUMN max_bytes;
