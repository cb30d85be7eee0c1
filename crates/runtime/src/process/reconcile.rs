//! What is there is made what should be there: the pool's loop, and what the lives of instances tell it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::future::select;
use model::{Error, code};

use super::{
    Pool,
    book::{Book, Seen, Standing},
    instance::{Instance, Order},
    life::Life,
    place::Waiter,
};
use crate::{host::Presence, pool::Failure, upstream::Upstream};

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

    /// It has started; requests come when it is ready for them.
    pub(super) fn started(&self, instance: &Instance) {
        let now = self.ctx.clock.monotonic();
        self.book.lock().started(instance.number, now);
        self.tell();
    }

    /// It serves, in case anyone doubted it.
    pub(super) fn cleared(self: &Arc<Self>, instance: &Instance) {
        if self.book.lock().is_suspect(instance.number) {
            self.ready(instance);
        }
    }

    /// It asks for no requests for now. Returns whether that is news.
    pub(super) fn unready(&self, instance: &Instance) -> bool {
        let news = self.book.lock().unready(instance.number);
        self.tell();
        news
    }

    /// What is said when all that there are have started, and none is ready.
    pub(super) fn unready_error(&self, book: &Book<Arc<Instance>, Waiter>) -> Error {
        let mut members = book.members().iter();
        let problem = members.find_map(|member| member.handle.problem.lock().clone());
        let name = &self.spec.workload.name;
        let why = problem.unwrap_or_else(|| "it was not asked yet".to_owned());
        let message = format!("`{name}` has started, and is not ready for requests: {why}");
        Error::new(code::START_FAILED, message)
    }

    pub(super) fn unhealthy(&self, instance: &Instance, error: Error) {
        let now = self.ctx.clock.monotonic();
        self.note(&error);
        self.book.lock().unhealthy(instance.number, error, now);
        instance.order(self.farewell(now));
        self.tell();
    }

    pub(super) fn ended(&self, instance: &Instance, result: Result<(), Error>) {
        let now = self.ctx.clock.monotonic();
        if let Err(error) = &result {
            self.note(error);
        }
        let refused = {
            let mut book = self.book.lock();
            // In one step with its leaving the books, so that nobody counts it twice or not at all.
            if instance.pid().is_some() {
                let lived = self.ctx.clock.now().since(instance.since);
                self.gone.lock().add(lived, instance.cpu_seen());
            }
            book.ended(instance.number, result, now)
        };
        for (waiter, error) in refused {
            let _ = waiter.answer.send(Err(error));
        }
        self.tell();
    }

    fn note(&self, error: &Error) {
        *self.last_failure.lock() = Some(Failure {
            at: self.ctx.clock.now(),
            code: error.code,
            message: error.message.clone(),
        });
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
        let seen = self.see(now);
        let (decision, started) = {
            let mut book = self.book.lock();
            let decision = book.decide(now, seen);
            let started: Vec<_> = (0..decision.start).map(|_| self.instance(now)).collect();
            for instance in &started {
                book.add(instance.number, Arc::clone(instance), now);
            }
            (decision, started)
        };
        for instance in started {
            self.runtime.spawn(self.life(instance).live());
        }
        let pause = decision.pause(now, TIMER);
        for instance in decision.retire {
            instance.order(self.farewell(now));
        }
        for upstream in self.upstreams() {
            upstream.prune();
        }
        pause
    }

    /// What the number of instances follows beside the requests, where it does.
    fn see(&self, now: Instant) -> Seen {
        let workload = &self.spec.workload;
        let on = workload.scale.on;
        Seen {
            cpu: on.cpu.map(|_| {
                let there = self.there();
                there.iter().map(|instance| instance.cpu(now)).sum()
            }),
            backlog: on
                .backlog
                .map(|_| self.ctx.host.backlog(&self.spec.app, &workload.name)),
        }
    }

    /// Those that have started and stay.
    fn there(&self) -> Vec<Arc<Instance>> {
        let book = self.book.lock();
        let there = book
            .members()
            .iter()
            .filter(|member| !matches!(member.standing, Standing::Starting | Standing::Leaving(_)));
        there.map(|member| Arc::clone(&member.handle)).collect()
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
            probes: Arc::clone(&self.probes),
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
