//! `tangelo contracts graph`: who publishes and takes which types, over all apps that are deployed.

use std::process::ExitCode;

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Cli;
use crate::{client::Client, show};

#[derive(Deserialize)]
struct Answer {
    types: Vec<Value>,
}

pub(super) async fn run(cli: &Cli, client: &Client, only: Option<&str>) -> Result<ExitCode> {
    let mut answer: Answer = client.get("/v1/contracts").await?;
    answer
        .types
        .retain(|row| only.is_none_or(|only| row["type"] == only));
    if cli.json {
        show::json(&json!({ "types": answer.types }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = answer.types.iter().map(|row| {
        vec![
            row["type"].as_str().unwrap_or_default().to_owned(),
            listed(&row["contracts"], |one| {
                format!("{}: {}", text(one, "app"), versions(one))
            }),
            listed(&row["producers"], |one| {
                format!("{}/{}", text(one, "app"), text(one, "name"))
            }),
            listed(&row["consumers"], |one| {
                let name = format!("{}/{}", text(one, "app"), text(one, "name"));
                match versions(one) {
                    all if all.is_empty() => name,
                    versions => format!("{name} ({versions})"),
                }
            }),
        ]
    });
    show::table(
        &["type", "contract", "published by", "taken by"],
        rows.collect(),
        "no deployed app names a type of events",
    );
    Ok(ExitCode::SUCCESS)
}

fn text<'r>(row: &'r Value, name: &str) -> &'r str {
    row[name].as_str().unwrap_or_default()
}

/// `1, 1.1, 2`.
fn versions(row: &Value) -> String {
    let all = row["versions"].as_array().into_iter().flatten();
    let plain = all.map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
    plain.collect::<Vec<_>>().join(", ")
}

/// One below another; a dash for none.
fn listed(rows: &Value, shown: impl Fn(&Value) -> String) -> String {
    let rows: Vec<String> = rows.as_array().into_iter().flatten().map(shown).collect();
    match rows.is_empty() {
        true => "-".to_owned(),
        false => rows.join("\n"),
    }
}
