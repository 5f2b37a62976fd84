-- +goose Up
-- A batch ties uploads that were submitted together. Its row is made by whatever
-- inserts uploads with its id, so that a dispatcher of the version before makes
-- it too; one that is submitted as a batch has its row first, with the key under
-- which it may be submitted again.
CREATE TABLE batches (
    id              uuid        NOT NULL CONSTRAINT batches_pkey PRIMARY KEY, -- UUIDv7
    tenant          text        NOT NULL,
    idempotency_key text,
    request_hash    bytea       NOT NULL DEFAULT '', -- tells a repeated submission from another one under the same key
    source_bucket   text        NOT NULL DEFAULT '', -- empty where the uploads were not asked for as a batch
    source_key      text        NOT NULL DEFAULT '',
    prefix          boolean     NOT NULL DEFAULT false, -- source_key is what the keys begin with
    rejected        integer     NOT NULL DEFAULT 0,     -- objects of the prefix that were not taken, counted for each account
    first_rejected  jsonb       NOT NULL DEFAULT '[]',
    -- As submitted: uploads join a batch only when they are inserted.
    accounts        text[]      NOT NULL DEFAULT '{}',
    uploads         integer     NOT NULL DEFAULT 0,
    bytes           bigint      NOT NULL DEFAULT 0,
    submitted_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX batches_idempotency_key ON batches (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batches_tenant ON batches (tenant, id);

-- +goose StatementBegin
CREATE FUNCTION uploads_join_batches() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO batches AS b (id, tenant, accounts, uploads, bytes)
    SELECT n.batch_id, n.tenant, array_agg(DISTINCT n.account ORDER BY n.account), count(*), sum(n.size)
    FROM new_rows n WHERE n.batch_id IS NOT NULL GROUP BY n.batch_id, n.tenant
    ON CONFLICT (id) DO UPDATE SET uploads = b.uploads + excluded.uploads, bytes = b.bytes + excluded.bytes,
        accounts = (SELECT array_agg(DISTINCT a ORDER BY a) FROM unnest(b.accounts || excluded.accounts) AS a);
    RETURN NULL;
END $$;

-- With its last upload, a batch is forgotten.
CREATE FUNCTION uploads_leave_batches() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM batches b
    WHERE b.id IN (SELECT o.batch_id FROM old_rows o WHERE o.batch_id IS NOT NULL)
      AND NOT EXISTS (SELECT FROM uploads u WHERE u.batch_id = b.id);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER uploads_batches AFTER INSERT ON uploads
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION uploads_join_batches();
CREATE TRIGGER uploads_batches_left AFTER DELETE ON uploads
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION uploads_leave_batches();

INSERT INTO batches (id, tenant, accounts, uploads, bytes, submitted_at)
SELECT batch_id, min(tenant), array_agg(DISTINCT account ORDER BY account), count(*), sum(size), min(submitted_at)
FROM uploads WHERE batch_id IS NOT NULL GROUP BY batch_id;

-- +goose Down
DROP TRIGGER uploads_batches_left ON uploads;
DROP TRIGGER uploads_batches ON uploads;
DROP FUNCTION uploads_leave_batches, uploads_join_batches;
DROP TABLE batches;
