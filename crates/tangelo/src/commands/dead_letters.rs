//! `tangelo dead-letters`: deliveries that were given up.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Cli;
use crate::{
    client::{Client, query},
    show,
};

/// Look at deliveries that were given up
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    command: Option<Action>,
    /// Only of this subscription: app/workload/name
    #[arg(long, global = true)]
    subscription: Option<String>,
    /// Only of this app
    #[arg(long, global = true)]
    app: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show one with its event and every attempt
    Show {
        /// Its number
        id: u64,
    },
    /// Deliver one again, or all with --all
    Redrive {
        /// Its number
        #[arg(required_unless_present = "all")]
        id: Option<u64>,
        /// All of them, as far as --subscription and --app say
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// Throw one away
    Discard {
        /// Its number
        id: u64,
    },
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &DeadLetters) -> Result<ExitCode> {
    let filter = [
        ("subscription", ask.subscription.clone()),
        ("app", ask.app.clone()),
    ];
    let answer: Value = match &ask.command {
        None => {
            return list(
                cli,
                client
                    .get(&format!("/v1/dead-letters{}", query(&filter)))
                    .await?,
            );
        }
        Some(Action::Show { id }) => client.get(&format!("/v1/dead-letters/{id}")).await?,
        Some(Action::Redrive { id: Some(id), .. }) => {
            client
                .post(&format!("/v1/dead-letters/{id}/redrive"), &json!({}))
                .await?
        }
        Some(Action::Redrive { id: None, .. }) => {
            client
                .post(
                    "/v1/dead-letters/redrive",
                    &json!({"subscription": ask.subscription, "app": ask.app}),
                )
                .await?
        }
        Some(Action::Discard { id }) => client.delete(&format!("/v1/dead-letters/{id}")).await?,
    };
    show::json(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn list(cli: &Cli, answer: Value) -> Result<ExitCode> {
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let rows = answer["dead_letters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|letter| {
            let reason = &letter["reason"]["message"];
            let columns = ["id", "subscription", "type", "attempts"].map(|column| &letter[column]);
            columns
                .into_iter()
                .chain([reason, &letter["trace"]])
                .map(text)
                .collect()
        });
    show::table(
        &["id", "subscription", "type", "attempts", "reason", "trace"],
        rows.collect(),
        "no dead letters",
    );
    Ok(ExitCode::SUCCESS)
}
