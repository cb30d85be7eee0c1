//! What instances use while they are there, counted from time to time whether or not they have something to do: the
//! instance time of the bill.

use std::time::Duration;

use tokio::sync::watch;

use super::stopped;
use crate::Platform;

/// Between two looks. Time and CPU are exact over any number of them; memory is taken to stay as it is in between.
const STEP: Duration = Duration::from_secs(1);

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = platform.clock().sleep(STEP) => {}
            () = stopped(&mut stop) => return,
        }
        let platform = platform.clone();
        // It reads many small files.
        let _ = tokio::task::spawn_blocking(move || count(&platform)).await;
    }
}

/// Counts what all instances used since the last time.
pub(crate) fn count(platform: &Platform) {
    let deployer = platform.deployer();
    for (version, backend) in deployer.running() {
        deployer.count(version, &backend);
    }
}
