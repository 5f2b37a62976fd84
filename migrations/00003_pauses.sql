-- +goose Up
-- Pauses of whole accounts and tenants; that of one upload is uploads.paused.
-- What is paused is not claimed, fed, swept or assigned: the statements look here.
CREATE TABLE pauses (
    scope     text        NOT NULL CONSTRAINT pauses_scope CHECK (scope IN ('account', 'tenant')),
    name      text        NOT NULL,
    reason    text        NOT NULL DEFAULT '',
    paused_by text        NOT NULL DEFAULT '', -- who, in the caller's words
    paused_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pauses_pkey PRIMARY KEY (scope, name)
);

ALTER TABLE uploads
    ADD COLUMN pause_reason  text    NOT NULL DEFAULT '',
    ADD COLUMN paused_by     text    NOT NULL DEFAULT '',
    ADD COLUMN paused_at     timestamptz,
    -- Jobs of the upload may still be on the queue or in hand, and are to be
    -- taken from there. Set with the move that makes it so and cleared by
    -- whoever has done it; until then nothing of the upload is fed or assigned.
    ADD COLUMN withdraw_due  boolean NOT NULL DEFAULT false,
    -- Cancelled while a finishing call may have taken effect: a definite answer
    -- or a probe decides.
    ADD COLUMN cancel_due    boolean NOT NULL DEFAULT false;

CREATE INDEX uploads_withdraw ON uploads (id) WHERE withdraw_due;
-- Paused uploads are left out: a claim does not read past a hundred thousand of them.
DROP INDEX uploads_queued;
CREATE INDEX uploads_queued ON uploads (account, priority DESC, id) WHERE state = 'queued' AND NOT paused;

-- +goose Down
DROP INDEX uploads_withdraw, uploads_queued;
CREATE INDEX uploads_queued ON uploads (account, priority DESC, id) WHERE state = 'queued';
ALTER TABLE uploads DROP COLUMN pause_reason, DROP COLUMN paused_by, DROP COLUMN paused_at,
    DROP COLUMN withdraw_due, DROP COLUMN cancel_due;
DROP TABLE pauses;
