-- What consumers have seen: a key of a workload's own, taken once; or the highest version seen under it.
-- `claim` and `attempt`: the delivery that took it, so that its next attempt may take it again.
CREATE TABLE inbox (
  app TEXT NOT NULL,
  workload TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER,
  claim TEXT,
  attempt INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (app, workload, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_at ON inbox (at);
