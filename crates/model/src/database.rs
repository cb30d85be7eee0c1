//! Databases of the apps themselves, and what Tangelo takes from them: rows of an outbox, changes of tables.
//!
//! Only what a manifest declares; how a database is spoken to is `connect`'s. Credentials are never here: a password is
//! the name of a secret.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::WorkloadName;

/// The table that `tangelo outbox init` prints, unless another is named.
pub const OUTBOX_TABLE: &str = "tangelo_outbox";

/// A database that an app owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// What it is and where.
    pub engine: Engine,
    /// The table whose rows are events to publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<Outbox>,
    /// Tables whose changes are events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
}

/// Tables whose changes are events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Their names; in Postgres `schema.name`, too.
    pub tables: Vec<String>,
    /// How long a change waits at most when nothing wakes the relay.
    pub poll: Duration,
}

impl Capture {
    /// Words of changes: an event's type is the table's name, a dot, and one of these.
    pub const WORDS: [&str; 4] = ["inserted", "updated", "deleted", "truncated"];

    /// The types that its events may have.
    pub fn types(&self) -> impl Iterator<Item = String> {
        let bare = |table: &String| table.strip_prefix("public.").unwrap_or(table).to_owned();
        self.tables.iter().map(bare).flat_map(|table| {
            Self::WORDS
                .iter()
                .map(move |word| format!("{table}.{word}"))
        })
    }
}

/// What a database is and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// A file.
    Sqlite {
        /// Whose folder `file` is relative to (`state: [folder]`); `None`: the path is absolute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<WorkloadName>,
        /// Its path.
        file: String,
    },
    /// A server.
    Postgres {
        /// `postgres://user@host:port/database?…`, without a password.
        url: String,
        /// The secret that holds the password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
    },
}

impl Engine {
    /// `sqlite` or `postgres`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }
}

/// A table whose rows are events to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// `name`, or `schema.name` in Postgres.
    pub table: String,
    /// Event types that its rows may have; a trailing `*` stands for any rest.
    pub publishes: Vec<String>,
    /// What becomes of a row whose event is in the log.
    #[serde(default)]
    pub sent: Sent,
    /// How long a row waits at most when nothing wakes the relay.
    pub poll: Duration,
}

impl Outbox {
    /// How often it is looked for rows unless said.
    pub const POLL: Duration = Duration::from_secs(1);
}

/// What becomes of a row whose event is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sent {
    /// It is deleted.
    #[default]
    Delete,
    /// It stays, and `sent_at` says when.
    Keep,
}

/// Whether `text` is a table's name that needs no quotes: `name`, or `schema.name`; 48 bytes each at most, so that what is named after
/// it (indexes, triggers, a channel) has a name, too.
#[must_use]
pub fn is_table_name(text: &str) -> bool {
    let is_identifier = |part: &str| {
        let mut bytes = part.bytes();
        part.len() <= 48
            && bytes
                .next()
                .is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match text.split_once('.') {
        None => is_identifier(text),
        Some((schema, table)) => text.len() <= 63 && is_identifier(schema) && is_identifier(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_names_that_need_no_quotes() {
        for good in ["tangelo_outbox", "app.outbox", "_x1"] {
            assert!(is_table_name(good), "{good}");
        }
        for bad in ["", "1a", "a b", "a\"b", "A", "a.b.c", "a.", "a;drop"] {
            assert!(!is_table_name(bad), "{bad}");
        }
    }
}
