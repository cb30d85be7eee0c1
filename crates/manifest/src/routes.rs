//! One route of the gateway.

use std::time::Duration;

use model::{ByteSize, Name, Route, RouteTarget, app::Before};

use crate::{
    places::RoutePlaces,
    reader::{Fields, Reader},
    tree::{Bytes, Key, Node, Value},
};

/// Keys of a route.
pub(crate) const KEYS: &[&str] = &[
    "host", "path", "methods", "to", "before", "rewrite", "timeout", "max_body", "async",
    "callback",
];
/// Keys of a workload in `before`.
pub(crate) const BEFORE_KEYS: &[&str] = &["cache"];
/// Methods that a route may name.
pub(crate) const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
];

const EXAMPLE: &str = "{path: /hello, to: hello}";

pub(crate) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<(Route, RoutePlaces)> {
    let owner = Bytes {
        start: node.at.start,
        end: node.at.end.max(node.at.start + 1),
    };
    let fields = reader.fields(node, owner, KEYS)?;
    let mut places = RoutePlaces::default();
    let path = read_path(reader, fields, &mut places);
    let to = read_target(reader, fields, &mut places);
    let host = fields.get("host").and_then(|node| read_host(reader, node));
    let methods = fields.get("methods").map(|node| read_methods(reader, node));
    let before = fields
        .get("before")
        .map(|node| read_before(reader, node, &mut places));
    let most = reader.limits().timeout;
    let timeout = fields.get("timeout").and_then(|node| {
        places.timeout = node.at;
        reader.duration(node, Duration::from_millis(1), most)
    });
    let max_body = fields
        .get("max_body")
        .and_then(|node| reader.size(node, ByteSize(1), ByteSize(u64::MAX)));
    let asynchronous = fields.get("async").is_some_and(|node| reader.flag(node));
    let (path, rewrite) = path?;
    let to = to?;
    refuse_for_events(reader, fields, &to);
    Some((
        Route {
            host,
            path,
            methods: methods.unwrap_or_default(),
            to,
            before: before.unwrap_or_default(),
            rewrite,
            timeout,
            max_body,
            asynchronous,
            callback: read_callback(reader, fields, asynchronous),
        },
        places,
    ))
}

fn read_path(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    places: &mut RoutePlaces,
) -> Option<(String, Option<String>)> {
    let node = fields.required(reader, "path", EXAMPLE)?;
    let path = reader.string(node, "a path")?;
    places.path = node.at;
    let parameters = reader.route_path(node.at, &path);
    let rewrite = fields.get("rewrite").and_then(|node| {
        let rewrite = reader.string(node, "a path")?;
        reader.rewrite(node.at, &rewrite, &path, &parameters);
        Some(rewrite)
    });
    Some((path, rewrite))
}

fn read_target(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    places: &mut RoutePlaces,
) -> Option<RouteTarget> {
    let node = fields.required(reader, "to", EXAMPLE)?;
    let text = reader.string(node, "the name of a workload, or `events`")?;
    places.to = node.at;
    if text == "events" {
        return Some(RouteTarget::Events);
    }
    reader.name(node.at, &text).map(RouteTarget::Workload)
}

fn read_host(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let host = reader.string(node, "a host name")?;
    reader.host_pattern(node.at, &host);
    Some(host.to_ascii_lowercase())
}

fn read_methods(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut methods: Vec<String> = Vec::new();
    for method in reader.strings(node, "methods") {
        if !METHODS.contains(&method.value.as_str()) {
            let message = format!("`{}` is not a method", crate::reader::shown(&method.value));
            reader.unknown_word(method.at, message, &method.value, METHODS.iter().copied());
        } else if methods.contains(&method.value) {
            reader.error(method.at, format!("`{}` is given twice", method.value));
        } else {
            methods.push(method.value);
        }
    }
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        reader
            .error(node.at, "there are no methods, so that nothing would match")
            .help("leave `methods` out to match all");
    }
    methods
}

fn read_before(reader: &mut Reader<'_>, node: &Node, places: &mut RoutePlaces) -> Vec<Before> {
    let mut before = Vec::new();
    for item in reader.list(node, "workloads") {
        let read = match &item.value {
            Value::Map(entries) if entries.len() == 1 => with_cache(reader, &entries[0]),
            Value::Map(_) => {
                reader
                    .error(item.at, "expected one workload in each entry of `before`")
                    .help("for example `before: [{auth: {cache: 60s}}, audit]`");
                None
            }
            _ => reader
                .string(item, "the name of a workload")
                .map(|name| (name, item.at, None)),
        };
        let Some((text, at, cache)) = read else {
            continue;
        };
        if let Some(workload) = reader.name(at, &text) {
            places.before.push(at);
            before.push(Before { workload, cache });
        }
    }
    before
}

fn with_cache(
    reader: &mut Reader<'_>,
    (key, node): &(Key, Node),
) -> Option<(String, Bytes, Option<Duration>)> {
    let cache = reader.fields(node, key.at, BEFORE_KEYS).and_then(|fields| {
        let node = fields.required(reader, "cache", "cache: 60s")?;
        reader.duration(node, Duration::from_millis(1), Duration::from_secs(86_400))
    });
    Some((key.text.clone(), key.at, cache))
}

fn read_callback(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    asynchronous: bool,
) -> Option<String> {
    let (key, node) = fields.entry("callback")?;
    if !asynchronous {
        reader
            .error(key.at, "`callback` is for asynchronous routes")
            .help("add `async: true`");
    }
    reader.url(node)
}

/// What has no meaning on a route to the bus.
fn refuse_for_events(reader: &mut Reader<'_>, fields: Fields<'_>, to: &RouteTarget) {
    if *to != RouteTarget::Events {
        return;
    }
    for word in ["rewrite", "async", "callback"] {
        if let Some((key, _)) = fields.entry(word) {
            reader
                .error(
                    key.at,
                    format!("`{word}` means nothing on a route to `events`"),
                )
                .help("publishing is answered as soon as the events are stored");
        }
    }
}

/// What two routes must not share: host and path with the names of parameters left out.
#[must_use]
pub fn shape(route: &Route) -> String {
    let segments = route.path.split('/').map(|segment| {
        if segment.starts_with('{') {
            "{}"
        } else {
            segment
        }
    });
    let path: Vec<_> = segments.collect();
    format!(
        "{} {}",
        route.host.as_deref().unwrap_or("*"),
        path.join("/")
    )
}

/// The workload that a route names, if any.
pub(crate) fn target(route: &Route) -> Option<&Name> {
    match &route.to {
        RouteTarget::Workload(name) => Some(name),
        RouteTarget::Events => None,
    }
}
