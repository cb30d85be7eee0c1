//! `tangelo projections`: read models that are fed from the log; rebuilding them beside the live one, and switching.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use model::SubscriptionKey;
use serde_json::{Value, json};

use super::Cli;
use crate::{
    client::{Client, segments},
    show::{self, said},
};

/// List projections and how far behind they are; rebuild, switch, drop
#[derive(Debug, Args)]
pub(crate) struct Projections {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them all, each generation with its lag in events and in seconds
    List,
    /// Show one
    Show {
        /// Which: app/workload/name
        projection: String,
    },
    /// Feed a new generation from the beginning of the log, beside the live one
    Rebuild {
        /// Which: app/workload/name
        projection: String,
        /// Also when the log no longer has all of its beginning
        #[arg(long)]
        partial: bool,
    },
    /// Make a generation the one that readers use
    Switch {
        /// Which: app/workload/name
        projection: String,
        /// Which generation; the newest unless given
        #[arg(long)]
        generation: Option<u32>,
    },
    /// End the feed of a generation that is not live
    Drop {
        /// Which: app/workload/name
        projection: String,
        /// Which generation
        generation: u32,
    },
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Projections) -> Result<ExitCode> {
    match &ask.command {
        None | Some(Action::List) => {
            let answer: Value = client.get("/v1/projections").await?;
            match cli.json {
                true => show::json(&answer)?,
                false => table(&answer["projections"]),
            }
        }
        Some(Action::Show { projection }) => {
            let answer: Value = client.get(&path(projection)?).await?;
            match cli.json {
                true => show::json(&answer)?,
                false => table(&json!([answer])),
            }
        }
        Some(Action::Rebuild {
            projection,
            partial,
        }) => {
            let at = format!("{}/rebuild", path(projection)?);
            let answer: Value = client.post(&at, &json!({ "partial": partial })).await?;
            let number = &answer["generation"];
            said(
                cli.json,
                &answer,
                &format!("generation {number} of {projection} is fed from the log"),
            )?;
        }
        Some(Action::Switch {
            projection,
            generation,
        }) => {
            let at = format!("{}/switch", path(projection)?);
            let ask = json!({ "generation": generation });
            let answer: Value = client.post(&at, &ask).await?;
            let live = &answer["live"];
            let text = match answer["switched"].as_bool() {
                Some(true) => format!("generation {live} of {projection} is live"),
                _ => format!("generation {live} of {projection} was live already"),
            };
            show::said(cli.json, &answer, &text)?;
        }
        Some(Action::Drop {
            projection,
            generation,
        }) => {
            let at = format!("{}/generations/{generation}", path(projection)?);
            let answer: Value = client.delete(&at).await?;
            let text = format!("generation {generation} of {projection} gets nothing more");
            show::said(cli.json, &answer, &text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the server has a projection.
///
/// # Errors
/// `NO_SUCH_PROJECTION` when the name of one is `app/workload/name`.
fn path(projection: &str) -> Result<String> {
    let key: Result<SubscriptionKey, String> = projection.parse();
    if key.is_err() {
        fail!(
            NO_SUCH_PROJECTION,
            "`{projection}` is not a projection: expected app/workload/name, as `tangelo projections` lists them"
        );
    }
    Ok(format!("/v1/projections/{}", segments(projection)))
}

/// A row for each generation; also below `tangelo ps`.
pub(crate) fn table(projections: &Value) {
    let mut rows = Vec::new();
    for projection in projections.as_array().into_iter().flatten() {
        let name = projection["projection"].as_str().unwrap_or_default();
        for one in projection["generations"].as_array().into_iter().flatten() {
            let text = |of: &Value| of.as_str().unwrap_or("-").to_owned();
            rows.push(vec![
                name.to_owned(),
                one["generation"].to_string(),
                text(&one["state"]),
                one["position"].to_string(),
                one["lag_events"].to_string(),
                format!("{:.1}s", one["lag_seconds"].as_f64().unwrap_or_default()),
                one["dead"].to_string(),
                text(&one["waiting_on"]),
            ]);
        }
    }
    let header = [
        "projection",
        "generation",
        "state",
        "position",
        "lag",
        "behind",
        "left out",
        "waiting_on",
    ];
    show::table(&header, rows, "no projections");
}
