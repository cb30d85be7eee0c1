//! `tangelo publish`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Cli, invoke};
use crate::{client::Client, show};

/// Publish an event
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The event's type, such as order.created
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The event's data: JSON, `@FILE`, or `-` for standard input
    #[arg(short = 'd', long, default_value = "{}", value_name = "JSON")]
    payload: String,
    /// Who says so
    #[arg(long, default_value = "tangelo-cli")]
    source: String,
    /// What it happened to
    #[arg(long)]
    subject: Option<String>,
    /// The event's id; repeating one within ten minutes publishes nothing new
    #[arg(long)]
    id: Option<String>,
}

pub(crate) async fn publish(cli: &Cli, client: &Client, ask: &Publish) -> Result<ExitCode> {
    let data: Value =
        serde_json::from_str(&invoke::read(&ask.payload)?).context("--payload is not JSON")?;
    let event = json!({
        "specversion": "1.0", "type": ask.kind, "source": ask.source, "subject": ask.subject, "id": ask.id, "data": data,
    });
    let body = Bytes::from(serde_json::to_vec(&json!([event]))?);
    let response = client
        .send_as(
            http::Method::POST,
            "/v1/events",
            "application/cloudevents-batch+json",
            body,
        )
        .await?;
    let answer: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    if cli.json {
        show::json(&answer)?;
    } else {
        let event = &answer["events"][0];
        let note = if event["duplicate"] == true {
            " (it was there already)"
        } else {
            ""
        };
        anstream::println!(
            "{} is in the log at position {}{note}",
            event["id"].as_str().unwrap_or_default(),
            event["position"]
        );
    }
    Ok(ExitCode::SUCCESS)
}
