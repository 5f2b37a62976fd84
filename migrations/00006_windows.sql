-- +goose Up
-- Windows that adapt, and holds while a platform does not answer. Both are
-- shared by all dispatchers and changed under the row's lock; a missing row is
-- an account of which nothing is known.

CREATE TABLE account_windows (
    account      text             NOT NULL CONSTRAINT account_windows_pkey PRIMARY KEY,
    window_bytes bigint           NOT NULL DEFAULT 0, -- 0 stands for the configured maximum
    threshold    bigint           NOT NULL DEFAULT 0, -- bytes up to which it doubles after an outage
    goodput      double precision NOT NULL DEFAULT 0, -- bytes a second, smoothed
    mark         double precision NOT NULL DEFAULT 0, -- the goodput when the window last grew
    grown_at     timestamptz,
    cut_at       timestamptz,
    cut_for      text             NOT NULL DEFAULT '',
    acked        bigint           NOT NULL DEFAULT 0, -- bytes of the sample under way
    sampled_at   timestamptz                          -- when it began
) WITH (fillfactor = 50); -- written once a second

-- One row for each kind of call that failed lately.
CREATE TABLE call_holds (
    account    text        NOT NULL,
    call       text        NOT NULL,
    failures   integer     NOT NULL DEFAULT 0, -- in a row, without an answer between
    down_since timestamptz,
    held_until timestamptz,
    held_for   text        NOT NULL DEFAULT '',
    asked      integer     NOT NULL DEFAULT 0, -- calls made since, to see whether the platform is back
    asking     boolean     NOT NULL DEFAULT false,
    up_at      timestamptz,                    -- when the last outage ended
    CONSTRAINT call_holds_pkey PRIMARY KEY (account, call)
);

-- A failure while the platform was down says nothing of its upload.
ALTER TABLE part_failures ADD COLUMN excused boolean NOT NULL DEFAULT false;

-- A call that does not fit is told when it will, behind those that wait already:
-- nobody asks again before.
ALTER TABLE call_rates ADD COLUMN due_at timestamptz;

-- The leaky bucket that all dispatchers share: calls fit while fewer than burst
-- are in it, and leak out at the rate. Answers in how many seconds to ask again,
-- 0 if they were taken. More than burst at once fit an empty bucket, so that
-- nothing waits for ever.
-- +goose StatementBegin
CREATE FUNCTION take_calls(of_account text, of_call text, calls float8, per_second float8, burst float8)
RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    r     call_rates;
    at    timestamptz;
    held  float8;
    due   timestamptz;
BEGIN
    INSERT INTO call_rates (account, call) VALUES (of_account, of_call) ON CONFLICT DO NOTHING;
    SELECT * INTO r FROM call_rates WHERE account = of_account AND call = of_call FOR UPDATE;
    at := clock_timestamp(); -- not before the lock is ours
    held := greatest(0, r.level - extract(epoch FROM at - r.filled_at) * per_second);
    IF held + least(calls, burst) <= burst THEN
        UPDATE call_rates SET level = held + calls, filled_at = at WHERE account = of_account AND call = of_call;
        RETURN 0;
    END IF;
    -- Not more than a minute ahead: some of those that wait may never come.
    due := least(greatest(coalesce(r.due_at, at), at + make_interval(secs => (held + least(calls, burst) - burst) / per_second)),
        at + interval '1 minute');
    UPDATE call_rates SET due_at = due + make_interval(secs => calls / per_second)
    WHERE account = of_account AND call = of_call;
    RETURN greatest(extract(epoch FROM due - at), 0.001);
END $$;
-- +goose StatementEnd

CREATE VIEW report.account_windows AS
SELECT a.account, w.window_bytes, w.goodput AS goodput_bytes_per_second, w.sampled_at, w.cut_at, w.cut_for,
       coalesce(f.in_flight, 0)::bigint AS in_flight_bytes, coalesce(f.uploading, 0) AS uploading,
       h.call AS held_call, h.held_until, h.held_for, h.down_since
FROM (SELECT account FROM account_windows UNION SELECT account FROM call_holds) a
LEFT JOIN account_windows w ON w.account = a.account
LEFT JOIN (
    SELECT u.account, sum(u.fed_bytes + u.found_bytes - u.acked_bytes) AS in_flight, count(*) AS uploading
    FROM uploads u WHERE u.state = 'uploading' GROUP BY u.account
) f ON f.account = a.account
LEFT JOIN call_holds h ON h.account = a.account AND (h.down_since IS NOT NULL OR h.held_until > now());
COMMENT ON VIEW report.account_windows IS
    'What may be in flight for each account and what is; one row for each call that is held, at least one in all.';
COMMENT ON COLUMN report.account_windows.window_bytes IS 'At present; 0 or null while nothing is known, which stands for the configured maximum.';

-- +goose Down
DROP VIEW report.account_windows;
ALTER TABLE part_failures DROP COLUMN excused;
DROP TABLE call_holds, account_windows;
DROP FUNCTION take_calls;
ALTER TABLE call_rates DROP COLUMN due_at;
