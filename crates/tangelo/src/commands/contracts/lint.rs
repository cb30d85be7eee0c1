//! Who publishes and takes which types, and what is wrong with that and with the contracts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    process::ExitCode,
};

use anyhow::Result;
use contract::{Contract, Contracts, Verdict, compare};
use manifest::Severity;
use model::App;
use pattern::Pattern;
use serde::Serialize;
use serde_json::{Value, json};

use super::Cli;
use crate::show;

/// Something that is wrong, or worth a look.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// An error keeps an app from being good.
    pub(crate) severity: Severity,
    /// What it is.
    pub(crate) message: String,
}

impl Finding {
    const fn error(message: String) -> Self {
        let severity = Severity::Error;
        Self { severity, message }
    }

    const fn warning(message: String) -> Self {
        let severity = Severity::Warning;
        Self { severity, message }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_error() { "error" } else { "warning" };
        write!(f, "{word}: {}", self.message)
    }
}

/// Who publishes a type, and who takes it. A database publishes as `NAME.outbox` or `NAME.capture`, whoever has
/// a key as `NAME.key`.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) producers: Vec<String>,
    pub(super) consumers: Vec<String>,
}

/// The types that are named by workloads, databases and contracts, without those of the platform itself.
pub(super) fn graph(app: &App, contracts: &Contracts) -> BTreeMap<String, Sides> {
    let published = published(app);
    let mut kinds: BTreeSet<&str> = contracts.types().map(|(kind, _)| kind).collect();
    kinds.extend(published.iter().map(|(_, kind)| kind.as_str()));
    for workload in app.workloads.values() {
        for subscription in &workload.on {
            let tests = subscription.filter.0.get("type").and_then(Value::as_array);
            kinds.extend(tests.into_iter().flatten().filter_map(Value::as_str));
        }
    }
    let named = |kind: &&str| !kind.ends_with('*') && !manifest::OF_THE_PLATFORM.contains(kind);
    let sides = |kind: &str| {
        let producers = published
            .iter()
            .filter(|(_, declared)| covers(declared, kind));
        let consumers = app.workloads.values().filter(|workload| {
            let mut subscriptions = workload.on.iter();
            subscriptions.any(|subscription| takes(&subscription.filter.0, kind))
        });
        let mut producers: Vec<String> = producers.map(|(name, _)| name.clone()).collect();
        producers.dedup();
        Sides {
            producers,
            consumers: consumers
                .map(|workload| workload.name.to_string())
                .collect(),
        }
    };
    let kinds = kinds.into_iter().filter(named);
    kinds.map(|kind| (kind.to_owned(), sides(kind))).collect()
}

/// Who declares that they publish what; a type may end with `*`.
fn published(app: &App) -> Vec<(String, String)> {
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
        let capture = database.capture.iter().flat_map(model::Capture::types);
        published.extend(capture.map(|kind| (format!("{name}.capture"), kind)));
    }
    published
}

fn covers(declared: &str, kind: &str) -> bool {
    match declared.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => declared == kind,
    }
}

/// Whether a filter may let events of a type through.
fn takes(filter: &Value, kind: &str) -> bool {
    filter.get("type").is_none_or(|tests| {
        let only_type = Pattern::compile(&json!({ "type": tests }));
        only_type.is_ok_and(|pattern| pattern.matches(&json!({ "type": kind })))
    })
}

/// What `check` and `deploy` say of an app that has contracts; nothing of one that has none. A type that nobody publishes is
/// told by the check of its manifest.
pub(crate) fn look(app: &App, files: &BTreeMap<String, String>) -> Vec<Finding> {
    match Contracts::read(files) {
        Err(problems) => {
            let said = problems.iter().map(ToString::to_string);
            said.map(Finding::error).collect()
        }
        Ok(contracts) if contracts.is_empty() => Vec::new(),
        Ok(contracts) => findings(app, &contracts),
    }
}

fn findings(app: &App, contracts: &Contracts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (kind, sides) in graph(app, contracts) {
        found.extend(contract::type_problem(&kind).map(Finding::error));
        if sides.producers.is_empty() && sides.consumers.is_empty() {
            let message = format!("nobody publishes or takes `{kind}`, which has a contract");
            found.push(Finding::warning(message));
            continue;
        }
        if sides.consumers.is_empty() {
            let producers = sides.producers.join("`, `");
            let message = format!("`{kind}` of `{producers}` has no consumer");
            found.push(Finding::warning(message));
        }
        if contracts.versions(&kind).is_none() {
            let message = format!("`{kind}` has no contract: contracts/{kind}/1.json would be one");
            found.push(Finding::warning(message));
        }
    }
    for (kind, versions) in contracts.types() {
        let all: Vec<_> = versions.values().collect();
        for (at, later) in all.iter().enumerate() {
            let same_major = |earlier: &&&Contract| earlier.version.major == later.version.major;
            for earlier in all[..at].iter().filter(same_major) {
                found.extend(broken(kind, earlier, later));
            }
        }
    }
    found
}

/// What keeps a version from standing beside an earlier one, as it promises to.
fn broken(kind: &str, earlier: &Contract, later: &Contract) -> Vec<Finding> {
    let refused = |direction: &contract::Direction| {
        let Verdict::Incompatible { witness, .. } = compare(earlier, later, *direction) else {
            return None;
        };
        let (earlier, later) = (earlier.version, later.version);
        let message = format!(
            "`{kind}` {earlier} and {later} are not {direction} compatible: one allows {witness}, which the other refuses"
        );
        Some(Finding::error(message))
    };
    let directions = later.mode.directions();
    directions.iter().filter_map(refused).collect()
}

/// Types that are waited for, and that nobody here publishes.
fn waited_for(app: &App, contracts: &Contracts) -> Vec<Finding> {
    let sides = graph(app, contracts).into_iter();
    let nobody = sides.filter(|(_, s)| s.producers.is_empty() && !s.consumers.is_empty());
    let said = nobody.map(|(kind, sides)| {
        let consumers = sides.consumers.join("`, `");
        format!("`{kind}` has no producer, and `{consumers}` waits for it")
    });
    said.map(Finding::warning).collect()
}

/// `tangelo contracts lint`.
pub(super) fn run(cli: &Cli, app: &App, contracts: &Contracts) -> Result<ExitCode> {
    let mut found = findings(app, contracts);
    found.extend(waited_for(app, contracts));
    if cli.json {
        show::json(&json!({ "findings": found }))?;
    } else {
        for finding in &found {
            anstream::println!("{finding}");
        }
        if found.is_empty() {
            anstream::println!("nothing is wrong with {} types", contracts.types().count());
        }
    }
    Ok(match found.iter().any(Finding::is_error) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
