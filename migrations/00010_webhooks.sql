-- +goose Up
-- Events on their way to the endpoints of webhooks. A message is written in the
-- transaction of its event, so that it needs neither the queue nor a dispatcher
-- that is up.

-- An event may be about no upload.
ALTER TABLE outbox ALTER COLUMN upload_id DROP NOT NULL;

-- What dispatchers are configured with; the one that started last says what there
-- is. Addresses and secrets are in the settings alone.
CREATE TABLE webhook_endpoints (
    name            text        NOT NULL CONSTRAINT webhook_endpoints_pkey PRIMARY KEY,
    tenant          text        NOT NULL,
    types           text[]      NOT NULL, -- of the events it wants; empty for all
    removed_at      timestamptz,          -- no longer configured
    failing_since   timestamptz,          -- since when every try has failed
    last_error      text        NOT NULL DEFAULT '',
    disabled_at     timestamptz,          -- nothing is sent, messages are kept
    disabled_reason text        NOT NULL DEFAULT ''
);

CREATE TABLE webhook_messages (
    id             uuid        NOT NULL DEFAULT gen_random_uuid() CONSTRAINT webhook_messages_pkey PRIMARY KEY,
    endpoint       text        NOT NULL,
    tenant         text        NOT NULL, -- an endpoint that is given to another tenant gets none of these
    type           text        NOT NULL,
    upload_id      uuid,
    payload        jsonb       NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    due_at         timestamptz DEFAULT now(), -- next try; during one, when it is taken for lost; NULL when settled
    claim          integer     NOT NULL DEFAULT 0, -- counts claims, so that a late failure is told from the present one
    tries          integer     NOT NULL DEFAULT 0,
    first_tried_at timestamptz,
    last_error     text        NOT NULL DEFAULT '',
    delivered_at   timestamptz,
    gave_up_at     timestamptz
);
CREATE INDEX webhook_messages_due ON webhook_messages (endpoint, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_messages_age ON webhook_messages (created_at);
CREATE INDEX webhook_messages_uploads ON webhook_messages (upload_id);

-- +goose StatementBegin
CREATE FUNCTION outbox_to_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_messages (endpoint, tenant, type, upload_id, payload, created_at)
    SELECT e.name, n.tenant, n.type, n.upload_id, n.payload, n.created_at
    FROM (SELECT r.id, r.tenant, r.upload_id, r.payload, r.created_at,
                 CASE WHEN r.upload_id IS NULL THEN replace(r.type, '_', '.') ELSE 'upload.' || r.type END AS type
          FROM new_rows r) n
    JOIN webhook_endpoints e ON e.tenant = n.tenant AND e.removed_at IS NULL
        AND (e.types = '{}' OR n.type = ANY(e.types))
    ORDER BY n.id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER outbox_webhooks AFTER INSERT ON outbox
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_to_webhooks();

-- +goose Down
DROP TRIGGER outbox_webhooks ON outbox;
DROP FUNCTION outbox_to_webhooks;
DROP TABLE webhook_messages, webhook_endpoints;
DELETE FROM outbox WHERE upload_id IS NULL;
ALTER TABLE outbox ALTER COLUMN upload_id SET NOT NULL;
