//! What was refused because something was full: of which workload, if of one, and what was full. Counted as it happens;
//! nothing else is recorded of most of it, since a refusal must stay cheap.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use model::{AppName, WorkloadName};
use parking_lot::Mutex;

/// Workloads that are counted apart; beyond them, all others count as one. Each deployed name takes one, for as long as
/// the server runs.
const WORKLOADS: usize = 65_536;

/// What was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Full {
    /// The workload has as many invocations as it may hold.
    Workload,
    /// Too many wait for an instance of the workload.
    Queue,
    /// The server has as many invocations, or as much memory of Wasm guests, as it may hold.
    Server,
    /// Bodies that must be whole have all the memory that there is for them.
    Buffers,
    /// The log, or what else is written, takes no more for now.
    Log,
}

impl Full {
    /// As labels say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Queue => "queue",
            Self::Server => "server",
            Self::Buffers => "buffers",
            Self::Log => "log",
        }
    }
}

/// The counters. Cheap to clone.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Counts>);

#[derive(Default)]
struct Counts {
    requests: Mutex<BTreeMap<Key, u64>>,
    connections: AtomicU64,
}

type Key = (Option<(AppName, WorkloadName)>, Full);

impl Refusals {
    /// A request, or other work, to `workload` was refused.
    pub fn request(&self, workload: Option<(&AppName, &WorkloadName)>, full: Full) {
        let named = workload.map(|(app, name)| (app.clone(), name.clone()));
        let mut requests = self.0.requests.lock();
        let key = (named, full);
        if requests.len() >= WORKLOADS && !requests.contains_key(&key) {
            *requests.entry((None, full)).or_default() += 1;
            return;
        }
        *requests.entry(key).or_default() += 1;
    }

    /// A client was refused a connection, since it has as many as it may have.
    pub fn connection(&self) {
        self.0.connections.fetch_add(1, Relaxed);
    }

    /// Requests refused so far.
    pub(crate) fn requests(&self) -> Vec<(Key, u64)> {
        let requests = self.0.requests.lock();
        requests.iter().map(|(key, n)| (key.clone(), *n)).collect()
    }

    /// Connections refused so far.
    pub(crate) fn connections(&self) -> u64 {
        self.0.connections.load(Relaxed)
    }
}
