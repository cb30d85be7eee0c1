//! A place with an instance: one request's share of its concurrency, for as long as the request lasts.

use std::sync::Arc;

use model::{Error, Invocation};
use tokio::sync::oneshot;

use super::{Pool, instance::Instance};
use crate::upstream::Guard;

/// A place. Dropping it frees it for who waits.
pub(super) struct Place {
    pub(super) instance: Arc<Instance>,
    invocation: Arc<Invocation>,
    pool: Arc<Pool>,
}

/// One who waits for a place.
pub(super) struct Waiter {
    pub(super) invocation: Arc<Invocation>,
    pub(super) answer: oneshot::Sender<Result<Place, Error>>,
}

/// One's entry in the queue. Dropping it leaves the queue.
pub(super) struct Ticket<'a> {
    pub(super) pool: &'a Pool,
    pub(super) number: u64,
}

impl Place {
    /// Of a place that the books already count.
    pub(super) fn new(
        pool: &Arc<Pool>,
        instance: Arc<Instance>,
        invocation: Arc<Invocation>,
    ) -> Self {
        instance.presence.begin(Arc::clone(&invocation));
        Self {
            instance,
            invocation,
            pool: Arc::clone(pool),
        }
    }
}

impl Guard for Place {
    /// It may be dying: others are to wait until it is known.
    fn broken(&self) {
        self.pool.suspect(&self.instance);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.instance.presence.end(self.invocation.id);
        self.pool.release(&self.instance);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pool.forget(self.number);
    }
}
