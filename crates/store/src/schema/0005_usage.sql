-- What workloads used, per hour, cause and boot of a server. Rows are absolute sums that replace themselves.
CREATE TABLE usage(
  hour INTEGER NOT NULL,
  app TEXT NOT NULL,
  workload TEXT NOT NULL,
  tier TEXT NOT NULL,
  trigger TEXT NOT NULL,
  boot INTEGER NOT NULL,
  invocations INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  wall_us INTEGER NOT NULL,
  cpu_us INTEGER NOT NULL,
  memory INTEGER NOT NULL,
  bytes_in INTEGER NOT NULL,
  bytes_out INTEGER NOT NULL,
  cold_starts INTEGER NOT NULL,
  wait_us INTEGER NOT NULL,
  load_us INTEGER NOT NULL,
  spawn_us INTEGER NOT NULL,
  init_us INTEGER NOT NULL,
  latency BLOB NOT NULL,
  PRIMARY KEY(hour, app, workload, tier, trigger, boot)
) STRICT, WITHOUT ROWID;
