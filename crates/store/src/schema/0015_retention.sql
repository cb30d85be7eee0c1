-- The events of a log by the app that published them; the one without a name is for those that no app did, and for what is older
-- than this table. `held`: bytes of events that streams keep. `age` (microseconds) and `size`: what is kept, unless as usual.
-- `swept`: up to this position nothing of it is left that may be removed.
CREATE TABLE publisher (
  id INTEGER PRIMARY KEY,
  log INTEGER NOT NULL,
  app TEXT NOT NULL,
  events INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  held INTEGER NOT NULL DEFAULT 0,
  age INTEGER,
  size INTEGER,
  swept INTEGER NOT NULL DEFAULT 0,
  UNIQUE (log, app)
) STRICT;
INSERT INTO publisher (log, app, events, bytes, swept) SELECT id, '', head - tail, bytes, tail FROM log;
ALTER TABLE event ADD COLUMN publisher INTEGER;

-- When the event at `tail`, the last one removed, was published.
ALTER TABLE log ADD COLUMN gone_at INTEGER NOT NULL DEFAULT 0;
