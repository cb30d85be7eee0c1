-- Positions that an ordered subscription passed over because their keys wait: not tried yet.
ALTER TABLE cursor ADD COLUMN passed BLOB;

-- What a key of an ordered subscription is known by. On a dead letter only where it holds what comes after it.
ALTER TABLE retry ADD COLUMN lane INTEGER;
ALTER TABLE dead_letter ADD COLUMN lane INTEGER;
CREATE INDEX dead_letter_lane ON dead_letter (log, app, workload, name, lane, position) WHERE lane IS NOT NULL;

-- Subscriptions that an operator paused; over deploys, until they are resumed.
CREATE TABLE pause (
  app TEXT NOT NULL,
  workload TEXT NOT NULL,
  name TEXT NOT NULL,
  since INTEGER NOT NULL,
  by TEXT NOT NULL,
  reason TEXT,
  PRIMARY KEY (app, workload, name)
) STRICT, WITHOUT ROWID;

-- What operators did to deliveries, committed with it.
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  by TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail BLOB NOT NULL
) STRICT;
CREATE INDEX audit_subject ON audit (subject, id);
