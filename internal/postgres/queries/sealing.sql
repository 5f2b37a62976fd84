-- name: SealedOtherwise :many
-- Sessions that do not begin as what is sealed under the present key does.
SELECT id, epoch, session FROM uploads
WHERE session IS NOT NULL AND substr(session, 1, length(@prefix::bytea)) <> @prefix::bytea AND id > @after
ORDER BY id LIMIT @most::int;

-- name: Reseal :execrows
UPDATE uploads SET session = @session WHERE id = @id AND session = @was;
