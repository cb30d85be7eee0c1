//! `tangelo contracts`: the contracts beside a manifest, looked at without a server; and who publishes and takes what, over all that is
//! deployed.

mod graph;
mod lint;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use contract::{Contract, Contracts, Direction, Verdict, compare};
use model::App;
use serde_json::{Map, Value, json};

use super::{Cli, deploy::Source};
use crate::{client::Client, show};
pub(crate) use lint::{Finding, look};

/// Look at the contracts of events: beside a manifest, and over all deployed apps
#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say what is wrong: files, names, types that nobody publishes or takes
    Lint(Place),
    /// Say between which versions events pass, with one that does not for each that they do not
    Diff {
        #[command(flatten)]
        place: Place,
        /// Only of this type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
    },
    /// Print types, versions and fields as Markdown
    Docs(Place),
    /// Print producers, consumers and schemas as an AsyncAPI 3 document
    Asyncapi(Place),
    /// Show who publishes and takes which types, over all apps that are deployed
    Graph {
        /// Only this type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// The folder of tangelo.yaml, or the file itself
    #[arg(default_value = ".")]
    path: PathBuf,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Ask) -> Result<ExitCode> {
    match &ask.command {
        Action::Lint(place) => {
            let (source, contracts) = read(place)?;
            lint::run(cli, &source.app, &contracts)
        }
        Action::Diff { place, kind } => diff(cli, place, kind.as_deref()),
        Action::Docs(place) => {
            let (source, contracts) = read(place)?;
            let text = docs(&source.app, &contracts);
            match cli.json {
                true => show::json(&json!({ "markdown": text }))?,
                false => anstream::print!("{text}"),
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Asyncapi(place) => {
            let (source, contracts) = read(place)?;
            show::json(&asyncapi(&source.app, &contracts))?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Graph { kind } => graph::run(cli, client, kind.as_deref()).await,
    }
}

/// The texts of all files below `contracts`, by their paths in it; none when there is no such folder.
///
/// # Errors
/// When a file cannot be read, or there are more or larger ones than a deploy takes.
pub(crate) fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let root = folder.join(contract::FOLDER);
    let (mut files, mut folders, mut bytes) = (BTreeMap::new(), vec![String::new()], 0);
    while let Some(inner) = folders.pop() {
        let listed = match std::fs::read_dir(root.join(&inner)) {
            Ok(listed) => listed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && inner.is_empty() => break,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read {}", root.join(&inner).display()));
            }
        };
        for entry in listed {
            let name = entry?.file_name();
            let name = name
                .to_str()
                .context("contracts: a file's name is not UTF-8")?;
            let path = if inner.is_empty() {
                name.to_owned()
            } else {
                format!("{inner}/{name}")
            };
            let full = root.join(&path);
            let data = std::fs::symlink_metadata(&full)?;
            if data.is_dir() {
                folders.push(path);
            } else if name.ends_with(".json") {
                bytes += data.len();
                if files.len() >= contract::MAX_FILES || bytes > contract::MAX_BYTES as u64 {
                    let (files, bytes) = (contract::MAX_FILES, contract::MAX_BYTES);
                    bail!(
                        "{} holds more than {files} files or {bytes} bytes [TG0509]",
                        root.display()
                    );
                }
                let text = std::fs::read_to_string(&full);
                files.insert(
                    path,
                    text.with_context(|| format!("cannot read {}", full.display()))?,
                );
            }
        }
    }
    Ok(files)
}

fn read(place: &Place) -> Result<(Source, Contracts)> {
    let source = Source::read(&place.path)?;
    let contracts = Contracts::read(&source.contracts);
    let contracts = contracts.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{} [TG0509]", lines.join("\n"))
    })?;
    Ok((source, contracts))
}

fn diff(cli: &Cli, place: &Place, only: Option<&str>) -> Result<ExitCode> {
    let (_, contracts) = read(place)?;
    let mut rows = Vec::new();
    for (kind, versions) in contracts
        .types()
        .filter(|(kind, _)| only.is_none_or(|only| only == *kind))
    {
        let all: Vec<_> = versions.values().collect();
        for pair in all.windows(2) {
            for direction in [Direction::Backward, Direction::Forward] {
                rows.push(row(kind, pair[0], pair[1], direction));
            }
        }
    }
    if cli.json {
        show::json(&json!({ "versions": rows }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let why = match text("verdict").as_str() {
            "incompatible" => format!(": {} is refused", row["witness"]),
            "undecided" => format!(
                ": `{}` at `{}` cannot be compared",
                text("keyword"),
                text("place")
            ),
            _ => String::new(),
        };
        anstream::println!(
            "{} {} → {}: {} {}{why}",
            text("type"),
            text("earlier"),
            text("later"),
            text("direction"),
            text("verdict")
        );
    }
    if rows.is_empty() {
        anstream::println!("there are no two versions of a type");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(kind: &str, earlier: &Contract, later: &Contract, direction: Direction) -> Value {
    let mut row = json!({
        "type": kind, "earlier": earlier.version.to_string(), "later": later.version.to_string(),
        "direction": direction.to_string(),
    });
    match compare(earlier, later, direction) {
        Verdict::Compatible => row["verdict"] = json!("compatible"),
        Verdict::Incompatible {
            witness,
            violations,
        } => {
            row["verdict"] = json!("incompatible");
            row["witness"] = witness;
            let violation =
                |v: &contract::Violation| json!({"pointer": v.pointer, "message": v.message});
            row["violations"] = violations.iter().map(violation).collect();
        }
        Verdict::Undecided { place, keyword } => {
            row["verdict"] = json!("undecided");
            row["place"] = json!(place);
            row["keyword"] = json!(keyword);
        }
    }
    row
}

fn docs(app: &App, contracts: &Contracts) -> String {
    let mut graph = lint::graph(app, contracts);
    let mut text = format!("# Events of {}\n", app.name);
    for (kind, versions) in contracts.types() {
        let sides = graph.remove(kind).unwrap_or_default();
        let names = |names: &[String]| {
            if names.is_empty() {
                "nobody".to_owned()
            } else {
                names.join(", ")
            }
        };
        let _ = write!(
            text,
            "\n## {kind}\n\nPublished by {}; taken by {}.\n",
            names(&sides.producers),
            names(&sides.consumers)
        );
        for (version, contract) in versions.iter().rev() {
            let described = contract.schema.get("description").and_then(Value::as_str);
            let _ = write!(text, "\n### Version {version}\n\n");
            if let Some(described) = described {
                let _ = write!(text, "{described}\n\n");
            }
            let required: Vec<&str> = contract.schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            text.push_str("| field | type | required | what |\n| --- | --- | --- | --- |\n");
            for (name, schema) in contract.schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
            {
                let kind = schema
                    .get("type")
                    .or_else(|| schema.get("$ref"))
                    .map_or_else(|| "any".to_owned(), plain);
                let what = schema.get("description").map_or_else(String::new, plain);
                let needed = if required.contains(&name.as_str()) {
                    "yes"
                } else {
                    ""
                };
                let _ = writeln!(
                    text,
                    "| `{name}` | {kind} | {needed} | {} |",
                    what.replace(['|', '\n'], " ")
                );
            }
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// AsyncAPI 3.0: a channel for each type, a message for each version, an operation for each workload.
fn asyncapi(app: &App, contracts: &Contracts) -> Value {
    let (mut channels, mut messages, mut operations) = (Map::new(), Map::new(), Map::new());
    for (kind, versions) in contracts.types() {
        let mut of_channel = Map::new();
        for (version, contract) in versions {
            let name = format!("{kind}-{version}");
            let place = format!("#/components/messages/{name}/payload/schema");
            messages.insert(name.clone(), json!({
                "name": kind, "title": format!("{kind} {version}"), "contentType": "application/json",
                "payload": {
                    "schemaFormat": "application/schema+json;version=draft-2020-12",
                    "schema": contract.bundled_at(&place),
                },
            }));
            of_channel.insert(
                name.clone(),
                json!({"$ref": format!("#/components/messages/{name}")}),
            );
        }
        channels.insert(
            kind.to_owned(),
            json!({"address": kind, "messages": of_channel}),
        );
    }
    for (kind, sides) in lint::graph(app, contracts) {
        if !channels.contains_key(&kind) {
            channels.insert(kind.clone(), json!({"address": kind, "messages": {}}));
        }
        for (action, workloads) in [("send", sides.producers), ("receive", sides.consumers)] {
            for workload in workloads {
                let operation =
                    json!({"action": action, "channel": {"$ref": format!("#/channels/{kind}")}});
                operations.insert(format!("{workload}-{action}-{kind}"), operation);
            }
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": format!("Events of {}", app.name), "version": "1"},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    })
}
