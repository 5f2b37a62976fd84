-- +goose Up
-- What is the same submission is one thing by whatever way it comes: the hash
-- that uploads have of it is made here too, of everything that the submitter said.
-- mediaferry.submit bounds and refuses what the API does.

-- The name of an object that is given none: the end of its key.
CREATE FUNCTION submission_name(key text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(nullif(regexp_replace(rtrim(key, '/'), '^.*/', ''), ''), '/')
$$;

-- A text as it is in what is hashed.
CREATE FUNCTION submission_text(value text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT replace(replace(replace(replace(replace(to_json(value)::text, '<', '\u003c'), '>', '\u003e'), '&', '\u0026'), U&'\2028', '\u2028'),
        U&'\2029', '\u2029')
$$;

CREATE FUNCTION submission_map(of_texts jsonb) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce('{' || string_agg(public.submission_text(m.key) || ':' || public.submission_text(m.value), ',' ORDER BY m.key COLLATE "C") || '}', 'null')
    FROM jsonb_each_text(of_texts) m
$$;

-- uploads.request_hash of the upload that would come of the submission; a test
-- holds it to what the dispatchers make.
CREATE FUNCTION submission_hash(s submissions) RETURNS bytea LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(convert_to(concat('{"Tenant":', public.submission_text(s.tenant), ',"Account":', public.submission_text(s.account),
        ',"IdempotencyKey":', public.submission_text(coalesce(s.idempotency_key, '')),
        ',"Source":{"bucket":', public.submission_text(s.source_bucket), ',"key":', public.submission_text(s.source_key),
        ',"version":' || public.submission_text(nullif(s.source_version, '')), ',"etag":', public.submission_text(s.source_etag), ',"size":0}',
        ',"Name":', public.submission_text(coalesce(nullif(s.name, ''), public.submission_name(s.source_key))),
        ',"ContentType":', public.submission_text(s.content_type),
        ',"Options":', public.submission_map(s.options), ',"Labels":', public.submission_map(s.labels), ',"Priority":', s.priority,
        ',"NotBefore":"', coalesce(regexp_replace(to_char(s.not_before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '\.?0*$', ''), '0001-01-01T00:00:00'), 'Z"',
        ',"Digests":', (SELECT coalesce('[' || string_agg(public.submission_text(d.sum), ',' ORDER BY d.sum COLLATE "C") || ']', 'null')
            FROM (SELECT DISTINCT lower(sum) AS sum FROM unnest(s.digests) sum) AS d), '}'), 'UTF8'))
$$;
REVOKE ALL ON FUNCTION submission_name, submission_text, submission_map, submission_hash FROM PUBLIC;

-- Submissions that were joined with an upload go with it.
CREATE INDEX submissions_upload ON submissions (upload_id) WHERE upload_id IS NOT NULL;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION mediaferry.submit(
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
    the_name text   := coalesce(nullif(submit.name, ''), public.submission_name(submit.key));
    mime     text   := coalesce(submit.content_type, '');
    opts     jsonb  := coalesce(submit.options, '{}');
    labs     jsonb  := coalesce(submit.labels, '{}');
    sums     text[] := coalesce(submit.digests, '{}');
    prio     integer := coalesce(submit.priority, 0);
    wrong    text[] := '{}';
    mend     text[] := '{}';
    asked    public.submissions;
    made     uuid;
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
    IF coalesce(submit.bucket, '') !~ '^[A-Za-z0-9][A-Za-z0-9._:-]{1,61}[A-Za-z0-9]$'
        OR submit.bucket ~ '\.\.|\.-|-\.|^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$' THEN
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
    IF btrim(coalesce(nullif(submit.name, ''), submit.key, ''), E' \t\n\v\f\r') <> '' AND (octet_length(convert_to(the_name, 'UTF8')) > 255
        OR the_name ~ '[/\\\u0001-\u001f\u007f-\u009f]' OR the_name IN ('.', '..')) THEN
        wrong := wrong || format('name: %L is not a file name', left(the_name, 80));
        mend := mend || 'give one of at most 255 bytes without slashes and control characters, or none for the end of the key'::text;
    END IF;
    IF octet_length(mime) > 256 OR mime !~ '^[\u0020-\u007e]*$' THEN
        wrong := wrong || 'content_type: is not a MIME type'::text;
        mend := mend || 'give one such as video/mp4, or none'::text;
    END IF;
    IF octet_length(convert_to(submit.version, 'UTF8')) > 1024 THEN
        wrong := wrong || format('version: has %s bytes', octet_length(convert_to(submit.version, 'UTF8')));
        mend := mend || 'at most 1024 are possible'::text;
    END IF;
    IF octet_length(convert_to(submit.etag, 'UTF8')) > 1024 THEN
        wrong := wrong || format('etag: has %s bytes', octet_length(convert_to(submit.etag, 'UTF8')));
        mend := mend || 'at most 1024 are possible'::text;
    END IF;
    IF octet_length(convert_to(ikey, 'UTF8')) > 256 THEN
        wrong := wrong || format('idempotency_key: has %s bytes', octet_length(convert_to(ikey, 'UTF8')));
        mend := mend || 'at most 256 are possible'::text;
    END IF;
    IF prio NOT BETWEEN -100 AND 100 THEN
        wrong := wrong || format('priority: is %s', prio);
        mend := mend || 'give a number from -100 to 100'::text;
    END IF;
    IF NOT isfinite(submit.not_before) OR extract(year FROM submit.not_before AT TIME ZONE 'UTC') NOT BETWEEN 1 AND 9999 THEN
        wrong := wrong || format('not_before: is %s', submit.not_before);
        mend := mend || 'give a time, or leave it out'::text;
    END IF;
    FOR item IN SELECT d.sum, d.place - 1 AS place FROM unnest(sums) WITH ORDINALITY AS d (sum, place)
        WHERE coalesce(lower(d.sum), '') !~
            '^(md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}|crc32c:[0-9a-f]{8}|crc64(nvme|ecma):[0-9a-f]{16}|smh:[0-9a-f]{128})$'
        ORDER BY d.place LIMIT 10 LOOP
        wrong := wrong || format('digests[%s]: %L is not a digest of the form kind:hex', item.place, left(item.sum, 80));
        mend := mend || 'give for example sha256: and 64 hex digits'::text;
    END LOOP;
    IF EXISTS (SELECT FROM unnest(sums) d GROUP BY split_part(lower(d), ':', 1) HAVING count(DISTINCT lower(d)) > 1) THEN
        wrong := wrong || 'digests: have two of one kind that differ'::text;
        mend := mend || 'an object has one of each: leave the wrong one out'::text;
    END IF;
    IF jsonb_typeof(opts) <> 'object' THEN
        wrong := wrong || format('options: is of the type %s', jsonb_typeof(opts));
        mend := mend || 'give a JSON object of texts'::text;
    ELSE
        IF (SELECT count(*) FROM jsonb_object_keys(opts)) > 64 THEN
            wrong := wrong || 'options: has more than 64 entries'::text;
            mend := mend || 'leave some out'::text;
        END IF;
        FOR item IN SELECT o.key, jsonb_typeof(o.value) AS kind, octet_length(convert_to(o.key, 'UTF8')) AS named,
                octet_length(convert_to(opts ->> o.key, 'UTF8')) AS bytes FROM jsonb_each(opts) o LIMIT 100 LOOP
            IF item.kind <> 'string' THEN
                wrong := wrong || format('options.%s: is of the type %s', left(item.key, 80), item.kind);
                mend := mend || 'give it as text'::text;
            ELSIF item.named NOT BETWEEN 1 AND 256 OR item.bytes > 8192 THEN
                wrong := wrong || format('options.%s: is not a text that fits', left(item.key, 80));
                mend := mend || 'key and value must be texts of 1 to 256 and 0 to 8192 bytes'::text;
            END IF;
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
        FOR item IN SELECT l.key, l.value, labs ->> l.key AS content FROM jsonb_each(labs) l LIMIT 100 LOOP
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

    -- A UUIDv7: milliseconds, version and variant, the rest by chance.
    asked.id := encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid;
    asked.tenant := whose;
    asked.account := submit.account;
    asked.idempotency_key := ikey;
    asked.source_bucket := submit.bucket;
    asked.source_key := submit.key;
    asked.source_version := coalesce(submit.version, '');
    asked.source_etag := btrim(coalesce(submit.etag, ''), '"');
    asked.name := the_name;
    asked.content_type := mime;
    asked.options := opts;
    asked.labels := labs;
    asked.digests := sums;
    asked.priority := prio;
    asked.not_before := submit.not_before;
    LOOP
        INSERT INTO public.submissions AS s (id, tenant, account, idempotency_key, source_bucket, source_key, source_version,
            source_etag, name, content_type, options, labels, digests, priority, not_before)
        SELECT asked.id, asked.tenant, asked.account, asked.idempotency_key, asked.source_bucket, asked.source_key, asked.source_version,
            asked.source_etag, asked.name, asked.content_type, asked.options, asked.labels, asked.digests, asked.priority, asked.not_before
        ON CONFLICT (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL AND upload_id IS NULL DO NOTHING
        RETURNING s.id INTO made;
        IF FOUND AND ikey IS NULL THEN
            EXIT;
        END IF;
        -- Under the key there may be an upload, or a submission that is not taken up yet.
        SELECT u.id, u.request_hash = public.submission_hash(asked) AS equal INTO there
        FROM public.uploads u WHERE u.tenant = whose AND u.idempotency_key = ikey;
        IF FOUND AND made IS NOT NULL THEN
            DELETE FROM public.submissions s WHERE s.id = made;
        ELSIF made IS NOT NULL THEN
            EXIT;
        ELSIF NOT FOUND THEN
            SELECT s.id, public.submission_hash(s) = public.submission_hash(asked) AS equal INTO there
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
    RETURN made;
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION mediaferry.submit(
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
DROP INDEX submissions_upload;
DROP FUNCTION submission_hash, submission_map, submission_text, submission_name;
