//! What a deploy's contracts must keep to: each file by itself, later versions beside earlier ones, what is live already, and
//! what the app's own subscriptions expect of types whose contracts are here or live.

use std::collections::BTreeMap;

use contract::{Contracts, Problem, Verdict, Version, compare};
use model::{App, Error, code};
use serde_json::Value;

use crate::apps::{Live, LiveApp};

/// Reads an app's contracts.
///
/// # Errors
/// `BAD_CONTRACT` with every problem.
pub(crate) fn read(app: &App) -> Result<Contracts, Error> {
    Contracts::read(&app.contracts).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Error::new(code::BAD_CONTRACT, lines.join("\n"))
    })
}

/// Checks what is deployed beside what is live; gives what could not be decided.
///
/// # Errors
/// `BAD_CONTRACT`, `CONTRACT_INCOMPATIBLE` with a witness for each incompatibility, `CONTRACT_NOT_SHIPPED` with the producer and
/// the version that is needed.
pub(super) fn check(app: &App, contracts: &Contracts, live: &Live) -> Result<Vec<String>, Error> {
    let (mut broken, mut notes) = (Vec::new(), Vec::new());
    let own = live.apps.iter().find(|other| other.name == app.name);
    for (kind, versions) in contracts.types() {
        let known: Vec<_> = versions.values().collect();
        for (at, later) in known.iter().enumerate() {
            let same_major =
                |other: &&&contract::Contract| other.version.major == later.version.major;
            for earlier in known[..at].iter().filter(same_major) {
                compared(kind, earlier, later, &mut broken, &mut notes);
            }
            // A file that is live and was changed is a later version under the same name.
            let there = own.and_then(|own| own.contracts.versions(kind)?.get(&later.version));
            if let Some(there) = there.filter(|there| !there.is_same(later)) {
                compared(kind, there, later, &mut broken, &mut notes);
            }
        }
    }
    if broken.is_empty() {
        expected_is_there(app, contracts, live)?;
        return Ok(notes);
    }
    Err(Error::new(code::CONTRACT_INCOMPATIBLE, broken.join("\n")))
}

fn compared(
    kind: &str,
    earlier: &contract::Contract,
    later: &contract::Contract,
    broken: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let pair = format!("`{kind}` {} and {}", earlier.version, later.version);
    for direction in later.mode.directions() {
        match compare(earlier, later, *direction) {
            Verdict::Compatible => {}
            Verdict::Incompatible {
                witness,
                violations,
            } => {
                let first = violations.first();
                let why = first.map_or_else(String::new, |v| format!(" (`{}`: {})", v.pointer, v.message));
                broken.push(format!(
                    "{pair} are not {direction} compatible: one allows {witness}, which the other refuses{why}"
                ));
            }
            Verdict::Undecided { place, keyword } => notes.push(format!(
                "whether {pair} are {direction} compatible is undecided: `{keyword}` at `{place}` cannot be compared"
            )),
        }
    }
}

/// Every subscription to types with contracts asks for versions and fields that are shipped.
fn expected_is_there(app: &App, contracts: &Contracts, live: &Live) -> Result<(), Error> {
    for workload in app.workloads.values() {
        for subscription in &workload.on {
            let filter = &subscription.filter.0;
            for kind in exact(filter.get("type")) {
                let Some((owner, versions)) = shipped(kind, app, contracts, live) else {
                    continue;
                };
                let wanted = wanted_majors(filter.get("dataschema"));
                let missing = wanted
                    .iter()
                    .find(|major| !versions.keys().any(|v| v.major == **major));
                if let Some(major) = missing {
                    let there: Vec<String> = versions.keys().map(Version::to_string).collect();
                    return Err(Error::new(
                        code::CONTRACT_NOT_SHIPPED,
                        format!(
                            "`{}` expects version {major} of `{kind}`, which {} has not shipped: there is {}",
                            workload.name,
                            producers(owner, kind, app),
                            there.join(", ")
                        ),
                    ));
                }
                let in_wanted = |contract: &&contract::Contract| {
                    wanted.is_empty() || wanted.contains(&contract.version.major)
                };
                let read: Vec<_> = versions.values().filter(in_wanted).collect();
                for field in fields(filter.get("data")) {
                    if !read.iter().any(|contract| contract.declares(&field)) {
                        let newest = versions.keys().next_back();
                        return Err(Error::new(
                            code::CONTRACT_NOT_SHIPPED,
                            format!(
                                "`{}` expects `data.{}` of `{kind}`, which no shipped version declares: {} must ship one \
                                 later than {} that does",
                                workload.name,
                                field.join("."),
                                producers(owner, kind, app),
                                newest.map_or_else(String::new, Version::to_string),
                            ),
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

type Versions = BTreeMap<Version, contract::Contract>;

/// Whose contract of a type counts: the app's own, else the first that is live. `None`: of another app, or its own.
fn shipped<'a>(
    kind: &str,
    app: &App,
    contracts: &'a Contracts,
    live: &'a Live,
) -> Option<(Option<&'a LiveApp>, &'a Versions)> {
    if let Some(versions) = contracts.versions(kind) {
        return Some((None, versions));
    }
    let others = live.apps.iter().filter(|other| other.name != app.name);
    let mut with =
        others.filter_map(|other| Some((Some(&**other), other.contracts.versions(kind)?)));
    with.next()
}

/// The workloads that declare that they publish a type, of the app whose contract it is.
fn producers(owner: Option<&LiveApp>, kind: &str, app: &App) -> String {
    let of = owner.map_or(app, |owner| &owner.app);
    let declares = |workload: &&model::Workload| {
        workload
            .publishes
            .iter()
            .any(|declared| match declared.strip_suffix('*') {
                Some(prefix) => kind.starts_with(prefix),
                None => declared == kind,
            })
    };
    let names = of.workloads.values().filter(declares);
    let names: Vec<String> = names
        .map(|workload| format!("`{}/{}`", of.name, workload.name))
        .collect();
    match names.is_empty() {
        true => format!("app `{}`", of.name),
        false => names.join(" and "),
    }
}

fn exact(tests: Option<&Value>) -> Vec<&str> {
    let tests = tests.and_then(Value::as_array).into_iter().flatten();
    tests.filter_map(Value::as_str).collect()
}

/// The major versions that a filter's `dataschema` asks for, given whole or as a beginning such as `/contracts/order.created/2.`.
fn wanted_majors(tests: Option<&Value>) -> Vec<u32> {
    let tests = tests.and_then(Value::as_array).into_iter().flatten();
    let text = |test: &Value| {
        let text = test.as_str().or_else(|| test.get("prefix")?.as_str())?;
        let (version, _) = Version::of_dataschema(text.trim_end_matches('.'))?;
        Some(version.major)
    };
    tests.filter_map(text).collect()
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
