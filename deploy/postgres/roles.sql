-- Roles with no more than each needs. Run it as a superuser in mediaferry's
-- database, before the first `mediaferry migrate up` and once after it:
--
--   psql "$SUPERUSER_DSN" -f deploy/postgres/roles.sql
--
-- It may be repeated. Logins get their passwords apart from this file, from
-- psql's \password or your secret store:
--
--   mediaferry_migrate  owns everything; `mediaferry migrate up` runs as it
--   mediaferry_service  the dispatchers: rows, no tables
--   mediaferry_report   analysts: the views of the schema report, nothing else
--   mediaferry_submit   pipelines that submit by SQL: the two functions of the
--                       schema mediaferry, nothing else. A login of its own for
--                       each tenant is made so:
--                         CREATE ROLE films_pipeline LOGIN IN ROLE mediaferry_submit;
--                         INSERT INTO public.submitters (role, tenant) VALUES ('films_pipeline', 'films');

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['mediaferry_migrate', 'mediaferry_service', 'mediaferry_report', 'mediaferry_submit'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
    END LOOP;

    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO mediaferry_service, mediaferry_report, mediaferry_submit', current_database());
    -- Schemas are made by migrations.
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO mediaferry_migrate', current_database());
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO mediaferry_migrate;
GRANT USAGE ON SCHEMA public TO mediaferry_service;

-- What migrations make from now on.
ALTER DEFAULT PRIVILEGES FOR ROLE mediaferry_migrate REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE mediaferry_migrate IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO mediaferry_service;
ALTER DEFAULT PRIVILEGES FOR ROLE mediaferry_migrate IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO mediaferry_service;
ALTER DEFAULT PRIVILEGES FOR ROLE mediaferry_migrate IN SCHEMA public
    GRANT EXECUTE ON FUNCTIONS TO mediaferry_service;

-- What is there already.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO mediaferry_service;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO mediaferry_service;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO mediaferry_service;

-- The schema report is made by a migration: its views can be granted after that.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'report') THEN
        GRANT USAGE ON SCHEMA report TO mediaferry_report, mediaferry_service;
        GRANT SELECT ON ALL TABLES IN SCHEMA report TO mediaferry_report, mediaferry_service;
        ALTER DEFAULT PRIVILEGES FOR ROLE mediaferry_migrate IN SCHEMA report
            GRANT SELECT ON TABLES TO mediaferry_report, mediaferry_service;
    END IF;
END $$;

-- So is the schema mediaferry. What its functions do, they do as their owner.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'mediaferry') THEN
        GRANT USAGE ON SCHEMA mediaferry TO mediaferry_submit;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mediaferry TO mediaferry_submit;
        ALTER DEFAULT PRIVILEGES FOR ROLE mediaferry_migrate IN SCHEMA mediaferry
            GRANT EXECUTE ON FUNCTIONS TO mediaferry_submit;
    END IF;
END $$;
