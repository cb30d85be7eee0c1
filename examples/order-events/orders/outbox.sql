-- The outbox of a SQLite file. An app inserts a row in the transaction that makes it true; Tangelo publishes it.
--   INSERT INTO tangelo_outbox (type, subject, data) VALUES ('order.created', 'o-1', '{"total": 12.5}');
-- Readers and the writer do not wait for each other in this mode; it stays with the file.
PRAGMA journal_mode = WAL;

CREATE TABLE IF NOT EXISTS tangelo_outbox (
  position        INTEGER PRIMARY KEY AUTOINCREMENT,                  -- the order; leave it out
  id              TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))), -- of the event; stays the same when it is sent again
  type            TEXT NOT NULL,                                      -- such as order.created
  source          TEXT,                                               -- /APP/DATABASE unless given
  subject         TEXT,                                               -- what it happened to
  key             TEXT,                                               -- what it is ordered by; the subject unless given
  time            TEXT,                                               -- RFC 3339; created_at unless given
  dataschema      TEXT,
  datacontenttype TEXT,                                               -- JSON unless given
  extensions      TEXT,                                               -- a JSON object
  data            TEXT,                                               -- JSON; a BLOB for other types
  traceparent     TEXT,                                               -- the header of the request that caused it
  created_at      TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  sent_at         TEXT,                                               -- where sent rows are kept
  refused         TEXT                                                -- why it is no event: set by Tangelo
);

CREATE INDEX IF NOT EXISTS tangelo_outbox_waiting ON tangelo_outbox (position) WHERE sent_at IS NULL AND refused IS NULL;
CREATE INDEX IF NOT EXISTS tangelo_outbox_refused ON tangelo_outbox (position) WHERE refused IS NOT NULL;
