-- Differences that the last sweep of a reconciliation found, and when each was handed to who repairs it. One that changes
-- is a new one.
CREATE TABLE difference(
  app TEXT NOT NULL,
  reconciliation TEXT NOT NULL,
  key TEXT NOT NULL,
  hash TEXT NOT NULL,
  body BLOB NOT NULL,
  found_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  handed_at INTEGER,
  invocation TEXT,
  PRIMARY KEY(app, reconciliation, key)
) WITHOUT ROWID, STRICT;
