-- name: InsertToken :exec
INSERT INTO api_tokens (id, name, hash, prefix, tenant, scopes, created_at, expires_at)
VALUES (@id, @name, @hash, @prefix, sqlc.narg(tenant), @scopes::text[], @created_at, sqlc.narg(expires_at)::timestamptz);

-- name: TokenByHash :one
SELECT id, name, prefix, tenant, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_tokens WHERE hash = @hash;

-- name: TouchToken :exec
-- Coarse, so that a busy token is no hot row.
UPDATE api_tokens SET last_used_at = now()
WHERE id = @id AND (last_used_at IS NULL OR last_used_at < now() - interval '10 minutes');

-- name: Tokens :many
SELECT id, name, prefix, tenant, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_tokens
WHERE @tenant::text = '' OR tenant = @tenant::text ORDER BY id;

-- name: RevokeToken :execrows
-- The time of the first revocation stays.
UPDATE api_tokens SET revoked_at = coalesce(revoked_at, now())
WHERE id = @id AND (@tenant::text = '' OR tenant = @tenant::text);
