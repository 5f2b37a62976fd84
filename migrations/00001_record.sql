-- +goose Up
-- The record of every upload. Nothing outside these tables decides anything:
-- the queue may be deleted at any moment and is fed again from here.

CREATE TYPE upload_state AS ENUM
    ('queued', 'digesting', 'beginning', 'uploading', 'finishing', 'completed', 'failed', 'cancelled');

CREATE TABLE uploads (
    id               uuid         NOT NULL CONSTRAINT uploads_pkey PRIMARY KEY, -- UUIDv7
    tenant           text         NOT NULL,
    account          text         NOT NULL,
    provider         text         NOT NULL,
    pool             text         NOT NULL,
    batch_id         uuid,
    idempotency_key  text,
    request_hash     bytea        NOT NULL, -- tells a repeated submission from another one under the same key
    source_bucket    text         NOT NULL,
    source_key       text         NOT NULL,
    source_version   text         NOT NULL DEFAULT '',
    source_etag      text         NOT NULL,
    size             bigint       NOT NULL CONSTRAINT uploads_size_positive CHECK (size > 0),
    name             text         NOT NULL,
    content_type     text         NOT NULL DEFAULT '',
    options          jsonb        NOT NULL DEFAULT '{}',
    labels           jsonb        NOT NULL DEFAULT '{}',
    digests          text[]       NOT NULL DEFAULT '{}', -- of the whole object, "kind:hex"
    priority         smallint     NOT NULL DEFAULT 0,
    not_before       timestamptz,

    state            upload_state NOT NULL DEFAULT 'queued',
    reason           text         NOT NULL DEFAULT '', -- of the last move, copied to state_changes
    paused           boolean      NOT NULL DEFAULT false,
    epoch            integer      NOT NULL DEFAULT 0,  -- 0 until the first session is opened
    part_size        bigint,
    part_count       integer,
    -- Parts up to number fed have been handed to the queue at least once;
    -- fed_bytes are theirs without those found upstream. Bytes in flight are
    -- fed_bytes + found_bytes - acked_bytes.
    fed              integer      NOT NULL DEFAULT 0,
    fed_bytes        bigint       NOT NULL DEFAULT 0,
    feed_count       bigint       NOT NULL DEFAULT 0, -- makes publish ids differ when a run is fed again
    feed_after       timestamptz  NOT NULL DEFAULT now(), -- the sweep feeds nothing again before
    found_bytes      bigint       NOT NULL DEFAULT 0, -- of acked_bytes: upstream before this epoch began
    acked_parts      integer      NOT NULL DEFAULT 0,
    acked_bytes      bigint       NOT NULL DEFAULT 0,
    session          bytea,       -- sealed
    session_expires  timestamptz,
    digest_checkpoint jsonb,
    finish_intent_at timestamptz, -- set before the finishing call, cleared by a definite answer
    abort_due        boolean      NOT NULL DEFAULT false, -- the upstream session is still to be discarded
    asset            jsonb,
    failure          jsonb,

    lease_token      uuid,        -- of the control step in hand
    lease_until      timestamptz,
    step_at          timestamptz  NOT NULL DEFAULT now(), -- when the next control step is due
    step_tries       integer      NOT NULL DEFAULT 0,

    submitted_at     timestamptz  NOT NULL DEFAULT now(),
    begun_at         timestamptz,
    first_ack_at     timestamptz,
    last_ack_at      timestamptz,
    finished_at      timestamptz,

    CONSTRAINT uploads_part_plan CHECK ((part_size IS NULL) = (part_count IS NULL)),
    CONSTRAINT uploads_acked_bytes_within_size CHECK (acked_bytes BETWEEN 0 AND size),
    CONSTRAINT uploads_acked_parts_within_count CHECK (acked_parts BETWEEN 0 AND coalesce(part_count, 0)),
    -- Invariant 3, held by the database too: no finishing before the last byte.
    CONSTRAINT uploads_finishing_covers_size CHECK (state <> 'finishing' OR acked_bytes = size),
    CONSTRAINT uploads_completed_has_asset CHECK (state <> 'completed' OR asset IS NOT NULL),
    CONSTRAINT uploads_failed_has_failure CHECK (state <> 'failed' OR failure IS NOT NULL)
) WITH (fillfactor = 70); -- room for HOT updates of the counters

CREATE UNIQUE INDEX uploads_idempotency_key ON uploads (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX uploads_tenant ON uploads (tenant, id);
CREATE INDEX uploads_batch ON uploads (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX uploads_queued ON uploads (account, priority DESC, id) WHERE state = 'queued';
CREATE INDEX uploads_uploading ON uploads (account, priority DESC, id) WHERE state = 'uploading';
CREATE INDEX uploads_steps ON uploads (step_at) WHERE state IN ('beginning', 'finishing') OR abort_due;
CREATE INDEX uploads_digesting ON uploads (id) WHERE state = 'digesting';
-- What the accounts have in hand: counted often, and few among many.
CREATE INDEX uploads_in_hand ON uploads (account) WHERE state IN ('digesting', 'beginning', 'uploading');

-- The ledger: the only place that says that a part is done. Insert-only.
-- Partitioned by time, since a UUIDv7 begins with its milliseconds.
CREATE TABLE part_acks (
    upload_id  uuid        NOT NULL,
    epoch      integer     NOT NULL,
    part       integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    length     bigint      NOT NULL CONSTRAINT part_acks_length_positive CHECK (length > 0),
    receipt    text        NOT NULL DEFAULT '',
    digest     text        NOT NULL DEFAULT '', -- "kind:hex", confirmed by the platform
    worker     text        NOT NULL DEFAULT '',
    delivery   integer     NOT NULL DEFAULT 1,
    found      boolean     NOT NULL DEFAULT false, -- found upstream, not sent in this epoch
    started_at timestamptz NOT NULL,
    acked_at   timestamptz NOT NULL,
    CONSTRAINT part_acks_pkey PRIMARY KEY (upload_id, epoch, part)
) PARTITION BY RANGE (upload_id);

-- Catches what no month's partition covers; normally empty.
CREATE TABLE part_acks_default PARTITION OF part_acks DEFAULT;

CREATE TABLE part_failures (
    id         bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT part_failures_pkey PRIMARY KEY,
    upload_id  uuid        NOT NULL,
    account    text        NOT NULL,
    epoch      integer     NOT NULL,
    part       integer     NOT NULL, -- 0 for what is not about a part
    kind       text        NOT NULL,
    code       text        NOT NULL DEFAULT '',
    message    text        NOT NULL DEFAULT '',
    worker     text        NOT NULL DEFAULT '', -- empty for a control step
    delivery   integer     NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL,
    failed_at  timestamptz NOT NULL,
    -- A redelivered failure is the same try.
    CONSTRAINT part_failures_once UNIQUE (upload_id, epoch, part, worker, failed_at)
);

CREATE TABLE state_changes (
    id         bigint       GENERATED ALWAYS AS IDENTITY CONSTRAINT state_changes_pkey PRIMARY KEY,
    upload_id  uuid         NOT NULL,
    from_state upload_state,
    to_state   upload_state NOT NULL,
    reason     text         NOT NULL DEFAULT '',
    at         timestamptz  NOT NULL DEFAULT now()
);
CREATE INDEX state_changes_upload ON state_changes (upload_id, id);

CREATE TABLE object_digests (
    bucket   text        NOT NULL,
    key      text        NOT NULL,
    version  text        NOT NULL DEFAULT '',
    etag     text        NOT NULL,
    digest   text        NOT NULL, -- "kind:hex"
    kind     text        NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT object_digests_pkey PRIMARY KEY (bucket, key, version, etag, kind)
);

CREATE TABLE call_rates (
    account   text             NOT NULL,
    call      text             NOT NULL,
    level     double precision NOT NULL DEFAULT 0, -- calls in the bucket at filled_at
    filled_at timestamptz      NOT NULL DEFAULT now(),
    CONSTRAINT call_rates_pkey PRIMARY KEY (account, call)
);

CREATE TABLE outbox (
    id         bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT outbox_pkey PRIMARY KEY,
    tenant     text        NOT NULL,
    type       text        NOT NULL,
    upload_id  uuid        NOT NULL,
    payload    jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What the queue looked like when it was last seen, so that its loss is noticed.
CREATE TABLE stream_marks (
    stream   text        NOT NULL CONSTRAINT stream_marks_pkey PRIMARY KEY,
    created  timestamptz NOT NULL,
    last_seq bigint      NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now()
);

-- No state changes without its row in the audit trail, and no upload ends
-- without its event, whichever statement made the move.
-- +goose StatementBegin
-- Without nested loops: the planner takes transition tables for single rows.
CREATE FUNCTION uploads_record_moves() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
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

CREATE FUNCTION uploads_record_submissions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO state_changes (upload_id, from_state, to_state, reason)
    SELECT id, NULL, state, 'submitted' FROM new_rows;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER uploads_moves AFTER UPDATE ON uploads
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION uploads_record_moves();
CREATE TRIGGER uploads_submissions AFTER INSERT ON uploads
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION uploads_record_submissions();

-- +goose Down
DROP TABLE stream_marks, outbox, call_rates, object_digests, state_changes, part_failures, part_acks, uploads;
DROP FUNCTION uploads_record_moves, uploads_record_submissions;
DROP TYPE upload_state;
