//! What all pools share: what they are made from, what they need, and what they say about themselves.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use model::{
    AppName, Clock, Code, Error, Ids, InstanceId, Invocation, Limits, Name, Namespace, Run, Time,
    VersionId, Workload, code,
};
use serde::Serialize;

use crate::{
    call::{Input, Ran},
    container, external,
    host::Host,
    lambda,
    launcher::{self, Enforced, Launcher},
    process, wasm, webhook,
};

/// One version of a workload, ready to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Where its name lives.
    pub namespace: Namespace,
    /// Its app.
    pub app: AppName,
    /// What the manifest says of it.
    pub workload: Workload,
    /// The hash of artifact and spec: pools, compiled code and instances are keyed by it.
    pub version: VersionId,
    /// The unpacked artifact; the paths in `workload.run` are relative to it. Read-only by convention.
    pub folder: PathBuf,
    /// Host names fixed in old code that its app answers for.
    pub hosts: Vec<String>,
    /// A folder of the workload's own that outlives instances and versions, when its manifest asks for one.
    pub state_folder: Option<PathBuf>,
}

/// What every pool needs of its surroundings.
pub struct Context {
    /// The platform above.
    pub host: Arc<dyn Host>,
    /// The clock.
    pub clock: Clock,
    /// Where ids come from.
    pub ids: Ids,
    /// The limits.
    pub limits: Limits,
    /// What starts processes.
    pub launcher: Launcher,
    /// What starts containers.
    pub engine: container::Engine,
    /// A folder for what can be made again: compiled code, bootstraps.
    pub cache: PathBuf,
    /// Warm templates of Lambda runtimes.
    pub templates: lambda::Templates,
    /// What waits for the next instances of Lambda handlers.
    pub berths: lambda::Berths,
}

impl Context {
    /// What holds of a workload's limits on this machine. Of a container engine that was not asked yet, nothing does.
    pub(crate) fn limits_of(&self, workload: &Workload) -> Vec<Enforced> {
        let by = match workload.run {
            Run::Container { .. } => self.engine.facts().map(|facts| facts.enforcement),
            _ => Some(self.launcher.enforcement()),
        };
        let by = by.unwrap_or_default();
        by.of(&launcher::Limits::of(workload))
    }
}

/// What a pool says about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PoolStats {
    /// Its instances.
    pub instances: Vec<InstanceStat>,
    /// Instances started since the pool was made.
    pub starts: u64,
    /// Starts that failed and instances that died.
    pub failures: u64,
    /// Instances that failed their liveness probe and were replaced.
    pub replaced: u64,
    /// The last start that failed, or instance that died or was replaced; `None` where there was none.
    pub last_failure: Option<Failure>,
    /// What those used that are not there any more.
    pub ended: Ended,
}

/// What ended instances of a pool used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Ended {
    /// How many they were.
    pub instances: u64,
    /// How long they were there together, in microseconds.
    pub lived_us: u64,
    /// Their user and system time in microseconds, as far as it was seen: not that of the last moment before a crash.
    pub cpu_us: u64,
}

impl Ended {
    /// One more has ended.
    pub(crate) fn add(&mut self, lived: Duration, cpu: Duration) {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.instances += 1;
        self.lived_us = self.lived_us.saturating_add(micros(lived));
        self.cpu_us = self.cpu_us.saturating_add(micros(cpu));
    }
}

/// Why an instance is not there any more, or never was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When that was.
    pub at: Time,
    /// The error's code.
    pub code: Code,
    /// The same in words.
    pub message: String,
}

/// What a pool says about one instance.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceStat {
    /// Its id.
    pub instance: InstanceId,
    /// What it does.
    pub state: InstanceState,
    /// Its process, where it is one.
    pub pid: Option<u32>,
    /// When it was started.
    pub since: Time,
    /// Requests that it works on.
    pub in_flight: u32,
    /// Resident bytes, where known; else 0.
    pub memory: u64,
    /// User and system time since its start in microseconds, where known; else 0.
    pub cpu_us: u64,
    /// What it last answered to a probe that it fails, while it does.
    pub problem: Option<String>,
    /// Its ports on loopback beside `$PORT`, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, u16>,
}

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Not ready yet.
    Starting,
    /// Started, and not ready for requests: its readiness probe fails.
    Unready,
    /// Ready, with nothing to do.
    Idle,
    /// Working.
    Busy,
    /// Finishing what it has, taking nothing new.
    Draining,
}

/// Makes pools. One per server, cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    context: Arc<Context>,
    wasm: Arc<wasm::Engine>,
    endpoints: Arc<webhook::Endpoints>,
}

impl Runtime {
    /// A runtime in its surroundings.
    ///
    /// # Errors
    /// When this machine cannot host Wasm at all.
    pub fn new(context: Context) -> Result<Self, Error> {
        let wasm = wasm::Engine::new(wasm::Options {
            places: context.limits.wasm_guests,
            memory: context.limits.wasm_memory.0,
            preview3: context.limits.wasi_preview3,
            ..wasm::Options::default()
        })?;
        // No instance of this server is there yet, so what is there is an earlier one's.
        if let Err(error) = lambda::sweep(&context.cache) {
            tracing::warn!(%error, "the folders of earlier instances cannot be removed");
        }
        Ok(Self {
            context: Arc::new(context),
            wasm,
            endpoints: Arc::default(),
        })
    }

    /// What warm templates have done, and how many wait.
    #[must_use]
    pub fn templates(&self) -> lambda::TemplateStats {
        self.context.templates.stats()
    }

    /// Removes compiled code that none of the component files `kept` needs, and says how many files that were. Blocks:
    /// each component is read.
    ///
    /// # Errors
    /// When the cache cannot be read or written.
    pub fn sweep_compiled(&self, kept: &[PathBuf]) -> std::io::Result<usize> {
        self.wasm.sweep(&self.context.cache, kept)
    }

    /// What the pool of all Wasm guests holds.
    #[must_use]
    pub fn wasm_totals(&self) -> wasm::Totals {
        self.wasm.totals()
    }

    /// A pool that has done nothing yet.
    #[must_use]
    pub fn pool(&self, spec: Spec) -> Pool {
        let context = &self.context;
        match &spec.workload.run {
            Run::Wasm { .. } => Pool::Wasm(Arc::new(wasm::Pool::new(context, &self.wasm, spec))),
            Run::Lambda { .. } => Pool::Lambda(Arc::new(lambda::Pool::new(context, spec))),
            Run::Process { .. } | Run::Container { .. } => {
                Pool::Process(process::Pool::new(context, spec))
            }
            Run::External { .. } => Pool::External(external::Pool::new(context, spec)),
            Run::Pull(_) | Run::Kafka(_) => Pool::Pull,
            Run::Webhook(webhook) => {
                let webhook = webhook.clone();
                Pool::Webhook(webhook::Pool::new(context, &self.endpoints, webhook, spec))
            }
        }
    }
}

/// The instances of one version of a workload, by the runtime it asks for.
pub enum Pool {
    /// Components in this process.
    Wasm(Arc<wasm::Pool>),
    /// Handlers that poll.
    Lambda(Arc<lambda::Pool>),
    /// Programs that listen, as processes or in containers.
    Process(Arc<process::Pool>),
    /// What someone else runs.
    External(Arc<external::Pool>),
    /// An endpoint outside that gets events.
    Webhook(Arc<webhook::Pool>),
    /// Somebody outside who comes for events, or a bridge: nothing here runs for them.
    Pull,
}

/// What is said of an instance that the system ended for its need of memory.
pub(crate) fn out_of_memory(workload: &Workload) -> Error {
    let message = format!(
        "an instance of `{}` needed more than its {} of memory and was ended",
        workload.name, workload.memory
    );
    Error::new(code::INSTANCE_MEMORY, message)
}

fn pulled() -> Error {
    let message = "somebody comes for these events: nothing is invoked";
    Error::new(code::INPUT_NOT_SUPPORTED, message)
}

impl Pool {
    /// Whether it takes an invocation now, beside what limits its workload; each is to be given back by [`Pool::leave`].
    ///
    /// # Errors
    /// Why not, and when to ask again.
    pub fn enter(&self) -> Result<(), Error> {
        match self {
            Self::Webhook(pool) => pool.enter(),
            _ => Ok(()),
        }
    }

    /// An invocation that entered has ended, or never began.
    pub fn leave(&self) {
        if let Self::Webhook(pool) = self {
            pool.leave();
        }
    }

    /// Runs one invocation that was admitted.
    pub async fn invoke(&self, invocation: Arc<Invocation>, input: Input) -> Ran {
        match self {
            Self::Wasm(pool) => pool.invoke(invocation, input).await,
            Self::Lambda(pool) => pool.invoke(invocation, input).await,
            Self::Process(pool) => pool.invoke(invocation, input).await,
            Self::External(pool) => pool.invoke(invocation, input).await,
            Self::Webhook(pool) => Box::pin(pool.invoke(invocation, input)).await,
            Self::Pull => Ran::failed(pulled(), Arc::default()),
        }
    }

    /// What a Lambda handler is told that it runs on (`AWS_Lambda_python3.13`), once that was looked for.
    #[must_use]
    pub fn execution_env(&self) -> Option<&str> {
        match self {
            Self::Lambda(pool) => pool.execution_env(),
            _ => None,
        }
    }

    /// Loads code and starts what the workload keeps even when idle; returns when a request would be served.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn warm(&self) -> Result<(), Error> {
        match self {
            Self::Wasm(pool) => pool.ready().await,
            Self::Lambda(pool) => pool.warm().await,
            Self::Process(pool) => pool.warm().await,
            Self::External(pool) => pool.warm().await,
            Self::Webhook(pool) => pool.warm().await,
            Self::Pull => Ok(()),
        }
    }

    /// What it says about itself.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        match self {
            Self::Wasm(pool) => pool.stats(),
            Self::Lambda(pool) => pool.stats(),
            Self::Process(pool) => pool.stats(),
            Self::External(pool) => pool.stats(),
            Self::Webhook(pool) => pool.stats(),
            Self::Pull => PoolStats::default(),
        }
    }

    /// The limits of each instance, and how this machine enforces them; none where others run the code, or where it
    /// runs in this process.
    #[must_use]
    pub fn limits(&self) -> Vec<Enforced> {
        match self {
            Self::Lambda(pool) => pool.limits(),
            Self::Process(pool) => pool.limits(),
            Self::Wasm(_) | Self::External(_) | Self::Webhook(_) | Self::Pull => Vec::new(),
        }
    }

    /// Ends every instance: waits for their work up to `grace`, then kills them.
    pub async fn drain(&self, grace: Duration) {
        match self {
            Self::Wasm(pool) => pool.drain(grace).await,
            Self::Lambda(pool) => pool.drain(grace).await,
            Self::Process(pool) => pool.drain(grace).await,
            Self::External(pool) => pool.drain(grace).await,
            Self::Webhook(pool) => pool.drain(grace).await,
            Self::Pull => {}
        }
    }
}
