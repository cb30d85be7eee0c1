//! What reading makes before it is checked: the app, and where its parts stand in the text.

use std::collections::BTreeMap;

use model::{App, Name, WorkloadName};

use crate::tree::Bytes;

/// An app that may still be wrong, with the places that the checks point at.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) app: App,
    /// Every key under `workloads`, also of those that could not be read.
    pub(crate) declared: Vec<String>,
    pub(crate) workloads: BTreeMap<WorkloadName, WorkloadPlaces>,
    /// As many as `app.routes`.
    pub(crate) routes: Vec<RoutePlaces>,
    /// Each host of `hosts` with the place of its workload.
    pub(crate) hosts: BTreeMap<String, Bytes>,
    pub(crate) databases: BTreeMap<Name, DatabasePlaces>,
    pub(crate) reconcile: BTreeMap<Name, ReconciliationPlaces>,
}

/// Where the parts of a reconciliation stand.
#[derive(Debug, Default, Clone)]
pub(crate) struct ReconciliationPlaces {
    pub(crate) left: Bytes,
    pub(crate) right: Bytes,
    pub(crate) repair: Bytes,
}

/// Where the parts of a database stand.
#[derive(Debug, Default, Clone)]
pub(crate) struct DatabasePlaces {
    pub(crate) name: Bytes,
    pub(crate) workload: Bytes,
}

/// Where the parts of a workload stand.
#[derive(Debug, Default, Clone)]
pub(crate) struct WorkloadPlaces {
    pub(crate) name: Bytes,
    pub(crate) timeout: Option<Bytes>,
    /// As many as its `calls`.
    pub(crate) calls: Vec<Bytes>,
    /// As many as its subscriptions: the place of each one's event pattern.
    pub(crate) on: Vec<Bytes>,
    /// The workloads that its asynchronous invocations end at.
    pub(crate) destinations: Vec<(String, Bytes)>,
    /// Its handler.
    pub(crate) handler: Bytes,
    /// The files that it runs.
    pub(crate) files: Vec<(String, Bytes)>,
}

/// Where the parts of a route stand.
#[derive(Debug, Default, Clone)]
pub(crate) struct RoutePlaces {
    pub(crate) path: Bytes,
    pub(crate) to: Bytes,
    pub(crate) timeout: Bytes,
    /// As many as its `before`.
    pub(crate) before: Vec<Bytes>,
}
