//! What happens to a revision that is no longer live: its requests finish, then the versions that no live revision
//! uses end their instances.

use std::{sync::Arc, time::Duration};

use model::VersionId;

use super::Deployer;
use crate::{apps::LiveApp, dispatch::Callee};

/// Doors follow a switch within milliseconds; until then a request may still be admitted to the old revision.
const DOORS_FOLLOW: Duration = Duration::from_secs(1);

impl Deployer {
    /// Drains what `old` alone uses, in the background.
    pub(super) fn retire(self: &Arc<Self>, old: Arc<LiveApp>) {
        for callee in old.callees.values().filter(|c| !self.is_live(c.version)) {
            let (deployer, callee) = (Arc::clone(self), Arc::clone(callee));
            tokio::spawn(async move { deployer.retire_callee(&callee).await });
        }
    }

    async fn retire_callee(&self, callee: &Arc<Callee>) {
        self.clock.sleep(DOORS_FOLLOW).await;
        {
            let mut pools = self.pools.lock();
            // A rollback within that second made it live again, or a deploy is about to: it holds the pool, too.
            if self.is_live(callee.version) || Arc::strong_count(callee.pool()) > 1 {
                return;
            }
            pools.remove(&callee.version);
        }
        callee.close();
        callee.pool().drain(callee.workload.timeout).await;
        if !self.pools.lock().contains_key(&callee.version) {
            self.versions.remove(callee.version);
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
