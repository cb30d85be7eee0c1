//! What keeps the data folder small: blobs that nobody refers to, events and usage beyond retention, versions that no
//! kept revision has. In chunks that yield.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::sync::watch;

use super::stopped;
use crate::Platform;

/// Between two chunks; 256 of them see every blob once.
const STEP: Duration = Duration::from_secs(10);

/// Rows of usage that one command removes.
const USAGE_CHUNK: usize = 500;

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = platform.clock().sleep(STEP) => {}
            () = stopped(&mut stop) => return,
        }
        if let Err(error) = platform.store().blobs().sweep().await {
            tracing::warn!(%error, "blobs could not be swept");
        }
        tokio::select! {
            shortened = platform.bus().retain() => {
                if let Err(error) = shortened {
                    tracing::warn!(%error, "the log could not be shortened");
                }
            }
            () = stopped(&mut stop) => return,
        }
        let before = platform.clock().now() - platform.0.usage_retention;
        if let Err(error) = platform.store().usage().purge(before, USAGE_CHUNK).await {
            tracing::warn!(%error, "old usage could not be removed");
        }
        if let Err(error) = platform.store().inbox().purge().await {
            tracing::warn!(%error, "what the inbox saw long ago could not be removed");
        }
        sweep_versions(&platform).await;
    }
}

/// Only a deploy makes anything old.
async fn sweep_versions(platform: &Platform) {
    let deployer = platform.deployer();
    if !deployer.unswept.swap(false, Relaxed) {
        return;
    }
    if let Err(error) = deployer.sweep().await {
        tracing::warn!(%error, "old versions could not be removed");
        deployer.unswept.store(true, Relaxed);
    }
}
