//! The shape of `reconcile`.

#![allow(dead_code, reason = "the types are never made, only described")]

use schemars::JsonSchema;

use super::Duration;

/// Two lists of rows that are to say the same of each key.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Reconciliation {
    /// How often they are compared: 1s to 7d.
    every: Duration,
    /// How long a difference must have lasted before it is handed to `repair`. 0s unless given.
    after: Option<Duration>,
    /// The column that tells rows apart.
    key: String,
    /// The columns that are compared; all that both rows have unless given.
    compare: Option<Vec<String>>,
    /// One list.
    left: Source,
    /// The other.
    right: Source,
    /// The workload that gets each difference, once until it changes.
    repair: Option<String>,
}

/// Where rows come from: exactly one of `query`, `workload` or `projection`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Source {
    /// What a statement reads from a database of the app.
    query: Option<Query>,
    /// What a workload answers: a JSON array of objects.
    workload: Option<Asked>,
    /// What a workload answers of the live generation of a projection that it keeps.
    projection: Option<AskedProjection>,
}

/// A statement.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Query {
    /// The database, one of `databases`.
    database: String,
    /// The statement; it can only read.
    sql: String,
}

/// A request.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Asked {
    /// The workload.
    name: String,
    /// The path that is asked for with GET.
    path: String,
}

/// A request that is made once the live generation has had every event; the header `x-tangelo-generation` says which it is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AskedProjection {
    /// The workload that keeps the projection.
    workload: String,
    /// The projection: the name of an entry of the workload's `on`.
    name: String,
    /// The path that is asked for with GET.
    path: String,
}
