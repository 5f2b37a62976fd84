-- +goose Up
-- A session that lapses is refused at every part in hand, and a long upload
-- outlives many of them. What fails an upload is that one session after the
-- other is refused with nothing acknowledged between, so sessions are numbered
-- and refused ones are counted, not refusals.
ALTER TABLE uploads
    ADD COLUMN session_number  int NOT NULL DEFAULT 1, -- of the present one; counts up when one is opened or renewed
    ADD COLUMN session_refused int NOT NULL DEFAULT 0, -- number of the last one that was refused
    ADD COLUMN refusals        int NOT NULL DEFAULT 0; -- sessions refused in a row, with no part acknowledged between

-- +goose Down
ALTER TABLE uploads DROP COLUMN session_number, DROP COLUMN session_refused, DROP COLUMN refusals;
