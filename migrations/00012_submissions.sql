-- +goose Up
-- Submissions by SQL. mediaferry.submit writes a row in the caller's transaction;
-- a dispatcher takes it up once that is committed. What SQL cannot tell, such as
-- whether the object is there, is found out then.

CREATE TABLE submissions (
    id              uuid        NOT NULL CONSTRAINT submissions_pkey PRIMARY KEY, -- UUIDv7; the upload's id too
    tenant          text        NOT NULL,
    account         text        NOT NULL,
    idempotency_key text,
    source_bucket   text        NOT NULL,
    source_key      text        NOT NULL,
    source_version  text        NOT NULL,
    source_etag     text        NOT NULL,
    name            text        NOT NULL,
    content_type    text        NOT NULL,
    options         jsonb       NOT NULL,
    labels          jsonb       NOT NULL,
    digests         text[]      NOT NULL,
    priority        smallint    NOT NULL,
    not_before      timestamptz,
    submitted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at          timestamptz NOT NULL DEFAULT now(), -- next try to take it up
    tries           integer     NOT NULL DEFAULT 0,
    lease_token     uuid,        -- of the dispatcher that takes it up
    lease_until     timestamptz,
    -- Set where an equal submission had its upload already under the idempotency
    -- key. Every other row is deleted in the transaction that makes its upload.
    upload_id       uuid
);
CREATE UNIQUE INDEX submissions_idempotency_key ON submissions (tenant, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND upload_id IS NULL;
CREATE INDEX submissions_due ON submissions (due_at) WHERE upload_id IS NULL;

-- For which tenants a login may submit by SQL: those of its rows, every one where
-- a row says '*', and only the tenant default where it has no row.
CREATE TABLE submitters (
    role   text NOT NULL, -- the name that it logs in under
    tenant text NOT NULL,
    CONSTRAINT submitters_pkey PRIMARY KEY (role, tenant)
);

-- A submission that turns out to be wrong is kept as a failed upload, with its
-- event: of what is not in staging there is no size. The rows that are there
-- have been checked by the constraint before.
ALTER TABLE uploads DROP CONSTRAINT uploads_size_positive;
ALTER TABLE uploads ADD CONSTRAINT uploads_size_positive
    CHECK (size > 0 OR size = 0 AND state = 'failed' AND epoch = 0) NOT VALID;

CREATE SCHEMA mediaferry;
-- A user of that name would have its tables there from now on, and older
-- dispatchers begin a new record in it when they start.
-- +goose StatementBegin
DO $$ BEGIN
    IF current_user = 'mediaferry' THEN
        EXECUTE format('ALTER ROLE mediaferry IN DATABASE %I SET search_path = public', current_database());
    END IF;
END $$;
-- +goose StatementEnd
COMMENT ON SCHEMA mediaferry IS 'Submitting by SQL. It changes only by growing.';

-- Submits one staging object to one account, in the caller's transaction, and
-- returns the upload's id. Errors name each field and, as a hint, the remedy.
-- +goose StatementBegin
CREATE FUNCTION mediaferry.submit(
    account         text,
    bucket          text,
    key             text,
    options         jsonb       DEFAULT '{}',
    idempotency_key text        DEFAULT NULL,
    name            text        DEFAULT NULL,
    content_type    text        DEFAULT NULL,
    labels          jsonb       DEFAULT '{}',
    priority        integer     DEFAULT 0,
    not_before      timestamptz DEFAULT NULL,
    digests         text[]      DEFAULT '{}',
    version         text        DEFAULT NULL,
    etag            text        DEFAULT NULL,
    tenant          text        DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    allowed  text[] := (SELECT array_agg(s.tenant ORDER BY s.tenant) FROM public.submitters s WHERE s.role = session_user);
    whose    text   := coalesce(nullif(submit.tenant, ''), CASE
        WHEN allowed IS NULL OR allowed = '{*}' THEN 'default' WHEN cardinality(allowed) = 1 THEN allowed[1] END);
    ikey     text   := nullif(submit.idempotency_key, '');
    the_name text   := coalesce(submit.name, '');
    opts     jsonb  := coalesce(submit.options, '{}');
    labs     jsonb  := coalesce(submit.labels, '{}');
    sums     text[] := coalesce(submit.digests, '{}');
    prio     integer := coalesce(submit.priority, 0);
    wrong    text[] := '{}';
    mend     text[] := '{}';
    sub      public.submissions;
    there    record;
    item     record;
BEGIN
    IF whose IS NULL THEN
        wrong := wrong || 'tenant: is missing'::text;
        mend := mend || format('give tenant => one of %s', array_to_string(allowed, ', '));
    ELSIF whose !~ '^[A-Za-z0-9_-]{1,64}$' THEN
        wrong := wrong || format('tenant: %L is no name', left(whose, 80));
        mend := mend || 'a tenant has 1 to 64 letters, digits, ''-'' and ''_'''::text;
    ELSIF NOT whose = ANY (coalesce(allowed, '{default}')) AND NOT '*' = ANY (coalesce(allowed, '{}')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', COLUMN = 'tenant',
            MESSAGE = format('tenant: role %s may not submit for %L', session_user, whose),
            HINT = format('an operator allows it: INSERT INTO public.submitters (role, tenant) VALUES (%L, %L)', session_user, whose);
    END IF;
    IF coalesce(submit.account, '') !~ '^[A-Za-z0-9_-]{1,64}$' THEN
        wrong := wrong || CASE WHEN coalesce(submit.account, '') = '' THEN 'account: is missing'
            ELSE format('account: %L is no name', left(submit.account, 80)) END;
        mend := mend || 'name one of the configured accounts'::text;
    END IF;
    IF coalesce(submit.bucket, '') !~ '^[A-Za-z0-9][A-Za-z0-9._:-]{1,61}[A-Za-z0-9]$' THEN
        wrong := wrong || CASE WHEN coalesce(submit.bucket, '') = '' THEN 'bucket: is missing'
            ELSE format('bucket: %L is no name of a bucket', left(submit.bucket, 80)) END;
        mend := mend || 'give the staging bucket''s name'::text;
    END IF;
    IF btrim(coalesce(submit.key, ''), E' \t\n\v\f\r') = '' THEN
        wrong := wrong || 'key: is missing'::text;
        mend := mend || 'give the object''s key'::text;
    ELSIF octet_length(convert_to(submit.key, 'UTF8')) > 1024 THEN
        wrong := wrong || format('key: has %s bytes', octet_length(convert_to(submit.key, 'UTF8')));
        mend := mend || 'at most 1024 are possible'::text;
    END IF;
    IF octet_length(convert_to(the_name, 'UTF8')) > 255 OR the_name ~ '[/\\[:cntrl:]]' OR the_name IN ('.', '..') THEN
        wrong := wrong || format('name: %L is not a file name', left(the_name, 80));
        mend := mend || 'give one of at most 255 bytes without slashes and control characters, or none for the end of the key'::text;
    END IF;
    IF octet_length(convert_to(ikey, 'UTF8')) > 256 THEN
        wrong := wrong || format('idempotency_key: has %s bytes', octet_length(convert_to(ikey, 'UTF8')));
        mend := mend || 'at most 256 are possible'::text;
    END IF;
    IF prio NOT BETWEEN -100 AND 100 THEN
        wrong := wrong || format('priority: is %s', prio);
        mend := mend || 'give a number from -100 to 100'::text;
    END IF;
    IF NOT isfinite(submit.not_before) OR extract(year FROM submit.not_before) NOT BETWEEN 1 AND 9999 THEN
        wrong := wrong || format('not_before: is %s', submit.not_before);
        mend := mend || 'give a time, or leave it out'::text;
    END IF;
    IF array_position(sums, NULL) IS NOT NULL OR EXISTS (SELECT FROM unnest(sums) d WHERE d !~ '^[0-9a-z_-]+:[0-9a-fA-F]+$') THEN
        wrong := wrong || 'digests: have one that is not kind:hex'::text;
        mend := mend || 'give for example sha256: and 64 hex digits'::text;
    END IF;
    IF jsonb_typeof(opts) <> 'object' THEN
        wrong := wrong || format('options: is of the type %s', jsonb_typeof(opts));
        mend := mend || 'give a JSON object of texts'::text;
    ELSE
        FOR item IN SELECT o.key, jsonb_typeof(o.value) AS kind FROM jsonb_each(opts) o WHERE jsonb_typeof(o.value) <> 'string' LOOP
            wrong := wrong || format('options.%s: is of the type %s', left(item.key, 80), item.kind);
            mend := mend || 'give it as text'::text;
        END LOOP;
    END IF;
    IF jsonb_typeof(labs) <> 'object' THEN
        wrong := wrong || format('labels: is of the type %s', jsonb_typeof(labs));
        mend := mend || 'give a JSON object of texts'::text;
    ELSE
        IF (SELECT count(*) FROM jsonb_object_keys(labs)) > 32 THEN
            wrong := wrong || 'labels: has more than 32 entries'::text;
            mend := mend || 'leave some out'::text;
        END IF;
        FOR item IN SELECT l.key, l.value, labs ->> l.key AS content FROM jsonb_each(labs) l LOOP
            IF jsonb_typeof(item.value) <> 'string' OR item.key = '' OR octet_length(convert_to(item.key, 'UTF8')) > 256
                OR octet_length(convert_to(item.content, 'UTF8')) > 256 THEN
                wrong := wrong || format('labels.%s: is not a text that fits', left(item.key, 80));
                mend := mend || 'key and value must be texts of 1 and 0 to 256 bytes'::text;
            END IF;
        END LOOP;
    END IF;
    IF cardinality(wrong) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', COLUMN = split_part(wrong[1], ':', 1),
            MESSAGE = array_to_string(wrong, '; '), HINT = array_to_string(mend, '; '),
            DETAIL = 'Nothing was submitted.';
    END IF;

    LOOP
        INSERT INTO public.submissions AS s (id, tenant, account, idempotency_key, source_bucket, source_key, source_version,
            source_etag, name, content_type, options, labels, digests, priority, not_before)
        -- A UUIDv7: milliseconds, version and variant, the rest by chance.
        VALUES (encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid,
            whose, submit.account, ikey, submit.bucket, submit.key, coalesce(submit.version, ''),
            btrim(coalesce(submit.etag, ''), '"'), the_name, coalesce(submit.content_type, ''), opts, labs, sums, prio, submit.not_before)
        ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL AND upload_id IS NULL DO NOTHING
        RETURNING s.* INTO sub;
        IF FOUND AND ikey IS NULL THEN
            EXIT;
        END IF;
        -- Under the key there may be an upload, or a submission that is not taken up yet.
        SELECT u.id, u.account = submit.account AND u.source_bucket = submit.bucket AND u.source_key = submit.key
            AND u.options = opts AND u.labels = labs AND u.priority = prio AS equal INTO there
        FROM public.uploads u WHERE u.tenant = whose AND u.idempotency_key = ikey;
        IF FOUND AND sub.id IS NOT NULL THEN
            DELETE FROM public.submissions s WHERE s.id = sub.id;
        ELSIF sub.id IS NOT NULL THEN
            EXIT;
        ELSIF NOT FOUND THEN
            SELECT s.id, s.account = submit.account AND s.source_bucket = submit.bucket AND s.source_key = submit.key
                AND s.options = opts AND s.labels = labs AND s.priority = prio AS equal INTO there
            FROM public.submissions s WHERE s.tenant = whose AND s.idempotency_key = ikey AND s.upload_id IS NULL;
            IF NOT FOUND THEN
                CONTINUE; -- it has been taken up meanwhile, or has come to nothing
            END IF;
        END IF;
        IF NOT there.equal THEN
            RAISE EXCEPTION USING ERRCODE = 'unique_violation', COLUMN = 'idempotency_key',
                MESSAGE = format('idempotency_key: is taken by another submission, %s', there.id),
                HINT = 'use another key, or submit the same content', DETAIL = 'Nothing was submitted.';
        END IF;
        RETURN there.id;
    END LOOP;
    PERFORM pg_notify('mediaferry_submissions', '');
    RETURN sub.id;
END $$;
-- +goose StatementEnd
COMMENT ON FUNCTION mediaferry.submit IS
    'Submits a staging object to an account, in the transaction of the caller, and returns the id of its upload.';

-- What became of a submission, for whoever may submit for its tenant.
-- +goose StatementBegin
CREATE FUNCTION mediaferry.upload(of_id uuid) RETURNS TABLE (
    id           uuid,
    upload_id    uuid,
    state        text,
    account      text,
    size         bigint,
    acked_bytes  bigint,
    asset        jsonb,
    failure      jsonb,
    submitted_at timestamptz,
    finished_at  timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT of_id, u.id, coalesce(u.state::text, 'submitted'), coalesce(u.account, s.account), u.size, u.acked_bytes, u.asset, u.failure,
        coalesce(u.submitted_at, s.submitted_at), u.finished_at
    FROM (SELECT of_id AS of_id) AS asked
    LEFT JOIN public.submissions s ON s.id = asked.of_id
    LEFT JOIN public.uploads u ON u.id = coalesce(s.upload_id, asked.of_id)
    WHERE coalesce(u.tenant, s.tenant) = ANY (coalesce(
            (SELECT array_agg(m.tenant) FROM public.submitters m WHERE m.role = session_user), '{default}'))
        OR coalesce(u.tenant, s.tenant) IS NOT NULL
            AND EXISTS (SELECT FROM public.submitters m WHERE m.role = session_user AND m.tenant = '*');
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION mediaferry.upload IS
    'An upload of a tenant that the caller may submit for; the state is submitted until a dispatcher has taken it up. No row: there is none.';

REVOKE ALL ON FUNCTION mediaferry.submit, mediaferry.upload FROM PUBLIC;

-- +goose Down
-- What was accepted is not dropped.
LOCK TABLE submissions IN ACCESS EXCLUSIVE MODE;
-- +goose StatementBegin
DO $$
DECLARE
    waiting bigint := (SELECT count(*) FROM submissions WHERE upload_id IS NULL);
BEGIN
    IF waiting > 0 THEN
        RAISE EXCEPTION '% submissions by SQL are not taken up yet, and would be lost; let a dispatcher take them up first', waiting;
    END IF;
END $$;
-- +goose StatementEnd
DROP SCHEMA mediaferry CASCADE;
-- +goose StatementBegin
DO $$ BEGIN
    IF current_user = 'mediaferry' THEN
        EXECUTE format('ALTER ROLE mediaferry IN DATABASE %I RESET search_path', current_database());
    END IF;
END $$;
-- +goose StatementEnd
DELETE FROM uploads WHERE size = 0;
ALTER TABLE uploads DROP CONSTRAINT uploads_size_positive;
ALTER TABLE uploads ADD CONSTRAINT uploads_size_positive CHECK (size > 0);
DROP TABLE submitters, submissions;
