-- +goose Up
-- A batch is listed page by page, newest first. Ordered by id as well, the index has a
-- page ready; uploads without a batch are not in it, and pay nothing.
CREATE INDEX uploads_batch_id ON uploads (batch_id, id) WHERE batch_id IS NOT NULL;
DROP INDEX uploads_batch;

-- +goose Down
CREATE INDEX uploads_batch ON uploads (batch_id) WHERE batch_id IS NOT NULL;
DROP INDEX uploads_batch_id;
