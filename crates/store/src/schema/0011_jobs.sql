-- Which replay a delivery belongs to.
ALTER TABLE retry ADD COLUMN replay INTEGER;
ALTER TABLE dead_letter ADD COLUMN replay INTEGER;

-- Redrives and replays, chunk by chunk: `group_after` and `after` say how far one is, and move in the commit of their chunk.
CREATE TABLE job (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  spec BLOB NOT NULL,
  by TEXT NOT NULL,
  at INTEGER NOT NULL,
  group_after INTEGER NOT NULL DEFAULT 0,
  after INTEGER NOT NULL DEFAULT 0,
  done INTEGER NOT NULL DEFAULT 0,
  skipped INTEGER NOT NULL DEFAULT 0,
  ended_at INTEGER,
  cancelled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX job_running ON job (id) WHERE ended_at IS NULL;
