//! What `tangelo init --event TYPE` writes: the contract first, then its type, and stubs of who publishes it and who takes it. In a
//! folder that has an app already, they are added to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::{App, EventFilter, Limits, Name, code};
use serde_json::Value;

use super::insert::{self, Addition};

use crate::failure::Coded;

/// Paths in the app's folder, and texts in which `{{app}}`, `{{type}}`, `{{noun}}`, `{{name}}`, `{{module}}` and `{{class}}` stand
/// for names.
const CONTRACT: (&str, &str) = (
    "contracts/{{type}}/1.json",
    include_str!("../templates/event/contract.json"),
);
const MODULE: (&str, &str) = (
    "functions/{{module}}.py",
    include_str!("../templates/event/event.py.in"),
);
const PRODUCER: (&str, &str) = (
    "functions/{{module}}_producer.py",
    include_str!("../templates/event/producer.py.in"),
);
const CONSUMER: (&str, &str) = (
    "functions/{{module}}_consumer.py",
    include_str!("../templates/event/consumer.py.in"),
);
/// Entries of the manifest.
const PRODUCER_ENTRY: &str = include_str!("../templates/event/producer.yaml");
const CONSUMER_ENTRY: &str = include_str!("../templates/event/consumer.yaml");
const ROUTE: &str = include_str!("../templates/event/route.yaml");

/// What an event's files are to be named after.
struct Names<'n> {
    app: &'n str,
    kind: &'n str,
    /// `order-created`.
    name: String,
}

impl<'n> Names<'n> {
    /// # Errors
    /// When it is no good name of a type, or longer than what is named after it may be.
    fn new(kind: &'n str, app: &'n str) -> Result<Self> {
        if let Some(problem) = contract::type_problem(kind) {
            fail!(BAD_CONTRACT, "{problem}");
        }
        let name = name(kind);
        Name::new(&format!("{name}-producer")).coded(code::BAD_ARGUMENT, || {
            format!("`{kind}` is what workloads would be named after")
        })?;
        Ok(Self { app, kind, name })
    }

    fn filled(&self, text: &str) -> String {
        let noun = self
            .kind
            .rsplit_once('.')
            .map_or(self.kind, |(noun, _)| noun);
        text.replace("{{app}}", self.app)
            .replace("{{type}}", self.kind)
            .replace("{{noun}}", &noun.replace('.', "-"))
            .replace("{{name}}", &self.name)
            .replace("{{module}}", &self.name.replace('-', "_"))
            .replace("{{class}}", &class(self.kind))
    }

    fn file(&self, (path, text): (&str, &str)) -> (PathBuf, String) {
        (PathBuf::from(self.filled(path)), self.filled(text))
    }
}

/// The files of a new app whose event this is.
///
/// # Errors
/// When it is no good name of a type, or longer than what is named after it may be.
pub(super) fn files(kind: &str, app: &Name) -> Result<Vec<(PathBuf, String)>> {
    let names = Names::new(kind, app.as_str())?;
    let workloads = [PRODUCER_ENTRY, CONSUMER_ENTRY].map(|entry| insert::indented(entry, "  "));
    let manifest = include_str!("../templates/event/tangelo.yaml")
        .replace("{{workloads}}", &workloads.join("\n"))
        .replace("{{routes}}\n", &insert::indented(ROUTE, "    "));
    Ok(vec![
        names.file((".gitignore", include_str!("../templates/gitignore"))),
        names.file(("tangelo.yaml", &manifest)),
        names.file(CONTRACT),
        names.file(MODULE),
        names.file(PRODUCER),
        names.file(CONSUMER),
    ])
}

/// What an app that is there gets.
pub(super) struct Added {
    /// Files that it does not have yet, relative to its folder.
    pub(super) files: Vec<(PathBuf, String)>,
    /// Its manifest with what is new in it; `None`: there is nothing to add, or no place for it.
    pub(super) manifest: Option<String>,
    /// What the manifest is to get by hand; empty: nothing.
    pub(super) by_hand: String,
    /// The path at which the event may be published from outside; `None`: the app publishes it already.
    pub(super) route: Option<String>,
}

/// Adds an event to the app whose manifest is `text`: a producer unless something publishes the type already, a consumer
/// unless something takes it.
///
/// # Errors
/// When the manifest has mistakes, or the app is named otherwise than it is to be.
pub(super) fn add(kind: &str, text: &str, folder: &Path, named: Option<&str>) -> Result<Added> {
    let parsed = manifest::parse(text, manifest::FILE_NAME, &Limits::default());
    let Some(app) = parsed.app else {
        let mistakes = manifest::render(&parsed.diagnostics, text, manifest::FILE_NAME);
        fail!(
            MANIFEST_INVALID,
            "{} has mistakes\n{mistakes}",
            folder.join(manifest::FILE_NAME).display()
        );
    };
    if let Some(other) = named.filter(|name| *name != app.name.as_str()) {
        fail!(
            BAD_ARGUMENT,
            "the app in {} is `{}`, not `{other}`",
            folder.display(),
            app.name
        );
    }
    let names = Names::new(kind, app.name.as_str())?;
    if let Some(there) = contract_of(kind, folder)? {
        fail!(
            BAD_ARGUMENT,
            "`{kind}` has a contract already: {}; a new version of it is a file beside that",
            there.display()
        );
    }
    let mut addition = Addition::default();
    let mut files = vec![names.file(CONTRACT), names.file(MODULE)];
    let is_published = publishes(&app, kind);
    if !is_published {
        files.push(names.file(PRODUCER));
        addition.workloads.push(names.filled(PRODUCER_ENTRY));
        addition.routes.push(names.filled(ROUTE));
    }
    if !app
        .workloads
        .values()
        .any(|workload| workload.on.iter().any(|one| takes(&one.filter, kind)))
    {
        files.push(names.file(CONSUMER));
        addition.workloads.push(names.filled(CONSUMER_ENTRY));
    }
    let (manifest, by_hand) = match addition.added_to(text, &app) {
        _ if addition.is_empty() => (None, String::new()),
        Some(manifest) => (Some(manifest), String::new()),
        None => (None, addition.shown()),
    };
    Ok(Added {
        files,
        manifest,
        by_hand,
        route: (!is_published).then(|| format!("/{}", names.name)),
    })
}

/// The folder of a type's contract, when there is something in it.
fn contract_of(kind: &str, folder: &Path) -> Result<Option<PathBuf>> {
    let there = folder.join(contract::FOLDER).join(kind);
    match std::fs::read_dir(&there) {
        Ok(mut entries) => Ok(entries.next().map(|_| there)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", there.display())),
    }
}

fn publishes(app: &App, kind: &str) -> bool {
    let workloads = app
        .workloads
        .values()
        .flat_map(|workload| &workload.publishes);
    let outboxes = app
        .databases
        .values()
        .filter_map(|database| database.outbox.as_ref());
    let keys = app.keys.values().flat_map(|key| &key.publishes);
    let outboxes = outboxes.flat_map(|outbox| &outbox.publishes);
    let mut declared = workloads.chain(outboxes).chain(keys);
    declared.any(|declared| manifest::may_meet(declared, kind))
}

/// Whether a subscription names the type.
fn takes(filter: &EventFilter, kind: &str) -> bool {
    let tests = filter.0.get("type").and_then(Value::as_array);
    tests
        .into_iter()
        .flatten()
        .any(|test| test.as_str() == Some(kind))
}

/// What workloads and the route are named after: `order-created` of `order.created`.
pub(super) fn name(kind: &str) -> String {
    kind.replace('.', "-")
}

/// `OrderCreated` of `order.created`.
fn class(kind: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    };
    kind.split(['.', '-']).map(word).collect()
}
