-- +goose Up
-- Who may call the API. Only a digest of a token is kept: it has 256 random
-- bits, so one round of SHA-256 is as good as many.
CREATE TABLE api_tokens (
    id           uuid        NOT NULL CONSTRAINT api_tokens_pkey PRIMARY KEY,
    name         text        NOT NULL,
    hash         bytea       NOT NULL CONSTRAINT api_tokens_hash_is_sha256 CHECK (octet_length(hash) = 32),
    prefix       text        NOT NULL, -- how the token begins, to be recognised by
    tenant       text,                 -- NULL for every tenant
    scopes       text[]      NOT NULL CONSTRAINT api_tokens_scopes_known
        CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['submit', 'read', 'operate', 'admin']),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz, -- to ten minutes
    CONSTRAINT api_tokens_hash UNIQUE (hash)
);

-- +goose Down
DROP TABLE api_tokens;
