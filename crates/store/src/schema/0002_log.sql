-- One log per namespace. `head` is the last position given, `tail` the last one removed, `bytes` what is between.
-- `mark`: all subscriptions with nothing outstanding have settled everything up to here.
CREATE TABLE log (
  id INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL UNIQUE,
  head INTEGER NOT NULL DEFAULT 0,
  tail INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  mark INTEGER NOT NULL DEFAULT 0
) STRICT;

-- id = log << 44 | position, so that each log is one range in order of positions. `body` or `blob` holds the event.
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  size INTEGER NOT NULL,
  cause BLOB NOT NULL,
  body BLOB,
  blob BLOB
) STRICT;

-- The ids seen lately. `slot` is the time in units of the window, so that old ones are a range at the front.
CREATE TABLE dedup (
  slot INTEGER NOT NULL,
  key BLOB NOT NULL,
  position INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (slot, key)
) STRICT, WITHOUT ROWID;

-- A range of positions (begin, end] that goes to a workload. A key that comes back, or whose filter changes, is a new row.
CREATE TABLE subscription (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  log INTEGER NOT NULL,
  app TEXT NOT NULL,
  workload TEXT NOT NULL,
  name TEXT NOT NULL,
  shard INTEGER NOT NULL,
  begin INTEGER NOT NULL,
  end INTEGER,
  spec BLOB NOT NULL
) STRICT;
CREATE INDEX subscription_app ON subscription (log, app);

-- All up to `low` is settled; up to `through` all is settled, runs (`running`), or has a row of its own below.
-- `idle`: nothing is outstanding, so the log's mark counts as well.
CREATE TABLE cursor (
  subscription INTEGER PRIMARY KEY,
  low INTEGER NOT NULL,
  through INTEGER NOT NULL,
  idle INTEGER NOT NULL,
  running BLOB
) STRICT;

-- What failed and waits. `cause` and body or blob are set only when the log may not hold the event any more.
CREATE TABLE retry (
  id INTEGER PRIMARY KEY,
  subscription INTEGER NOT NULL,
  log INTEGER NOT NULL,
  position INTEGER NOT NULL,
  due INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  running INTEGER NOT NULL DEFAULT 0,
  born INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  published_at INTEGER NOT NULL,
  history BLOB NOT NULL,
  cause BLOB,
  body BLOB,
  blob BLOB,
  UNIQUE (subscription, position)
) STRICT;
CREATE INDEX retry_due ON retry (subscription, due);
CREATE INDEX retry_held ON retry (log, position) WHERE cause IS NULL;

-- What was given up, with the event.
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  log INTEGER NOT NULL,
  subscription INTEGER NOT NULL,
  app TEXT NOT NULL,
  workload TEXT NOT NULL,
  name TEXT NOT NULL,
  position INTEGER NOT NULL,
  at INTEGER NOT NULL,
  published_at INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  reason BLOB NOT NULL,
  history BLOB NOT NULL,
  cause BLOB NOT NULL,
  body BLOB,
  blob BLOB
) STRICT;
CREATE INDEX dead_letter_at ON dead_letter (subscription, position);
CREATE INDEX dead_letter_of ON dead_letter (log, app, workload, name);
