//! `tangelo reconcile`: what is to be the same in two places, and is not.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Cli, outbox::pair};
use crate::{client::Client, show};

/// See what differs between two places, and compare them now
#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List reconciliations, and what their last sweeps came to
    List,
    /// Show what differs
    Show(One),
    /// Compare now, and hand what differs to repair
    Run(One),
}

#[derive(Debug, Args)]
struct One {
    /// Which: app/name
    #[arg(value_parser = pair)]
    reconciliation: (String, String),
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Reconcile) -> Result<ExitCode> {
    match &ask.command {
        None | Some(Action::List) => list(cli, client.get("/v1/reconciliations").await?)?,
        Some(Action::Show(one)) => differences(cli, client.get(&path(one)).await?)?,
        Some(Action::Run(one)) => {
            let answer: Value = client.post(&path(one), &json!({})).await?;
            let failed = answer["error"].is_object();
            if cli.json {
                show::json(&answer)?;
            } else {
                anstream::println!("{}", told(&answer));
            }
            if failed {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a sweep came to, in words.
fn told(sweep: &Value) -> String {
    if let Some(why) = sweep["error"]["message"].as_str() {
        let code = sweep["error"]["code"].as_str().unwrap_or_default();
        return format!("not compared: {why} [{code}]");
    }
    let (left, right) = (&sweep["rows"][0], &sweep["rows"][1]);
    format!(
        "{left} and {right} rows: {} differ, {} handed to repair, {} resolved",
        sweep["differences"], sweep["handed"], sweep["resolved"]
    )
}

fn list(cli: &Cli, answer: Value) -> Result<()> {
    if cli.json {
        return show::json(&answer);
    }
    let rows = answer["reconciliations"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let last = match &row["last"] {
            Value::Null => "not yet".to_owned(),
            last => told(last),
        };
        vec![
            format!("{}/{}", text("app"), text("name")),
            text("repair"),
            last,
        ]
    });
    show::table(
        &["reconciliation", "repair", "last sweep"],
        rows.collect(),
        "nothing is reconciled",
    );
    Ok(())
}

fn differences(cli: &Cli, answer: Value) -> Result<()> {
    if cli.json {
        return show::json(&answer);
    }
    let rows = answer["differences"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let side = |value: &Value| {
            if value.is_null() {
                "-".to_owned()
            } else {
                value.to_string()
            }
        };
        let handed = if row["handed_at"].is_null() {
            "no"
        } else {
            "yes"
        };
        vec![
            text(&row["key"]),
            text(&row["kind"]),
            side(&row["left"]),
            side(&row["right"]),
            handed.to_owned(),
        ]
    });
    show::table(
        &["key", "kind", "left", "right", "handed"],
        rows.collect(),
        "nothing differs",
    );
    Ok(())
}

fn path(one: &One) -> String {
    let (app, name) = &one.reconciliation;
    format!("/v1/reconciliations/{app}/{name}")
}
