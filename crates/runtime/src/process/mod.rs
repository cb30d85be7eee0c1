//! Processes and containers that listen on `$PORT`: started, watched, scaled and replaced, and requests spread over them.
//!
//! The books (`book`) say who is there and decide; the pool acts on what they decide, on a signal and on a timer; one
//! task per instance (`life`) owns its process. No request is lost between them: it has a place, or waits for one
//! until its deadline, or is refused with the reason.

mod book;
mod child;
mod clock;
mod environment;
mod instance;
mod life;
mod logs;
mod measure;
mod place;
mod ports;
mod probe;
mod reconcile;
mod requests;
mod watching;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use model::{Error, Invocation, Probes, Workload};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, OnceCell, watch},
};

use crate::{
    call::{Input, Meter, Ran},
    launcher::Enforced,
    pool::{Context, Ended, Failure, InstanceStat, InstanceState, PoolStats, Spec},
};
use book::{Book, Standing};
pub(crate) use clock::cpu_time;
use instance::{Instance, Order};
pub use measure::{Measured, measure};
use place::Waiter;

/// How patient a pool is with its instances, beside what their probes say.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From being asked to end to being killed.
    pub patience: Duration,
    /// How long an instance that has started may be not ready for requests before who waits for the least of the pool
    /// is told.
    pub unready: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            unready: Duration::from_secs(60),
        }
    }
}

/// The instances of one version of a `process` or `container` workload.
pub struct Pool {
    ctx: Arc<Context>,
    spec: Arc<Spec>,
    probes: Arc<Probes>,
    pace: Pace,
    runtime: Handle,
    book: Mutex<Book<Arc<Instance>, Waiter>>,
    last_failure: Mutex<Option<Failure>>,
    /// What those used that are not in the books any more.
    gone: Mutex<Ended>,
    numbers: AtomicU64,
    /// The id of the image, once it is known, where instances are containers.
    image: Arc<OnceCell<String>>,
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
            book: Mutex::new(Book::new(spec.workload.scale, quota(&spec.workload))),
            probes: Arc::new(spec.workload.asked()),
            last_failure: Mutex::default(),
            gone: Mutex::default(),
            spec: Arc::new(spec),
            pace,
            runtime: Handle::current(),
            numbers: AtomicU64::new(0),
            image: Arc::default(),
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
                let now = self.ctx.clock.monotonic();
                if let Some(error) = book.refusal(now) {
                    return Err(error);
                }
                let unready = book.unready_since();
                if unready.is_some_and(|since| now >= since + self.pace.unready) {
                    return Err(self.unready_error(&book));
                }
            }
            self.wake.notify_one();
            let _ = news.changed().await;
        }
    }

    /// What it says about itself. Reads `/proc` for every instance.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let (members, mut stats) = {
            let book = self.book.lock();
            let members = book.members().iter();
            let members = members.map(|m| (Arc::clone(&m.handle), stat(m)));
            let members: Vec<_> = members.collect();
            let stats = PoolStats {
                instances: Vec::with_capacity(members.len()),
                starts: book.starts,
                failures: book.failures,
                replaced: book.replaced,
                last_failure: self.last_failure.lock().clone(),
                ended: *self.gone.lock(),
            };
            (members, stats)
        };
        for (instance, stat) in members {
            let used = instance.measured();
            stats.instances.push(InstanceStat {
                memory: used.memory,
                cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
                ..stat
            });
        }
        stats
    }

    /// The limits of each instance, and how they are enforced.
    #[must_use]
    pub fn limits(&self) -> Vec<Enforced> {
        self.ctx.limits_of(&self.spec.workload)
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
            Standing::Unready(_) => InstanceState::Unready,
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
        cpu_us: 0,
        problem: instance.problem.lock().clone(),
        ports: instance.ports.lock().clone(),
    }
}

/// Thousandths of a CPU that an instance may use, as far as its load is measured by that: one CPU unless it is limited.
fn quota(workload: &Workload) -> u32 {
    workload.limits.cpu.unwrap_or(1000)
}
