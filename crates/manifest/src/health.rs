//! `health`: one path for all, or the start-up, the liveness and the readiness probe apart.

use std::time::Duration;

use model::{Probe, Probes, Run, Workload};

use crate::{
    reader::Reader,
    tree::{Bytes, Node, Value},
};

/// Keys of `health`.
pub(crate) const KEYS: &[&str] = &["startup", "liveness", "readiness"];
/// Keys of one probe.
pub(crate) const PROBE_KEYS: &[&str] = &["path", "interval", "timeout", "failures", "grace"];

/// The shortest interval and timeout.
const LEAST: Duration = Duration::from_millis(10);
/// The longest of any time of a probe.
const MOST: Duration = Duration::from_secs(3600);
/// Most failures in a row.
const MOST_FAILURES: u32 = 10_000;

pub(crate) fn read(reader: &mut Reader<'_>, at: Bytes, node: &Node, workload: &mut Workload) {
    match node.value {
        Value::Null => return,
        Value::Map(_) => {}
        _ => {
            workload.health = read_path(reader, node);
            return;
        }
    }
    if matches!(workload.run, Run::External { .. }) {
        reader
            .error(node.at, "an `external` workload has no probes")
            .help("someone else starts, watches and ends it");
        return;
    }
    let Some(fields) = reader.fields(node, at, KEYS) else {
        return;
    };
    let mut read = |key: &str, assumed: fn(Option<String>) -> Probe| {
        let (key, node) = fields.entry(key)?;
        read_probe(reader, key.at, node, assumed(None))
    };
    workload.probes = Probes {
        startup: read("startup", Probe::startup),
        liveness: read("liveness", Probe::liveness),
        readiness: read("readiness", Probe::readiness),
    };
    if fields.entries().is_empty() {
        reader
            .error(node.at, "`health` says nothing")
            .help("a path such as `/healthz`, or `{startup: /started, liveness: /alive, readiness: /ready}`");
    }
}

/// A path alone, or what is said of it too.
fn read_probe(reader: &mut Reader<'_>, at: Bytes, node: &Node, assumed: Probe) -> Option<Probe> {
    if !matches!(node.value, Value::Map(_)) {
        let path = read_path(reader, node)?;
        return Some(Probe {
            path: Some(path),
            ..assumed
        });
    }
    let fields = reader.fields(node, at, PROBE_KEYS)?;
    let path = fields.get("path").and_then(|node| read_path(reader, node));
    let mut time = |key: &str, least: Duration, unless: Duration| {
        let node = fields.get(key);
        node.and_then(|node| reader.duration(node, least, MOST))
            .unwrap_or(unless)
    };
    let interval = time("interval", LEAST, assumed.interval);
    let timeout = time("timeout", LEAST, assumed.timeout);
    let grace = time("grace", Duration::ZERO, assumed.grace);
    let failures = fields.get("failures");
    let failures = failures.and_then(|node| reader.number(node, 1..=MOST_FAILURES));
    Some(Probe {
        path,
        interval,
        timeout,
        failures: failures.unwrap_or(assumed.failures),
        grace,
    })
}

fn read_path(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let path = reader.string(node, "a path")?;
    reader.route_path(node.at, &path);
    Some(path)
}
