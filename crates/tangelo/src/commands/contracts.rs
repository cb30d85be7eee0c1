//! `tangelo contracts`: the contracts beside a manifest, looked at without a server; and who publishes and takes what, over all that is
//! deployed.

mod files;
mod graph;
mod lint;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};
use contract::{Contract, Contracts, Direction, Verdict, compare};
use model::{App, code};
use serde_json::{Map, Value, json};

use super::{Cli, deploy::Source};
use crate::{client::Client, failure::failure, show};
pub(crate) use files::files;
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
    /// Say between which versions events pass, with one that does not for each that they do not; the exit code is 1 when a version
    /// breaks what it promises
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

fn read(place: &Place) -> Result<(Source, Contracts)> {
    let source = Source::read(&place.path)?;
    let contracts = Contracts::read(&source.contracts);
    let contracts = contracts.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        failure(code::BAD_CONTRACT, lines.join("\n"))
    })?;
    Ok((source, contracts))
}

fn diff(cli: &Cli, place: &Place, only: Option<&str>) -> Result<ExitCode> {
    let (_, contracts) = read(place)?;
    if let Some(only) = only.filter(|only| contracts.versions(only).is_none()) {
        let known: Vec<_> = contracts.types().map(|(kind, _)| kind).collect();
        let known = match known.is_empty() {
            true => "there is none at all".to_owned(),
            false => format!("there are some of {}", known.join(", ")),
        };
        fail!(
            BAD_ARGUMENT,
            "there is no contract of the type `{only}`: {known}"
        );
    }
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
    let is_broken = |row: &Value| row["promised"] == true && row["verdict"] == "incompatible";
    let code = match rows.iter().any(is_broken) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    };
    if cli.json {
        show::json(&json!({ "versions": rows }))?;
        return Ok(code);
    }
    for row in &rows {
        let broken = if is_broken(row) {
            " (broken promise)"
        } else {
            ""
        };
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
            "{} {} → {}: {} {}{broken}{why}",
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
    Ok(code)
}

fn row(kind: &str, earlier: &Contract, later: &Contract, direction: Direction) -> Value {
    // A new major version promises nothing beside the old one.
    let promised = earlier.version.major == later.version.major
        && later.mode.directions().contains(&direction);
    let mut row = json!({
        "type": kind, "earlier": earlier.version.to_string(), "later": later.version.to_string(),
        "direction": direction.to_string(), "promised": promised,
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
            text.push_str("| field | type | required | what |\n| --- | --- | --- | --- |\n");
            for field in contract.fields() {
                let needed = if field.required { "yes" } else { "" };
                let _ = writeln!(
                    text,
                    "| `{}` | {} | {needed} | {} |",
                    cell(&field.path),
                    cell(&field.kind),
                    cell(&field.what)
                );
            }
        }
    }
    text
}

/// A text inside a table of Markdown.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A name inside a JSON Pointer (RFC 6901): types without a contract may be called anything.
fn in_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
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
                let channel = format!("#/channels/{}", in_pointer(&kind));
                let operation = json!({"action": action, "channel": {"$ref": channel}});
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
