//! What one guest holds while it lives: a place in the engine, and one of those that its workload may have.
//!
//! A workload waits for its own share first. So the engine's queue has at most as many of each workload as may have a
//! place, and one that is flooded makes no other wait behind its flood.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Pool;

/// The right of one guest to live; given back when dropped.
pub(super) struct Place {
    _engine: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
}

impl Place {
    /// One at once, if there is one.
    pub(super) fn now(pool: &Pool, weight: u32) -> Option<Self> {
        let share = Arc::clone(&pool.share);
        let share = share.try_acquire_many_owned(weight).ok()?;
        Some(Self {
            _engine: pool.engine.place_now(weight)?,
            _share: share,
        })
    }

    /// One when there is one; whoever asked first gets it first.
    pub(super) async fn wait(pool: &Pool, weight: u32) -> Self {
        let share = Arc::clone(&pool.share).acquire_many_owned(weight).await;
        let share = share.expect("the semaphore lives as long as the pool and is never closed");
        Self {
            _engine: pool.engine.place(weight).await,
            _share: share,
        }
    }
}
