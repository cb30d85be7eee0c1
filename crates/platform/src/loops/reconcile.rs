//! Sweeps reconciliations when each is due, one after another, and forgets the differences of those that are no more.

use std::{collections::BTreeSet, time::Duration};

use tokio::sync::watch;

use super::stopped;
use crate::{Platform, reconcile::ReconciliationKey};

/// How long the loop sleeps at most.
const LOOK: Duration = Duration::from_secs(60);

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let mut changed = platform.apps().changed();
    let mut known = BTreeSet::new();
    loop {
        changed.mark_unchanged();
        let swept = platform.sweeps().changed.notified();
        let wait = tokio::select! {
            wait = sweep_due(&platform, &mut known) => wait,
            () = stopped(&mut stop) => return,
        };
        tokio::select! {
            () = platform.clock().sleep(wait) => {}
            () = swept => {}
            switched = changed.changed() => if switched.is_err() { return },
            () = stopped(&mut stop) => return,
        }
    }
}

/// Sweeps what is due, and says how long nothing is.
async fn sweep_due(platform: &Platform, known: &mut BTreeSet<ReconciliationKey>) -> Duration {
    let declared = platform.declared();
    for gone in known.iter().filter(|key| !declared.contains_key(*key)) {
        let differences = platform.store().differences();
        let forgotten = differences
            .forget(gone.app.clone(), gone.name.clone())
            .await;
        if let Err(error) = forgotten {
            tracing::error!(%error, app = %gone.app, name = %gone.name, "differences cannot be forgotten");
        }
    }
    known.retain(|key| declared.contains_key(key));
    known.extend(declared.keys().cloned());
    let mut next = LOOK;
    for (key, what) in declared {
        let (due, now) = (platform.due(&key, &what), platform.clock().now());
        if due > now {
            next = next.min(due.since(now));
            continue;
        }
        next = Duration::ZERO;
        match platform.sweep(key.app.as_str(), key.name.as_str()).await {
            Ok(sweep) => {
                if let Some(error) = sweep.error {
                    tracing::warn!(%error, app = %key.app, name = %key.name, "a reconciliation could not be swept");
                } else if sweep.differences > 0 {
                    let (found, handed) = (sweep.differences, sweep.handed);
                    tracing::info!(found, handed, app = %key.app, name = %key.name, "a reconciliation has differences");
                }
            }
            // It was removed meanwhile.
            Err(error) => tracing::debug!(%error, "a reconciliation is gone"),
        }
    }
    next
}
