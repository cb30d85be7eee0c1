//! Leases that end: whoever pulled an event did not say what became of it, so that it is tried again.

use bus::Settled;
use model::{Error, code};
use tokio::sync::watch;

use super::stopped;
use crate::Platform;

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let leases = platform.leases();
    loop {
        let next = leases.next_end();
        let end = async {
            match next {
                Some(end) => platform.clock().sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = end => {}
            () = leases.changed.notified() => continue,
            () = stopped(&mut stop) => return,
        }
        for lent in leases.expired(platform.clock().now()) {
            let error = Error::new(
                code::LEASE_EXPIRED,
                "whoever pulled it did not say in time what became of it",
            );
            platform.returned(&lent, false);
            let settled = platform
                .bus()
                .settle(lent.delivery, Settled::Retry(error))
                .await;
            if let Err(error) = settled {
                tracing::error!(%error, "a lease that ended could not be settled; it comes again");
            }
        }
    }
}
