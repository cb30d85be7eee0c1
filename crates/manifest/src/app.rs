//! The whole manifest: its app, its workloads, its gateway and its hosts.

use std::collections::BTreeMap;

use model::{App, Name, WorkloadName};

use crate::{
    bridges, databases, keys, outside,
    places::Draft,
    reader::{Fields, Reader, shown},
    reconcile, retention, routes,
    tree::{Bytes, Key, Node},
    workload,
};

/// Keys of the manifest.
pub(crate) const KEYS: &[&str] = &[
    "app",
    "workloads",
    "subscriptions",
    "keys",
    "bridges",
    "gateway",
    "hosts",
    "databases",
    "reconcile",
    "events",
    "workflows",
];
/// Keys of `gateway`.
pub(crate) const GATEWAY_KEYS: &[&str] = &["routes"];
/// Keys of the design that this version does not run: they are known, and not offered.
pub(crate) const LATER: &[&str] = &["workflows"];
/// Keys with any of which an app needs no workloads.
const BUS_ALONE: &[&str] = &["subscriptions", "keys", "bridges"];
/// Names that mean something else where workloads are named.
const RESERVED: &[&str] = &["events", "inbox", "kv", "projections", "streams"];

pub(crate) fn read(reader: &mut Reader<'_>, root: &Node) -> Draft {
    let mut draft = Draft {
        app: App {
            name: Name::literal("app"),
            workloads: BTreeMap::new(),
            routes: Vec::new(),
            hosts: BTreeMap::new(),
            databases: BTreeMap::new(),
            reconcile: BTreeMap::new(),
            keys: BTreeMap::new(),
            retention: None,
            contracts: BTreeMap::new(),
        },
        declared: Vec::new(),
        workloads: BTreeMap::new(),
        routes: Vec::new(),
        hosts: BTreeMap::new(),
        databases: BTreeMap::new(),
        reconcile: BTreeMap::new(),
    };
    let start = Bytes { start: 0, end: 1 };
    let Some(fields) = reader.fields(root, start, KEYS) else {
        return draft;
    };
    if let Some(name) = app_name(reader, fields) {
        draft.app.name = name;
    }
    read_workloads(reader, fields, &mut draft);
    if let Some(node) = fields.get("subscriptions") {
        outside::read(reader, node, &mut draft);
    }
    if let Some(node) = fields.get("bridges") {
        bridges::read(reader, node, &mut draft);
    }
    if let Some(node) = fields.get("keys") {
        keys::read(reader, node, &mut draft);
    }
    if let Some((key, gateway)) = fields.entry("gateway") {
        read_gateway(reader, key, gateway, &mut draft);
    }
    if let Some(hosts) = fields.get("hosts") {
        read_hosts(reader, hosts, &mut draft);
    }
    if let Some(node) = fields.get("databases") {
        databases::read(reader, node, &mut draft);
    }
    if let Some(node) = fields.get("reconcile") {
        reconcile::read(reader, node, &mut draft);
    }
    if let Some((key, node)) = fields.entry("events") {
        draft.app.retention = retention::read(reader, key.at, node);
    }
    if let Some((key, _)) = fields.entry("workflows") {
        later(reader, key.at, "workflows");
    }
    draft
}

/// Notes a word of the design that this version does not run.
pub(crate) fn later(reader: &mut Reader<'_>, at: Bytes, word: &str) {
    reader
        .error(
            at,
            format!("`{word}` is not run by this version of Tangelo"),
        )
        .help("the word is taken for a later version; leave it out for now");
}

fn app_name(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<Name> {
    let node = fields.required(reader, "app", "app: shop")?;
    let text = reader.string(node, "the name of the app")?;
    if text == "aws" {
        reader
            .error(node.at, "`aws` is the app of what AWS SDKs create")
            .help("choose another name");
    }
    reader.name(node.at, &text)
}

fn read_workloads(reader: &mut Reader<'_>, fields: Fields<'_>, draft: &mut Draft) {
    let example = "workloads: {hello: {as: function, run: {wasm: {component: hello.wasm}}}}";
    // The bus alone is an app, too: others publish, others subscribe.
    let alone = BUS_ALONE.iter().any(|key| fields.get(key).is_some());
    let node = match fields.get("workloads") {
        None if alone => return,
        _ => fields.required(reader, "workloads", example),
    };
    let Some(node) = node else {
        return;
    };
    let entries = reader.entries(node, "workloads by name");
    draft.declared = entries.iter().map(|(key, _)| key.text.clone()).collect();
    for (key, node) in entries {
        let name = workload_name(reader, key);
        let (workload, places) = workload::read(reader, key.at, node, name.clone());
        if let Some(name) = name {
            draft.app.workloads.insert(name.clone(), workload);
            draft.workloads.insert(name, places);
        }
    }
}

pub(crate) fn workload_name(reader: &mut Reader<'_>, key: &Key) -> Option<WorkloadName> {
    if RESERVED.contains(&key.text.as_str()) {
        reader
            .error(key.at, format!("`{}` cannot name a workload", key.text))
            .help(
                "`events`, `inbox`, `kv`, `projections` and `streams` are the platform's own on the mesh; choose another name",
            );
    }
    if key.text.starts_with("tangelo") {
        reader
            .error(
                key.at,
                format!("`{}` cannot name a workload", shown(&key.text)),
            )
            .help("names that begin with `tangelo` would clash with the variables `TANGELO_…`");
    }
    reader.name(key.at, &key.text)
}

fn read_gateway(reader: &mut Reader<'_>, key: &Key, node: &Node, draft: &mut Draft) {
    let Some(fields) = reader.fields(node, key.at, GATEWAY_KEYS) else {
        return;
    };
    let example = "routes: [{path: /hello, to: hello}]";
    let Some(list) = fields.required(reader, "routes", example) else {
        return;
    };
    for node in reader.list(list, "routes") {
        if let Some((route, places)) = routes::read(reader, node) {
            draft.app.routes.push(route);
            draft.routes.push(places);
        }
    }
}

fn read_hosts(reader: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    for (key, target) in reader.entries(node, "workloads by host name") {
        reader.host(key.at, &key.text);
        let Some(text) = reader.string(target, "the name of a workload") else {
            continue;
        };
        if let Some(name) = reader.name(target.at, &text) {
            let host = key.text.to_ascii_lowercase();
            draft.hosts.insert(host.clone(), target.at);
            draft.app.hosts.insert(host, name);
        }
    }
}
