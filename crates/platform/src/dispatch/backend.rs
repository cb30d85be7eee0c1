//! What runs one version: its pool, and how much of it is taken. Shared by the callees of every revision that has the
//! version, so that a switch neither doubles its limits nor loses count of what is in flight.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use model::{Error, InstanceUsage, Scale, Target, Time, code};
use parking_lot::Mutex;
use runtime::Pool;
use tokio::sync::Notify;

use super::{buffers::Share, instances::Metered, queue::Queue};

/// The pool of one version behind its limits.
pub struct Backend {
    pub(super) pool: Pool,
    queue: Queue,
    /// What bodies that wait for it hold of the memory for bodies.
    pub(super) bodies: Share,
    in_flight: AtomicU32,
    deferred: AtomicU32,
    closed: AtomicBool,
    metered: Mutex<Metered>,
    /// Told when it is closed and nothing admitted is left.
    idle: Notify,
}

impl Backend {
    /// A backend that takes as much as `scale` says.
    #[must_use]
    pub fn new(pool: Pool, scale: &Scale) -> Self {
        let places = scale.max.saturating_mul(scale.concurrency).max(1);
        Self {
            pool,
            queue: Queue::behind(places),
            bodies: Share::default(),
            in_flight: AtomicU32::new(0),
            deferred: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            metered: Mutex::default(),
            idle: Notify::new(),
        }
    }

    /// Invocations admitted and not yet ended.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    /// What its instances used since this was last asked; `None` where it has none of its own: what runs in this
    /// process is there for as long as its requests.
    pub fn used(&self, now: Time) -> Option<InstanceUsage> {
        match self.pool {
            Pool::Wasm(_) | Pool::External(_) | Pool::Webhook(_) | Pool::Pull => None,
            Pool::Lambda(_) | Pool::Process(_) => {
                let mut metered = self.metered.lock();
                Some(metered.since_last(now, &self.pool.stats()))
            }
        }
    }

    /// Refuses everything from now on.
    pub fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    /// Returns when nothing that was admitted is left, which can be after [`Backend::close`] only. What was admitted
    /// may not have come to the pool yet: it waits for those who are asked before it.
    pub async fn idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Ends every instance: waits for their work up to `grace`, then kills them.
    pub async fn drain(&self, grace: Duration) {
        self.pool.drain(grace).await;
    }

    /// Takes a place for `target`. Work that nobody waits for holds at most three quarters of the places, so that
    /// interactive work always finds one.
    pub(super) fn take(&self, deferred: bool, target: &Target) -> Result<(), Error> {
        let capacity = self.queue.capacity(self.in_flight());
        if deferred && !count(&self.deferred, capacity - capacity / 4) {
            return Err(self.full(target));
        }
        if !count(&self.in_flight, capacity) {
            if deferred {
                self.deferred.fetch_sub(1, SeqCst);
            }
            return Err(self.full(target));
        }
        // Looked at after the place was taken, so that who closes it and then sees nobody has missed nobody.
        if self.closed.load(SeqCst) {
            self.vacate(deferred);
            let message = format!("`{target}` is being replaced or removed; try again");
            let error = Error::new(code::WORKLOAD_GONE, message);
            return Err(error.retry_after(Duration::from_secs(1)));
        }
        self.pool.enter().inspect_err(|_| self.vacate(deferred))
    }

    pub(super) fn give_back(&self, deferred: bool) {
        self.pool.leave();
        self.vacate(deferred);
    }

    fn vacate(&self, deferred: bool) {
        if deferred {
            self.deferred.fetch_sub(1, SeqCst);
        }
        let left = self.in_flight.fetch_sub(1, SeqCst) - 1;
        self.queue.one_ended(left);
        if left == 0 && self.closed.load(SeqCst) {
            self.idle.notify_waiters();
        }
    }

    fn full(&self, target: &Target) -> Error {
        let message = format!(
            "`{target}` has all the work that it may hold ({}); try again",
            self.in_flight()
        );
        Error::new(code::CONCURRENCY_LIMIT, message).retry_after(Duration::from_secs(1))
    }
}

fn count(counter: &AtomicU32, limit: u32) -> bool {
    counter
        .fetch_update(SeqCst, SeqCst, |n| (n < limit).then_some(n + 1))
        .is_ok()
}
