-- How far the partitions of topics elsewhere were taken into the log: the next offset, what was refused so far and why the last of
-- it, and how many records were gone before they were read.
CREATE TABLE intake(
  app TEXT NOT NULL,
  bridge TEXT NOT NULL,
  topic TEXT NOT NULL,
  partition INTEGER NOT NULL,
  next INTEGER NOT NULL,
  refused INTEGER NOT NULL,
  last_refused TEXT,
  missed INTEGER NOT NULL,
  PRIMARY KEY(app, bridge, topic, partition)
) WITHOUT ROWID, STRICT;
