//! The JSON Schema of the manifest, for editors.
//!
//! These types exist only for their shape and their descriptions: reading is done by hand, for the sake of spans and of
//! reporting all mistakes. A test holds the keys of both together.

#![allow(dead_code, reason = "the types are never made, only described")]

mod bridges;
mod databases;
mod health;
mod outside;
mod reconcile;
mod retention;
mod run;
mod scale;
mod state;
mod subscription;

use std::collections::BTreeMap;

use health::Health;
use run::Run;
use scale::{Limits, Reserve, Scale};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};
use subscription::Subscription;

/// The JSON Schema (draft 7, which editors' YAML plugins speak) of `tangelo.yaml`.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema: Value = generator.into_root_schema_for::<Manifest>().into();
    join_lines(&mut schema);
    describe_variants(&mut schema);
    schema
}

/// Editors show the description of a key, so that of a variant with one key goes there too.
fn describe_variants(schema: &mut Value) {
    match schema {
        Value::Object(variant) => {
            variant.values_mut().for_each(describe_variants);
            let description = variant.get("description").cloned();
            let properties = variant.get_mut("properties").and_then(Value::as_object_mut);
            if let (Some(description), Some(properties)) = (description, properties)
                && properties.len() == 1
                && let Some(property) = properties.values_mut().next()
                && property.get("description").is_none()
            {
                *property = json!({"description": description, "allOf": [property.take()]});
            }
        }
        Value::Array(items) => items.iter_mut().for_each(describe_variants),
        _ => {}
    }
}

/// Editors show descriptions as they are: the line breaks of doc comments are not meant.
fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(join_lines);
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

/// A Tangelo app: its workloads, what its gateway serves, and the host names it answers for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "tangelo.yaml")]
struct Manifest {
    /// Name of the app: 1 to 63 of a-z, 0-9 and `-`, beginning with a letter.
    #[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    app: String,
    /// The workloads by name. Other workloads, routes and environment variables use these names. An app that has `subscriptions`, `keys` or `bridges` needs none.
    workloads: Option<BTreeMap<String, Workload>>,
    /// Events for those outside, by name: webhooks, and what somebody comes for.
    subscriptions: Option<BTreeMap<String, outside::OutsideSubscription>>,
    /// Bridges to other people's brokers, by name.
    bridges: Option<BTreeMap<String, bridges::Bridge>>,
    /// What those outside may do with the bus, by the names of their keys.
    keys: Option<BTreeMap<String, outside::AccessKey>>,
    /// What clients reach.
    gateway: Option<Gateway>,
    /// Host names fixed in old code, each with the workload that answers for it.
    hosts: Option<BTreeMap<String, String>>,
    /// Databases that the app owns, by name, and what Tangelo takes from them.
    databases: Option<BTreeMap<String, databases::Database>>,
    /// What is to be the same in two places, by name.
    reconcile: Option<BTreeMap<String, reconcile::Reconciliation>>,
    /// The events that the app publishes.
    events: Option<retention::Events>,
}

/// A named piece of code and what it may do.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Workload {
    /// `function`: billed per call, to zero when idle. `service`: always on.
    r#as: Tier,
    /// How its code runs: exactly one of `wasm`, `lambda`, `process`, `container` or `external`.
    run: Run,
    /// How its artifact is made; runs when its inputs changed, and never on a server.
    build: Option<Build>,
    /// How many instances, and how many requests each.
    scale: Option<Scale>,
    /// A path that answers 2xx when an instance has started and is alive, or the probes apart. Without it: started when the port accepts. Only `process`, `container` and `external`.
    health: Option<Health>,
    /// The team that answers for it.
    owner: Option<String>,
    /// How long one invocation may take: `10s`, `5m`. Functions 30s, services 60s unless given.
    timeout: Option<Duration>,
    /// Memory of one instance: `128MiB`. Functions 128MiB, services 512MiB unless given.
    memory: Option<Size>,
    /// What else one instance may take. Only `process`, `lambda` and `container`.
    limits: Option<Limits>,
    /// What is kept for one instance when there is not enough for all. Only `process`, `lambda` and `container`.
    reserve: Option<Reserve>,
    /// Largest request body. `lambda` 6MiB, others 100MiB unless given.
    max_body: Option<Size>,
    /// Variables of its environment that are not secret.
    env: Option<BTreeMap<String, EnvValue>>,
    /// Names of the secrets that it may read; they arrive as variables of these names.
    secrets: Option<Vec<String>>,
    /// Workloads that it may call: `name`, or `app/name` for another app's.
    calls: Option<Vec<String>>,
    /// Event types that it may publish; a trailing `*` stands for any rest.
    publishes: Option<Vec<String>>,
    /// Hosts outside that it may reach: `api.example.com`, `*.example.com`, `10.0.0.5:5432`. Ports 80 and 443 unless given.
    egress: Option<Vec<Egress>>,
    /// What it keeps: `folder` is a folder of its own that outlives instances (`TANGELO_STATE_DIR`), `kv` a bucket of keys
    /// and values that it may use.
    state: Option<Vec<state::State>>,
    /// The events that it reacts to.
    on: Option<Vec<Subscription>>,
    /// What its asynchronous invocations get: those of routes with `async: true`, and AWS's `Event`.
    r#async: Option<Async>,
}

/// How often asynchronous invocations are tried, and who learns how they ended.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Async {
    /// Attempts after the first. 2 unless given.
    #[schemars(range(max = 2))]
    retries: Option<u32>,
    /// The oldest one may get before it is given up, up to 6h. 6h unless given.
    max_age: Option<Duration>,
    /// The longest wait before the second attempt, 100ms to 1h; twice that before the third. 1m unless given.
    backoff: Option<Duration>,
    /// Who gets the record of one that was done: a workload, or `events`.
    on_success: Option<String>,
    /// Who gets the record of one that was given up: a workload, or `events`.
    on_failure: Option<String>,
}

/// Which side of the boundary a workload is on.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Tier {
    /// Billed per call; to zero by default.
    Function,
    /// Billed per instance-second; kept at one by default.
    Service,
}

/// A host outside.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Egress {
    /// `host` or `host:port`.
    Text(String),
    /// The same in two words.
    Map(EgressHost),
}

/// A host and a port.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EgressHost {
    /// `api.example.com`, `*.example.com` or an address; private and link-local ones must be written out.
    host: String,
    /// Only this port; 80 and 443 unless given.
    #[schemars(range(min = 1, max = 65_535))]
    port: Option<u16>,
}

/// How an artifact is made: a named builder, or a command.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Build {
    /// A builder of Tangelo's that makes a component.
    Named(Builder),
    /// A command of your own.
    Command(BuildCommand),
}

/// A builder that makes a component.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Builder {
    /// `cargo build --release --target wasm32-wasip2`.
    Rust(BuildRust),
    /// componentize-js, installed when missing.
    Js(BuildJs),
    /// componentize-py, installed when missing.
    Python(BuildPython),
}

/// A Rust package.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BuildRust {
    /// Folder of the package, relative to the manifest.
    package: String,
}

/// A JavaScript module.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BuildJs {
    /// The module, relative to the manifest. What it imports beside it counts as input too.
    source: String,
}

/// A Python app.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BuildPython {
    /// The folder of the app, relative to the manifest.
    source: String,
    /// The module in it that exports the handler.
    module: String,
}

/// A command that makes an artifact.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BuildCommand {
    /// Program and arguments, run in the manifest's folder.
    #[schemars(length(min = 1))]
    command: Vec<EnvValue>,
    /// Files and folders whose change makes it run again.
    #[schemars(length(min = 1))]
    inputs: Vec<String>,
    /// The file or folder that it makes.
    output: String,
}

/// What clients reach.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Gateway {
    /// The routes; the most specific that matches wins, whatever their order.
    routes: Vec<Route>,
}

/// One route.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Route {
    /// Only for this host: `shop.example.com`, `*.example.com`.
    host: Option<String>,
    /// `/exact`, `/prefix/*` or `/with/{parameter}`.
    #[schemars(regex(pattern = "^/"))]
    path: String,
    /// Methods, in capitals; all unless given.
    #[schemars(length(min = 1))]
    methods: Option<Vec<Method>>,
    /// The workload that answers, or `events`: the body is CloudEvents to publish.
    to: String,
    /// Workloads asked first, in order: each continues (adding headers and a principal) or answers itself.
    before: Option<Vec<Before>>,
    /// The path that the workload sees; may use `{parameter}` and `*` of `path`.
    rewrite: Option<String>,
    /// Shorter than the workload's own timeout.
    timeout: Option<Duration>,
    /// Smaller than the workload's own limit.
    max_body: Option<Size>,
    /// Commit the request, answer 202 with a status URL, and work later.
    r#async: Option<bool>,
    /// An URL that gets the result of asynchronous work by POST.
    callback: Option<String>,
}

/// An HTTP method.
#[derive(JsonSchema)]
#[schemars(rename_all = "UPPERCASE")]
enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
}

/// A workload asked before a route's target.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Before {
    /// Its name.
    Name(String),
    /// Its name with settings.
    Settings(BTreeMap<String, BeforeSettings>),
}

/// How a workload is asked.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BeforeSettings {
    /// How long its answer holds for the same request: `Authorization`, `Cookie`, method, host, path and query.
    cache: Duration,
}

/// A text; numbers and booleans are taken as they are written.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum EnvValue {
    /// A text.
    Text(String),
    /// A number, as it is written.
    Number(f64),
    /// A boolean, as it is written.
    Flag(bool),
}

/// A whole number with ms, s, m, h or d: `10s`.
#[derive(JsonSchema)]
struct Duration(#[schemars(regex(pattern = r"^[0-9]+ *(ms|s|m|h|d)$"))] String);

/// A whole number of bytes, or one with KiB, MiB or GiB: `128MiB`.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Size {
    /// With a unit.
    Text(#[schemars(regex(pattern = r"^[0-9]+ *(B|KB|MB|GB|KiB|MiB|GiB)?$"))] String),
    /// Bytes.
    Bytes(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app, bridges, container, databases, deferred, health, keys, outside, reconcile, retention,
        routes, run, scale, subscriptions, terms, workload,
    };

    #[test]
    fn every_key_has_a_description() {
        fn walk(place: &str, schema: &Value) {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (key, property) in properties.into_iter().flatten() {
                assert!(property.get("description").is_some(), "{place}.{key}");
            }
            match schema {
                Value::Object(fields) => fields
                    .iter()
                    .for_each(|(key, inner)| walk(&format!("{place}.{key}"), inner)),
                Value::Array(items) => items.iter().for_each(|inner| walk(place, inner)),
                _ => {}
            }
        }
        walk("", &schema());
    }

    #[test]
    fn reader_and_schema_know_the_same_keys() {
        let schema = schema();
        let check = |definition: &str, keys: &[&str]| {
            let at = match definition {
                "" => &schema,
                name => &schema["definitions"][name],
            };
            let properties = at["properties"].as_object().expect(definition);
            let mut described: Vec<_> = properties.keys().map(String::as_str).collect();
            let mut read = keys.to_vec();
            // Editors are not to offer what is refused.
            read.retain(|key| !app::LATER.contains(key));
            described.sort_unstable();
            read.sort_unstable();
            assert_eq!(described, read, "{definition}");
        };
        check("", app::KEYS);
        check("Gateway", app::GATEWAY_KEYS);
        check("Workload", workload::KEYS);
        check("Scale", scale::KEYS);
        check("ScaleOn", scale::ON_KEYS);
        check("Limits", scale::LIMITS_KEYS);
        check("Reserve", scale::RESERVE_KEYS);
        check("Probes", health::KEYS);
        check("ProbeSettings", health::PROBE_KEYS);
        check("EgressHost", workload::EGRESS_KEYS);
        check("KvState", crate::state::BUCKET_KEYS);
        check("StreamsState", crate::state::STREAMS_KEYS);
        check("KvBucket", crate::state::KV_KEYS);
        check("Wasm", run::WASM_KEYS);
        check("Reuse", run::REUSE_KEYS);
        check("Lambda", run::LAMBDA_KEYS);
        check("Process", run::PROCESS_KEYS);
        check("External", run::EXTERNAL_KEYS);
        check("Container", container::KEYS);
        check("RegistryLogin", container::LOGIN_KEYS);
        check("BuildRust", run::RUST_KEYS);
        check("BuildJs", run::JS_KEYS);
        check("BuildPython", run::PYTHON_KEYS);
        check("BuildCommand", &run::BUILDS[3..]);
        check("Subscription", subscriptions::KEYS);
        check("OutsideSubscription", outside::KEYS);
        check("Bridge", bridges::KEYS);
        check("Kafka", bridges::KAFKA_KEYS);
        check("KafkaTls", bridges::TLS_KEYS);
        check("KafkaLogin", bridges::LOGIN_KEYS);
        check("KafkaIn", bridges::IN_KEYS);
        check("KafkaOut", bridges::OUT_KEYS);
        check("PulledEvents", outside::PULL_KEYS);
        check("AccessKey", keys::KEYS);
        check("Webhook", outside::WEBHOOK_KEYS);
        check("Breaker", outside::BREAKER_KEYS);
        check("Retry", subscriptions::RETRY_KEYS);
        check("Order", terms::ORDER_KEYS);
        check("Batch", terms::BATCH_KEYS);
        check("Projection", terms::PROJECTION_KEYS);
        check("Input", terms::INPUT_KEYS);
        check("Async", deferred::KEYS);
        check("Database", databases::KEYS);
        check("Sqlite", databases::SQLITE_KEYS);
        check("Postgres", databases::POSTGRES_KEYS);
        check("Outbox", databases::OUTBOX_KEYS);
        check("Capture", databases::CAPTURE_KEYS);
        check("Events", retention::KEYS);
        check("Retention", retention::RETENTION_KEYS);
        check("Reconciliation", reconcile::KEYS);
        check("Source", reconcile::SOURCE_KEYS);
        check("Query", reconcile::QUERY_KEYS);
        check("Asked", reconcile::WORKLOAD_KEYS);
        check("AskedProjection", reconcile::PROJECTION_KEYS);
        check("Route", routes::KEYS);
        check("BeforeSettings", routes::BEFORE_KEYS);
    }
}
