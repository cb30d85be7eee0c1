//! What subscriptions expect of contracts, and which of it nobody ships.

use std::collections::BTreeSet;

use contract::{Version, pin::Asked};
use model::{App, AppName, Subscription, WorkloadName};
use serde_json::Value;

use super::{World, graph};

/// What a subscription asks for and no contract has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unmet {
    pub(super) app: AppName,
    pub(super) workload: WorkloadName,
    /// The type of the events.
    pub(super) kind: String,
    pub(super) what: What,
}

/// What is missing of a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A major version.
    Major(u32),
    /// A field of the data, of the versions that are asked for.
    Field(Vec<String>),
}

/// Everything that the subscriptions of `app` ask for in vain.
pub(super) fn unmet(app: &App, world: &World<'_>) -> BTreeSet<Unmet> {
    let mut all = BTreeSet::new();
    for workload in app.workloads.values() {
        for subscription in &workload.on {
            for kind in graph::exact(&subscription.filter) {
                let missing = missing(subscription, &kind, world);
                all.extend(missing.into_iter().map(|what| Unmet {
                    app: app.name.clone(),
                    workload: workload.name.clone(),
                    kind: kind.clone(),
                    what,
                }));
            }
        }
    }
    all
}

fn missing(subscription: &Subscription, kind: &str, world: &World<'_>) -> Vec<What> {
    let (filter, versions) = (&subscription.filter.0, world.versions(kind));
    let asked = Asked::of(filter);
    let majors = match versions.is_empty() {
        // A `dataschema` may be anybody's, and data of a type without a contract may hold anything.
        true => asked.pinned,
        false => asked.majors(),
    };
    let is_shipped = |major: &u32| versions.keys().any(|version| version.major == *major);
    let mut missing: Vec<What> = majors
        .iter()
        .filter(|major| !is_shipped(major))
        .map(|major| What::Major(*major))
        .collect();
    if !missing.is_empty() || versions.is_empty() {
        return missing;
    }
    let is_read = |version: &Version| majors.is_empty() || majors.contains(&version.major);
    let read = versions.iter().filter(|(version, _)| is_read(version));
    let read: Vec<_> = read.flat_map(|(_, contracts)| contracts).collect();
    let fields = fields(filter.get("data")).into_iter();
    let undeclared = fields.filter(|field| !read.iter().any(|contract| contract.declares(field)));
    missing.extend(undeclared.map(What::Field));
    missing
}

/// The fields of the data that a filter asks a value of, without what may as well be absent or stands in `$or`.
fn fields(data: Option<&Value>) -> Vec<Vec<String>> {
    let (mut found, mut looking) = (Vec::new(), Vec::new());
    looking.extend(data.map(|data| (Vec::new(), data)));
    while let Some((path, value)) = looking.pop() {
        match value {
            Value::Object(inner) => {
                looking.extend(inner.iter().filter(|(name, _)| *name != "$or").map(
                    |(name, value)| {
                        let mut path: Vec<String> = path.clone();
                        path.extend(name.split('.').map(str::to_owned));
                        (path, value)
                    },
                ))
            }
            Value::Array(tests)
                if !tests
                    .iter()
                    .any(|test| test.get("exists") == Some(&Value::Bool(false))) =>
            {
                found.push(path);
            }
            _ => {}
        }
    }
    found
}
