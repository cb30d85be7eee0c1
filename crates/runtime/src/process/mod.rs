//! Processes that listen on `$PORT`: started, watched, scaled and replaced, and requests spread over them.
//!
//! The books (`book`) say who is there and decide; the pool acts on what they decide, on a signal and on a timer; one
//! task per instance (`life`) owns its process. No request is lost between them: it has a place, or waits for one
//! until its deadline, or is refused with the reason.

mod book;
mod environment;
mod instance;
mod life;
mod logs;
mod measure;
mod place;
mod ports;
mod probe;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use http::Response;
use model::{Error, Invocation, code};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
};

use crate::{
    body::Body,
    call::{Input, Meter, Ran},
    host::Presence,
    http_input,
    pool::{Context, InstanceStat, InstanceState, PoolStats, Spec},
    upstream::{Failed, Terms},
};
use book::{Book, Standing};
use instance::{Instance, Order};
use life::Life;
pub use measure::{Measured, measure};
use place::{Place, Ticket, Waiter};

/// How often the books are looked at when nothing happens.
const TIMER: Duration = Duration::from_secs(15);

/// Instances that one request is offered to, when they turn out to be unreachable.
const OFFERS: usize = 4;

/// How long the end of an instance may take to be noticed, after it broke a connection.
const NEWS: Duration = Duration::from_millis(100);

/// How patient a pool is with its instances.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From the start of a process to its readiness.
    pub start: Duration,
    /// Between two health checks.
    pub check: Duration,
    /// For the answer to a health check.
    pub answer: Duration,
    /// Checks that fail in a row before an instance is replaced.
    pub misses: u32,
    /// From being asked to end to being killed.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            check: Duration::from_secs(1),
            answer: Duration::from_secs(1),
            misses: 2,
            patience: Duration::from_secs(5),
        }
    }
}

/// The instances of one version of a `process` workload.
pub struct Pool {
    ctx: Arc<Context>,
    spec: Arc<Spec>,
    pace: Pace,
    runtime: Handle,
    book: Mutex<Book<Arc<Instance>, Waiter>>,
    numbers: AtomicU64,
    /// Told when the books have changed so that something may be to do.
    wake: Arc<Notify>,
    /// Counts changes of who is there, for those who wait for one.
    news: watch::Sender<u64>,
}

impl Pool {
    /// A pool without instances. Its tasks run on the runtime that this is called in, which must outlive it.
    #[must_use]
    pub fn new(ctx: &Arc<Context>, spec: Spec) -> Arc<Self> {
        Self::with_pace(ctx, spec, Pace::default())
    }

    /// The same with another patience.
    #[must_use]
    pub fn with_pace(ctx: &Arc<Context>, spec: Spec, pace: Pace) -> Arc<Self> {
        let pool = Arc::new(Self {
            ctx: Arc::clone(ctx),
            book: Mutex::new(Book::new(spec.workload.scale)),
            spec: Arc::new(spec),
            pace,
            runtime: Handle::current(),
            numbers: AtomicU64::new(0),
            wake: Arc::new(Notify::new()),
            news: watch::Sender::new(0),
        });
        pool.spawn_reconciler();
        pool
    }

    /// Runs one invocation that was admitted: waits for a place until its deadline, then for the head of the answer.
    pub async fn invoke(self: &Arc<Self>, invocation: Arc<Invocation>, input: Input) -> Ran {
        let meter = Arc::new(Meter::default());
        match self.respond(&invocation, input, &meter).await {
            Ok(response) => Ran {
                response: Ok(response),
                meter,
            },
            Err(error) => {
                meter.fail(error.clone());
                Ran::failed(error, meter)
            }
        }
    }

    /// Starts the instances that are kept even when idle, and returns when all of them are ready.
    ///
    /// # Errors
    /// Why an instance did not become ready; further ones are tried meanwhile.
    pub async fn warm(self: &Arc<Self>) -> Result<(), Error> {
        let mut news = self.news.subscribe();
        loop {
            {
                let book = self.book.lock();
                if book.ready_count() >= self.spec.workload.scale.min {
                    return Ok(());
                }
                if let Some(error) = book.trouble() {
                    return Err(error.clone());
                }
                if let Some(error) = book.refusal(self.ctx.clock.monotonic()) {
                    return Err(error);
                }
            }
            self.wake.notify_one();
            let _ = news.changed().await;
        }
    }

    /// What it says about itself. Reads `/proc` for every instance.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let mut stats = {
            let book = self.book.lock();
            PoolStats {
                instances: book.members().iter().map(stat).collect(),
                starts: book.starts,
                failures: book.failures,
            }
        };
        for instance in &mut stats.instances {
            instance.memory = instance.pid.map_or(0, |pid| measure(pid).memory);
        }
        stats
    }

    /// Lets every request end that is here or waits, up to `grace`; then asks the instances to end, and kills those
    /// that do not. Returns when no process is left. Later invocations are refused with `WORKLOAD_GONE`.
    pub async fn drain(&self, grace: Duration) {
        let by = self.ctx.clock.monotonic() + grace;
        self.book.lock().close();
        self.wake.notify_one();
        self.until(by, |book| book.is_quiet()).await;
        let (leaving, waiting) = self.book.lock().expel();
        let patience = self.pace.patience.min(grace);
        for instance in leaving {
            instance.order(Order::Leave { by, patience });
        }
        drop(waiting);
        let by = self.ctx.clock.monotonic() + patience + Duration::from_secs(10);
        self.until(by, |book| book.members().is_empty()).await;
    }

    async fn respond(
        self: &Arc<Self>,
        invocation: &Arc<Invocation>,
        input: Input,
        meter: &Arc<Meter>,
    ) -> Result<Response<Body>, Error> {
        let mut place = self.place(invocation, meter).await?;
        let now = self.ctx.clock.monotonic();
        let mut request = http_input::request(input, invocation, now);
        let terms = Terms {
            deadline: invocation.deadline,
            body_idle: self.ctx.limits.body_idle,
            meter: Arc::clone(meter),
        };
        for offer in 1.. {
            let instance = Arc::clone(&place.instance);
            let upstream = instance.upstream();
            let upstream = upstream.ok_or_else(|| Error::internal("a place before its port"))?;
            match upstream.send(request, terms.clone(), place).await {
                Ok(response) => return Ok(response),
                Err(Failed {
                    unsent: Some(again),
                    error,
                    guard,
                }) if offer < OFFERS && error.code == code::UPSTREAM_UNREACHABLE => {
                    drop(guard);
                    request = again;
                }
                Err(Failed { error, guard, .. }) => {
                    drop(guard);
                    return Err(self.explain(&instance, error).await);
                }
            }
            place = self.place(invocation, meter).await?;
        }
        unreachable!("the last offer returns")
    }

    /// A place with an instance, at once or as soon as there is one.
    async fn place(
        self: &Arc<Self>,
        invocation: &Arc<Invocation>,
        meter: &Meter,
    ) -> Result<Place, Error> {
        let arrived = self.ctx.clock.monotonic();
        let (answer, answered) = oneshot::channel();
        let ticket = {
            let mut book = self.book.lock();
            if let Some(instance) = book.take(arrived) {
                drop(book);
                return Ok(Place::new(self, instance, Arc::clone(invocation)));
            }
            if let Some(error) = book.refusal(arrived) {
                return Err(error);
            }
            let invocation = Arc::clone(invocation);
            book.wait(Waiter { invocation, answer })
        };
        let ticket = Ticket {
            pool: self,
            number: ticket,
        };
        self.wake.notify_one();
        let place = self.wait(answered, invocation, arrived).await;
        drop(ticket);
        let place = place?;
        let now = self.ctx.clock.monotonic();
        if let Some(phases) = place.instance.cold_start(arrived, now) {
            meter.cold_start(phases);
        }
        Ok(place)
    }

    async fn wait(
        &self,
        answered: oneshot::Receiver<Result<Place, Error>>,
        invocation: &Invocation,
        arrived: Instant,
    ) -> Result<Place, Error> {
        let left = invocation.deadline.saturating_duration_since(arrived);
        let timer = std::pin::pin!(self.ctx.clock.sleep(left));
        match select(answered, timer).await {
            Either::Left((Ok(place), _)) => place,
            Either::Left((Err(_), _)) => Err(Error::new(
                code::WORKLOAD_GONE,
                "this version of the workload was removed before it had room",
            )),
            Either::Right(_) => Err(self.no_place()),
        }
    }

    /// Why somebody waited in vain.
    fn no_place(&self) -> Error {
        let name = &self.spec.workload.name;
        let book = self.book.lock();
        if let Some(error) = book.trouble() {
            return error.clone();
        }
        if book.ready_count() == 0 {
            let message = format!("no instance of `{name}` became ready in time");
            return Error::new(code::START_FAILED, message);
        }
        let message = format!("all instances of `{name}` were busy until the deadline");
        Error::new(code::WORKLOAD_TIMEOUT, message)
    }

    /// What broke the connection, if it was the end of the instance.
    async fn explain(&self, instance: &Instance, error: Error) -> Error {
        if error.code != code::UPSTREAM_UNREACHABLE {
            return error;
        }
        let mut exit = instance.exit.subscribe();
        let exited = std::pin::pin!(exit.wait_for(Option::is_some));
        let timer = std::pin::pin!(self.ctx.clock.sleep(NEWS));
        let exit = match select(exited, timer).await {
            Either::Left((Ok(exit), _)) => *exit,
            Either::Left((Err(_), _)) | Either::Right(_) => None,
        };
        let Some(exit) = exit else {
            return error;
        };
        let name = &self.spec.workload.name;
        let message = format!("the instance of `{name}` ended with {exit} while it worked");
        Error::new(code::INSTANCE_DIED, message).context(instance.last_lines())
    }

    fn release(self: &Arc<Self>, instance: &Instance) {
        let now = self.ctx.clock.monotonic();
        let freed = self.book.lock().release(instance.number, now);
        if let Some((waiter, instance)) = freed.next {
            self.seat(waiter, instance);
        } else if freed.quiet {
            instance.quiet.notify_one();
            self.tell();
        }
    }

    /// Gives one who waited a place that the books already count. When nobody takes it, dropping it frees it again.
    fn seat(self: &Arc<Self>, waiter: Waiter, instance: Arc<Instance>) {
        let place = Place::new(self, instance, waiter.invocation);
        let _ = waiter.answer.send(Ok(place));
    }

    fn forget(&self, ticket: u64) {
        let waiter = self.book.lock().forget(ticket);
        drop(waiter);
    }

    fn suspect(&self, instance: &Instance) {
        if self.book.lock().suspect(instance.number) {
            instance.suspected.notify_one();
            self.tell();
        }
    }

    fn ready(self: &Arc<Self>, instance: &Instance) {
        let now = self.ctx.clock.monotonic();
        let served = self.book.lock().ready(instance.number, now);
        for (waiter, instance) in served {
            self.seat(waiter, instance);
        }
        self.tell();
    }

    fn unhealthy(&self, instance: &Instance, error: Error) {
        let now = self.ctx.clock.monotonic();
        self.book.lock().unhealthy(instance.number, error, now);
        instance.order(self.farewell(now));
        self.tell();
    }

    fn ended(&self, instance: &Instance, result: Result<(), Error>) {
        let now = self.ctx.clock.monotonic();
        let refused = self.book.lock().ended(instance.number, result, now);
        for (waiter, error) in refused {
            let _ = waiter.answer.send(Err(error));
        }
        self.tell();
    }

    fn is_quiet(&self, instance: &Instance) -> bool {
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

    fn tell(&self) {
        self.wake.notify_one();
        self.news.send_modify(|count| *count += 1);
    }

    async fn until(
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

    fn spawn_reconciler(self: &Arc<Self>) {
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
        }
    }

    fn upstreams(&self) -> Vec<Arc<crate::upstream::Upstream>> {
        let book = self.book.lock();
        let handles = book.members().iter().map(|member| &member.handle);
        handles.filter_map(|i| i.upstream().cloned()).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Whoever still waits holds the pool, so only instances are left to end.
        let now = self.ctx.clock.monotonic();
        for instance in self.book.get_mut().expel().0 {
            instance.order(Order::Leave {
                by: now,
                patience: self.pace.patience,
            });
        }
        self.wake.notify_one();
    }
}

fn stat(member: &book::Member<Arc<Instance>>) -> InstanceStat {
    let instance = &member.handle;
    InstanceStat {
        instance: instance.presence.instance,
        state: match member.standing {
            Standing::Starting => InstanceState::Starting,
            Standing::Leaving(_) => InstanceState::Draining,
            Standing::Ready(_) | Standing::Suspect(_) if member.in_flight > 0 => {
                InstanceState::Busy
            }
            Standing::Ready(_) | Standing::Suspect(_) => InstanceState::Idle,
        },
        pid: instance.pid(),
        since: instance.since,
        in_flight: member.in_flight,
        memory: 0,
    }
}
