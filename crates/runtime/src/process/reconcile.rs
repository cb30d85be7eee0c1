//! What is there is made what should be there: the pool's loop, and what the lives of instances tell it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::future::select;
use model::Error;

use super::{
    Pool,
    book::Book,
    instance::{Instance, Order},
    life::Life,
    place::Waiter,
};
use crate::{host::Presence, upstream::Upstream};

/// How often the books are looked at when nothing happens.
const TIMER: Duration = Duration::from_secs(15);

impl Pool {
    pub(super) fn ready(self: &Arc<Self>, instance: &Instance) {
        let now = self.ctx.clock.monotonic();
        let Some(served) = self.book.lock().ready(instance.number, now) else {
            return;
        };
        for (waiter, instance) in served {
            self.seat(waiter, instance);
        }
        self.tell();
    }

    pub(super) fn unhealthy(&self, instance: &Instance, error: Error) {
        let now = self.ctx.clock.monotonic();
        self.book.lock().unhealthy(instance.number, error, now);
        instance.order(self.farewell(now));
        self.tell();
    }

    pub(super) fn ended(&self, instance: &Instance, result: Result<(), Error>) {
        let now = self.ctx.clock.monotonic();
        let refused = self.book.lock().ended(instance.number, result, now);
        for (waiter, error) in refused {
            let _ = waiter.answer.send(Err(error));
        }
        self.tell();
    }

    pub(super) fn is_quiet(&self, instance: &Instance) -> bool {
        let book = self.book.lock();
        let mut members = book.members().iter();
        members.all(|m| m.id != instance.number || m.in_flight == 0)
    }

    /// How a single instance leaves: with time for the longest request it may have.
    fn farewell(&self, now: Instant) -> Order {
        Order::Leave {
            by: now + self.spec.workload.timeout,
            patience: self.pace.patience,
        }
    }

    pub(super) fn tell(&self) {
        self.wake.notify_one();
        self.news.send_modify(|count| *count += 1);
    }

    pub(super) async fn until(
        &self,
        by: Instant,
        mut holds: impl FnMut(&Book<Arc<Instance>, Waiter>) -> bool,
    ) {
        let mut news = self.news.subscribe();
        while !holds(&self.book.lock()) {
            let left = by.saturating_duration_since(self.ctx.clock.monotonic());
            if left.is_zero() {
                return;
            }
            let changed = std::pin::pin!(news.changed());
            let timer = std::pin::pin!(self.ctx.clock.sleep(left));
            select(changed, timer).await;
        }
    }

    pub(super) fn spawn_reconciler(self: &Arc<Self>) {
        let (pool, wake) = (Arc::downgrade(self), Arc::clone(&self.wake));
        let clock = self.ctx.clock.clone();
        self.runtime.spawn(async move {
            while let Some(again) = pool.upgrade().map(|pool| pool.reconcile()) {
                let woken = std::pin::pin!(wake.notified());
                let timer = std::pin::pin!(clock.sleep(again));
                select(woken, timer).await;
            }
        });
    }

    /// Makes what is there what should be there; returns when to look again.
    fn reconcile(self: &Arc<Self>) -> Duration {
        let now = self.ctx.clock.monotonic();
        let (decision, started) = {
            let mut book = self.book.lock();
            let decision = book.decide(now);
            let started: Vec<_> = (0..decision.start).map(|_| self.instance(now)).collect();
            for instance in &started {
                book.add(instance.number, Arc::clone(instance), now);
            }
            (decision, started)
        };
        for instance in started {
            self.runtime.spawn(self.life(instance).live());
        }
        for instance in decision.retire {
            instance.order(self.farewell(now));
        }
        for upstream in self.upstreams() {
            upstream.prune();
        }
        let again = decision
            .again
            .map_or(TIMER, |at| at.saturating_duration_since(now));
        again.min(TIMER)
    }

    fn instance(&self, now: Instant) -> Arc<Instance> {
        let presence = Presence::new(
            self.ctx.ids.instance(&self.ctx.clock),
            self.spec.namespace.clone(),
            self.spec.app.clone(),
            self.spec.workload.name.clone(),
            self.spec.version,
        );
        let number = self.numbers.fetch_add(1, Relaxed);
        Instance::new(number, presence, self.ctx.clock.now(), now)
    }

    fn life(self: &Arc<Self>, instance: Arc<Instance>) -> Life {
        Life {
            ctx: Arc::clone(&self.ctx),
            spec: Arc::clone(&self.spec),
            pace: self.pace,
            pool: Arc::downgrade(self),
            instance,
            image: Arc::clone(&self.image),
        }
    }

    fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let book = self.book.lock();
        let handles = book.members().iter().map(|member| &member.handle);
        handles.filter_map(|i| i.upstream().cloned()).collect()
    }
}
