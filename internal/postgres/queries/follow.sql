-- name: StateChanges :many
-- Of the numbers after one and up to another one, below which none is missing.
SELECT c.id, c.upload_id, u.tenant, u.account, u.batch_id, u.name, u.size, u.labels,
    coalesce(c.from_state::text, '')::text AS from_state, c.to_state, c.reason, c.at,
    (CASE WHEN c.to_state = u.state THEN u.asset END)::jsonb AS asset,
    (CASE WHEN c.to_state = u.state THEN u.failure END)::jsonb AS failure
FROM state_changes c JOIN uploads u ON u.id = c.upload_id
WHERE c.id > @after AND c.id <= @upto AND u.tenant = @tenant
  AND (sqlc.narg(account)::text IS NULL OR u.account = sqlc.narg(account))
  AND (sqlc.narg(upload_id)::uuid IS NULL OR c.upload_id = sqlc.narg(upload_id))
  AND (sqlc.narg(batch_id)::uuid IS NULL OR u.batch_id = sqlc.narg(batch_id))
  AND (cardinality(@states::text[]) = 0 OR c.to_state::text = ANY(@states::text[]))
ORDER BY c.id LIMIT @page::int;

-- name: NewStateChanges :one
-- Numbers are given before a transaction commits, so a higher one may be seen
-- first. The snapshot says which transactions could still bring a lower one.
SELECT coalesce((SELECT array_agg(n.id ORDER BY n.id) FROM (SELECT c.id FROM state_changes c WHERE c.id > @after ORDER BY c.id LIMIT 5000) n), '{}')::bigint[] AS numbers,
    (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS oldest,
    (pg_snapshot_xmax(pg_current_snapshot())::text)::bigint AS next;

-- name: LastStateChange :one
SELECT coalesce(max(id), 0)::bigint FROM state_changes;
