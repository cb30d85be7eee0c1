//! `tangelo revisions`, `rollback`, `remove`: what one app was and is.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use platform::deploy::Deployed;
use serde_json::{Value, json};

use super::{Cli, deploy, progress};
use crate::{
    client::{Client, segment},
    show,
};

/// An app by name
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The app
    app: String,
}

/// Make an earlier revision live again
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The app
    app: String,
    /// The revision; the one before the live one unless said
    #[arg(long, value_name = "N")]
    to: Option<u64>,
}

pub(crate) async fn revisions(cli: &Cli, client: &Client, ask: &Named) -> Result<ExitCode> {
    let answer: Value = client
        .get(&format!("/v1/apps/{}/revisions", segment(&ask.app)))
        .await?;
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = answer["revisions"].as_array().into_iter().flatten();
    if rows.clone().next().is_none() {
        fail!(NO_SUCH_APP, "no app `{}` was ever deployed here", ask.app);
    }
    let rows = rows.map(|r| {
        let live = if r["live"] == true { "live" } else { "" };
        vec![
            r["revision"].to_string(),
            r["at"].as_str().unwrap_or_default().to_owned(),
            live.to_owned(),
        ]
    });
    show::table(
        &["revision", "deployed", ""],
        rows.collect(),
        "this app has no revisions",
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn rollback(cli: &Cli, client: &Client, ask: &Rollback) -> Result<ExitCode> {
    let path = format!("/v1/apps/{}/rollback", segment(&ask.app));
    let body = json!({ "to": ask.to });
    let deployed: Deployed = progress::show(client, &ask.app, client.post(&path, &body)).await?;
    if cli.json {
        show::json(&deployed)?;
    } else {
        deploy::print(&deployed);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn remove(cli: &Cli, client: &Client, ask: &Named) -> Result<ExitCode> {
    let answer: Value = client
        .delete(&format!("/v1/apps/{}", segment(&ask.app)))
        .await?;
    if cli.json {
        show::json(&answer)?;
    } else {
        anstream::println!(
            "{} is out of service; its revisions and state are kept",
            ask.app
        );
    }
    Ok(ExitCode::SUCCESS)
}
