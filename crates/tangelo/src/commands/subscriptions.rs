//! `tangelo subscriptions`: how far each is, what it waits for; pausing and resuming.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use model::{SubscriptionKey, code};
use serde_json::{Value, json};

use super::Cli;
use crate::{
    client::{Client, segments},
    failure::failure,
    show,
};

/// List subscriptions and why they wait; pause and resume them
#[derive(Debug, Args)]
pub(crate) struct Subscriptions {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them all
    List,
    /// Show one: what it asks for, how far it is, what was done to it
    Show {
        /// Which: app/workload/name
        subscription: String,
    },
    /// Take nothing more until it is resumed, over deploys and restarts; waiting costs no attempt
    Pause {
        /// Which: app/workload/name
        subscription: String,
        /// Why, for those who find it paused
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let one that is paused go on
    Resume {
        /// Which: app/workload/name
        subscription: String,
    },
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Subscriptions) -> Result<ExitCode> {
    match &ask.command {
        None | Some(Action::List) => list(cli, &client.get("/v1/subscriptions").await?)?,
        Some(Action::Show { subscription }) => {
            let answer: Value = client.get(&path(subscription)?).await?;
            show::json(&answer)?;
        }
        Some(Action::Pause {
            subscription,
            reason,
        }) => {
            let at = format!("{}/pause", path(subscription)?);
            let answer: Value = client.post(&at, &json!({ "reason": reason })).await?;
            show::said(cli.json, &answer, &format!("{subscription} is paused"))?;
        }
        Some(Action::Resume { subscription }) => {
            let at = format!("{}/resume", path(subscription)?);
            let answer: Value = client.post(&at, &json!({})).await?;
            let text = match answer["resumed"].as_bool() {
                Some(true) => format!("{subscription} goes on"),
                _ => format!("{subscription} was not paused"),
            };
            show::said(cli.json, &answer, &text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the server has a subscription.
///
/// # Errors
/// `NO_SUCH_SUBSCRIPTION` when the name of one is `app/workload/name`.
pub(super) fn path(subscription: &str) -> Result<String> {
    let key: Result<SubscriptionKey, String> = subscription.parse();
    let no_key = |reason| {
        let message = format!("{reason}; `tangelo subscriptions` lists those that there are");
        failure(code::NO_SUCH_SUBSCRIPTION, message)
    };
    let key = key.map_err(no_key)?.to_string();
    Ok(format!("/v1/subscriptions/{}", segments(&key)))
}

fn list(cli: &Cli, answer: &Value) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    let columns = [
        "subscription",
        "backlog",
        "in_flight",
        "retrying",
        "dead",
        "waiting_on",
    ];
    let text = |v: &Value| {
        v.as_str()
            .map_or_else(|| v.to_string(), str::to_owned)
            .replace("null", "-")
    };
    let rows = answer["subscriptions"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let mut cells: Vec<String> = columns.iter().map(|column| text(&row[*column])).collect();
        let since = row["waiting_since"].as_u64().map(model::Time);
        cells.push(since.map_or_else(|| "-".to_owned(), model::Time::rfc3339));
        cells
    });
    let titles: Vec<&str> = columns.into_iter().chain(["since"]).collect();
    show::table(&titles, rows.collect(), "no subscriptions");
    Ok(())
}
