-- name: InsertSetAside :exec
INSERT INTO set_aside (stream, subject, seq, published_at, headers, payload, size, reason, worker)
VALUES (@stream, @subject, @seq, @published_at, @headers, @payload, @size, @reason, @worker)
ON CONFLICT ON CONSTRAINT set_aside_once DO NOTHING;

-- name: ListSetAside :many
-- Newest first, without payloads; before is the last id of the page before.
SELECT id, stream, subject, seq, published_at, headers, size, reason, worker, at FROM set_aside
WHERE (sqlc.narg(before)::bigint IS NULL OR id < sqlc.narg(before))
ORDER BY id DESC LIMIT @page;

-- name: SetAsideMessage :one
SELECT id, stream, subject, seq, published_at, headers, payload, size, reason, worker, at FROM set_aside WHERE id = @id;

-- name: DropSetAside :execrows
DELETE FROM set_aside WHERE id = @id;
