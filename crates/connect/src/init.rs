//! The schema of an outbox, as `tangelo outbox init` prints it. Tangelo never runs it: tables are made by whoever owns the
//! database, with the migrations that everything else of it has.

/// Which database it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.35 or later.
    Sqlite,
    /// Postgres 12 or later.
    Postgres,
}

const SQLITE: &str = include_str!("sqlite/outbox.sql");
const POSTGRES: &str = include_str!("postgres/outbox.sql");

/// The statements that make the outbox `table`; running them again changes nothing.
#[must_use]
pub fn outbox(dialect: Dialect, table: &str) -> String {
    let text = match dialect {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
    };
    // Indexes, functions and sequences are named after the table, without its schema.
    let name = table.rsplit('.').next().unwrap_or(table);
    let schema = table.strip_suffix(name).unwrap_or_default();
    text.replace("{table}", table)
        .replace("{name}", name)
        .replace("{schema}", schema)
}
