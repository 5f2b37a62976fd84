-- name: Circumstances :one
-- What explain needs of an upload beyond what is shown of it. How many go first
-- is counted to ten thousand.
SELECT u.pool, u.reason, u.step_at, coalesce(u.lease_until > now(), false)::bool AS step_in_hand,
    (u.probe_since IS NOT NULL)::bool AS in_doubt, (u.finish_intent_at IS NOT NULL)::bool AS intent_open,
    u.session_expires, u.feed_after, coalesce(u.fed < u.part_count, false)::bool AS unfed,
    CASE WHEN u.state = 'uploading' THEN u.fed_bytes + u.found_bytes - u.acked_bytes ELSE 0 END::bigint AS in_flight,
    (SELECT coalesce(sum(a.length), 0) FROM part_acks a WHERE a.upload_id = u.id AND a.epoch = u.epoch
        AND NOT a.found AND a.acked_at > now() - interval '1 minute')::bigint AS recent_bytes,
    CASE WHEN u.state = 'queued' THEN (SELECT count(*) FROM (SELECT 1 FROM uploads o
        WHERE o.account = u.account AND o.state = 'queued' AND NOT o.paused AND o.step_at <= now()
          AND (o.priority > u.priority OR o.priority = u.priority AND o.id < u.id) LIMIT 10000) AS first)
        ELSE 0 END::bigint AS ahead,
    coalesce(f.kind, '')::text AS last_kind, coalesce(f.code, '')::text AS last_code, coalesce(f.message, '')::text AS last_message,
    coalesce(f.part, 0)::int AS last_part, coalesce(f.failed_at, '0001-01-01 00:00:00+00')::timestamptz AS last_at, now()::timestamptz AS at
FROM uploads u
LEFT JOIN LATERAL (SELECT p.kind, p.code, p.message, p.part, p.failed_at FROM part_failures p
    WHERE p.upload_id = u.id AND p.epoch = u.epoch ORDER BY p.failed_at DESC LIMIT 1) AS f ON true
WHERE u.id = @id AND u.tenant = @tenant;
