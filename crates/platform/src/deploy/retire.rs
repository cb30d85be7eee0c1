//! What happens to a revision that is no longer live: its requests finish, then the versions that no live revision
//! uses end their instances.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::select;
use model::{VersionId, WorkloadName};

use super::Deployer;
use crate::dispatch::{Backend, Callee};

/// Doors follow a switch within milliseconds; until then a request may still be admitted to the old revision.
const DOORS_FOLLOW: Duration = Duration::from_secs(1);

impl Deployer {
    /// Drains those of one app's `callees` whose version is not live any more, or never became it, in the background.
    pub(super) fn retire(self: &Arc<Self>, callees: &BTreeMap<WorkloadName, Arc<Callee>>) {
        // A request holds a place with each that it is for, while others of its route are still asked.
        let longest = callees.values().map(|callee| callee.workload.timeout).max();
        let longest = longest.unwrap_or_default();
        for callee in callees.values().filter(|c| !self.is_live(c.version)) {
            let (version, timeout) = (callee.version, callee.workload.timeout);
            let deployer = Arc::clone(self);
            tokio::spawn(async move { deployer.retire_version(version, longest, timeout).await });
        }
    }

    async fn retire_version(&self, version: VersionId, longest: Duration, timeout: Duration) {
        self.clock.sleep(DOORS_FOLLOW).await;
        let Some(backend) = self.close(version).await else {
            return;
        };
        {
            let (idle, timer) = (pin!(backend.idle()), pin!(self.clock.sleep(longest)));
            select(idle, timer).await;
        }
        backend.drain(timeout).await;
        self.count(version, &backend);
        self.leaving.lock().remove(&version);
        if !self.backends.lock().contains_key(&version) {
            self.versions.remove(version);
            self.unswept.store(true, Relaxed);
        }
    }

    /// Takes what runs `version` out of use, unless it is in use again or was taken out already.
    async fn close(&self, version: VersionId) -> Option<Arc<Backend>> {
        let _now = self.one_at_a_time.lock().await;
        // A deploy under way may be about to make it live, and retires it when it does not.
        if self.is_live(version) || self.claims.hold(version) {
            return None;
        }
        let backend = self.backends.lock().remove(&version)?;
        backend.close();
        self.leaving.lock().insert(version, Arc::clone(&backend));
        Some(backend)
    }

    /// Counts what the instances of a version used since the last time.
    pub(crate) fn count(&self, version: VersionId, backend: &Backend) {
        if let (Ok(known), Some(used)) =
            (self.versions.get(version), backend.used(self.clock.now()))
        {
            let workload = &known.workload;
            self.telemetry
                .instances(&known.app, &workload.name, workload.tier, &used);
        }
    }

    fn is_live(&self, version: VersionId) -> bool {
        self.apps
            .live()
            .apps
            .iter()
            .flat_map(|app| app.callees.values())
            .any(|callee| callee.version == version)
    }
}
