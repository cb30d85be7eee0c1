//! Requests under way to somebody else: how many, and when there are none any more.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::select;
use model::Clock;
use tokio::sync::Notify;

use crate::upstream::Guard;

/// Counts what is under way.
#[derive(Default)]
pub(crate) struct Flights {
    count: AtomicU32,
    /// Told when nothing is under way any more.
    quiet: Notify,
}

/// A request under way, until it is dropped.
pub(crate) struct Flight(Arc<Flights>);

impl Flights {
    /// One more.
    pub(crate) fn begin(self: &Arc<Self>) -> Flight {
        self.count.fetch_add(1, Relaxed);
        Flight(Arc::clone(self))
    }

    /// Waits for what is under way, up to `grace`.
    pub(crate) async fn drain(&self, clock: &Clock, grace: Duration) {
        let none_left = pin!(self.quiet.notified());
        if self.count.load(Relaxed) == 0 {
            return;
        }
        select(none_left, pin!(clock.sleep(grace))).await;
    }
}

impl Guard for Flight {
    fn broken(&self) {}
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Relaxed) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}
