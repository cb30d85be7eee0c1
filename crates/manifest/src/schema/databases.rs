//! The shape of `databases`.

#![allow(dead_code, reason = "the types are never made, only described")]

use schemars::JsonSchema;

use super::Duration;

/// A database that the app owns: exactly one of `sqlite` or `postgres`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Database {
    /// A SQLite file.
    sqlite: Option<Sqlite>,
    /// A database of a Postgres server.
    postgres: Option<Postgres>,
    /// A table whose rows are events to publish; `tangelo outbox init` prints it.
    outbox: Option<Outbox>,
    /// Tables whose changes are events: `orders.inserted`, `orders.updated`, `orders.deleted`. `tangelo capture init` makes what it needs.
    capture: Option<Capture>,
}

/// Tables whose changes are events.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Capture {
    /// Their names; in Postgres `schema.name`, too.
    #[schemars(length(min = 1))]
    tables: Vec<String>,
    /// How long a change waits at most when nothing wakes the relay. 1s unless given.
    poll: Option<Duration>,
}

/// A SQLite file.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Sqlite {
    /// The workload in whose folder the file is (`state: [folder]`).
    workload: Option<String>,
    /// Its path in that folder; absolute without `workload`.
    file: String,
}

/// A database of a Postgres server.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Postgres {
    /// `postgres://user@host:port/database`, without a password.
    #[schemars(regex(pattern = "^postgres(ql)?://"))]
    url: String,
    /// The secret that holds the password.
    password: Option<String>,
}

/// A table whose rows are events to publish.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Outbox {
    /// Its name; `schema.name` in Postgres, too. `tangelo_outbox` unless given.
    table: Option<String>,
    /// Event types that its rows may have; a trailing `*` stands for any rest.
    #[schemars(length(min = 1))]
    publishes: Vec<String>,
    /// What becomes of rows that were sent. `delete` unless given.
    sent: Option<Sent>,
    /// How long a row waits at most when nothing wakes the relay. 1s unless given.
    poll: Option<Duration>,
}

/// What becomes of rows that were sent.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Sent {
    /// They are deleted.
    Delete,
    /// They stay, and `sent_at` says when.
    Keep,
}
