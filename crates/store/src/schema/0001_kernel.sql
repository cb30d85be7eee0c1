-- Small facts of the kernel: the number of the last boot, whether it ended cleanly.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Who owns which 1/256th of the work. `until` is the store's clock in microseconds.
CREATE TABLE shard (
  shard INTEGER PRIMARY KEY,
  node TEXT,
  boot INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0,
  until INTEGER NOT NULL DEFAULT 0
) STRICT;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 255)
INSERT INTO shard (shard) SELECT i FROM n;

-- Blobs that rows refer to, or did until `free_since`.
CREATE TABLE blob (
  hash BLOB PRIMARY KEY,
  size INTEGER NOT NULL,
  refs INTEGER NOT NULL,
  free_since INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_free ON blob (free_since) WHERE free_since IS NOT NULL;

-- What one domain causes in another, committed with its cause and done at least once afterwards.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  shard INTEGER NOT NULL,
  key TEXT NOT NULL,
  payload BLOB NOT NULL,
  due INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outbox_due ON outbox (kind, due);
