//! Instances that serve several requests, one after another, where the manifest allows it: what they remember saves
//! time, and is seen by the next caller.
//!
//! Kept are only instances that returned in order. Each keeps its place in the engine's pool, so at most half of all
//! places are kept; it ends after so many requests, or when it was idle for so long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::Proxy;

use super::{Pool, guest::Guest, place::Place};

/// An instance between two requests, or before its first.
pub(super) struct Instance {
    pub(super) store: Store<Guest>,
    /// `None`: it is not instantiated yet.
    pub(super) proxy: Option<Proxy>,
    /// Requests that it served.
    pub(super) served: u32,
}

/// One that waits for its next request.
struct Kept {
    instance: Instance,
    place: Place,
    since: Instant,
}

/// The instances of a pool that wait.
#[derive(Default)]
pub(super) struct Shelf {
    kept: Mutex<Vec<Kept>>,
    /// Whether somebody looks after those that are idle for too long.
    tended: AtomicBool,
}

impl Shelf {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.kept.lock().len()
    }

    /// Ends all that wait.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.kept.lock());
        drop(all);
    }

    /// Ends those that wait since before `then`; says whether any is left.
    fn expire(&self, then: Instant) -> bool {
        let mut kept = self.kept.lock();
        // The oldest are at the front: the newest is taken first.
        let old = kept.iter().take_while(|one| one.since <= then).count();
        let expired: Vec<Kept> = kept.drain(..old).collect();
        let any = !kept.is_empty();
        drop(kept);
        drop(expired);
        any
    }
}

impl Pool {
    /// An instance that waits for a request, with its place.
    pub(super) fn kept(&self) -> Option<(Instance, Place)> {
        self.reuse?;
        let kept = self.shelf.kept.lock().pop()?;
        Some((kept.instance, kept.place))
    }

    /// Keeps an instance that has served a request, if it may serve another.
    pub(super) fn keep(self: &Arc<Self>, mut instance: Instance, place: Option<Place>) {
        let (Some(reuse), Some(place)) = (self.reuse, place) else {
            return;
        };
        instance.served += 1;
        let worn = instance.served >= reuse.requests;
        if worn || self.is_cut() || !self.engine.may_keep() {
            return;
        }
        self.shelf.kept.lock().push(Kept {
            instance,
            place,
            since: self.ctx.clock.monotonic(),
        });
        // A drain that began meanwhile found nothing to end.
        if self.is_cut() {
            self.shelf.clear();
        } else if !self.shelf.tended.swap(true, Relaxed) {
            self.runtime.spawn(tend(Arc::clone(self), reuse.idle));
        }
    }
}

/// Ends what is idle for too long, until nothing is kept.
async fn tend(pool: Arc<Pool>, idle: Duration) {
    loop {
        pool.ctx.clock.sleep(idle).await;
        let now = pool.ctx.clock.monotonic();
        if now
            .checked_sub(idle)
            .is_some_and(|then| pool.shelf.expire(then))
        {
            continue;
        }
        pool.shelf.tended.store(false, Relaxed);
        // What was kept between the look and this line would have nobody.
        if pool.shelf.len() == 0 || pool.shelf.tended.swap(true, Relaxed) {
            return;
        }
    }
}
