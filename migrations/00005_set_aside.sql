-- +goose Up
-- What keeps the record right when it is not the newest any more, and messages
-- right that nobody could read.

-- Set while it is not known what became of an upload upstream: the record was
-- restored from an older backup, or an operator asks. Nothing is begun, fed or
-- finished before a probe has answered, which clears it.
ALTER TABLE uploads ADD COLUMN probe_since timestamptz;
CREATE INDEX uploads_probes ON uploads (step_at) WHERE probe_since IS NOT NULL;

-- Counts up before every finishing call, and is told to the queue each time: a
-- queue that has heard of more than this row says shows that the record has
-- gone back in time. One row; the id tells this record from any other.
CREATE TABLE record_marks (
    only_one boolean NOT NULL DEFAULT true CONSTRAINT record_marks_pkey PRIMARY KEY
        CONSTRAINT record_marks_one_row CHECK (only_one),
    record   uuid    NOT NULL DEFAULT gen_random_uuid(),
    tick     bigint  NOT NULL DEFAULT 0
);
INSERT INTO record_marks DEFAULT VALUES;

-- Messages that could not be read or were refused for good, taken off their
-- stream only after their row was committed.
CREATE TABLE set_aside (
    id           bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT set_aside_pkey PRIMARY KEY,
    stream       text        NOT NULL,
    subject      text        NOT NULL,
    seq          bigint      NOT NULL, -- in the stream
    published_at timestamptz NOT NULL, -- tells the stream from an earlier one of its name
    headers      jsonb       NOT NULL DEFAULT '{}',
    payload      bytea       NOT NULL, -- its beginning, where it is longer than what is kept
    size         bigint      NOT NULL, -- bytes, of the whole payload
    reason       text        NOT NULL,
    worker       text        NOT NULL DEFAULT '', -- that met it; empty for a dispatcher
    at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT set_aside_once UNIQUE (stream, seq, published_at)
);

-- +goose Down
DROP TABLE set_aside, record_marks;
DROP INDEX uploads_probes;
ALTER TABLE uploads DROP COLUMN probe_since;
