//! A workload that can be invoked: its pool, its permits and the decisions that are made once per revision.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use model::{Class, Error, Target, Tier, VersionId, Workload, code};
use runtime::Pool;

/// Requests that may wait beyond what the instances can hold, at least.
const MIN_QUEUE: u32 = 64;

/// One version of a workload as routes, subscriptions and tasks hold it: after a match there is no lookup by name.
pub struct Callee {
    /// What it is called.
    pub target: Arc<Target>,
    /// What the manifest says of it.
    pub workload: Workload,
    /// Which version.
    pub version: VersionId,
    pool: Arc<Pool>,
    capacity: u32,
    in_flight: AtomicU32,
    deferred: AtomicU32,
    closed: AtomicBool,
}

impl Callee {
    /// A callee in front of `pool`.
    #[must_use]
    pub fn new(target: Target, workload: Workload, version: VersionId, pool: Arc<Pool>) -> Self {
        let places = workload
            .scale
            .max
            .saturating_mul(workload.scale.concurrency)
            .max(1);
        Self {
            target: Arc::new(target),
            workload,
            version,
            pool,
            capacity: places.saturating_add(places.max(MIN_QUEUE)),
            in_flight: AtomicU32::new(0),
            deferred: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Where it runs.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Function, service or job.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.workload.tier
    }

    /// Invocations admitted and not yet ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Refuses everything from now on; what was admitted finishes.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Takes a place, or says why there is none. Work that nobody waits for holds at most three quarters of the
    /// places, so that interactive work always finds one.
    pub(super) fn admit(callee: &Arc<Self>, class: Class) -> Result<Permit, Error> {
        if callee.closed.load(Ordering::Relaxed) {
            let message = format!(
                "`{}` is being replaced or removed; try again",
                callee.target
            );
            return Err(
                Error::new(code::WORKLOAD_GONE, message).retry_after(Duration::from_secs(1))
            );
        }
        let deferred = class != Class::Interactive;
        if deferred && !take(&callee.deferred, callee.capacity - callee.capacity / 4) {
            return Err(callee.full());
        }
        if !take(&callee.in_flight, callee.capacity) {
            if deferred {
                callee.deferred.fetch_sub(1, Ordering::Relaxed);
            }
            return Err(callee.full());
        }
        Ok(Permit {
            callee: Arc::clone(callee),
            deferred,
        })
    }

    fn full(&self) -> Error {
        let message = format!(
            "`{}` has all the work that it may hold ({}); try again",
            self.target, self.capacity
        );
        Error::new(code::CONCURRENCY_LIMIT, message).retry_after(Duration::from_secs(1))
    }
}

fn take(counter: &AtomicU32, limit: u32) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < limit).then_some(n + 1)
        })
        .is_ok()
}

/// The right to run one invocation; given back when dropped.
pub struct Permit {
    callee: Arc<Callee>,
    deferred: bool,
}

impl Permit {
    /// Whom it admits to.
    #[must_use]
    pub const fn callee(&self) -> &Arc<Callee> {
        &self.callee
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.callee.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.deferred {
            self.callee.deferred.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
