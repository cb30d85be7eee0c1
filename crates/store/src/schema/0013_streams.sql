-- The events of a subject, numbered from 1. `version` is the last number given, `first` the first that is kept.
CREATE TABLE stream (
  id INTEGER PRIMARY KEY,
  log INTEGER NOT NULL,
  app TEXT NOT NULL,
  subject TEXT NOT NULL,
  version INTEGER NOT NULL,
  first INTEGER NOT NULL DEFAULT 1,
  at INTEGER NOT NULL,
  UNIQUE (log, app, subject)
) STRICT;

-- `event` is the row of the event in the log, which is kept for as long as its stream has it.
CREATE TABLE stream_event (
  stream INTEGER NOT NULL,
  version INTEGER NOT NULL,
  event INTEGER NOT NULL,
  PRIMARY KEY (stream, version)
) STRICT, WITHOUT ROWID;
ALTER TABLE event ADD COLUMN stream INTEGER;
ALTER TABLE event ADD COLUMN version INTEGER;

-- What became of a stream up to a version, as its workload keeps it.
CREATE TABLE snapshot (
  stream INTEGER PRIMARY KEY,
  version INTEGER NOT NULL,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  body BLOB,
  blob BLOB
) STRICT;
