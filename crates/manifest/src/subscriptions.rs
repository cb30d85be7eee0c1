//! A workload's `on`: event patterns with scalars brought into lists, names, and what happens on failure.

use std::{collections::BTreeSet, time::Duration};

use model::{
    EventFilter, Name, RetryPolicy, Subscription, event::ATTRIBUTES,
    projection::MAX_PROJECTION_NAME,
};
use pattern::Pattern;
use serde_json::{Map, Value as Json};

use crate::{
    app::later,
    nearest::nearest,
    places::WorkloadPlaces,
    reader::{Fields, Reader, shown},
    terms,
    tree::{Bytes, Key, Node, Value},
};

/// Keys of an entry of `on`.
pub(crate) const KEYS: &[&str] = &[
    "event",
    "contract",
    "name",
    "retry",
    "concurrency",
    "rate",
    "order",
    "batch",
    "input",
    "projection",
];
/// Keys of `retry`.
pub(crate) const RETRY_KEYS: &[&str] = &["attempts", "max_age", "backoff", "max_backoff"];
/// Triggers of the design that this version does not run.
const LATER: &[&str] = &["schedule", "queue", "topic", "stream", "bucket"];
/// What else a pattern may hold at its top without being an extension.
const OTHERS: &[&str] = &["data", "data_base64", "$or"];

pub(crate) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Vec<Subscription> {
    let mut read: Vec<Subscription> = Vec::new();
    for item in reader.list(node, "subscriptions") {
        if let Value::Map(entries) = &item.value
            && let Some((key, _)) = entries
                .iter()
                .find(|(key, _)| LATER.contains(&key.text.as_str()))
        {
            later(reader, key.at, &key.text);
            continue;
        }
        let Some((subscription, name_at, event_at)) = read_one(reader, item) else {
            continue;
        };
        let taken = |other: &&Subscription| {
            is_generation_of(&subscription.name, other)
                || is_generation_of(&other.name, &subscription)
        };
        if let Some(other) = read.iter().find(taken) {
            let (name, other) = (&subscription.name, &other.name);
            reader
                .error(
                    name_at,
                    format!("`{name}` and `{other}` would be one and the same"),
                )
                .help("the generations of a projection have its name with `-g1`, `-g2`, … behind it; choose another name");
        }
        if read.iter().any(|other| other.name == subscription.name) {
            reader
                .error(
                    name_at,
                    format!("two subscriptions are named `{}`", subscription.name),
                )
                .help(
                    "give this one a `name` of its own: it keeps its place in the log over deploys",
                );
        }
        places.on.push(event_at);
        read.push(subscription);
    }
    read
}

/// Whether `name` is what a generation of `other` is called.
fn is_generation_of(name: &Name, other: &Subscription) -> bool {
    let number = name.as_str().strip_prefix(other.name.as_str());
    let number = number.and_then(|rest| rest.strip_prefix("-g"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    other.projection.is_some() && number.is_some_and(is_number)
}

fn read_one(reader: &mut Reader<'_>, item: &Node) -> Option<(Subscription, Bytes, Bytes)> {
    let owner = Bytes {
        start: item.at.start,
        end: item.at.end.max(item.at.start + 1),
    };
    let fields = reader.fields(item, owner, KEYS)?;
    read_fields(reader, fields, owner)
}

/// What a subscription says, whoever gets the events; the places of its name and of its pattern come with it.
pub(crate) fn read_fields(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    owner: Bytes,
) -> Option<(Subscription, Bytes, Bytes)> {
    let projection = fields
        .entry("projection")
        .and_then(|(key, node)| terms::projection(reader, key.at, node));
    let usual = match projection {
        Some(_) => RetryPolicy::endless(),
        None => RetryPolicy::default(),
    };
    let retry = fields
        .entry("retry")
        .map(|(key, node)| read_retry(reader, key.at, node, usual));
    let concurrency = fields
        .get("concurrency")
        .and_then(|node| reader.number(node, 1..=10_000));
    let rate = fields
        .get("rate")
        .and_then(|node| terms::rate(reader, node));
    let order = fields
        .entry("order")
        .and_then(|(key, node)| terms::order(reader, key.at, node));
    let batch = fields
        .entry("batch")
        .and_then(|(key, node)| terms::batch(reader, key.at, node));
    let input = fields
        .entry("input")
        .and_then(|(key, node)| terms::input(reader, key.at, node));
    let event = fields.required(reader, "event", "event: {type: [order.created]}")?;
    let key = fields.entry("event").map_or(owner, |(key, _)| key.at);
    let mut filter = read_filter(reader, key, event)?;
    if let Some((key, node)) = fields.entry("contract") {
        pin(reader, key.at, node, &mut filter)?;
    }
    let (name, name_at) = match fields.get("name") {
        Some(node) => {
            let text = reader.string(node, "a name")?;
            (reader.name(node.at, &text)?, node.at)
        }
        None => (made_name(&filter, projection.is_some()), key),
    };
    if projection.is_some() {
        check_projection(reader, fields, &name, name_at);
    }
    let subscription = Subscription {
        name,
        filter: EventFilter(filter),
        retry: retry.unwrap_or(usual),
        concurrency,
        rate,
        order,
        batch,
        input,
        projection,
        pulled: false,
        serial: false,
    };
    Some((subscription, name_at, key))
}

/// A projection has room behind its name for the number of a generation, and its order decides how many run at once.
fn check_projection(reader: &mut Reader<'_>, fields: Fields<'_>, name: &Name, name_at: Bytes) {
    if name.as_str().len() > MAX_PROJECTION_NAME {
        reader
            .error(
                name_at,
                format!("the name of a projection has at most {MAX_PROJECTION_NAME} bytes"),
            )
            .help("give it a shorter `name`");
    }
    if let (Some((key, _)), None) = (fields.entry("concurrency"), fields.get("order")) {
        reader
            .error(
                key.at,
                "the events of a projection come one after another, so that it has no `concurrency`",
            )
            .help("`batch` makes it faster; with `order: {key: …}` only the events of a key wait for each other");
    }
}

/// The pattern as JSON, compiled once to see that it is one.
fn read_filter(reader: &mut Reader<'_>, key: Bytes, event: &Node) -> Option<Json> {
    let Value::Map(entries) = &event.value else {
        reader
            .wrong(event, "expected an event pattern")
            .help("for example `event: {type: [order.created]}`");
        return None;
    };
    for (name, node) in entries {
        if ATTRIBUTES.contains(&name.text.as_str()) && matches!(node.value, Value::Map(_)) {
            reader
                .error(
                    node.at,
                    format!(
                        "`{}` is a text, so that its tests stand in a list",
                        name.text
                    ),
                )
                .expected(format!("for example `{}: [{{prefix: order.}}]`", name.text));
            return None;
        }
    }
    warn_of_unknown(reader, entries);
    let filter = normal(event);
    match Pattern::compile(&filter) {
        Ok(_) => Some(filter),
        Err(error) => {
            let at = find(event, &error.pointer).map_or(key, |node| node.at);
            reader
                .error(at, format!("this is no event pattern: {}", shown(&error.reason)))
                .help("patterns are EventBridge's, over the attributes of a CloudEvent and its `data`");
            None
        }
    }
}

/// `contract: 2`, or `contract: [1, 2]`: the filter asks for these major versions of the types that it names, too.
fn pin(reader: &mut Reader<'_>, at: Bytes, node: &Node, filter: &mut Json) -> Option<()> {
    let listed = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut majors = BTreeSet::new();
    for item in listed {
        majors.insert(reader.number(item, 1..=u32::MAX)?);
    }
    if majors.is_empty() {
        reader
            .error(node.at, "`contract` names a major version at least")
            .help("for example `contract: 1`, or `contract: [1, 2]`");
        return None;
    }
    let named = types(filter).is_some_and(|types| !types.iter().any(|kind| kind.ends_with('*')));
    if !named {
        reader
            .error(at, "`contract` is of types that `event` names one by one")
            .help("for example `event: {type: [order.created]}`: of other types it is not known whether they have a contract");
        return None;
    }
    if filter.get(contract::pin::ATTRIBUTE).is_some() {
        let attribute = contract::pin::ATTRIBUTE;
        reader
            .error(
                at,
                format!("`contract` and `{attribute}` of `event` say the same"),
            )
            .help(format!(
                "leave `{attribute}` out: `contract` is a test on it"
            ));
        return None;
    }
    filter[contract::pin::ATTRIBUTE] = contract::pin::tests(&majors);
    Some(())
}

/// Extensions may have any name, so that only what looks like a slip is told: a name that no attribute can have (CloudEvents
/// 1.0, "Attribute Naming Convention"), or one that is nearly that of an attribute which every event has.
fn warn_of_unknown(reader: &mut Reader<'_>, entries: &[(Key, Node)]) {
    for (key, _) in entries {
        let name = key.text.as_str();
        if ATTRIBUTES.contains(&name) || OTHERS.contains(&name) {
            continue;
        }
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let meant = attribute_meant(name);
        if meant.is_none() && name.chars().all(legal) {
            continue;
        }
        let noted = reader.warning(
            key.at,
            format!("`{}` is no attribute of a CloudEvent", shown(name)),
        );
        let noted = match meant {
            Some(meant) => noted.expected(format!("did you mean `{meant}`?")),
            None => noted,
        };
        noted.help("only events with an extension of this name would match");
    }
}

/// The attribute, or `data`, that was most likely meant by `name`.
fn attribute_meant(name: &str) -> Option<&'static str> {
    match name {
        // EventBridge's words.
        "detail-type" => Some("type"),
        "detail" => Some("data"),
        _ => nearest(name, ATTRIBUTES.iter().copied().chain(["data"])),
    }
}

/// A field's scalar becomes a list of it; what is inside lists stays as it is.
fn normal(node: &Node) -> Json {
    match &node.value {
        Value::Map(entries) => {
            let field = |node: &Node| match &node.value {
                Value::Map(_) => normal(node),
                Value::List(_) => json(node),
                _ => Json::Array(vec![json(node)]),
            };
            let ways = |node: &Node| match &node.value {
                Value::List(ways) => Json::Array(ways.iter().map(normal).collect()),
                _ => json(node),
            };
            let entries = entries.iter().map(|(key, node)| match key.text.as_str() {
                "$or" => (key.text.clone(), ways(node)),
                _ => (key.text.clone(), field(node)),
            });
            Json::Object(entries.collect())
        }
        _ => json(node),
    }
}

/// A value as it stands.
pub(crate) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => Json::Number(number.clone()),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, node)| (key.text.clone(), json(node)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
    }
}

/// The node at a JSON Pointer of the normalised pattern; a scalar stands for the list that was made of it.
fn find<'n>(root: &'n Node, pointer: &str) -> Option<&'n Node> {
    pointer.split('/').skip(1).try_fold(root, |node, step| {
        let step = step.replace("~1", "/").replace("~0", "~");
        match &node.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.text == step)
                .map(|(_, node)| node),
            Value::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => Some(node),
        }
    })
}

fn read_retry(reader: &mut Reader<'_>, at: Bytes, node: &Node, usual: RetryPolicy) -> RetryPolicy {
    let mut policy = usual;
    let Some(fields) = reader.fields(node, at, RETRY_KEYS) else {
        return policy;
    };
    if let Some(read) = fields
        .get("attempts")
        .and_then(|node| reader.number(node, 1..=1_000))
    {
        policy.attempts = read;
    }
    let mut duration = |key: &str, most: u64, into: &mut Duration| {
        let least = Duration::from_millis(1);
        let most = Duration::from_secs(most);
        let read = fields
            .get(key)
            .and_then(|node| reader.duration(node, least, most));
        *into = read.unwrap_or(*into);
    };
    duration("max_age", 30 * 86_400, &mut policy.max_age);
    duration("backoff", 86_400, &mut policy.backoff);
    duration("max_backoff", 86_400, &mut policy.max_backoff);
    if policy.backoff > policy.max_backoff {
        if let Some(node) = fields.get("max_backoff") {
            reader
                .error(node.at, "`max_backoff` is shorter than `backoff`")
                .help("waits grow from `backoff` up to `max_backoff`");
        }
        policy.max_backoff = policy.backoff;
    }
    policy
}

/// The event types that a filter asks for, a prefix with a trailing `*`; `None`: any type may match.
#[must_use]
pub fn types(filter: &Json) -> Option<Vec<String>> {
    types_under(filter, "type")
}

/// As [`types`], and also where the word `type` was most likely meant.
pub(crate) fn types_meant(filter: &Json) -> Option<Vec<String>> {
    let mut keys = filter.as_object()?.keys();
    let is_type = |key: &&String| key.as_str() == "type" || attribute_meant(key) == Some("type");
    types_under(filter, keys.find(is_type)?)
}

fn types_under(filter: &Json, key: &str) -> Option<Vec<String>> {
    let list = filter.get(key)?.as_array()?;
    list.iter()
        .map(|test| match test {
            Json::String(text) => Some(text.clone()),
            other => other
                .get("prefix")?
                .as_str()
                .map(|prefix| format!("{prefix}*")),
        })
        .collect()
}

/// A name from the types asked for, so that it stays the same when the rest of the filter changes.
fn made_name(filter: &Json, projection: bool) -> Name {
    let most = match projection {
        true => MAX_PROJECTION_NAME,
        false => model::name::MAX_NAME,
    };
    name_of(&types(filter).unwrap_or_default().join("-"), most)
}

/// The name that is nearest to a text, of `most` bytes.
pub(crate) fn name_of(text: &str, most: usize) -> Name {
    let mut name = String::new();
    for c in text.to_ascii_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let cut = &name[..name.len().min(most)];
    Name::new(cut.trim_end_matches('-')).unwrap_or_else(|_| Name::literal("events"))
}
