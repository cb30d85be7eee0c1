//! What is worth a look over all deployed apps when one of them is deployed: types that only one side names, and contracts of one
//! name that say different things.

use std::collections::BTreeSet;

use contract::Contracts;
use model::App;

use super::{World, graph, untaken};
use crate::apps::Live;

/// Notes on `app`, which is among what is live or about to be.
pub(crate) fn notes(app: &App, contracts: &Contracts, live: &Live) -> Vec<String> {
    let before = World::live(live);
    let world = before.with(app, contracts);
    let mut notes = waited_for(app, &world);
    notes.extend(untaken(app, &world).iter().map(|one| {
        let producers = one.producers.join("`, `");
        format!(
            "no deployed app takes `{}`, which `{producers}` publishes",
            one.kind
        )
    }));
    notes.extend(otherwise(app, contracts, &world));
    notes
}

/// Types that the app waits for and that nobody publishes.
fn waited_for(app: &App, world: &World<'_>) -> Vec<String> {
    let all = world.apps().flat_map(|(app, _)| graph::published(app));
    let mut published: BTreeSet<String> = all.map(|(_, kind)| kind).collect();
    published.extend(
        manifest::OF_THE_PLATFORM
            .iter()
            .map(|kind| (*kind).to_owned()),
    );
    let mut notes = Vec::new();
    for workload in app.workloads.values() {
        for subscription in &workload.on {
            for wanted in manifest::types(&subscription.filter.0).unwrap_or_default() {
                let meets = |declared: &String| manifest::may_meet(declared, &wanted);
                if published.contains(&wanted) || published.iter().any(meets) {
                    continue;
                }
                let meant = manifest::nearest(&wanted, published.iter().map(String::as_str));
                let meant =
                    meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                notes.push(format!(
                    "no deployed app publishes `{wanted}`, which `{}` waits for: right if it comes from outside{meant}",
                    workload.name
                ));
            }
        }
    }
    notes.dedup();
    notes
}

/// Versions that another app has under the same name and with another schema: each publisher is checked by its own app's.
fn otherwise(app: &App, contracts: &Contracts, world: &World<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for (other, theirs) in world.apps().filter(|(other, _)| other.name != app.name) {
        for (kind, versions) in contracts.types() {
            for (version, own) in versions {
                let there = theirs.versions(kind).and_then(|all| all.get(version));
                if there.is_some_and(|there| !there.is_same(own)) {
                    notes.push(format!(
                        "version {version} of `{kind}` is another schema in app `{}`: who takes it may get either",
                        other.name
                    ));
                }
            }
        }
    }
    notes
}
