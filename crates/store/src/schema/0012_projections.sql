-- Of a subscription that feeds a projection: which generation.
ALTER TABLE subscription ADD COLUMN generation INTEGER;

-- Read models that are fed from the beginning of the log. `live` is the generation that readers use, `last` the last one made.
CREATE TABLE projection (
  id INTEGER PRIMARY KEY,
  log INTEGER NOT NULL,
  app TEXT NOT NULL,
  workload TEXT NOT NULL,
  name TEXT NOT NULL,
  live INTEGER NOT NULL,
  last INTEGER NOT NULL,
  UNIQUE (log, app, workload, name)
) STRICT;

-- `head` and `gone`: the last position given, and the last one removed, when it was begun. `switched`: it is live, or was.
CREATE TABLE generation (
  projection INTEGER NOT NULL,
  number INTEGER NOT NULL,
  subscription INTEGER NOT NULL,
  begun INTEGER NOT NULL,
  head INTEGER NOT NULL,
  gone INTEGER NOT NULL,
  switched INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (projection, number)
) STRICT, WITHOUT ROWID;
