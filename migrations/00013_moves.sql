-- +goose Up
-- As before, at less cost: most statements on uploads move none of them, and of
-- those that do most end none. Each then made an insert of nothing into the
-- outbox, which in turn asked for webhooks.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION uploads_record_moves() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    INSERT INTO state_changes (upload_id, from_state, to_state, reason)
    SELECT n.id, o.state, n.state, n.reason
    FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE o.state <> n.state;

    IF NOT FOUND OR NOT EXISTS (SELECT FROM new_rows n WHERE n.state IN ('completed', 'failed', 'cancelled')) THEN
        RETURN NULL;
    END IF;
    INSERT INTO outbox (tenant, type, upload_id, payload)
    SELECT n.tenant, n.state::text, n.id,
           jsonb_build_object('upload', n.id, 'tenant', n.tenant, 'account', n.account, 'state', n.state,
               'name', n.name, 'size', n.size, 'labels', n.labels, 'asset', n.asset, 'failure', n.failure,
               'at', n.finished_at)
    FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE o.state <> n.state AND n.state IN ('completed', 'failed', 'cancelled');
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION uploads_record_moves() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    INSERT INTO state_changes (upload_id, from_state, to_state, reason)
    SELECT n.id, o.state, n.state, n.reason
    FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE o.state <> n.state;

    INSERT INTO outbox (tenant, type, upload_id, payload)
    SELECT n.tenant, n.state::text, n.id,
           jsonb_build_object('upload', n.id, 'tenant', n.tenant, 'account', n.account, 'state', n.state,
               'name', n.name, 'size', n.size, 'labels', n.labels, 'asset', n.asset, 'failure', n.failure,
               'at', n.finished_at)
    FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE o.state <> n.state AND n.state IN ('completed', 'failed', 'cancelled');
    RETURN NULL;
END $$;
-- +goose StatementEnd
