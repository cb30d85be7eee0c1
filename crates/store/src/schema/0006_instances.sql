-- What instances used, whether or not they worked on something: in the rows of the trigger `instance`.
ALTER TABLE usage ADD COLUMN instance_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN instance_cpu_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN instance_byte_seconds INTEGER NOT NULL DEFAULT 0;
