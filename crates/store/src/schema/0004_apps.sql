-- Immutable deployments of an app. `spec` is the app, `files` the artifact of each workload, both JSON.
CREATE TABLE revision (
  namespace TEXT NOT NULL,
  app TEXT NOT NULL,
  revision INTEGER NOT NULL,
  manifest TEXT NOT NULL,
  spec TEXT NOT NULL,
  files TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (namespace, app, revision)
) STRICT, WITHOUT ROWID;

-- Which revision of an app is live; the row's own number keeps the order of first deploys.
CREATE TABLE live (
  first INTEGER PRIMARY KEY AUTOINCREMENT,
  namespace TEXT NOT NULL,
  app TEXT NOT NULL,
  revision INTEGER NOT NULL,
  UNIQUE (namespace, app)
) STRICT;
