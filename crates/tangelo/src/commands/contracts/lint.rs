//! Who publishes and takes which types, and what is wrong with that and with the contracts.

use std::{collections::BTreeMap, fmt, process::ExitCode};

use anyhow::Result;
use contract::{Contract, Contracts, Verdict, compare, pin::Asked};
use manifest::Severity;
use model::App;
use platform::contracts::{Type, World};
use serde::Serialize;
use serde_json::json;

use super::Cli;
use crate::show;

/// Something that is wrong, or worth a look.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// An error keeps an app from being good.
    pub(crate) severity: Severity,
    /// What it is.
    pub(crate) message: String,
    /// Whether other apps might make it right: `deploy` leaves it to the server, which sees them all.
    #[serde(skip)]
    pub(crate) alone: bool,
}

impl Finding {
    const fn error(message: String) -> Self {
        let (severity, alone) = (Severity::Error, false);
        Self {
            severity,
            message,
            alone,
        }
    }

    const fn warning(message: String) -> Self {
        let (severity, alone) = (Severity::Warning, false);
        Self {
            severity,
            message,
            alone,
        }
    }

    fn of_one_app(message: String) -> Self {
        Self {
            alone: true,
            ..Self::warning(message)
        }
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

/// Who of one app publishes a type, and who takes it. A database publishes as `NAME.outbox` or `NAME.capture`, whoever
/// has a key as `NAME.key`.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) producers: Vec<String>,
    pub(super) consumers: Vec<String>,
}

/// The types that workloads, databases and contracts of one app name.
pub(super) fn graph(app: &App, contracts: &Contracts) -> BTreeMap<String, Sides> {
    let types = platform::contracts::graph(&World::alone(app, contracts)).into_iter();
    let sides = |one: Type| {
        let mut consumers: Vec<String> = one.consumers.into_iter().map(|c| c.name).collect();
        // By two subscriptions.
        consumers.dedup();
        let producers = one.producers.into_iter().map(|p| p.name).collect();
        let sides = Sides {
            producers,
            consumers,
        };
        (one.kind, sides)
    };
    types.map(sides).collect()
}

/// What `check` and `deploy` say of the types that an app names, and of its contracts. A type that nobody publishes is told by the
/// check of its manifest.
pub(crate) fn look(app: &App, files: &BTreeMap<String, String>) -> Vec<Finding> {
    match Contracts::read(files) {
        Err(problems) => {
            let said = problems.iter().map(ToString::to_string);
            said.map(Finding::error).collect()
        }
        // Who has no contracts is not told of each that is not there.
        Ok(contracts) if contracts.is_empty() => of_types(app, &contracts),
        Ok(contracts) => findings(app, &contracts),
    }
}

/// Of the types that an app names, whether or not they have contracts.
fn of_types(app: &App, contracts: &Contracts) -> Vec<Finding> {
    let misnamed = platform::contracts::misnamed(app).into_iter();
    let mut found: Vec<Finding> = misnamed.map(Finding::warning).collect();
    let untaken = platform::contracts::untaken(app, &World::alone(app, contracts));
    found.extend(untaken.into_iter().map(|one| {
        let producers = one.producers.join("`, `");
        let message = format!(
            "`{}` of `{producers}` has no consumer in this app",
            one.kind
        );
        Finding::of_one_app(message)
    }));
    found
}

fn findings(app: &App, contracts: &Contracts) -> Vec<Finding> {
    let mut found = of_types(app, contracts);
    for (kind, sides) in graph(app, contracts) {
        if sides.producers.is_empty() && sides.consumers.is_empty() {
            let message = format!("nobody publishes or takes `{kind}`, which has a contract");
            found.push(Finding::of_one_app(message));
        } else if contracts.versions(&kind).is_none() {
            let message = format!("`{kind}` has no contract: contracts/{kind}/1.json would be one");
            found.push(Finding::warning(message));
        }
    }
    found.extend(by_spelling(app, contracts));
    let asked = platform::contracts::not_in_own(app, contracts).into_iter();
    found.extend(asked.map(Finding::of_one_app));
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

/// Filters on how a publisher spells `dataschema`, where a version is meant.
fn by_spelling(app: &App, contracts: &Contracts) -> Vec<Finding> {
    let subscriptions = app.workloads.values().flat_map(|workload| {
        let name = &workload.name;
        workload.on.iter().map(move |one| (name, &one.filter.0))
    });
    let mut found = Vec::new();
    for (name, filter) in subscriptions {
        let kinds = manifest::types(filter).unwrap_or_default();
        let kind = kinds.iter().find(|kind| contracts.versions(kind).is_some());
        let Some((kind, major)) = kind.zip(Asked::of(filter).written.first().copied()) else {
            continue;
        };
        found.push(Finding::warning(format!(
            "`{name}` asks for version {major} of `{kind}` by how its publisher spells `dataschema`: `contract: {major}` beside `event` \
             is met however it is spelt"
        )));
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
        format!("`{kind}` has no producer in this app, and `{consumers}` waits for it")
    });
    said.map(Finding::of_one_app).collect()
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
