//! `tangelo traces`: the newest traces, or one as a tree.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{Cli, deployed::Asked};
use crate::{
    client::{Client, query, segment},
    show,
};

/// Show traces
#[derive(Debug, Args)]
pub(crate) struct Traces {
    /// A trace to show as a tree; `last` for the newest
    trace: Option<String>,
    /// Only of this app
    #[arg(long)]
    app: Option<String>,
    /// Only those that touched this workload
    #[arg(long)]
    workload: Option<String>,
    /// Only those with an error
    #[arg(long)]
    errors: bool,
    /// Only slower ones, such as 100ms
    #[arg(long, value_name = "DURATION")]
    slower_than: Option<String>,
    /// Only of the last while, such as 10m
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// At most this many
    #[arg(short = 'n', long, default_value = "20")]
    limit: usize,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Traces) -> Result<ExitCode> {
    let asked = Asked::new(ask.app.as_deref(), ask.workload.as_deref());
    let id = match ask.trace.as_deref() {
        Some("last") => list(client, ask, &asked, 1).await?["traces"][0]["trace"]
            .as_str()
            .map(str::to_owned),
        Some(id) => Some(id.to_owned()),
        None => None,
    };
    match (id, &ask.trace) {
        (Some(id), _) => one(cli, client, &id).await,
        (None, Some(_)) => {
            asked.must_be_deployed(client).await?;
            fail!(NO_SUCH_TRACE, "there are no traces yet")
        }
        (None, None) => {
            let answer = list(client, ask, &asked, ask.limit).await?;
            if answer["traces"].as_array().is_some_and(Vec::is_empty) {
                asked.must_be_deployed(client).await?;
            }
            print(cli, &answer)
        }
    }
}

async fn list(client: &Client, ask: &Traces, asked: &Asked, limit: usize) -> Result<Value> {
    let path = query(&[
        ("app", asked.app.clone()),
        ("workload", asked.workload.clone()),
        ("errors", ask.errors.then(|| "true".to_owned())),
        ("slower_than", ask.slower_than.clone()),
        ("since", ask.since.clone()),
        ("limit", Some(limit.to_string())),
    ]);
    client.get(&format!("/v1/traces{path}")).await
}

async fn one(cli: &Cli, client: &Client, id: &str) -> Result<ExitCode> {
    let answer: Value = client.get(&format!("/v1/traces/{}", segment(id))).await?;
    if cli.json {
        show::json(&answer["trace"])?;
    } else {
        anstream::println!("{}", answer["tree"].as_str().unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

fn print(cli: &Cli, answer: &Value) -> Result<ExitCode> {
    if cli.json {
        show::json(answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = answer["traces"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|trace| {
            let micros = trace["duration_us"].as_u64().unwrap_or_default();
            let start = trace["start"]
                .as_u64()
                .map_or_else(String::new, |t| model::Time(t).rfc3339());
            let error = if trace["errors"].as_u64() > Some(0) {
                "error"
            } else {
                ""
            };
            vec![
                trace["trace"].as_str().unwrap_or_default().to_owned(),
                start.get(11..23).unwrap_or_default().to_owned(),
                model::units::display_duration(std::time::Duration::from_micros(micros)),
                trace["name"].as_str().unwrap_or_default().to_owned(),
                trace["spans"].to_string(),
                error.to_owned(),
            ]
        });
    show::table(
        &["trace", "at", "took", "root", "spans", ""],
        rows.collect(),
        "there are no traces yet",
    );
    Ok(ExitCode::SUCCESS)
}
