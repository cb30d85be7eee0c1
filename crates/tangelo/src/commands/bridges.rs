//! `tangelo bridges`: topics of other people's brokers, and how reading and writing them is doing.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Cli, outbox::pair};
use crate::{
    client::{Client, segment},
    show::{self, said},
};

/// Show bridges to other people's brokers, and what is in their way
#[derive(Debug, Args)]
pub(crate) struct Bridges {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List each topic that is read or written: its state, how far behind it is, what is in the way
    List,
    /// List the partitions of topics that are read: where each is read on, and how far behind that is
    Partitions,
    /// Read a topic on elsewhere; what was read before and is within the log's window of ids is not taken twice
    Seek(Seek),
}

#[derive(Debug, Args)]
struct Seek {
    /// Whose: app/bridge
    #[arg(value_parser = pair)]
    bridge: (String, String),
    /// The topic
    topic: String,
    /// Where: `earliest`, `latest` or an offset
    #[arg(long, value_parser = place)]
    to: Value,
    /// One partition; all unless given
    #[arg(long)]
    partition: Option<i32>,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Bridges) -> Result<ExitCode> {
    if let Some(Action::Seek(seek)) = &ask.command {
        let (app, bridge) = &seek.bridge;
        let path = format!("/v1/bridges/{}/{}/seek", segment(app), segment(bridge));
        let ask = json!({"topic": seek.topic, "partition": seek.partition, "to": seek.to});
        let answer: Value = client.post(&path, &ask).await?;
        let rows = answer["partitions"].as_array().into_iter().flatten();
        let places: Vec<_> = rows
            .map(|row| format!("{} from {}", row["partition"], row["next"]))
            .collect();
        let text = format!("{} is read on: partition {}", seek.topic, places.join(", "));
        said(cli.json, &answer, &text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer: Value = client.get("/v1/bridges").await?;
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    match ask.command {
        Some(Action::Partitions) => partitions(&answer["bridges"]),
        _ => ways(&answer["bridges"]),
    }
    Ok(ExitCode::SUCCESS)
}

fn ways(bridges: &Value) {
    let rows = bridges.as_array().into_iter().flatten().map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let why = match row["why"]["message"].as_str() {
            Some(why) => {
                let code = row["why"]["code"].as_str().unwrap_or_default();
                format!("{why} [{code}]")
            }
            None => row["last_refused"].as_str().unwrap_or_default().to_owned(),
        };
        vec![
            name(row),
            text("way"),
            text("topic"),
            text("state"),
            row["since"]
                .as_u64()
                .map_or_else(String::new, |since| model::Time(since).rfc3339()),
            row["moved"].to_string(),
            row["lag"].to_string(),
            row["refused"].to_string(),
            why,
        ]
    });
    let titles = [
        "bridge", "way", "topic", "state", "since", "moved", "lag", "refused", "why",
    ];
    show::table(&titles, rows.collect(), "no bridges");
}

fn partitions(bridges: &Value) {
    let mut rows = Vec::new();
    for row in bridges.as_array().into_iter().flatten() {
        for one in row["partitions"].as_array().into_iter().flatten() {
            rows.push(vec![
                name(row),
                row["topic"].as_str().unwrap_or_default().to_owned(),
                one["partition"].to_string(),
                one["next"].to_string(),
                one["end"].to_string(),
                one["lag"].to_string(),
            ]);
        }
    }
    let titles = ["bridge", "topic", "partition", "next", "end", "lag"];
    show::table(&titles, rows, "no topic is read");
}

fn name(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    format!("{}/{}", text("app"), text("bridge"))
}

fn place(text: &str) -> Result<Value, String> {
    match text {
        "earliest" | "latest" => Ok(text.into()),
        _ => match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(offset.into()),
            _ => Err("expected `earliest`, `latest` or an offset".to_owned()),
        },
    }
}
