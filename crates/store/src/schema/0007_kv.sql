-- What workloads keep under keys. A bucket is made by its first write and stays, so that `writes`, from which
-- revisions are taken, never begins anew. `keys` and `bytes` (of keys and values) are what limits are checked against.
CREATE TABLE kv_bucket (
  id INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL,
  app TEXT NOT NULL,
  name TEXT NOT NULL,
  writes INTEGER NOT NULL DEFAULT 0,
  keys INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  UNIQUE (namespace, app, name)
) STRICT;

-- `number` counts the keys of a bucket in the order in which they were first written. `body` or `blob` holds the value
-- behind its format byte, `size` is its length without.
CREATE TABLE kv (
  id INTEGER PRIMARY KEY,
  bucket INTEGER NOT NULL REFERENCES kv_bucket (id),
  key TEXT NOT NULL,
  number INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  size INTEGER NOT NULL,
  body BLOB,
  blob BLOB,
  UNIQUE (bucket, key)
) STRICT;
CREATE INDEX kv_number ON kv (bucket, number);
