-- +goose Up
-- Evidence of finishing calls, and one upload at a time of bytes that a
-- platform knows by their digest.

-- What was asked about the end of the present epoch and what was answered, for
-- the person who is called when the outcome cannot be told.
ALTER TABLE uploads ADD COLUMN finish_log jsonb NOT NULL DEFAULT '[]';

-- known_by is the kind of digest by which the platform tells media apart, ''
-- where it does not; written at intake. flight is that digest, known when the
-- upload begins. Of the active uploads of one account and flight, one has the
-- row in flights and goes on, the others wait.
ALTER TABLE uploads
    ADD COLUMN known_by text    NOT NULL DEFAULT '',
    ADD COLUMN flight   text,
    ADD COLUMN waits    boolean NOT NULL DEFAULT false;

CREATE TABLE flights (
    account   text NOT NULL,
    flight    text NOT NULL,
    upload_id uuid NOT NULL CONSTRAINT flights_upload UNIQUE,
    CONSTRAINT flights_pkey PRIMARY KEY (account, flight)
);

-- Who waits is not looked at again until it is its turn.
CREATE INDEX uploads_steps_due ON uploads (step_at)
    WHERE (state IN ('beginning', 'finishing') OR abort_due) AND NOT waits;
DROP INDEX uploads_steps;
CREATE INDEX uploads_waiting ON uploads (account, flight, paused, priority DESC, id) WHERE waits;

-- An upload that begins, or is retried where the outcome of finish is not known,
-- takes the flight of its bytes, or waits for who has it. Whichever statement
-- moves it, so that none forgets. The conflict locks the row that is there: it cannot be given up before the waiting is committed,
-- and whoever gives it up afterwards sees who waits.
-- +goose StatementBegin
CREATE FUNCTION uploads_take_flight() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    holder uuid;
BEGIN
    NEW.flight := (SELECT d FROM unnest(NEW.digests) AS d WHERE split_part(d, ':', 1) = NEW.known_by LIMIT 1);
    IF NEW.flight IS NULL THEN
        RETURN NEW;
    END IF;
    INSERT INTO flights AS f (account, flight, upload_id) VALUES (NEW.account, NEW.flight, NEW.id)
    ON CONFLICT ON CONSTRAINT flights_pkey DO UPDATE SET upload_id = f.upload_id
    RETURNING f.upload_id INTO holder;
    IF holder <> NEW.id THEN
        NEW.waits := true;
        NEW.reason := 'waits for upload ' || holder || ', which brings the same bytes';
        NEW.lease_token := NULL;
        NEW.lease_until := NULL;
    END IF;
    RETURN NEW;
END $$;

-- An upload that ends hands its flight to the next that waits.
CREATE FUNCTION uploads_leave_flight() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    next_id uuid;
BEGIN
    PERFORM FROM flights f WHERE f.account = NEW.account AND f.flight = NEW.flight AND f.upload_id = NEW.id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT u.id INTO next_id FROM uploads u
    WHERE u.account = NEW.account AND u.flight = NEW.flight AND u.waits
    ORDER BY u.paused, u.priority DESC, u.id LIMIT 1 FOR UPDATE;
    IF next_id IS NULL THEN
        DELETE FROM flights f WHERE f.account = NEW.account AND f.flight = NEW.flight;
    ELSE
        UPDATE flights f SET upload_id = next_id WHERE f.account = NEW.account AND f.flight = NEW.flight;
        UPDATE uploads SET waits = false, step_at = now() WHERE id = next_id;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION uploads_stop_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.waits := false;
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER uploads_begins BEFORE UPDATE OF state ON uploads FOR EACH ROW
    WHEN (NEW.known_by <> '' AND (NEW.state = 'beginning' AND OLD.state IN ('queued', 'digesting')
        OR NEW.state = 'finishing' AND OLD.state = 'failed'))
    EXECUTE FUNCTION uploads_take_flight();
CREATE TRIGGER uploads_ends_waiting BEFORE UPDATE OF state ON uploads FOR EACH ROW
    WHEN (OLD.waits AND NEW.state <> 'beginning')
    EXECUTE FUNCTION uploads_stop_waiting();
CREATE TRIGGER uploads_ends_flight AFTER UPDATE OF state ON uploads FOR EACH ROW
    WHEN (NEW.flight IS NOT NULL AND OLD.state <> NEW.state AND NEW.state IN ('completed', 'failed', 'cancelled'))
    EXECUTE FUNCTION uploads_leave_flight();

-- +goose Down
DROP TRIGGER uploads_begins ON uploads;
DROP TRIGGER uploads_ends_waiting ON uploads;
DROP TRIGGER uploads_ends_flight ON uploads;
DROP FUNCTION uploads_take_flight, uploads_leave_flight, uploads_stop_waiting;
DROP INDEX uploads_waiting;
CREATE INDEX uploads_steps ON uploads (step_at) WHERE state IN ('beginning', 'finishing') OR abort_due;
DROP INDEX uploads_steps_due;
DROP TABLE flights;
ALTER TABLE uploads DROP COLUMN finish_log, DROP COLUMN known_by, DROP COLUMN flight, DROP COLUMN waits;
