//! Checks between the parts of an app: what is named must be there, once, and make sense together.

use std::collections::BTreeMap;

use model::{Route, Tier, WorkloadName, code, units::display_duration};

use crate::{
    places::Draft,
    reader::Reader,
    routes::{shape, target},
    subscriptions::types_meant,
    tree::Bytes,
};

/// Types that the platform itself publishes.
pub const OF_THE_PLATFORM: &[&str] = &[
    "invocation.completed",
    "Lambda Function Invocation Result - Success",
    "Lambda Function Invocation Result - Failure",
];

pub(crate) fn check(reader: &mut Reader<'_>, draft: &Draft) {
    check_routes(reader, draft);
    check_duplicates(reader, draft);
    for (host, name) in &draft.app.hosts {
        let at = draft.hosts.get(host).copied().unwrap_or_default();
        check_exists(reader, draft, at, name.as_str());
    }
    for name in draft.app.workloads.keys() {
        check_calls(reader, draft, name);
        check_destinations(reader, draft, name);
        check_published(reader, draft, name);
    }
}

fn check_exists(reader: &mut Reader<'_>, draft: &Draft, at: Bytes, name: &str) -> bool {
    check_other(reader, draft, (at, name), "", None)
}

/// The same where `from` names it, which is not what is meant, and may say `word` instead.
fn check_other(
    reader: &mut Reader<'_>,
    draft: &Draft,
    (at, name): (Bytes, &str),
    from: &str,
    word: Option<&str>,
) -> bool {
    let exists = draft.declared.iter().any(|declared| declared == name);
    if !exists {
        let message = format!("there is no workload `{name}`");
        let known = draft.declared.iter().map(String::as_str);
        let known = known.filter(|known| *known != from).chain(word);
        reader.unknown_word(at, message, name, known);
    }
    exists
}

fn check_routes(reader: &mut Reader<'_>, draft: &Draft) {
    for (route, places) in draft.app.routes.iter().zip(&draft.routes) {
        if let Some(name) = target(route) {
            check_exists(reader, draft, places.to, name.as_str());
        }
        for (before, at) in route.before.iter().zip(&places.before) {
            if before.workload.as_str() == "events" {
                reader
                    .error(*at, "the bus cannot stand before a route")
                    .help("`before` names workloads that continue or answer");
            } else {
                check_exists(reader, draft, *at, before.workload.as_str());
            }
        }
        check_route_timeout(reader, draft, route, places.timeout);
    }
}

fn check_route_timeout(reader: &mut Reader<'_>, draft: &Draft, route: &Route, at: Bytes) {
    let workload = target(route).and_then(|name| draft.app.workloads.get(name));
    if let (Some(timeout), Some(workload)) = (route.timeout, workload)
        && timeout > workload.timeout
    {
        let own = display_duration(workload.timeout);
        let message = format!("`{}` is cut off after {own} already", workload.name);
        reader
            .warning(at, message)
            .help("a route's timeout can only be shorter than its workload's");
    }
}

fn check_duplicates(reader: &mut Reader<'_>, draft: &Draft) {
    let mut seen: BTreeMap<String, Vec<&Route>> = BTreeMap::new();
    for (route, places) in draft.app.routes.iter().zip(&draft.routes) {
        let same = seen.entry(shape(route)).or_default();
        if let Some(other) = same.iter().find(|other| overlap(route, other)) {
            let shared: Vec<_> = route
                .methods
                .iter()
                .filter(|method| other.methods.contains(method))
                .map(String::as_str)
                .collect();
            let message = match shared.as_slice() {
                [] => format!("`{}` is routed twice", route.path),
                shared => format!("`{}` is routed twice for {}", route.path, shared.join(", ")),
            };
            let first = match target(other) {
                Some(name) => name.as_str(),
                None => "events",
            };
            reader
                .error(places.path, message)
                .help(format!("an earlier route goes to `{first}`"));
        }
        same.push(route);
    }
}

/// A route for all methods stands beside routes for some: those are more specific.
fn overlap(left: &Route, right: &Route) -> bool {
    match (left.methods.as_slice(), right.methods.as_slice()) {
        ([], []) => true,
        (left, right) => left.iter().any(|method| right.contains(method)),
    }
}

fn check_destinations(reader: &mut Reader<'_>, draft: &Draft, name: &WorkloadName) {
    for (destination, at) in &draft.workloads[name].destinations {
        let Some(local) = local(draft, destination) else {
            continue;
        };
        let other = check_other(reader, draft, (*at, local), name.as_str(), Some("events"));
        if other && local == name.as_str() {
            reader
                .error(*at, format!("`{name}` cannot be its own destination"))
                .help("what it is told of its own end would end, too, and be told it again");
        }
    }
}

fn check_calls(reader: &mut Reader<'_>, draft: &Draft, name: &WorkloadName) {
    let (workload, places) = (&draft.app.workloads[name], &draft.workloads[name]);
    for (call, at) in workload.calls.iter().zip(&places.calls) {
        let Some(local) = local(draft, call) else {
            continue;
        };
        if !check_other(reader, draft, (*at, local), name.as_str(), None) {
            continue;
        }
        let called = draft.app.workloads.get(local);
        // Who gave neither a timeout has not decided anything that could be wrong.
        let of_called = draft.workloads.get(local).and_then(|places| places.timeout);
        if let Some(called) = called
            && (places.timeout.is_some() || of_called.is_some())
            && workload.tier == Tier::Function
            && workload.timeout <= called.timeout
            && local != name.as_str()
        {
            let (own, its) = (
                display_duration(workload.timeout),
                display_duration(called.timeout),
            );
            let message =
                format!("`{name}` is cut off after {own}, but may wait {its} for `{local}`");
            reader
                .warning(places.timeout.unwrap_or(*at), message)
                .help("give the function a longer timeout than what it calls, or what it calls a shorter one");
        }
    }
}

/// The name of a called workload of the same app.
pub(crate) fn local<'c>(draft: &Draft, call: &'c str) -> Option<&'c str> {
    match call.split_once('/') {
        None => Some(call),
        Some((app, name)) => (app == draft.app.name.as_str()).then_some(name),
    }
}

fn check_published(reader: &mut Reader<'_>, draft: &Draft, name: &WorkloadName) {
    let (workload, places) = (&draft.app.workloads[name], &draft.workloads[name]);
    let of_databases = of_databases(draft);
    let published: Vec<&str> = draft
        .app
        .workloads
        .values()
        .flat_map(|workload| &workload.publishes)
        .chain(&of_databases)
        .chain(draft.app.keys.values().flat_map(|key| &key.publishes))
        .map(String::as_str)
        .chain(OF_THE_PLATFORM.iter().copied())
        .collect();
    for (subscription, at) in workload.on.iter().zip(&places.on) {
        for wanted in types_meant(&subscription.filter.0).unwrap_or_default() {
            if !published
                .iter()
                .any(|published| may_meet(published, &wanted))
            {
                let meant = crate::nearest::nearest(&wanted, published.iter().copied());
                let message = format!("nobody in this app publishes `{wanted}`");
                let noted = reader.warning_of(code::TYPE_NOT_PUBLISHED, *at, message);
                let noted = match meant {
                    Some(meant) => noted.expected(format!("did you mean `{meant}`?")),
                    None => noted,
                };
                noted.help(
                    "right if it comes from outside or from another app; else add it to a workload's `publishes`",
                );
            }
        }
    }
}

/// Types that the app's databases publish.
fn of_databases(draft: &Draft) -> Vec<String> {
    let mut types = Vec::new();
    for database in draft.app.databases.values() {
        let outbox = database.outbox.iter();
        types.extend(outbox.flat_map(|outbox| outbox.publishes.iter().cloned()));
        types.extend(database.capture.iter().flat_map(model::Capture::types));
    }
    types
}

/// Whether two types, each perhaps with a trailing `*`, have an event type in common.
#[must_use]
pub fn may_meet(left: &str, right: &str) -> bool {
    match (left.strip_suffix('*'), right.strip_suffix('*')) {
        (None, None) => left == right,
        (Some(prefix), None) => right.starts_with(prefix),
        (None, Some(prefix)) => left.starts_with(prefix),
        (Some(left), Some(right)) => left.starts_with(right) || right.starts_with(left),
    }
}
