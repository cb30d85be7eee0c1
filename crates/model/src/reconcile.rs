//! What an app declares to be the same in two places, and who mends it where it is not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{Name, WorkloadName};

/// Two lists of rows that are to say the same of each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// How often they are compared.
    pub every: Duration,
    /// How long a difference must have lasted before it is handed to `repair`: what is on its way settles by itself.
    #[serde(default)]
    pub after: Duration,
    /// The column that tells rows apart.
    pub key: String,
    /// The columns that are compared; empty: all that both rows have.
    #[serde(default)]
    pub compare: Vec<String>,
    /// One list.
    pub left: Source,
    /// The other.
    pub right: Source,
    /// Who gets each difference, once.
    #[serde(default)]
    pub repair: Option<WorkloadName>,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// What a statement reads from a database of the app.
    Query {
        /// The database.
        database: Name,
        /// The statement.
        sql: String,
    },
    /// What a workload answers: a JSON array of objects.
    Workload {
        /// The workload.
        name: WorkloadName,
        /// The path that is asked for with GET.
        path: String,
    },
    /// What a workload answers of the live generation of a projection that it keeps, once that has had every event.
    Projection {
        /// The workload that keeps it.
        workload: WorkloadName,
        /// The projection's name among the workload's subscriptions.
        name: Name,
        /// The path that is asked for with GET.
        path: String,
    },
}
