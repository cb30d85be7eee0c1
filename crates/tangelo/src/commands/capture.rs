//! `tangelo capture`: changes of tables in apps' own databases as events.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Cli, outbox::pair};
use crate::{client::Client, show};

/// Make and watch what captures the changes of tables
#[derive(Debug, Args)]
pub(crate) struct Capture {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make triggers (SQLite) or publication and slot (Postgres), or bring them up to date
    Init(One),
    /// Show how far behind captures are; with app/database, how each table is captured
    Status {
        /// Whose: app/database
        #[arg(value_parser = pair)]
        capture: Option<(String, String)>,
    },
    /// Take them away: changes that were not relayed yet are lost
    Drop(One),
}

#[derive(Debug, Args)]
struct One {
    /// Whose: app/database
    #[arg(value_parser = pair)]
    capture: (String, String),
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Capture) -> Result<ExitCode> {
    match &ask.command {
        None | Some(Action::Status { capture: None }) => {
            list(cli, client.get("/v1/captures").await?)?;
        }
        Some(Action::Status { capture: Some(one) }) => tables(cli, client.get(&path(one)).await?)?,
        Some(Action::Init(one)) => {
            tables(cli, client.post(&path(&one.capture), &json!({})).await?)?;
        }
        Some(Action::Drop(one)) => {
            let answer: Value = client.delete(&path(&one.capture)).await?;
            if cli.json {
                show::json(&answer)?;
            } else {
                anstream::println!("nothing is captured any more");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(cli: &Cli, answer: Value) -> Result<()> {
    if cli.json {
        return show::json(&answer);
    }
    let rows = answer["captures"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let why = row["why"]["message"]
            .as_str()
            .or_else(|| row["warning"].as_str());
        let kept = row["retained_bytes"].as_u64().map(model::ByteSize);
        vec![
            format!("{}/{}", text("app"), text("database")),
            text("engine"),
            text("state"),
            row["sent"].to_string(),
            kept.map_or_else(|| "-".to_owned(), |size| size.to_string()),
            why.unwrap_or_default().to_owned(),
        ]
    });
    let columns = ["capture", "engine", "state", "sent", "log kept", "why"];
    show::table(&columns, rows.collect(), "no changes are captured");
    Ok(())
}

fn tables(cli: &Cli, answer: Value) -> Result<()> {
    if cli.json {
        return show::json(&answer);
    }
    let rows = answer["tables"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let captured = if row["captured"] == true { "yes" } else { "no" };
        let problem = row["problem"].as_str().unwrap_or_default();
        vec![
            row["table"].as_str().unwrap_or_default().to_owned(),
            captured.to_owned(),
            problem.to_owned(),
        ]
    });
    show::table(
        &["table", "captured", "problem"],
        rows.collect(),
        "no tables",
    );
    Ok(())
}

fn path((app, database): &(String, String)) -> String {
    format!("/v1/captures/{app}/{database}")
}
