-- +goose Up
-- A month of the ledger is made beside it and attached then, under a lock that
-- lets reports and acknowledgements go on; only the default partition is held. What
-- had come there already, as after a jump of a clock, is moved: while a row of the
-- month is in the default partition, Postgres refuses the month.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION make_part_acks_partition(name text, low uuid, high uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF name !~ '^part_acks_[0-9]{6}$' THEN
        RAISE EXCEPTION 'not the name of a partition: %', name;
    END IF;
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    LOCK TABLE part_acks IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE part_acks_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE part_acks INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format('WITH moved AS (DELETE FROM part_acks_default WHERE upload_id >= %L AND upload_id < %L RETURNING *)
        INSERT INTO %I SELECT * FROM moved', low, high, name);
    EXECUTE format('ALTER TABLE part_acks ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, low, high);
END $$;

-- Sequences are behind the rows that they number where rows were copied without
-- them, as by logical replication. Then each number is refused as one that is
-- there, until the sequence has come past them.
CREATE FUNCTION catch_up_numbers() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    numbered text;
    upto bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('numbers of rows', 0)); -- else a second one sets back what the first set
    FOREACH numbered IN ARRAY ARRAY['part_failures', 'state_changes', 'outbox', 'set_aside'] LOOP
        EXECUTE format('SELECT max(id) FROM %I', numbered) INTO upto;
        IF upto > coalesce(pg_sequence_last_value(pg_get_serial_sequence(numbered, 'id')), 0) THEN
            PERFORM setval(pg_get_serial_sequence(numbered, 'id'), upto);
        END IF;
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION catch_up_numbers FROM PUBLIC;

-- +goose Down
DROP FUNCTION catch_up_numbers;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION make_part_acks_partition(name text, low uuid, high uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF name !~ '^part_acks_[0-9]{6}$' THEN
        RAISE EXCEPTION 'not the name of a partition: %', name;
    END IF;
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF part_acks FOR VALUES FROM (%L) TO (%L)', name, low, high);
END $$;
-- +goose StatementEnd
