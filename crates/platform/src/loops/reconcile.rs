//! Sweeps reconciliations when each is due, one after another, and forgets the differences of those that are no more.

use std::time::Duration;

use tokio::sync::watch;

use super::stopped;
use crate::{Platform, reconcile::ReconciliationKey};

/// How long the loop sleeps at most.
const LOOK: Duration = Duration::from_secs(60);

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let mut changed = platform.apps().changed();
    loop {
        changed.mark_unchanged();
        let swept = platform.sweeps().changed.notified();
        let wait = tokio::select! {
            wait = sweep_due(&platform) => wait,
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
async fn sweep_due(platform: &Platform) -> Duration {
    if let Err(error) = forget_gone(platform).await {
        tracing::error!(%error, "differences of what is gone cannot be forgotten");
    }
    let mut next = LOOK;
    for (key, what) in platform.declared() {
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

/// Forgets what nobody declares any more: asked of the disk, since the server that removed it may have been killed before this.
async fn forget_gone(platform: &Platform) -> Result<(), store::Error> {
    let differences = platform.store().differences();
    let kept = differences.kept().await?;
    // Looked at second: what was found is of something that is declared now, or was removed.
    let declared = platform.declared();
    platform.sweeps().keep_only(&declared);
    for (app, name) in kept {
        let key = ReconciliationKey { app, name };
        if !declared.contains_key(&key) {
            differences.forget(key.app, key.name).await?;
        }
    }
    Ok(())
}
