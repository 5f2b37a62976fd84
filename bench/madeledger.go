package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
)

// The made-up record is two months of work: files of up to 4 GiB in parts of
// 8 MiB for six accounts at three platforms, a few of them instant, failed or
// cancelled.
const (
	// madeUploads takes how many uploads to make, and the days that they go back.
	madeUploads = `
INSERT INTO uploads (id, tenant, account, provider, pool, request_hash, source_bucket, source_key, source_etag, size, name, state, epoch,
    part_size, part_count, acked_parts, acked_bytes, submitted_at, begun_at, first_ack_at, last_ack_at, finished_at, asset, failure)
SELECT (lpad(to_hex((extract(epoch FROM u.at) * 1000)::bigint), 12, '0') || '7' || substr(u.hash, 1, 3) || '8' || substr(u.hash, 4, 15))::uuid,
    'tenant-' || u.n %% 3, 'account-' || u.n %% 6, 'platform-' || u.n %% 3, 'default', '', 'staging', 'films/' || u.n, u.hash,
    u.parts * 8388608::bigint, 'film ' || u.n, u.state::upload_state, (NOT u.instant)::int,
    CASE WHEN NOT u.instant THEN 8388608 END, CASE WHEN NOT u.instant THEN u.parts END,
    CASE WHEN NOT u.instant THEN u.parts ELSE 0 END, CASE WHEN NOT u.instant THEN u.parts * 8388608::bigint ELSE 0 END,
    u.at, u.at + u.wait, u.at + u.wait, u.at + u.wait + u.parts * interval '0.2 s', u.at + u.wait + u.parts * interval '0.2 s' + interval '2 s',
    CASE WHEN u.state = 'completed' THEN jsonb_build_object('id', u.hash) END,
    CASE WHEN u.state = 'failed' THEN '{"cause": "rejected"}'::jsonb END
FROM (
    SELECT n, now() - interval '%[2]d days' + n * interval '%[2]d days' / %[1]d - interval '1 hour' AS at, md5(n::text) AS hash,
        10 + n * 7919 %% 481 AS parts, n %% 19 = 0 AS instant, (1 + n * 31 %% 600) * interval '0.5 s' AS wait,
        CASE WHEN n %% 19 = 0 THEN 'completed' WHEN n %% 101 = 0 THEN 'failed' WHEN n %% 103 = 0 THEN 'cancelled' ELSE 'completed' END AS state
    FROM generate_series(1, %[1]d) AS n
) u`

	madeEpochs   = `INSERT INTO upload_epochs (upload_id, epoch) SELECT id, 1 FROM uploads WHERE epoch = 1`
	madeUnfolded = `INSERT INTO unfolded_uploads (upload_id) SELECT id FROM uploads`

	madeMoves = `
INSERT INTO state_changes (upload_id, from_state, to_state, at)
SELECT u.id, c.from_state::upload_state, coalesce(c.to_state::upload_state, u.state),
    CASE c.step WHEN 1 THEN u.submitted_at WHEN 2 THEN u.begun_at - interval '0.3 s' WHEN 3 THEN u.begun_at WHEN 4 THEN u.last_ack_at ELSE u.finished_at END
FROM uploads u CROSS JOIN (VALUES (1, NULL, 'queued'), (2, 'queued', 'beginning'), (3, 'beginning', 'uploading'),
    (4, 'uploading', 'finishing'), (5, 'finishing', NULL)) AS c (step, from_state, to_state)
ORDER BY u.id, c.step`

	madeFailures = `
INSERT INTO part_failures (upload_id, account, epoch, part, kind, code, worker, started_at, failed_at)
SELECT u.id, u.account, 1, 1 + p * 7, CASE WHEN p % 3 = 0 THEN 'throttled' ELSE 'transient' END, 'code-' || p % 5, 'worker-' || p % 16,
    u.begun_at, u.begun_at + p * interval '1 s'
FROM uploads u CROSS JOIN generate_series(0, 2) AS p WHERE u.epoch = 1`

	madeCalls = `
INSERT INTO rollup_calls (hour, account, call, calls, waits)
SELECT date_trunc('hour', h, 'UTC'), 'account-' || a, 'finish', 100, 3
FROM generate_series(now() - interval '60 days', now(), interval '1 hour') AS h CROSS JOIN generate_series(0, 5) AS a`

	// madeAcks takes an operator, "<" or ">=", and a number of days: it makes the
	// acks of the uploads submitted before that time, or since.
	madeAcks = `
INSERT INTO part_acks (upload_id, epoch, part, "offset", length, receipt, digest, worker, delivery, started_at, acked_at)
SELECT u.id, 1, p, (p - 1) * 8388608::bigint, 8388608, u.source_etag, 'crc64nvme:0123456789abcdef', 'worker-' || p %% 16,
    CASE WHEN p %% 200 = 0 THEN 2 ELSE 1 END,
    u.begun_at + (p - 1) * interval '0.2 s', u.begun_at + p * interval '0.2 s' + (p * 37 %% 100) * interval '0.03 s'
FROM (SELECT id, part_count, begun_at, source_etag FROM uploads WHERE epoch = 1 AND submitted_at %s now() - interval '%d days' ORDER BY id) u
CROSS JOIN LATERAL generate_series(1, u.part_count) AS p`
)

// makeLedger fills the tables with about rows parts, and returns how many it made.
func makeLedger(ctx context.Context, conns *sql.DB, rows int) (made int, err error) {
	uploads := rows*1000/236_700 + 1 // 94.7 per cent have parts, 250 on average
	for _, statement := range []string{
		`ALTER SYSTEM SET max_wal_size = '16GB'`, `ALTER SYSTEM SET checkpoint_timeout = '30min'`, `SELECT pg_reload_conf()`,
		fmt.Sprintf(madeUploads, uploads, ledgerDays), madeEpochs, madeUnfolded, madeMoves, madeFailures, madeCalls,
	} {
		if err := execUntriggered(ctx, conns, statement); err != nil {
			return 0, err
		}
	}
	// Two at once, each with months of its own for the most part.
	var halves errgroup.Group
	for _, operator := range []string{"<", ">="} {
		halves.Go(func() error {
			return execUntriggered(ctx, conns, fmt.Sprintf(madeAcks, operator, ledgerDays/2))
		})
	}
	if err := halves.Wait(); err != nil {
		return 0, err
	}
	// As autovacuum would have done in that time.
	if _, err := conns.ExecContext(ctx, `VACUUM ANALYZE`); err != nil {
		return 0, fmt.Errorf("vacuum: %w", err)
	}
	if err := conns.QueryRowContext(ctx, `SELECT count(*) FROM part_acks`).Scan(&made); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return made, nil
}

// execUntriggered runs the statement without triggers, which would record the
// moves as of now.
func execUntriggered(ctx context.Context, conns *sql.DB, statement string) error {
	conn, err := conns.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close() //nolint:errcheck // back to the pool
	for _, s := range []string{`SET session_replication_role = replica`, `SET synchronous_commit = off`, statement} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", strings.TrimSpace(statement), err)
		}
	}
	return nil
}
