//! What keeps the data folder small: blobs that nobody refers to, events beyond retention. In chunks that yield.

use std::time::Duration;

use tokio::sync::watch;

use super::stopped;
use crate::Platform;

/// Between two chunks; 256 of them see every blob once.
const STEP: Duration = Duration::from_secs(10);

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = platform.clock().sleep(STEP) => {}
            () = stopped(&mut stop) => return,
        }
        if let Err(error) = platform.store().blobs().sweep().await {
            tracing::warn!(%error, "blobs could not be swept");
        }
        if let Err(error) = platform.bus().retain().await {
            tracing::warn!(%error, "the log could not be shortened");
        }
    }
}
