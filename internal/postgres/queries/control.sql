-- name: MatchingUploads :many
-- The uploads that a filter selects, from the oldest; after is the last id of
-- the batch before. Keys of labels and their values stand in the same order.
SELECT id FROM uploads
WHERE tenant = @tenant
  AND (sqlc.narg(account)::text IS NULL OR account = sqlc.narg(account))
  AND (sqlc.narg(batch_id)::uuid IS NULL OR batch_id = sqlc.narg(batch_id))
  AND (cardinality(@states::text[]) = 0 OR state::text = ANY(@states::text[]))
  AND (cardinality(@causes::text[]) = 0 OR failure ->> 'cause' = ANY(@causes::text[]))
  AND (cardinality(@without_causes::text[]) = 0 OR failure ->> 'cause' <> ALL(@without_causes::text[]))
  AND labels @> @labels::jsonb
  AND (sqlc.narg(paused)::bool IS NULL OR paused = sqlc.narg(paused))
  AND (sqlc.narg(abort_due)::bool IS NULL OR abort_due = sqlc.narg(abort_due))
  AND (sqlc.narg(cancel_due)::bool IS NULL OR cancel_due = sqlc.narg(cancel_due))
  AND id > @after
ORDER BY id LIMIT @most::int;

-- name: CountMatching :one
SELECT count(*) FROM uploads
WHERE tenant = @tenant
  AND (sqlc.narg(account)::text IS NULL OR account = sqlc.narg(account))
  AND (sqlc.narg(batch_id)::uuid IS NULL OR batch_id = sqlc.narg(batch_id))
  AND (cardinality(@states::text[]) = 0 OR state::text = ANY(@states::text[]))
  AND (cardinality(@causes::text[]) = 0 OR failure ->> 'cause' = ANY(@causes::text[]))
  AND (cardinality(@without_causes::text[]) = 0 OR failure ->> 'cause' <> ALL(@without_causes::text[]))
  AND labels @> @labels::jsonb
  AND (sqlc.narg(paused)::bool IS NULL OR paused = sqlc.narg(paused))
  AND (sqlc.narg(abort_due)::bool IS NULL OR abort_due = sqlc.narg(abort_due))
  AND (sqlc.narg(cancel_due)::bool IS NULL OR cancel_due = sqlc.narg(cancel_due));

-- name: PauseUploads :many
-- Where runs may be on the queue or in hand, their withdrawal is due with it.
WITH chosen AS MATERIALIZED (
    SELECT o.id FROM uploads o WHERE o.id = ANY(@ids::uuid[]) AND o.tenant = @tenant AND NOT o.paused
      AND o.state::text IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing')
    ORDER BY o.id FOR UPDATE -- in id order, as the ledger does
)
UPDATE uploads u SET paused = true, paused_at = now(), paused_by = @paused_by, pause_reason = @reason,
    withdraw_due = u.withdraw_due OR u.state::text IN ('digesting', 'uploading')
FROM chosen c WHERE u.id = c.id
RETURNING u.id;

-- name: ResumeUploads :many
WITH chosen AS MATERIALIZED (
    SELECT o.id FROM uploads o WHERE o.id = ANY(@ids::uuid[]) AND o.tenant = @tenant AND o.paused ORDER BY o.id FOR UPDATE
)
UPDATE uploads u SET paused = false, paused_at = NULL, paused_by = '', pause_reason = '', feed_after = now()
FROM chosen c WHERE u.id = c.id
RETURNING u.id;

-- name: CancelUploads :many
-- At once, but while a finishing call may have taken effect, or nobody knows
-- what the platform holds: then the asset may be there, and whoever holds the
-- step decides.
WITH chosen AS MATERIALIZED (
    SELECT o.id, o.finish_intent_at IS NOT NULL OR o.probe_since IS NOT NULL AS doubt
    FROM uploads o WHERE o.id = ANY(@ids::uuid[]) AND o.tenant = @tenant
      AND o.state::text IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing')
    ORDER BY o.id FOR UPDATE
)
UPDATE uploads u SET
    state = CASE WHEN c.doubt THEN u.state ELSE 'cancelled' END,
    reason = CASE WHEN c.doubt THEN u.reason ELSE 'cancelled' END,
    finished_at = CASE WHEN c.doubt THEN NULL ELSE now() END,
    abort_due = NOT c.doubt AND u.session IS NOT NULL,
    cancel_due = c.doubt,
    withdraw_due = u.withdraw_due OR u.state::text IN ('digesting', 'uploading'),
    step_at = now(),
    step_tries = CASE WHEN c.doubt THEN u.step_tries ELSE 0 END,
    lease_token = CASE WHEN c.doubt THEN u.lease_token END,
    lease_until = CASE WHEN c.doubt THEN u.lease_until END
FROM chosen c WHERE u.id = c.id
RETURNING u.id;

-- name: CancelClaimed :execrows
-- No asset came of the finishing call, or a probe found none, so the
-- cancellation that was asked for meanwhile takes effect.
UPDATE uploads SET state = 'cancelled', reason = 'cancelled', finished_at = now(), cancel_due = false,
    abort_due = session IS NOT NULL, step_at = now(), step_tries = 0, lease_token = NULL, lease_until = NULL,
    finish_intent_at = NULL, probe_since = NULL
WHERE id = @id AND lease_token = @lease_token AND cancel_due
  AND state IN ('queued', 'digesting', 'beginning', 'uploading', 'finishing');

-- name: RetryUploads :many
-- The one way out of failed. The old session is discarded first, so that the
-- new epoch's cannot be taken for it; but one that may have become an asset
-- goes back to finishing, where the platform is asked before anything else.
WITH chosen AS MATERIALIZED (
    SELECT o.id FROM uploads o WHERE o.id = ANY(@ids::uuid[]) AND o.tenant = @tenant AND o.state::text = 'failed' AND NOT o.abort_due
      AND o.size > 0 -- one that was refused at intake has nothing to retry
    ORDER BY o.id FOR UPDATE
)
UPDATE uploads u SET state = (CASE WHEN u.finish_intent_at IS NULL THEN 'queued' ELSE 'finishing' END)::upload_state,
    reason = 'retry', failure = NULL, finished_at = NULL,
    finish_intent_at = CASE WHEN u.finish_intent_at IS NOT NULL THEN now() END, -- its patience begins anew
    step_at = now(), step_tries = 0, refusals = 0, lease_token = NULL, lease_until = NULL
FROM chosen c WHERE u.id = c.id
RETURNING u.id;

-- name: RecordOrphan :execrows
-- The session that was opened for an upload that had ended meanwhile: kept
-- until it is discarded.
UPDATE uploads SET session = @session, abort_due = true, step_at = now(), step_tries = 0
WHERE id = @id AND epoch = @epoch AND session IS NULL AND NOT abort_due AND state IN ('failed', 'cancelled');

-- name: WithdrawDue :many
SELECT id, account, feed_count FROM uploads WHERE withdraw_due ORDER BY id LIMIT @most::int;

-- name: RecordWithdrawn :many
-- The upload has nothing on the queue any more, so the feed goes back to its
-- beginning: what the ledger has is passed over, and only that counts as fed.
WITH done AS MATERIALIZED (
    SELECT u.id FROM uploads u
    JOIN (SELECT unnest(@ids::uuid[]) AS id, unnest(@feed_counts::bigint[]) AS feed_count) AS w ON w.id = u.id
    WHERE u.withdraw_due AND u.feed_count = w.feed_count
    ORDER BY u.id FOR UPDATE OF u
)
UPDATE uploads u SET withdraw_due = false, feed_after = now(),
    fed = CASE WHEN u.state::text = 'uploading' THEN 0 ELSE u.fed END,
    fed_bytes = CASE WHEN u.state::text = 'uploading' THEN u.acked_bytes - u.found_bytes ELSE u.fed_bytes END
FROM done d WHERE u.id = d.id
RETURNING u.id;

-- name: Pauses :many
SELECT scope, name, reason, paused_by, paused_at FROM pauses ORDER BY scope, name;

-- name: InsertPause :execrows
INSERT INTO pauses (scope, name, reason, paused_by) VALUES (@scope, @name, @reason, @paused_by)
ON CONFLICT DO NOTHING;

-- name: DeletePause :execrows
DELETE FROM pauses WHERE scope = @scope AND name = @name;

-- name: WithdrawScope :exec
-- Of an account or a tenant that is paused, whatever may have jobs on the queue.
WITH chosen AS MATERIALIZED (
    SELECT o.id FROM uploads o WHERE o.state IN ('digesting', 'uploading')
      AND CASE WHEN @scope::text = 'account' THEN o.account = @name ELSE o.tenant = @name END
    ORDER BY o.id FOR UPDATE
)
UPDATE uploads u SET withdraw_due = true FROM chosen c WHERE u.id = c.id;
