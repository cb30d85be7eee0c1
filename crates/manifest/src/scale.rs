//! `scale` and `limits`: how many instances, how many requests each, and what one of them may take.

use std::time::Duration;

use model::{InstanceLimits, Run, Scale, ScaleOn, Workload};

use crate::{
    reader::{Fields, Reader, shown},
    tree::{Bytes, Node, Value},
};

/// Keys of `scale`.
pub(crate) const KEYS: &[&str] = &["min", "max", "concurrency", "idle", "on", "up", "down"];
/// Keys of `scale.on`.
pub(crate) const ON_KEYS: &[&str] = &["concurrency", "cpu", "backlog"];
/// Keys of `limits`.
pub(crate) const LIMITS_KEYS: &[&str] = &["cpu", "processes", "files"];

/// Keys of `reserve`.
pub(crate) const RESERVE_KEYS: &[&str] = &["cpu"];

/// Most instances of a workload.
pub(crate) const MAX_INSTANCES: u32 = 1_000;
/// Most requests at the same time in one instance.
pub(crate) const MAX_CONCURRENCY: u32 = 10_000;
/// Shortest time after which instances leave.
const LEAST_IDLE: Duration = Duration::from_secs(1);
/// Longest window: a week.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// How long CPU must have been short before instances are added, unless said: a start is a burst of it.
const CPU_UP: Duration = Duration::from_secs(10);
/// Most CPUs of one instance.
const MAX_CPUS: u32 = 1_024;
/// The fewest open files with which a program starts.
const LEAST_FILES: u32 = 16;
/// Most open files of one process: what Linux allows unless told otherwise.
const MOST_FILES: u32 = 1_048_576;
/// Most processes and threads of one instance: what Linux has ids for on 64 bits.
const MOST_PROCESSES: u32 = 4_194_304;

pub(crate) fn read(reader: &mut Reader<'_>, at: Bytes, node: &Node, workload: &mut Workload) {
    let Some(fields) = reader.fields(node, at, KEYS) else {
        return;
    };
    read_bounds(reader, at, fields, &mut workload.scale);
    read_windows(reader, fields, workload);
}

/// How many there may be, and how many requests each takes.
fn read_bounds(reader: &mut Reader<'_>, at: Bytes, fields: Fields<'_>, scale: &mut Scale) {
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
}

/// What the number of instances follows, and for how long that must hold.
fn read_windows(reader: &mut Reader<'_>, fields: Fields<'_>, workload: &mut Workload) {
    let scale = &mut workload.scale;
    let idle = fields.get("idle");
    if let Some(read) = idle.and_then(|node| reader.duration(node, LEAST_IDLE, LONGEST)) {
        scale.idle = read;
    }
    for word in ["on", "up", "down"] {
        if let Some((key, _)) = fields.entry(word)
            && !matches!(workload.run, Run::Process { .. } | Run::Container { .. })
        {
            let kind = workload.run.kind();
            reader
                .error(key.at, format!("`{word}` means nothing here"))
                .help(format!("instances of `{kind}` follow the requests at once"));
        }
    }
    if let Some((key, node)) = fields.entry("on") {
        scale.on = read_on(reader, key.at, node);
        if scale.on.cpu.is_some() {
            scale.up = CPU_UP;
        }
    }
    let up = fields.get("up");
    if let Some(read) = up.and_then(|node| reader.duration(node, Duration::ZERO, LONGEST)) {
        scale.up = read;
    }
    let down = fields.get("down");
    scale.down = down.and_then(|node| reader.duration(node, LEAST_IDLE, LONGEST));
}

fn read_on(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> ScaleOn {
    let Some(fields) = reader.fields(node, at, ON_KEYS) else {
        return ScaleOn::default();
    };
    let read = |reader: &mut Reader<'_>, key: &str, most: u32| {
        let node = fields.get(key)?;
        read_percent(reader, node, most)
    };
    let on = ScaleOn {
        concurrency: read(reader, "concurrency", 100),
        cpu: read(reader, "cpu", 1_000),
        backlog: fields
            .get("backlog")
            .and_then(|node| reader.number(node, 1..=1_000_000)),
    };
    if fields.entries().is_empty() {
        reader
            .error(node.at, "`on` says nothing")
            .help("for example `on: {cpu: 70%}`, `on: {backlog: 100}` or `on: {concurrency: 80%}`");
    }
    on
}

/// `70%`.
fn read_percent(reader: &mut Reader<'_>, node: &Node, most: u32) -> Option<u32> {
    let expected = format!("expected 1% to {most}%, such as `70%`");
    let text = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Number(_) => reader.raw(node).to_owned(),
        _ => {
            reader.wrong(node, &expected);
            return None;
        }
    };
    let number = text.strip_suffix('%').map(str::trim_end);
    let number = number.and_then(|number| number.parse().ok());
    let found = number.filter(|percent| (1..=most).contains(percent));
    if found.is_none() {
        let message = format!("`{}` is no share", shown(&text));
        reader.error(node.at, message).expected(expected);
    }
    found
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
        reserved: None,
    }
}

/// `reserve`: what is kept for one instance.
pub(crate) fn read_reserve(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<u32> {
    let fields = reader.fields(node, at, RESERVE_KEYS)?;
    let cpu = fields.required(reader, "cpu", "reserve: {cpu: 0.5}")?;
    read_cpu(reader, cpu)
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
