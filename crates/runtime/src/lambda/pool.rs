//! The instances of one version of a Lambda workload: how many there are, who gets which, and when they end.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use model::{ColdStart, Error, Invocation, code};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, OnceCell, oneshot},
};

use super::{
    extension_api::Reason,
    instance::Instance,
    places::{Grant, Places, Waiter},
    prepared::{self, Prepared},
    start::{self, StartFailure},
    templates::Kind,
};
use crate::{
    call::Meter,
    launcher::Enforced,
    pool::{Context, PoolStats, Spec},
};

/// How long somebody waits for an instance that has just answered before another is started after all: it may be
/// doing something of its own before it asks for more.
const HESITATION: Duration = Duration::from_millis(50);
/// The longest pause between attempts to keep `scale.min` up.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long the end of a killed process may take to be noticed; the launcher ends what is left.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The instances of one version.
pub struct Pool {
    pub(crate) context: Arc<Context>,
    pub(crate) spec: Spec,
    pub(crate) places: Mutex<Places>,
    prepared: OnceCell<Prepared>,
    /// A template that is of use to this version alone; it ends with it.
    pub(crate) own_template: Mutex<Option<Kind>>,
    changed: Notify,
    /// Where instances are started and kept: a request that causes a start may come from a runtime that ends earlier.
    runtime: Handle,
}

/// An instance in the hands of somebody who has not given it work yet; it is free again when this is dropped.
pub(crate) struct Place {
    pool: Weak<Pool>,
    instance: Option<Arc<Instance>>,
}

impl Place {
    /// The instance, for good.
    pub(crate) fn take(mut self) -> Option<Arc<Instance>> {
        self.instance.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (Some(instance), Some(pool)) = (self.instance.take(), self.pool.upgrade()) {
            pool.offer(instance, None);
        }
    }
}

impl Pool {
    /// A pool without instances. To be called inside the runtime that outlives it.
    #[must_use]
    pub fn new(context: &Arc<Context>, spec: Spec) -> Self {
        Self {
            context: Arc::clone(context),
            spec,
            places: Mutex::default(),
            prepared: OnceCell::new(),
            own_template: Mutex::default(),
            changed: Notify::new(),
            runtime: Handle::current(),
        }
    }

    /// Finds the program and starts `scale.min` instances, which are kept up from now on; returns when they are ready.
    ///
    /// # Errors
    /// Why an instance does not start, or could not.
    pub async fn warm(self: &Arc<Self>) -> Result<(), Error> {
        self.prepared().await?;
        let missing = {
            let mut places = self.places.lock();
            places.kept = true;
            let min = if places.draining { 0 } else { self.min() };
            places.missing(min)
        };
        let starts: Vec<_> = (0..missing)
            .map(|_| self.runtime.spawn(Arc::clone(self).start(true)))
            .collect();
        for start in starts {
            if let Ok(Err(failure)) = start.await {
                return Err(super::reply::start_failure(&self.spec, &failure));
            }
        }
        Ok(())
    }

    /// What it says about itself.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let (all, starts, failures, ended) = {
            let places = self.places.lock();
            let (starts, failures) = (places.starts, places.failures);
            (places.instances(), starts, failures, places.ended)
        };
        PoolStats {
            instances: all.iter().map(|instance| instance.stat()).collect(),
            starts,
            failures,
            ended,
            ..PoolStats::default()
        }
    }

    /// Takes no more work, waits up to `grace` for what runs, then kills what is left.
    pub async fn drain(&self, grace: Duration) {
        let idle = {
            let mut places = self.places.lock();
            places.draining = true;
            places.waiting.clear();
            std::mem::take(&mut places.idle)
        };
        idle.iter()
            .for_each(|instance| instance.retire(Reason::Spindown));
        if let Some(kind) = self.own_template.lock().take() {
            self.context.templates.forget(&kind);
        }
        tokio::select! {
            () = self.empty() => return,
            () = self.context.clock.sleep(grace) => {}
        }
        let left = self.places.lock().instances();
        left.iter()
            .for_each(|instance| instance.retire(Reason::Spindown));
        tokio::select! {
            () = self.empty() => {}
            () = self.context.clock.sleep(KILL_PATIENCE) => {}
        }
    }

    async fn empty(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.places.lock().live == 0 {
                return;
            }
            changed.await;
        }
    }

    /// The limits of each instance, and how they are enforced.
    #[must_use]
    pub fn limits(&self) -> Vec<Enforced> {
        self.context.limits_of(&self.spec.workload)
    }

    /// The program and its folder, found once.
    pub(crate) async fn prepared(&self) -> Result<&Prepared, Error> {
        self.prepared
            .get_or_try_init(|| prepared::prepare(&self.context, &self.spec))
            .await
    }

    /// What its handlers are told that they run on, once that was looked for.
    pub(crate) fn execution_env(&self) -> Option<&str> {
        self.prepared.get()?.execution_env.as_deref()
    }

    /// A free instance, now or when there is one; the cold start is noted on `meter`.
    pub(crate) async fn place(
        self: &Arc<Self>,
        invocation: &Invocation,
        meter: &Meter,
    ) -> Result<Place, StartFailure> {
        let (grant, caused) = {
            let mut places = self.places.lock();
            if places.draining {
                return Err(gone(&self.spec).into());
            }
            if let Some(instance) = places.idle.pop() {
                return Ok(self.hold(instance));
            }
            let (sender, receiver) = oneshot::channel();
            places.waiting.push_back(Waiter { grant: sender });
            (receiver, self.scale_up(&mut places))
        };
        let asked = self.context.clock.monotonic();
        let granted = self.wait(grant, invocation.deadline).await?;
        let waited = self.context.clock.monotonic() - asked;
        match granted.fresh {
            Some(phases) => {
                let wait = waited.saturating_sub(phases.total());
                meter.cold_start(ColdStart { wait, ..phases });
            }
            None if caused => meter.cold_start(ColdStart {
                wait: waited,
                ..ColdStart::default()
            }),
            None => {}
        }
        Ok(granted.place)
    }

    async fn wait(
        self: &Arc<Self>,
        mut grant: oneshot::Receiver<Result<Grant, StartFailure>>,
        deadline: Instant,
    ) -> Result<Grant, StartFailure> {
        let clock = &self.context.clock;
        let left = deadline.saturating_duration_since(clock.monotonic());
        let (late, hesitate) = (clock.sleep(left), clock.sleep(HESITATION));
        tokio::pin!(late, hesitate);
        let mut hesitated = false;
        loop {
            tokio::select! {
                granted = &mut grant => return granted.unwrap_or_else(|_| Err(gone(&self.spec).into())),
                () = &mut late => {
                    let message = "no instance was free before the deadline";
                    return Err(Error::new(code::DEADLINE_PASSED, message).into());
                }
                () = &mut hesitate, if !hesitated => {
                    hesitated = true;
                    let mut places = self.places.lock();
                    places.soon.clear();
                    self.scale_up(&mut places);
                    self.end_silent(&places);
                }
            }
        }
    }

    /// Starts what those who wait need; whether that was anything.
    fn scale_up(self: &Arc<Self>, places: &mut Places) -> bool {
        let max = usize::try_from(self.spec.workload.scale.max.max(1)).unwrap_or(usize::MAX);
        let wanted = if places.draining {
            0
        } else {
            places.wanted(max, starts_at_once(), self.concurrency())
        };
        for _ in 0..wanted {
            self.runtime.spawn(Arc::clone(self).start(false));
        }
        wanted > 0
    }

    /// One start that `Places` has counted as begun, and what follows from it.
    async fn start(self: Arc<Self>, ahead: bool) -> Result<(), StartFailure> {
        match start::start(&self, ahead).await {
            Ok(started) => {
                self.places
                    .lock()
                    .started(started.instance.presence.instance);
                self.offer(started.instance, Some(started.phases));
                Ok(())
            }
            Err(failure) => {
                let mut places = self.places.lock();
                places.start_failed();
                while let Some(waiter) = places.waiting.pop_front() {
                    if waiter.grant.send(Err(failure.clone())).is_ok() {
                        break;
                    }
                }
                self.scale_up(&mut places);
                self.keep_up(&mut places);
                drop(places);
                self.changed.notify_waiters();
                Err(failure)
            }
        }
    }

    /// An instance is free: for whoever has waited longest, or for later.
    pub(crate) fn offer(self: &Arc<Self>, instance: Arc<Instance>, fresh: Option<ColdStart>) {
        let mut places = self.places.lock();
        places.soon.retain(|id| *id != instance.presence.instance);
        if places.draining {
            drop(places);
            return instance.retire(Reason::Spindown);
        }
        let mut place = self.hold(instance);
        while let Some(waiter) = places.waiting.pop_front() {
            match waiter.grant.send(Ok(Grant { place, fresh })) {
                Ok(()) => return,
                Err(Ok(grant)) => place = grant.place,
                Err(Err(_)) => return,
            }
        }
        places.idle.extend(place.take());
        if !std::mem::replace(&mut places.reaping, true) {
            self.runtime.spawn(reap(
                Arc::downgrade(self),
                self.context.clock.clone(),
                self.idle_limit(),
            ));
        }
    }

    /// An instance has answered, and will ask for more at once.
    pub(crate) fn answered(&self, instance: &Instance) {
        self.places.lock().soon.push(instance.presence.instance);
    }

    /// An instance no longer asks for so much work; returns how many places of it nobody had yet.
    pub(crate) fn withdraw(self: &Arc<Self>, instance: &Instance, count: usize) -> usize {
        let mut places = self.places.lock();
        let withdrawn = places.take_back(instance, count);
        self.scale_up(&mut places);
        withdrawn
    }

    /// Invocations that an instance works on at the same time.
    pub(crate) fn concurrency(&self) -> usize {
        usize::try_from(self.spec.workload.scale.concurrency.max(1)).unwrap_or(usize::MAX)
    }

    /// There is one more process.
    pub(crate) fn enlist(&self, instance: &Arc<Instance>) {
        self.places.lock().enlist(Arc::clone(instance));
    }

    /// A process has ended; `unasked` when nobody had wanted that.
    pub(crate) fn gone(self: &Arc<Self>, instance: &Instance, unasked: bool) {
        let lived = self.context.clock.now().since(instance.since());
        let mut places = self.places.lock();
        places.gone(instance, lived, unasked);
        self.scale_up(&mut places);
        self.keep_up(&mut places);
        drop(places);
        self.changed.notify_waiters();
    }

    /// Starts what is missing of `scale.min`, the later the more often it has failed.
    fn keep_up(self: &Arc<Self>, places: &mut Places) {
        if !places.kept || places.draining {
            return;
        }
        let missing = places.missing(self.min());
        let failed = places.failed_in_a_row;
        for _ in 0..missing {
            let pool = Arc::clone(self);
            self.runtime.spawn(async move {
                if failed > 0 {
                    let pause = Duration::from_secs(1 << failed.min(6)).min(LONGEST_PAUSE);
                    pool.context.clock.sleep(pause).await;
                }
                pool.start(true).await
            });
        }
    }

    /// Kills instances that have answered, or hung up, and not asked for work for longer than the timeout: whatever
    /// they do instead, it was not asked for, and they hold a place.
    fn end_silent(&self, places: &Places) {
        let now = self.context.clock.now();
        for instance in places.instances() {
            if instance
                .silent_since()
                .is_some_and(|since| since + self.spec.workload.timeout <= now)
            {
                instance
                    .logs
                    .note("asked for no more work: killed".to_owned());
                instance.retire(Reason::Failure);
            }
        }
    }

    fn hold(self: &Arc<Self>, instance: Arc<Instance>) -> Place {
        Place {
            pool: Arc::downgrade(self),
            instance: Some(instance),
        }
    }

    /// Runs a task that may outlive whoever causes it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    fn min(&self) -> usize {
        let scale = &self.spec.workload.scale;
        usize::try_from(scale.min.min(scale.max)).unwrap_or(usize::MAX)
    }

    fn idle_limit(&self) -> Duration {
        self.spec.workload.scale.idle.max(Duration::from_millis(1))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.places
            .get_mut()
            .instances()
            .iter()
            .for_each(|instance| instance.kill());
    }
}

/// Stops what has idled for longer than `limit` beyond `scale.min`, until nothing is left to stop.
async fn reap(pool: Weak<Pool>, clock: model::Clock, limit: Duration) {
    let mut until = clock.now() + limit;
    loop {
        clock.sleep_until(until).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut places = pool.places.lock();
        let now = clock.now();
        let spare = places
            .live
            .saturating_sub(if places.kept { pool.min() } else { 0 });
        let stopped = places.take_idle(spare, now, limit);
        pool.end_silent(&places);
        let oldest = places.idle.iter().find_map(|i| i.idle_since());
        until = oldest
            .map(|since| since + limit)
            .filter(|due| *due > now)
            .unwrap_or(now + limit);
        places.reaping = places.live > 0 && !places.draining;
        let done = !places.reaping;
        drop(places);
        for instance in stopped {
            instance.logs.note(format!(
                "idle for {}: stopped",
                model::units::display_duration(limit)
            ));
            instance.retire(Reason::Spindown);
        }
        if done {
            return;
        }
    }
}

fn gone(spec: &Spec) -> Error {
    Error::new(
        code::WORKLOAD_GONE,
        format!("`{}` is being stopped", spec.workload.name),
    )
}

/// Starts at the same time: more would only make each of them slower, and those that are ready first can serve.
fn starts_at_once() -> usize {
    // To look for it is to read files of control groups.
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = || std::thread::available_parallelism().map_or(2, usize::from);
    (CORES.get_or_init(cores) * 4).max(8)
}
