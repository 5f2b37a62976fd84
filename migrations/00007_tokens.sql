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

-- Only the owner of a table may give it partitions. The dispatchers run as a role
-- that owns nothing, so they have it done in the owner's name, and nothing else.
-- +goose StatementBegin
CREATE FUNCTION make_part_acks_partition(name text, low uuid, high uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF name !~ '^part_acks_[0-9]{6}$' THEN
        RAISE EXCEPTION 'not the name of a partition: %', name;
    END IF;
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF part_acks FOR VALUES FROM (%L) TO (%L)', name, low, high);
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION make_part_acks_partition FROM PUBLIC;

-- +goose Down
DROP FUNCTION make_part_acks_partition;
DROP TABLE api_tokens;
