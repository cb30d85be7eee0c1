-- The outbox of a Postgres database. An app inserts a row in the transaction that makes it true; Tangelo publishes it.
--   INSERT INTO tangelo_outbox (type, subject, data) VALUES ('order.created', 'o-1', '{"total": 12.5}');
BEGIN;

CREATE SEQUENCE IF NOT EXISTS tangelo_outbox_position;

CREATE TABLE IF NOT EXISTS tangelo_outbox (
  position        bigint PRIMARY KEY,                         -- the order: set by the trigger below
  id              text NOT NULL DEFAULT gen_random_uuid()::text, -- of the event; stays the same when it is sent again
  type            text NOT NULL,                              -- such as order.created
  source          text,                                       -- /APP/DATABASE unless given
  subject         text,                                       -- what it happened to
  key             text,                                       -- what it is ordered by; the subject unless given
  time            timestamptz,                                -- created_at unless given
  dataschema      text,
  datacontenttype text,                                       -- JSON unless given
  extensions      jsonb,                                      -- an object
  data            jsonb,                                      -- JSON
  data_bytes      bytea,                                      -- data of other types, instead of `data`
  traceparent     text,                                       -- the header of the request that caused it
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  sent_at         timestamptz,                                -- where sent rows are kept
  refused         text                                        -- why it is no event: set by Tangelo
);

CREATE INDEX IF NOT EXISTS tangelo_outbox_waiting ON tangelo_outbox (position) WHERE sent_at IS NULL AND refused IS NULL;
CREATE INDEX IF NOT EXISTS tangelo_outbox_refused ON tangelo_outbox (position) WHERE refused IS NOT NULL;

-- Positions of one key in the order of their commits: who writes a key waits for whoever writes it already. A transaction
-- that writes several keys writes them in one order everywhere, as with all locks.
CREATE OR REPLACE FUNCTION tangelo_outbox_place() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF coalesce(NEW.key, NEW.subject) IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('tangelo_outbox ' || coalesce(NEW.key, NEW.subject), 0));
  END IF;
  NEW.position := nextval('tangelo_outbox_position');
  RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS tangelo_outbox_place ON tangelo_outbox;
CREATE TRIGGER tangelo_outbox_place BEFORE INSERT ON tangelo_outbox FOR EACH ROW EXECUTE FUNCTION tangelo_outbox_place();

-- Wakes the relay at the commit. Without this trigger rows are found by polling.
CREATE OR REPLACE FUNCTION tangelo_outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('tangelo_outbox', '');
  RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS tangelo_outbox_wake ON tangelo_outbox;
CREATE TRIGGER tangelo_outbox_wake AFTER INSERT ON tangelo_outbox FOR EACH STATEMENT EXECUTE FUNCTION tangelo_outbox_wake();

COMMIT;

-- What the roles need, where they are not the owner:
--   GRANT INSERT ON tangelo_outbox TO app; GRANT USAGE ON SEQUENCE tangelo_outbox_position TO app;
--   GRANT SELECT, UPDATE, DELETE ON tangelo_outbox TO relay;
