//! One workload: what is given, what is assumed, and what does not go together.

use std::{collections::BTreeMap, time::Duration};

use model::{
    Build, ByteSize, Deferred, Egress, InstanceLimits, Name, Probes, Run, Scale, Tier, Workload,
    WorkloadName,
};

use crate::{
    app::later,
    deferred, health,
    paths::{is_host, split_port},
    places::WorkloadPlaces,
    reader::{Fields, Reader, shown},
    run,
    scalars::is_variable,
    scale, state, subscriptions,
    tree::{Bytes, Node, Value},
};

/// Keys of a workload.
pub(crate) const KEYS: &[&str] = &[
    "as",
    "run",
    "build",
    "scale",
    "health",
    "owner",
    "timeout",
    "memory",
    "limits",
    "reserve",
    "max_body",
    "env",
    "secrets",
    "calls",
    "publishes",
    "egress",
    "state",
    "on",
    "async",
];
/// Keys of an entry of `egress`.
pub(crate) const EGRESS_KEYS: &[&str] = &["host", "port"];

/// Reads one workload. Without a name (that was noted) it is read for its mistakes alone.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    name: Option<WorkloadName>,
) -> (Workload, WorkloadPlaces) {
    let mut places = WorkloadPlaces {
        name: at,
        ..WorkloadPlaces::default()
    };
    let name = name.unwrap_or_else(|| Name::literal("unnamed"));
    let placeholder = assumed(
        name.clone(),
        Tier::Function,
        Run::External { url: String::new() },
        reader,
    );
    let Some(fields) = reader.fields(node, at, KEYS) else {
        return (placeholder, places);
    };
    let tier = read_tier(reader, fields);
    let run = run::read_run(reader, fields, &mut places);
    if let (Some(tier), Some(run)) = (tier, &run) {
        check_together(reader, fields, tier, run);
    }
    let known = run.is_some();
    let run = run.unwrap_or(placeholder.run);
    let mut workload = assumed(name, tier.unwrap_or(Tier::Function), run, reader);
    read_limits(reader, fields, &mut workload, &mut places);
    read_rights(reader, fields, &mut workload, &mut places);
    if let Some((key, node)) = fields.entry("build") {
        workload.build = run::read_build(reader, key, node);
        if known {
            check_build(reader, key.at, &workload);
        }
    }
    if let Some((key, node)) = fields.entry("async") {
        workload.deferred = deferred::read(reader, key.at, node, &mut places);
    }
    if let Some(node) = fields.get("on") {
        workload.on = subscriptions::read(reader, node, &mut places);
    }
    if let (Some(scale), None) = (fields.get("scale"), fields.get("on"))
        && workload.scale.on.backlog.is_some()
    {
        let message = "`backlog` follows subscriptions, and this workload has none";
        reader.error(scale.at, message).help(
            "`on: [{event: …}]` of the workload subscribes it; `scale.on` says what is counted",
        );
    }
    (workload, places)
}

fn read_tier(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<Tier> {
    let node = fields.required(reader, "as", "as: function")?;
    if matches!(&node.value, Value::Text(text) if text == "job") {
        later(reader, node.at, "job");
        return None;
    }
    match reader.word(node, &["function", "service"])? {
        "function" => Some(Tier::Function),
        _ => Some(Tier::Service),
    }
}

/// A workload with everything that the manifest leaves out (docs/manifest.md has the table).
pub(crate) fn assumed(name: WorkloadName, tier: Tier, run: Run, reader: &Reader<'_>) -> Workload {
    let limits = reader.limits();
    let function = tier == Tier::Function;
    let max_body = match run {
        Run::Lambda { .. } => limits.sync_payload,
        _ => limits.request_body,
    };
    Workload {
        name,
        tier,
        scale: assumed_scale(tier, &run),
        run,
        health: None,
        probes: Probes::default(),
        owner: None,
        timeout: Duration::from_secs(if function { 30 } else { 60 }),
        memory: ByteSize::mib(if function { 128 } else { 512 }),
        limits: InstanceLimits::default(),
        max_body,
        env: BTreeMap::new(),
        secrets: Vec::new(),
        calls: Vec::new(),
        publishes: Vec::new(),
        egress: Vec::new(),
        state_folder: false,
        buckets: BTreeMap::new(),
        streams: None,
        on: Vec::new(),
        build: None,
        deferred: Deferred::default(),
    }
}

fn assumed_scale(tier: Tier, run: &Run) -> Scale {
    let concurrency = match run {
        Run::Lambda { .. } => 1,
        Run::Wasm { .. } => 64,
        Run::Process { .. } | Run::Container { .. } => 250,
        Run::External { .. } => 1_000,
        Run::Webhook(_) | Run::Pull(_) | Run::Kafka(_) => 64,
    };
    let (min, max, idle) = match tier {
        Tier::Function => (0, 100, 300),
        Tier::Service | Tier::Job => (1, 1, 600),
    };
    Scale::by_requests(min, max, concurrency, Duration::from_secs(idle))
}

fn check_together(reader: &mut Reader<'_>, fields: Fields<'_>, tier: Tier, run: &Run) {
    let at = fields.get("as").map_or(fields.at, |node| node.at);
    match (tier, run) {
        (Tier::Service, Run::Lambda { .. }) => reader
            .error(at, "a `lambda` workload is a function")
            .expected("expected `function`")
            .help("a Lambda handler is polled for; `scale: {min: 1}` keeps one warm"),
        (Tier::Function, Run::External { .. }) => reader
            .error(at, "an `external` workload is a service")
            .expected("expected `service`")
            .help("someone else runs it, so that it cannot be scaled to zero here"),
        _ => {}
    }
    if matches!(run, Run::External { .. }) {
        refuse(
            reader,
            fields,
            &[
                "build",
                "memory",
                "limits",
                "reserve",
                "env",
                "secrets",
                "state",
                "calls",
                "publishes",
                "egress",
            ],
            "someone else runs an `external` workload",
        );
    }
    if matches!(run, Run::Wasm { .. } | Run::Lambda { .. }) {
        let why = "instances of `wasm` and `lambda` are ready when they have loaded";
        refuse(reader, fields, &["health"], why);
    }
    if matches!(run, Run::Wasm { .. }) {
        let why =
            "components have no processes and no files, and are bounded by `memory` and `timeout`";
        refuse(reader, fields, &["limits", "reserve"], why);
    }
}

fn refuse(reader: &mut Reader<'_>, fields: Fields<'_>, words: &[&str], why: &str) {
    for word in words {
        if let Some((key, _)) = fields.entry(word) {
            reader
                .error(key.at, format!("`{word}` means nothing here"))
                .help(why);
        }
    }
}

fn check_build(reader: &mut Reader<'_>, at: Bytes, workload: &Workload) {
    let makes_component = matches!(
        workload.build,
        Some(Build::Rust { .. } | Build::Js { .. } | Build::Python { .. })
    );
    if makes_component && !matches!(workload.run, Run::Wasm { .. }) {
        reader
            .error(
                at,
                format!(
                    "this builder makes a component, which `{}` does not run",
                    workload.run.kind()
                ),
            )
            .help("use `run: {wasm: {component: …}}`, or `build: {command, inputs, output}`");
    }
}

fn read_limits(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    workload: &mut Workload,
    places: &mut WorkloadPlaces,
) {
    let limits = *reader.limits();
    if let Some((key, node)) = fields.entry("scale") {
        scale::read(reader, key.at, node, workload);
    }
    if let Some((key, node)) = fields.entry("health") {
        health::read(reader, key.at, node, workload);
    }
    if let Some(node) = fields.get("owner") {
        workload.owner = reader.string(node, "the name of a team");
    }
    if let Some(node) = fields.get("timeout") {
        places.timeout = Some(node.at);
        let read = reader.duration(node, Duration::from_millis(1), limits.timeout);
        workload.timeout = read.unwrap_or(workload.timeout);
    }
    if let Some(node) = fields.get("memory") {
        let read = reader.size(node, ByteSize::mib(1), ByteSize::mib(1 << 20));
        workload.memory = read.unwrap_or(workload.memory);
    }
    if let Some((key, node)) = fields.entry("limits") {
        workload.limits = scale::read_limits(reader, key.at, node);
    }
    if let Some((key, node)) = fields.entry("reserve") {
        workload.limits.reserved = scale::read_reserve(reader, key.at, node);
        if let (Some(reserved), Some(limit)) = (workload.limits.reserved, workload.limits.cpu)
            && reserved > limit
        {
            reader
                .error(key.at, "more CPU is reserved than `limits` allows")
                .help("`reserve.cpu` must not be above `limits.cpu`");
        }
    }
    if let Some(node) = fields.get("max_body") {
        let most = match workload.run {
            Run::Lambda { .. } => limits.sync_payload,
            _ => ByteSize(u64::MAX),
        };
        let read = reader.size(node, ByteSize(1), most);
        workload.max_body = read.unwrap_or(workload.max_body);
    }
}

/// What the workload gets and may do.
fn read_rights(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    workload: &mut Workload,
    places: &mut WorkloadPlaces,
) {
    if let Some(node) = fields.get("env") {
        workload.env = read_env(reader, node);
    }
    if let Some(node) = fields.get("secrets") {
        workload.secrets = read_secrets(reader, node, &workload.env);
    }
    if let Run::Container { ports, .. } = &workload.run {
        for key in ["env", "secrets"] {
            let Some((entry, _)) = fields.entry(key) else {
                continue;
            };
            let is_there = |variable: &&String| match key {
                "env" => workload.env.contains_key(*variable),
                _ => workload.secrets.contains(variable),
            };
            for variable in ports.values().filter(is_there) {
                reader.error(
                    entry.at,
                    format!("`{variable}` is told by `ports` which port an instance has"),
                );
            }
        }
    }
    if let Some(node) = fields.get("calls") {
        for call in reader.strings(node, "workloads") {
            let names: Vec<_> = call.value.split('/').collect();
            let sound = names.len() <= 2
                && names
                    .iter()
                    .all(|name| reader.name(call.at, name).is_some());
            if names.len() > 2 {
                reader
                    .error(
                        call.at,
                        format!("`{}` is not a workload", shown(&call.value)),
                    )
                    .help("`name` of this app, or `app/name`");
            }
            if sound {
                places.calls.push(call.at);
                workload.calls.push(call.value);
            }
        }
    }
    if let Some(node) = fields.get("publishes") {
        workload.publishes = read_types(reader, node);
    }
    if let Some(node) = fields.get("egress") {
        let hosts = reader.list(node, "hosts");
        workload.egress = hosts
            .iter()
            .filter_map(|host| read_egress(reader, host))
            .collect();
    }
    if let Some(node) = fields.get("state") {
        for item in reader.list(node, "`folder`, `streams` and buckets") {
            state::read(reader, item, workload);
        }
    }
}

fn read_env(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (key, node) in reader.entries(node, "variables") {
        check_variable(reader, key.at, &key.text);
        let value = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => reader.raw(node).to_owned(),
            Value::Null => String::new(),
            _ => {
                reader.wrong(node, "expected a text");
                continue;
            }
        };
        if value.contains('\0') {
            reader.error(node.at, "a variable cannot hold a zero byte");
        }
        env.insert(key.text.clone(), value);
    }
    env
}

pub(crate) fn check_variable(reader: &mut Reader<'_>, at: Bytes, name: &str) {
    if !is_variable(name) {
        reader
            .error(
                at,
                format!("`{}` is not the name of a variable", shown(name)),
            )
            .help("A-Z, a-z, 0-9 and `_`, not beginning with a digit");
    }
    if name == "PORT" || name.starts_with("TANGELO_") {
        reader
            .error(at, format!("`{}` is set by Tangelo", shown(name)))
            .help("`PORT` and `TANGELO_…` are taken");
    }
}

fn read_secrets(
    reader: &mut Reader<'_>,
    node: &Node,
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut secrets = Vec::new();
    for secret in reader.strings(node, "secrets") {
        check_variable(reader, secret.at, &secret.value);
        if env.contains_key(&secret.value) {
            let message = format!("`{}` is in `env` already", shown(&secret.value));
            reader
                .error(secret.at, message)
                .help("a secret arrives as the variable of its name");
        }
        if secrets.contains(&secret.value) {
            reader.error(
                secret.at,
                format!("`{}` is given twice", shown(&secret.value)),
            );
        }
        secrets.push(secret.value);
    }
    secrets
}

pub(crate) fn read_types(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let types = reader.strings(node, "event types");
    let mut read = Vec::with_capacity(types.len());
    for kind in types {
        let stars = kind.value.matches('*').count();
        if stars > 1 || stars == 1 && !kind.value.ends_with('*') {
            reader
                .error(
                    kind.at,
                    format!("`{}` has a `*` before its end", shown(&kind.value)),
                )
                .help("a trailing `*` stands for any rest: `order.*`");
        }
        if kind.value.len() > model::event::MAX_ATTRIBUTE {
            reader.error(kind.at, "an event type is at most 1024 bytes");
        }
        read.push(kind.value);
    }
    read
}

/// `host`, `host:port`, or `{host, port}`.
pub(crate) fn read_egress(reader: &mut Reader<'_>, node: &Node) -> Option<Egress> {
    if !matches!(node.value, Value::Map(_)) {
        let text = reader.string(node, "a host")?;
        return split_egress(reader, node.at, &text);
    }
    let fields = reader.fields(node, node.at, EGRESS_KEYS)?;
    let host = fields.required(reader, "host", "host: api.example.com")?;
    let text = reader.string(host, "a host")?;
    let egress = split_egress(reader, host.at, &text)?;
    let port = fields
        .get("port")
        .and_then(|node| reader.number(node, 1..=65_535));
    let port = port.and_then(|port| u16::try_from(port).ok());
    if port.is_some() && egress.port.is_some() {
        reader.error(host.at, "the port is given twice");
    }
    Some(Egress {
        port: port.or(egress.port),
        ..egress
    })
}

fn split_egress(reader: &mut Reader<'_>, at: Bytes, text: &str) -> Option<Egress> {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    let address = |host: &str| {
        host.trim_matches(['[', ']'])
            .parse::<std::net::Ipv6Addr>()
            .is_ok()
    };
    let split = match address(bare) {
        true => Some((bare, None)),
        false => split_port(bare).filter(|(host, _)| is_host(host) || address(host)),
    };
    let Some((host, port)) = split else {
        reader
            .error(at, format!("`{}` is not a host", shown(text)))
            .help("`api.example.com`, `*.example.com` or `10.0.0.5:5432`, without scheme and path");
        return None;
    };
    let star = if bare.len() < text.len() { "*." } else { "" };
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    Some(Egress {
        host: format!("{star}{host}"),
        port,
    })
}
