//! The words of `run`: what the JSON Schema says of each way to run code.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{Duration, EnvValue};

/// How code runs.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Run {
    /// A WebAssembly component with the world `wasi:http/proxy` 0.2 or, where the server's setting `wasi_preview3` allows
    /// it, `wasi:http/service` 0.3.
    Wasm(Wasm),
    /// An unmodified AWS Lambda handler.
    Lambda(Lambda),
    /// A program that listens on `$PORT`.
    Process(Process),
    /// An image that this machine's container engine runs, and that listens on `$PORT`.
    Container(Container),
    /// Someone else runs it (services only).
    External(External),
}

/// A WebAssembly component.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Wasm {
    /// Path of the component, relative to the manifest.
    component: String,
    /// Lets an instance serve several requests, and remember what it has. Without it every request gets a fresh
    /// instance.
    reuse: Option<Reuse>,
}

/// How long an instance of a component is used.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Reuse {
    /// Requests that it serves at most. 128 unless given.
    #[schemars(range(min = 1, max = 1_000_000))]
    requests: Option<u32>,
    /// How long it waits for the next one. 10s unless given.
    idle: Option<Duration>,
    /// Requests that it serves at the same time. 1 unless given, which is all that WASI 0.2 can do.
    #[schemars(range(min = 1, max = 1000))]
    concurrent: Option<u32>,
}

/// A Lambda handler.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Lambda {
    /// What runs the handler: the machine's `python3` or `node` with Tangelo's bootstrap, or the code's own `bootstrap`.
    runtime: Runtime,
    /// `file.function`: `app.handler` is `handler` in app.py or app.mjs.
    handler: String,
    /// Folder (or file) of the code, relative to the manifest.
    code: String,
    /// Which of AWS's front doors the handler is written for: the format of its HTTP events and replies. `http` unless
    /// given.
    payload: Option<Payload>,
    /// What of an instance is made before it is needed, so that a cold start need not. `runtime` unless given.
    template: Option<Template>,
}

/// What a warm template holds.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Template {
    /// Nothing: every instance boots.
    Off,
    /// The interpreter and Tangelo's bootstrap.
    Runtime,
    /// The handler's module, too: what it does while it is imported happens once for many instances. Python only.
    Handler,
}

/// The formats of HTTP events and replies.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Payload {
    /// An HTTP API of API Gateway, or a function URL: payload format 2.0.
    Http,
    /// A REST API of API Gateway: payload format 1.0.
    Rest,
    /// An Application Load Balancer.
    Alb,
    /// An Application Load Balancer with multi-value headers on.
    AlbMultiValue,
}

/// The bootstraps that Lambda handlers run under.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Runtime {
    /// The machine's `python3` with Tangelo's bootstrap.
    Python3,
    /// The machine's `node` with Tangelo's bootstrap.
    Nodejs,
    /// An executable `bootstrap` in the code folder that speaks the Runtime API itself.
    Provided,
}

/// A program that listens on `$PORT`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Process {
    /// Program and arguments. Words that begin with `./`, or that name a file beside the manifest, are part of the app.
    #[schemars(length(min = 1))]
    command: Vec<EnvValue>,
    /// More files and folders that it needs, relative to the manifest.
    files: Option<Vec<String>>,
}

/// An image that this machine's container engine runs.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Container {
    /// `name:tag` or `name@sha256:…`. All instances of a version run what the tag names when the first of them starts.
    image: String,
    /// Program and arguments; the image's own unless given.
    #[schemars(length(min = 1))]
    command: Option<Vec<EnvValue>>,
    /// The user that it runs as: `name`, `1000` or `1000:1000`. The image's unless given.
    user: Option<EnvValue>,
    /// Volumes that outlive instances, by name, and where each is mounted: `data: /var/lib/data`.
    volumes: Option<BTreeMap<String, String>>,
    /// Ports beside `$PORT`, another one for each instance: their names (`[metrics]`, told as `$PORT_METRICS`), or names and the variables that tell them
    /// (`{metrics: METRICS_PORT}`).
    ports: Option<Ports>,
    /// Who one is to the image's registry.
    login: Option<RegistryLogin>,
    /// When the image is pulled. `missing` unless given.
    pull: Option<Pull>,
    /// `true`: it can write to its own file system, and not only to volumes and `/tmp`. `false` unless given.
    writable: Option<bool>,
}

/// Ports beside `$PORT`.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Ports {
    /// Their names.
    Names(#[schemars(length(max = 16))] Vec<String>),
    /// Their names, and the variables that tell them.
    Variables(BTreeMap<String, Option<String>>),
}

/// A user of a registry.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RegistryLogin {
    /// The user, or the name of a robot or token.
    user: String,
    /// The name of the secret that holds the password.
    password: String,
}

/// When an image is pulled.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Pull {
    /// When it is not on the machine.
    Missing,
    /// Before the first instance of a version, each time the server has started.
    Always,
    /// Never: somebody else puts it there.
    Never,
}

/// A service that someone else runs.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct External {
    /// `http://` or `https://`, with an optional base path.
    url: String,
}
