-- name: LockWebhooks :exec
-- Two dispatchers that start at once say one after the other what there is.
SELECT pg_advisory_xact_lock(hashtext('mediaferry webhooks'));

-- name: SetWebhook :exec
INSERT INTO webhook_endpoints (name, tenant, types) VALUES (@name, @tenant, @types)
ON CONFLICT ON CONSTRAINT webhook_endpoints_pkey DO UPDATE
SET tenant = excluded.tenant, types = excluded.types, removed_at = NULL;

-- name: RemoveWebhooks :exec
UPDATE webhook_endpoints SET removed_at = now() WHERE removed_at IS NULL AND NOT name = ANY(@kept::text[]);

-- name: Webhooks :many
SELECT e.name, e.tenant, e.types, e.failing_since, e.last_error, e.disabled_at, e.disabled_reason,
    (SELECT count(*) FROM webhook_messages m WHERE m.endpoint = e.name AND m.tenant = e.tenant AND m.due_at IS NOT NULL) AS pending,
    (SELECT count(*) FROM webhook_messages m WHERE m.endpoint = e.name AND m.tenant = e.tenant AND m.gave_up_at IS NOT NULL) AS given_up
FROM webhook_endpoints e WHERE e.tenant = @tenant AND e.removed_at IS NULL ORDER BY e.name;

-- name: ClaimWebhookMessages :many
-- An endpoint whose tries fail is tried with one message at a time.
WITH due AS (
    SELECT m.id FROM webhook_messages m
    WHERE m.endpoint = @endpoint AND m.tenant = @tenant AND m.due_at <= now()
    ORDER BY m.due_at
    LIMIT (SELECT CASE WHEN e.failing_since IS NULL THEN @most::int ELSE 1 END
           FROM webhook_endpoints e WHERE e.name = @endpoint AND e.disabled_at IS NULL AND e.removed_at IS NULL
           UNION ALL SELECT 0 LIMIT 1)
    FOR UPDATE SKIP LOCKED
)
UPDATE webhook_messages m SET due_at = now() + @lease::interval, claim = m.claim + 1
FROM due WHERE m.id = due.id
RETURNING m.id, m.type, m.payload, m.created_at, m.claim, m.tries;

-- name: WebhookMessageDelivered :exec
-- Also where the claim has passed to another try: it did arrive.
UPDATE webhook_messages SET delivered_at = now(), due_at = NULL, gave_up_at = NULL, tries = tries + 1,
    first_tried_at = coalesce(first_tried_at, now()), last_error = ''
WHERE id = @id AND delivered_at IS NULL;

-- name: WebhookMessageFailed :execrows
UPDATE webhook_messages SET tries = tries + 1, last_error = @error, first_tried_at = coalesce(first_tried_at, now()),
    due_at = CASE WHEN first_tried_at < now() - @patience::interval THEN NULL ELSE now() + @delay::interval END,
    gave_up_at = CASE WHEN first_tried_at < now() - @patience::interval THEN now() END
WHERE id = @id AND claim = @claim AND due_at IS NOT NULL;

-- name: ReleaseWebhookMessage :exec
UPDATE webhook_messages SET due_at = now() WHERE id = @id AND claim = @claim AND due_at IS NOT NULL;

-- name: WebhookWorks :exec
UPDATE webhook_endpoints SET failing_since = NULL, last_error = '' WHERE name = @name AND failing_since IS NOT NULL;

-- name: WebhookFails :exec
UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, now()), last_error = @error WHERE name = @name;

-- name: DisableWebhook :execrows
-- Where it is gone, or every try of the time has failed; with its event.
WITH disabled AS (
    UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = @reason
    WHERE name = @name AND disabled_at IS NULL AND (@gone::bool OR failing_since < now() - @patience::interval)
    RETURNING name, tenant
)
INSERT INTO outbox (tenant, type, payload)
SELECT tenant, 'webhook_disabled',
    jsonb_build_object('endpoint', name, 'tenant', tenant, 'reason', @reason::text, 'at', now())
FROM disabled;

-- name: EnableWebhook :execrows
UPDATE webhook_endpoints SET disabled_at = NULL, disabled_reason = '', failing_since = NULL, last_error = ''
WHERE name = @name AND tenant = @tenant AND removed_at IS NULL;

-- name: WebhookOfTenant :one
SELECT count(*) FROM webhook_endpoints WHERE name = @name AND tenant = @tenant AND removed_at IS NULL;

-- name: ReplayWebhook :execrows
UPDATE webhook_messages SET due_at = now(), delivered_at = NULL, gave_up_at = NULL, tries = 0, first_tried_at = NULL,
    claim = claim + 1, last_error = ''
WHERE endpoint = @endpoint AND tenant = @tenant
    AND (sqlc.narg(since)::timestamptz IS NULL OR created_at >= sqlc.narg(since))
    AND (sqlc.narg(upload)::uuid IS NULL OR upload_id = sqlc.narg(upload))
    AND (gave_up_at IS NOT NULL OR due_at IS NOT NULL OR NOT @undelivered::bool);

-- name: DropOldWebhookMessages :exec
DELETE FROM webhook_messages WHERE created_at < now() - @age::interval;
