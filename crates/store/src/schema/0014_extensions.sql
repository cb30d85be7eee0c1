-- The start of a handler's extensions, apart from that of its runtime.
ALTER TABLE usage ADD COLUMN extensions_us INTEGER NOT NULL DEFAULT 0;
