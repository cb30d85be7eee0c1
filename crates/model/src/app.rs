//! What a deployment describes: one app with its workloads, routes and subscriptions, checked and resolved.
//!
//! Not the manifest: `manifest` reads what people write and makes this. Stored in every revision as JSON, so a
//! field is only ever added, with a default.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    database::Database,
    deferred::Deferred,
    keyvalue::Access,
    name::{AppName, Name, WorkloadName},
    outside::{AccessKey, Kafka, Pulled, Webhook},
    probes::Probes,
    reconcile::Reconciliation,
    retention::Retention,
    scale::Scale,
    subscription::Subscription,
    units::ByteSize,
};

/// The unit of deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// Its workloads by name.
    pub workloads: BTreeMap<WorkloadName, Workload>,
    /// What the gateway serves for it, in the order of the manifest (order does not decide: the most specific wins).
    pub routes: Vec<Route>,
    /// Host names fixed in old code → the workload that answers for them.
    #[serde(default)]
    pub hosts: BTreeMap<String, WorkloadName>,
    /// Databases that it owns, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<Name, Database>,
    /// What is to be the same in two places, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reconcile: BTreeMap<Name, Reconciliation>,
    /// What those outside may do with its bus, by the names of their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<Name, AccessKey>,
    /// How long the log keeps its events; `None`: as is usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The files of the folder `contracts`, by their paths in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contracts: BTreeMap<String, String>,
}

/// Which side of the boundary a workload is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Billed per call; to zero by default.
    Function,
    /// Billed per instance-second; kept at one by default.
    Service,
    /// Runs to completion.
    Job,
}

impl Tier {
    /// `function`, `service` or `job`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Service => "service",
            Self::Job => "job",
        }
    }
}

/// A named piece of code and what it may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name in the app.
    pub name: WorkloadName,
    /// Function, service or job.
    pub tier: Tier,
    /// How its code runs.
    pub run: Run,
    /// How many instances, and how many requests each.
    pub scale: Scale,
    /// The path that answers 2xx when an instance has started and is alive; `None`: `probes` says how it is asked.
    #[serde(default)]
    pub health: Option<String>,
    /// How its instances are asked, where `health` is not one path for all; empty: whether the port accepts.
    #[serde(default, skip_serializing_if = "Probes::is_empty")]
    pub probes: Probes,
    /// The team that answers for it.
    #[serde(default)]
    pub owner: Option<String>,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Memory of one instance.
    pub memory: ByteSize,
    /// What else one instance may take.
    #[serde(default, skip_serializing_if = "InstanceLimits::is_open")]
    pub limits: InstanceLimits,
    /// The largest request body it takes.
    pub max_body: ByteSize,
    /// Variables of its environment that are not secret.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of the secrets that it may read; they arrive as variables of these names.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Workloads that it may call: `name` in its own app, or `app/name`.
    #[serde(default)]
    pub calls: Vec<String>,
    /// Event types that it may publish; a trailing `*` stands for any rest.
    #[serde(default)]
    pub publishes: Vec<String>,
    /// Hosts outside that it may reach.
    #[serde(default)]
    pub egress: Vec<Egress>,
    /// Whether it has a folder of its own that outlives instances (`TANGELO_STATE_DIR`).
    #[serde(default)]
    pub state_folder: bool,
    /// Buckets of its app that it may use, and how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<Name, Access>,
    /// Whether it may use the streams of its app, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Access>,
    /// What it reacts to.
    #[serde(default)]
    pub on: Vec<Subscription>,
    /// How its artifact is made; the server never runs this.
    #[serde(default)]
    pub build: Option<Build>,
    /// What its asynchronous invocations get.
    #[serde(default, skip_serializing_if = "Deferred::is_default")]
    pub deferred: Deferred,
}

impl Workload {
    /// How its instances are asked, whether that was said in short or in full.
    #[must_use]
    pub fn asked(&self) -> Probes {
        match &self.health {
            Some(path) => Probes::of_path(path),
            None => self.probes.clone(),
        }
    }
}

/// What one instance of a process or a handler may take, and is kept for it, beside its memory; `None`: as much as
/// there is, and nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceLimits {
    /// Thousandths of a CPU.
    pub cpu: Option<u32>,
    /// Processes and threads at the same time.
    pub processes: Option<u32>,
    /// Files that each of its processes may have open.
    pub files: Option<u32>,
    /// Thousandths of a CPU that are kept for it when there is not enough for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u32>,
}

impl InstanceLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.cpu.is_none()
            && self.processes.is_none()
            && self.files.is_none()
            && self.reserved.is_none()
    }
}

/// How code runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// A `wasi:http/proxy` component.
    Wasm {
        /// Path of the component, relative to the manifest.
        component: String,
        /// Whether its instances serve several requests; `None`: a fresh one for each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reuse: Option<Reuse>,
    },
    /// A Lambda handler, polled for through the Lambda Runtime API.
    Lambda {
        /// The language's bootstrap.
        runtime: LambdaRuntime,
        /// `file.function`; for `provided` whatever its bootstrap makes of it.
        handler: String,
        /// Folder (or file) of the code, relative to the manifest.
        code: String,
        /// How HTTP requests and replies are written for it.
        #[serde(default, skip_serializing_if = "LambdaPayload::is_default")]
        payload: LambdaPayload,
        /// What of an instance is made before it is needed.
        #[serde(default, skip_serializing_if = "LambdaTemplate::is_default")]
        template: LambdaTemplate,
    },
    /// A program that listens on `$PORT`.
    Process {
        /// Program and arguments; `./x` is relative to the manifest and part of the artifact.
        command: Vec<String>,
        /// More files and folders of the artifact, relative to the manifest.
        #[serde(default)]
        files: Vec<String>,
    },
    /// An image that a container engine of this machine runs, and that listens on `$PORT`.
    Container {
        /// `name:tag` or `name@sha256:…`.
        image: String,
        /// Program and arguments; empty: the image's own.
        #[serde(default)]
        command: Vec<String>,
        /// The user that it runs as, when not the image's.
        #[serde(default)]
        user: Option<String>,
        /// Volumes of the app by name, and where each is mounted.
        #[serde(default)]
        volumes: BTreeMap<String, String>,
        /// When the image is pulled.
        #[serde(default)]
        pull: Pull,
        /// Whether it can write to its own file system, beyond volumes and `/tmp`.
        #[serde(default)]
        writable: bool,
        /// Ports of its own beside `$PORT`, by name: the variable that says which one an instance has.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        ports: BTreeMap<Name, String>,
        /// Who one is to the image's registry; `None`: what the engine's user has logged in as.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login: Option<RegistryLogin>,
    },
    /// Someone else runs it.
    External {
        /// `http://` or `https://`, with an optional base path.
        url: String,
    },
    /// Events go to an endpoint outside: the target of a subscription, never written as a workload.
    Webhook(Webhook),
    /// Somebody outside comes for events: likewise.
    Pull(Pulled),
    /// Events go to somebody else's broker and come from it: a bridge, likewise.
    Kafka(Kafka),
}

impl Run {
    /// `wasm`, `lambda`, `process`, `container`, `external`, `webhook`, `pull` or `kafka`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Wasm { .. } => "wasm",
            Self::Lambda { .. } => "lambda",
            Self::Process { .. } => "process",
            Self::Container { .. } => "container",
            Self::External { .. } => "external",
            Self::Webhook(_) => "webhook",
            Self::Pull(_) => "pull",
            Self::Kafka(_) => "kafka",
        }
    }
}

/// Who one is to a registry of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The user, or the name of a robot or token.
    pub user: String,
    /// The secret that holds the password.
    pub password: String,
}

/// How long an instance of a component is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    /// Requests that it serves at most; 1 or more.
    pub requests: u32,
    /// How long it waits for the next one.
    pub idle: Duration,
    /// Requests that it serves at the same time; more than 1 only in WASI 0.3.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub concurrent: u32,
}

const fn one() -> u32 {
    1
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_one(number: &u32) -> bool {
    *number == 1
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When it is not on the machine.
    #[default]
    Missing,
    /// Before the first instance of a version, each time the server has started.
    Always,
    /// Never: it is put there by somebody else.
    Never,
}

/// The bootstraps that Lambda handlers run under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LambdaRuntime {
    /// The machine's `python3` with Tangelo's bootstrap.
    Python3,
    /// The machine's `node` with Tangelo's bootstrap.
    Nodejs,
    /// An executable `bootstrap` in the code folder that speaks the Runtime API itself.
    Provided,
}

/// Which of AWS's front doors a handler is written for: the format of its HTTP events and replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LambdaPayload {
    /// An HTTP API of API Gateway, or a function URL: payload format 2.0.
    #[default]
    Http,
    /// A REST API of API Gateway: payload format 1.0.
    Rest,
    /// An Application Load Balancer.
    Alb,
    /// An Application Load Balancer with multi-value headers on.
    AlbMultiValue,
}

/// What of an instance is made before it is needed, so that its start need not: a warm template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LambdaTemplate {
    /// Nothing: every instance is a process of its own from its first instruction.
    Off,
    /// The language's interpreter and the bootstrap.
    #[default]
    Runtime,
    /// The handler's module, too: what it does while it is imported is done once for many instances. Python only.
    Handler,
}

impl LambdaTemplate {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl LambdaPayload {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A host outside that a workload may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// `api.example.com`, `*.example.com`, or an address; private and link-local ones must be written out.
    pub host: String,
    /// Only this port; `None`: 80 and 443.
    #[serde(default)]
    pub port: Option<u16>,
}

/// How an artifact is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Build {
    /// `cargo build --target wasm32-wasip2` of a package.
    Rust {
        /// Folder of the package, relative to the manifest.
        package: String,
    },
    /// componentize-js.
    Js {
        /// The module, relative to the manifest.
        source: String,
    },
    /// componentize-py.
    Python {
        /// The folder of the app, relative to the manifest.
        source: String,
        /// The module to componentize.
        module: String,
    },
    /// A command of the user's.
    Command {
        /// Program and arguments, run in the manifest's folder.
        command: Vec<String>,
        /// Files and folders whose change makes it run again.
        inputs: Vec<String>,
        /// What it makes.
        output: String,
    },
}

/// One entry of the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Only for this host (`shop.example.com`, `*.example.com`); `None`: any.
    #[serde(default)]
    pub host: Option<String>,
    /// `/exact`, `/prefix/*`, `/with/{parameter}`.
    pub path: String,
    /// Upper-case methods; empty: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Who answers.
    pub to: RouteTarget,
    /// Workloads asked first, in order: each continues (adding headers and a principal) or answers itself.
    #[serde(default)]
    pub before: Vec<Before>,
    /// The path that the workload sees: may use `{parameter}` and `*`; `None`: as it came.
    #[serde(default)]
    pub rewrite: Option<String>,
    /// Shorter than the workload's own timeout, if given.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// Smaller than the workload's own limit, if given.
    #[serde(default)]
    pub max_body: Option<ByteSize>,
    /// Commit the request, answer 202 with a status URL, and work later.
    #[serde(default)]
    pub asynchronous: bool,
    /// An URL that gets the result of asynchronous work by POST.
    #[serde(default)]
    pub callback: Option<String>,
}

/// Who answers a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteTarget {
    /// A workload of the same app.
    Workload(WorkloadName),
    /// The bus: the body is CloudEvents to publish.
    Events,
}

/// A workload asked before a route's target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The workload.
    pub workload: WorkloadName,
    /// How long its answer holds for the same credentials (`Authorization` and `Cookie`).
    #[serde(default)]
    pub cache: Option<Duration>,
}
