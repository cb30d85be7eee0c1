//! `scale` and `limits`: how many instances, how many requests each, and what one of them may take.

use std::time::Duration;

use model::{InstanceLimits, Scale};

use crate::{
    reader::Reader,
    tree::{Bytes, Node, Value},
};

/// Keys of `scale`.
pub(crate) const KEYS: &[&str] = &["min", "max", "concurrency", "idle"];
/// Keys of `limits`.
pub(crate) const LIMITS_KEYS: &[&str] = &["cpu", "processes", "files"];

/// Most instances of a workload.
pub(crate) const MAX_INSTANCES: u32 = 1_000;
/// Most requests at the same time in one instance.
pub(crate) const MAX_CONCURRENCY: u32 = 10_000;
/// Most CPUs of one instance.
const MAX_CPUS: u32 = 1_024;
/// The fewest open files with which a program starts.
const LEAST_FILES: u32 = 16;
/// Most open files of one process: what Linux allows unless told otherwise.
const MOST_FILES: u32 = 1_048_576;
/// Most processes and threads of one instance: what Linux has ids for on 64 bits.
const MOST_PROCESSES: u32 = 4_194_304;

pub(crate) fn read(reader: &mut Reader<'_>, at: Bytes, node: &Node, scale: &mut Scale) {
    let Some(fields) = reader.fields(node, at, KEYS) else {
        return;
    };
    let min = fields.get("min");
    if let Some(min) = min.and_then(|node| reader.number(node, 0..=MAX_INSTANCES)) {
        scale.min = min;
    }
    let max = fields
        .get("max")
        .and_then(|node| reader.number(node, 1..=MAX_INSTANCES));
    scale.max = max.unwrap_or_else(|| scale.max.max(scale.min));
    if let Some(given) = max
        && scale.min > given
    {
        let (message, at) = match min {
            Some(node) => (
                format!("`min` is {}, but `max` is {given}", scale.min),
                node.at,
            ),
            None => (
                format!("`min` is {} unless given, but `max` is {given}", scale.min),
                at,
            ),
        };
        reader
            .error(at, message)
            .help("`min` must not be above `max`");
    }
    let concurrency = fields.get("concurrency");
    if let Some(read) = concurrency.and_then(|node| reader.number(node, 1..=MAX_CONCURRENCY)) {
        scale.concurrency = read;
    }
    let idle = fields.get("idle");
    let least = Duration::from_secs(1);
    let most = Duration::from_secs(7 * 86_400);
    if let Some(read) = idle.and_then(|node| reader.duration(node, least, most)) {
        scale.idle = read;
    }
}

pub(crate) fn read_limits(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> InstanceLimits {
    let Some(fields) = reader.fields(node, at, LIMITS_KEYS) else {
        return InstanceLimits::default();
    };
    let cpu = fields.get("cpu").and_then(|node| read_cpu(reader, node));
    let processes = fields
        .get("processes")
        .and_then(|node| reader.number(node, 1..=MOST_PROCESSES));
    let files = fields
        .get("files")
        .and_then(|node| reader.number(node, LEAST_FILES..=MOST_FILES));
    InstanceLimits {
        cpu,
        processes,
        files,
    }
}

/// CPUs as people count them (`0.5`, `2`), in thousandths.
fn read_cpu(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let expected = format!("a number of CPUs from 0.01 to {MAX_CPUS}, such as `0.5` or `2`");
    let Value::Number(number) = &node.value else {
        reader.wrong(node, &format!("expected {expected}"));
        return None;
    };
    let millis = number.as_f64().map(|cpus| cpus * 1000.0);
    let whole = millis.filter(|m| (m - m.round()).abs() < 1e-6);
    let within = whole.filter(|m| (10.0..=f64::from(MAX_CPUS) * 1000.0).contains(m));
    if within.is_none() {
        reader
            .error(node.at, format!("{number} is out of range"))
            .expected(format!(
                "expected {expected}, at most three digits after the point"
            ));
    }
    // Within 32 bits, as was just looked at.
    within.map(|millis| millis.round() as u32)
}
