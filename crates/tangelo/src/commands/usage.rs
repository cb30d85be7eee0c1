//! `tangelo usage`: what each workload consumed, since the ledger began.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::{Cli, deployed::Asked};
use crate::{
    client::{Client, query},
    show,
};

/// Show what each workload consumed
#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// Only of this app
    #[arg(long)]
    app: Option<String>,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Usage) -> Result<ExitCode> {
    let answer: Value = client
        .get(&format!("/v1/usage{}", query(&[("app", ask.app.clone())])))
        .await?;
    if answer["usage"].as_array().is_some_and(Vec::is_empty) {
        let asked = Asked::new(ask.app.as_deref(), None);
        asked.must_be_deployed(client).await?;
    }
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "app",
        "workload",
        "as",
        "requests",
        "errors",
        "p50",
        "p99",
        "cold starts",
        "cpu",
        "instance time",
        "memory",
    ];
    let rows = answer["usage"].as_array().into_iter().flatten().map(row);
    show::table(&header, rows.collect(), "nothing was used yet");
    Ok(ExitCode::SUCCESS)
}

fn row(row: &Value) -> Vec<String> {
    let text = |name: &str| {
        row[name]
            .as_str()
            .map_or_else(|| row[name].to_string(), str::to_owned)
    };
    let number = |name: &str| row[name].as_u64().unwrap_or_default();
    let span = |name: &str| {
        let span = std::time::Duration::from_micros(number(name));
        model::units::display_duration(span)
    };
    // Of no requests there is none.
    let latency = |name: &str| match number("requests") {
        0 => "-".to_owned(),
        _ => span(name),
    };
    vec![
        text("app"),
        text("workload"),
        text("tier"),
        text("requests"),
        text("errors"),
        latency("p50_us"),
        latency("p99_us"),
        row["cold_starts"]["count"].to_string(),
        // What instances use they use for their requests, too.
        // Where it is not measured (endpoints outside, systems that do not say) there is no figure, and not that of nothing.
        match (number("instance_cpu_us"), number("cpu_us")) {
            (0, 0) => "-".to_owned(),
            (0, _) => span("cpu_us"),
            _ => span("instance_cpu_us"),
        },
        match number("instance_us") {
            0 => "-".to_owned(),
            _ => span("instance_us"),
        },
        match number("instance_byte_seconds") {
            0 => "-".to_owned(),
            bytes => format!("{:.2} GiB·s", bytes as f64 / f64::from(1 << 30)),
        },
    ]
}
