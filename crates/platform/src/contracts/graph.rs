//! Who publishes and who takes which types of events, over one app or many.

use std::collections::{BTreeMap, BTreeSet};

use contract::pin::Asked;
use model::{App, AppName, Capture, EventFilter};
use pattern::Pattern;
use serde::Serialize;
use serde_json::{Value, json};

use super::World;

/// A type of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Type {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its contract, by the apps that have one.
    pub contracts: Vec<Shipped>,
    /// Who declares that they publish it.
    pub producers: Vec<Producer>,
    /// Whose subscriptions let it through.
    pub consumers: Vec<Consumer>,
}

/// The versions of a contract that an app has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shipped {
    /// The app.
    pub app: AppName,
    /// Oldest first.
    pub versions: Vec<String>,
}

/// Who publishes a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Producer {
    /// The app.
    pub app: AppName,
    /// The workload; a database publishes as `NAME.outbox` or `NAME.capture`, whoever has a key as `NAME.key`.
    pub name: String,
}

/// Who takes a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Consumer {
    /// The app.
    pub app: AppName,
    /// The workload.
    pub name: String,
    /// The subscription's name among the workload's.
    pub subscription: String,
    /// The major versions that it asks for; none: all.
    pub versions: BTreeSet<u32>,
}

/// The types that are named by workloads, databases and contracts, without those of the platform itself.
#[must_use]
pub fn graph(world: &World<'_>) -> Vec<Type> {
    let mut types = named(world);
    for (app, contracts) in world.apps() {
        for (kind, versions) in contracts.types() {
            let shipped = Shipped {
                app: app.name.clone(),
                versions: versions.keys().map(ToString::to_string).collect(),
            };
            let of_kind = types.get_mut(kind).into_iter();
            of_kind.for_each(|one| one.contracts.push(shipped.clone()));
        }
        for (name, declared) in published(app) {
            let app = app.name.clone();
            let producer = Producer { app, name };
            for one in covered(&mut types, &declared) {
                // Two of its declarations may cover one type.
                if one.producers.last() != Some(&producer) {
                    one.producers.push(producer.clone());
                }
            }
        }
        for workload in app.workloads.values() {
            for subscription in &workload.on {
                let consumer = Consumer {
                    app: app.name.clone(),
                    name: workload.name.to_string(),
                    subscription: subscription.name.to_string(),
                    versions: Asked::of(&subscription.filter.0).majors(),
                };
                taken(&mut types, &subscription.filter, |one| {
                    one.consumers.push(consumer.clone());
                });
            }
        }
    }
    types.into_values().collect()
}

/// Every type by name, with nobody on either side.
fn named(world: &World<'_>) -> BTreeMap<String, Type> {
    let mut named: BTreeSet<String> = BTreeSet::new();
    for (app, contracts) in world.apps() {
        named.extend(contracts.types().map(|(kind, _)| kind.to_owned()));
        named.extend(published(app).into_iter().map(|(_, kind)| kind));
        let subscriptions = app.workloads.values().flat_map(|workload| &workload.on);
        named.extend(subscriptions.flat_map(|subscription| exact(&subscription.filter)));
    }
    named
        .retain(|kind| !kind.ends_with('*') && !manifest::OF_THE_PLATFORM.contains(&kind.as_str()));
    let empty = |kind: String| {
        let one = Type {
            kind: kind.clone(),
            contracts: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
        };
        (kind, one)
    };
    named.into_iter().map(empty).collect()
}

/// The types that a declaration covers; it may end with `*`.
fn covered<'t>(types: &'t mut BTreeMap<String, Type>, declared: &str) -> Vec<&'t mut Type> {
    match declared.strip_suffix('*') {
        None => types.get_mut(declared).into_iter().collect(),
        Some(prefix) => {
            let from = types.range_mut(prefix.to_owned()..);
            let below = from.take_while(|(kind, _)| kind.starts_with(prefix));
            below.map(|(_, one)| one).collect()
        }
    }
}

/// Tells `each` every type of which a filter may let events through.
fn taken(
    types: &mut BTreeMap<String, Type>,
    filter: &EventFilter,
    mut each: impl FnMut(&mut Type),
) {
    let Some(tests) = filter.0.get("type") else {
        return types.values_mut().for_each(each);
    };
    let listed = tests.as_array().into_iter().flatten();
    if listed.clone().all(Value::is_string) {
        // By name, where there may be thousands of types.
        let wanted: BTreeSet<&str> = listed.filter_map(Value::as_str).collect();
        for kind in wanted {
            types.get_mut(kind).into_iter().for_each(&mut each);
        }
        return;
    }
    if let Ok(only_type) = Pattern::compile(&json!({ "type": tests })) {
        let through = |kind: &str| only_type.matches(&json!({ "type": kind }));
        let through = types.iter_mut().filter(|(kind, _)| through(kind));
        through.for_each(|(_, one)| each(one));
    }
}

/// Who of an app declares that they publish what; a type may end with `*`.
pub(super) fn published(app: &App) -> Vec<(String, String)> {
    let mut published = Vec::new();
    for (name, workload) in &app.workloads {
        let kinds = workload.publishes.iter().cloned();
        published.extend(kinds.map(|kind| (name.to_string(), kind)));
    }
    for (name, key) in &app.keys {
        let kinds = key.publishes.iter().cloned();
        published.extend(kinds.map(|kind| (format!("{name}.key"), kind)));
    }
    for (name, database) in &app.databases {
        let outbox = database.outbox.iter().flat_map(|outbox| &outbox.publishes);
        published.extend(outbox.map(|kind| (format!("{name}.outbox"), kind.clone())));
        let capture = database.capture.iter().flat_map(Capture::types);
        published.extend(capture.map(|kind| (format!("{name}.capture"), kind)));
    }
    published
}

/// The types that a filter asks for by name.
pub(super) fn exact(filter: &EventFilter) -> Vec<String> {
    let tests = filter.0.get("type").and_then(Value::as_array);
    let names = tests.into_iter().flatten().filter_map(|test| test.as_str());
    names.map(str::to_owned).collect()
}
