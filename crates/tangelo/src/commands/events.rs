//! `tangelo publish`.

use std::process::ExitCode;

use anyhow::Result;
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
    /// When it happened, such as 2026-01-02T03:04:05Z; now unless given
    #[arg(long)]
    time: Option<String>,
    /// The version of its contract: an URI that ends with it, such as /contracts/order.created/1
    #[arg(long, value_name = "URI")]
    dataschema: Option<String>,
    /// An attribute more, as a text: its name is lower-case letters and digits. Again for each
    #[arg(long = "extension", value_name = "NAME=VALUE", value_parser = extension)]
    extensions: Vec<(String, String)>,
    /// The event's id; repeating one within ten minutes publishes nothing new
    #[arg(long)]
    id: Option<String>,
}

/// Attributes that are none of this command's, and no extensions.
const OTHERS: &[&str] = &["datacontenttype", "data_base64"];

/// `name=value`.
fn extension(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn publish(cli: &Cli, client: &Client, ask: &Publish) -> Result<ExitCode> {
    let data: Value = invoke::json_of("--payload", &invoke::read(&ask.payload)?)?;
    let mut event = json!({
        "specversion": "1.0", "type": ask.kind, "source": ask.source, "subject": ask.subject, "id": ask.id, "time": ask.time,
        "dataschema": ask.dataschema, "data": data,
    });
    for (name, value) in &ask.extensions {
        if event.get(name).is_some() || OTHERS.contains(&name.as_str()) {
            fail!(
                BAD_ARGUMENT,
                "`{name}` is there already, or is no extension: `tangelo publish --help` has what says it"
            );
        }
        event[name] = json!(value);
    }
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
