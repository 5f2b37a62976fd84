-- name: LockWindow :one
-- Makes the row if it is missing, and locks it. The time is the database's, so
-- that dispatchers whose clocks differ work on one.
INSERT INTO account_windows AS w (account) VALUES (@account)
ON CONFLICT ON CONSTRAINT account_windows_pkey DO UPDATE SET account = w.account
RETURNING window_bytes, threshold, goodput, mark, grown_at, cut_at, cut_for, acked, sampled_at, clock_timestamp()::timestamptz AS now;

-- name: SetWindow :exec
UPDATE account_windows SET window_bytes = @window_bytes, threshold = @threshold, goodput = @goodput, mark = @mark,
    grown_at = @grown_at, cut_at = @cut_at, cut_for = @cut_for, acked = @acked, sampled_at = @sampled_at
WHERE account = @account;

-- name: Windows :many
SELECT account, window_bytes, threshold, goodput, mark, grown_at, cut_at, cut_for, acked, sampled_at,
    clock_timestamp()::timestamptz AS now
FROM account_windows;

-- name: SetWindowLimits :exec
-- The configured maxima, in the accounts' order: two dispatchers cannot deadlock.
INSERT INTO account_windows AS w (account, max_bytes)
SELECT l.account, l.max_bytes FROM (SELECT unnest(@accounts::text[]) AS account, unnest(@max_bytes::bigint[]) AS max_bytes) AS l
ORDER BY l.account
ON CONFLICT ON CONSTRAINT account_windows_pkey DO UPDATE SET max_bytes = excluded.max_bytes
WHERE w.max_bytes IS DISTINCT FROM excluded.max_bytes;

-- name: LockHold :one
INSERT INTO call_holds AS h (account, call) VALUES (@account, @call)
ON CONFLICT ON CONSTRAINT call_holds_pkey DO UPDATE SET account = h.account
RETURNING failures, down_since, held_until, held_for, asked, asking, up_at, clock_timestamp()::timestamptz AS now;

-- name: SetHold :exec
UPDATE call_holds SET failures = @failures, down_since = @down_since, held_until = @held_until, held_for = @held_for,
    asked = @asked, asking = @asking, up_at = @up_at
WHERE account = @account AND call = @call;

-- name: Holds :many
SELECT account, call, failures, down_since, held_until, held_for, asked, asking, up_at, clock_timestamp()::timestamptz AS now
FROM call_holds WHERE failures > 0 OR down_since IS NOT NULL OR held_until > now() OR up_at IS NOT NULL;

-- name: ReleaseFeeding :exec
-- The platform answers again: what waited for it is fed again at once.
UPDATE uploads SET feed_after = now()
WHERE account = @account AND state = 'uploading' AND fed_bytes + found_bytes > acked_bytes AND feed_after > now();

-- name: CallLevels :many
-- What is spent of each published rate.
SELECT account, call, level, filled_at, clock_timestamp()::timestamptz AS now FROM call_rates;

-- name: ReleaseSteps :exec
UPDATE uploads SET step_at = now()
WHERE account = @account AND (state IN ('beginning', 'finishing') OR abort_due) AND NOT waits AND step_at > now() AND lease_token IS NULL;
