-- Asynchronous invocations: accepted before they are answered with 202. `state`: 0 waits or runs, 1 done, 2 failed.
CREATE TABLE call (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id BLOB NOT NULL UNIQUE,
  namespace TEXT NOT NULL,
  app TEXT NOT NULL,
  workload TEXT NOT NULL,
  target BLOB NOT NULL,
  shard INTEGER NOT NULL,
  state INTEGER NOT NULL DEFAULT 0,
  accepted_at INTEGER NOT NULL,
  due INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  running INTEGER NOT NULL DEFAULT 0,
  finished_at INTEGER,
  spec BLOB NOT NULL,
  history BLOB NOT NULL,
  body BLOB,
  blob BLOB,
  result BLOB,
  result_body BLOB,
  result_blob BLOB
) STRICT;
CREATE INDEX call_due ON call (target, due) WHERE state = 0;
CREATE INDEX call_running ON call (seq) WHERE state = 0 AND running = 1;
CREATE INDEX call_finished ON call (finished_at) WHERE state > 0;
CREATE INDEX call_of ON call (namespace, app, workload, seq);
