//! `tangelo keys`: the keys with which those outside take part in the bus.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{Cli, deployed::Asked};
use crate::{client::Client, show};

/// List the keys of the bus: what each opens, and when it was used last
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Only of this app
    #[arg(long)]
    app: Option<String>,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Keys) -> Result<ExitCode> {
    let mut answer: Value = client.get("/v1/keys").await?;
    if let (Some(app), Some(rows)) = (&ask.app, answer["keys"].as_array_mut()) {
        rows.retain(|row| row["app"] == app.as_str());
        if rows.is_empty() {
            let asked = Asked::new(Some(app), None);
            asked.must_be_deployed(client).await?;
        }
    }
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = answer["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .map(row)
        .collect();
    let some = !rows.is_empty();
    let titles = ["key", "publishes", "pulls", "secrets", "last used"];
    show::table(&titles, rows, "no app declares a key");
    if some {
        anstream::println!(
            "they open `/_tangelo/bus/APP/events` and `/_tangelo/bus/APP/pull/NAME` of the gateway, as `authorization: Bearer SECRET`"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn row(row: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = |name: &str| {
        let all: Vec<String> = row[name]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        match all.is_empty() {
            true => "-".to_owned(),
            false => all.join(", "),
        }
    };
    let secret = |one: &Value| match one["state"].as_str() {
        Some("good") => text(&one["name"]),
        state => format!("{} ({})", text(&one["name"]), state.unwrap_or_default()),
    };
    let secrets = row["secrets"].as_array().into_iter().flatten().map(secret);
    vec![
        format!("{}/{}", text(&row["app"]), text(&row["key"])),
        list("publishes"),
        list("pulls"),
        secrets.collect::<Vec<_>>().join(", "),
        text(&row["last_used"]),
    ]
}
