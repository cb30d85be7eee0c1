//! Wasm functions: unmodified `wasi:http/proxy` 0.2 components in this process, a fresh instance per request unless the
//! manifest allows them to be used again. Those of WASI 0.3 go another way (`preview3`).
//!
//! No task is spawned for a request: the guest's future is polled by the request's own task, first by
//! [`Pool::invoke`] until the guest has set its response, then by the body of that response. A guest that works for
//! longer than a millisecond yields to the other requests of its thread, and those of one workload wait for each other
//! there (`turns`). What one guest does harms no other.

mod cache;
mod code;
mod config;
mod dial;
mod engine;
mod exports;
#[cfg(test)]
mod exports_law;
mod fault;
mod flood;
mod guest;
mod imports;
mod keyvalue;
mod native;
mod outbound;
mod output;
mod place;
mod preview3;
mod request;
mod response;
mod reuse;
mod run;
mod ticker;
mod totals;
mod turns;
mod world;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Response;
use model::{ColdStart, Error, Invocation, Reuse, Run as RunSpec, Time, code as codes};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};

use self::{
    code::{Code, Pre, Slot},
    guest::Guest,
    place::Place,
    reuse::{Instance, Shelf},
    run::{Run, Running, before_deadline},
    turns::Turns,
};
pub use self::{
    engine::{Engine, EngineStats, KEPT_WARM, Options},
    totals::{Totals, Used},
    world::not_concurrent,
};
use crate::{
    body::Body,
    call::{Input, Meter, Ran},
    host::{LogStream, Presence},
    pool::{Context, InstanceStat, InstanceState, PoolStats, Spec},
};

/// How often a drain looks whether all guests have ended.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// One version of a Wasm workload. Its code is loaded on first use.
pub struct Pool {
    ctx: Arc<Context>,
    engine: Arc<Engine>,
    /// Places of the engine that its guests may have: however many wait for one here, others do not wait behind them.
    share: Arc<Semaphore>,
    turns: Turns,
    spec: Spec,
    /// One identity for all instances: a guest that lives for one request needs no token of its own.
    presence: Arc<Presence>,
    slot: Slot,
    /// How often an instance may be used again; `None`: never.
    reuse: Option<Reuse>,
    shelf: Shelf,
    preview3: preview3::Shelf,
    /// Where code is loaded: the request that causes a load may come from a runtime that ends earlier.
    runtime: Handle,
    born: Instant,
    since: Time,
    in_flight: AtomicU32,
    cut: watch::Sender<bool>,
    /// Bytes of memory and tables of all its guests.
    memory: AtomicU64,
    starts: AtomicU64,
    failures: AtomicU64,
    flood: flood::Flood,
}

impl Pool {
    /// A pool that has done nothing yet. To be called inside the runtime that outlives it.
    #[must_use]
    pub fn new(ctx: &Arc<Context>, engine: &Arc<Engine>, spec: Spec) -> Self {
        let presence = Presence::new(
            ctx.ids.instance(&ctx.clock),
            spec.namespace.clone(),
            spec.app.clone(),
            spec.workload.name.clone(),
            spec.version,
        );
        let reuse = match spec.workload.run {
            RunSpec::Wasm { reuse, .. } => reuse,
            _ => None,
        };
        Self {
            reuse,
            shelf: Shelf::default(),
            preview3: preview3::Shelf::default(),
            born: ctx.clock.monotonic(),
            since: ctx.clock.now(),
            ctx: Arc::clone(ctx),
            share: Arc::new(Semaphore::new(engine.share())),
            turns: Turns::default(),
            engine: Arc::clone(engine),
            spec,
            presence: Arc::new(presence),
            slot: Slot::default(),
            runtime: Handle::current(),
            in_flight: AtomicU32::new(0),
            cut: watch::Sender::new(false),
            memory: AtomicU64::new(0),
            starts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            flood: flood::Flood::new(ctx.clock.monotonic()),
        }
    }

    /// Runs one invocation that was admitted: to the head of its response here, to its end in the body.
    pub async fn invoke(self: &Arc<Self>, invocation: Arc<Invocation>, input: Input) -> Ran {
        let meter = Arc::new(Meter::default());
        match self.respond(invocation, input, &meter).await {
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

    /// Loads the code, so that the first request need not; what goes wrong is logged.
    pub async fn warm(self: &Arc<Self>) {
        if let Err(error) = self.ready().await {
            self.log(None, LogStream::Platform, error.to_string());
        }
    }

    /// Loads the code and says whether it can serve.
    ///
    /// # Errors
    /// `BAD_COMPONENT` when it never will; others when trying again may help.
    pub async fn ready(self: &Arc<Self>) -> Result<(), Error> {
        self.code().await.map(drop)
    }

    /// What it says about itself: all its guests count as one instance.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let in_flight = self.in_flight.load(Relaxed);
        let state = match self.slot.get() {
            Some(Ok(_)) if in_flight > 0 => Some(InstanceState::Busy),
            Some(Ok(_)) => Some(InstanceState::Idle),
            Some(Err(_)) => None,
            None => self.slot.is_loading().then_some(InstanceState::Starting),
        };
        let instance = state.map(|state| InstanceStat {
            instance: self.presence.instance,
            state,
            pid: None,
            since: self.since,
            in_flight,
            memory: self.memory.load(Relaxed),
            cpu_us: 0,
            problem: None,
            ports: std::collections::BTreeMap::new(),
        });
        PoolStats {
            instances: instance.into_iter().collect(),
            starts: self.starts.load(Relaxed),
            failures: self.failures.load(Relaxed),
            ..PoolStats::default()
        }
    }

    /// Waits up to `grace` for the guests to end, then cuts off those that remain, and any that come later.
    pub async fn drain(&self, grace: Duration) {
        let until = self.ctx.clock.monotonic() + grace;
        while self.in_flight.load(Relaxed) > 0 && self.ctx.clock.monotonic() < until {
            self.ctx.clock.sleep(DRAIN_STEP).await;
        }
        self.cut.send_replace(true);
        self.shelf.clear();
    }

    /// Counts `bytes` of memory and tables more; `false`, and nothing, when there is no room for them.
    fn take_memory(&self, bytes: u64) -> bool {
        let before = self.memory.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= self.engine.memory_share()
            && self.engine.take_memory(bytes);
        if !fits {
            self.memory.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    /// `bytes` of them are free again.
    fn give_memory_back(&self, bytes: u64) {
        self.memory.fetch_sub(bytes, Relaxed);
        self.engine.give_memory_back(bytes);
    }

    fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// Resolves when the guests are cut off.
    async fn until_cut(&self) {
        let mut cut = self.cut.subscribe();
        cut.wait_for(|cut| *cut)
            .await
            .expect("the sender is in this pool");
    }

    async fn respond(
        self: &Arc<Self>,
        invocation: Arc<Invocation>,
        input: Input,
        meter: &Arc<Meter>,
    ) -> Result<Response<Body>, Error> {
        let (code, mut cold) = match self.slot.get() {
            Some(done) => (done.clone()?, ColdStart::default()),
            None => before_deadline(self, &invocation, self.code())
                .await
                .unwrap_or_else(|| Err(self.too_late()))?,
        };
        if let Pre::Three(_) = code.pre {
            let asked = (invocation, input);
            return Box::pin(preview3::respond(self, code, cold, asked, meter)).await;
        }
        let kept = self.kept();
        let (instance, place) = match kept {
            Some((instance, place)) => (Some(instance), place),
            None => (None, self.place(&invocation, &code, &mut cold).await?),
        };
        let run = Run::new(self, code, invocation, meter, &input);
        let instance = match instance {
            Some(mut instance) => {
                Guest::adopt(&mut instance.store, &run);
                instance
            }
            None => Instance {
                store: Guest::store(&run),
                proxy: None,
                served: 0,
            },
        };
        let start = request::start(&run, instance, input, cold)?;
        let mut running = Running::new(&run, start, place);
        let head = poll_fn(|cx| running.poll_head(cx)).await?;
        response::response(head, running)
    }

    async fn place(
        &self,
        invocation: &Invocation,
        code: &Code,
        cold: &mut ColdStart,
    ) -> Result<Place, Error> {
        if let Some(full) = self.engine.refuses(self.memory.load(Relaxed)) {
            return Err(full);
        }
        if let Some(place) = Place::now(self, code.weight) {
            return Ok(place);
        }
        let begun = self.ctx.clock.monotonic();
        let place = before_deadline(self, invocation, Place::wait(self, code.weight))
            .await
            .ok_or_else(|| {
                let message = format!(
                    "`{}/{}` found no place: too many Wasm guests are alive",
                    self.spec.app, self.spec.workload.name
                );
                Error::new(codes::START_FAILED, message).retry_after(engine::PLACES_TAKEN)
            })?;
        cold.wait += self.ctx.clock.monotonic().saturating_duration_since(begun);
        Ok(place)
    }

    fn too_late(&self) -> Error {
        let message = format!(
            "`{}/{}` was still being compiled when the deadline passed",
            self.spec.app, self.spec.workload.name
        );
        Error::new(codes::WORKLOAD_TIMEOUT, message)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if matches!(self.slot.get(), Some(Ok(_))) {
            self.ctx.host.leave(self.presence.instance);
        }
    }
}
