//! `tangelo logs`: what workloads wrote.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use http_body_util::BodyExt;
use serde_json::Value;

use super::{Cli, deployed::Asked};
use crate::client::{Client, query};

/// Show what workloads wrote
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Only of this workload: `name` or `app/name`
    workload: Option<String>,
    /// Only of this invocation
    #[arg(long, value_name = "ID")]
    invocation: Option<String>,
    /// Only of this trace
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
    /// Only lines that hold this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only the last while, such as 10m
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// At most this many of the newest lines
    #[arg(short = 'n', long, default_value = "200")]
    limit: usize,
    /// Go on as new lines are written
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Logs) -> Result<ExitCode> {
    let asked = Asked::new(None, ask.workload.as_deref());
    if ask.follow
        && let Err(error) = asked.must_be_deployed(client).await
    {
        // It may be deployed later.
        anstream::eprintln!("{error}");
    }
    let path = query(&[
        ("app", asked.app.clone()),
        ("workload", asked.workload.clone()),
        ("invocation", ask.invocation.clone()),
        ("trace", ask.trace.clone()),
        ("text", ask.grep.clone()),
        ("since", ask.since.clone()),
        ("limit", Some(ask.limit.to_string())),
        ("follow", ask.follow.then(|| "true".to_owned())),
    ]);
    let response = client
        .send(
            http::Method::GET,
            &format!("/v1/logs{path}"),
            bytes::Bytes::new(),
        )
        .await?;
    let mut body = response.into_body();
    let (mut half, mut lines) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        half.extend_from_slice(&data);
        while let Some(end) = half.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = half.drain(..=end).collect();
            print(cli.json, &line)?;
            lines += 1;
        }
    }
    if lines == 0 {
        asked.must_be_deployed(client).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(json: bool, line: &[u8]) -> Result<()> {
    if json {
        anstream::print!("{}", String::from_utf8_lossy(line));
        return Ok(());
    }
    let record: Value = serde_json::from_slice(line)?;
    if let Some(n) = record["skipped"].as_u64() {
        anstream::println!("… {n} lines skipped: this terminal is too slow");
        return Ok(());
    }
    let time = record["time"]
        .as_u64()
        .map_or_else(String::new, |t| model::Time(t).rfc3339());
    let field = |name: &str| record[name].as_str().unwrap_or_default();
    let mark = if field("stream") == "stderr" {
        "!"
    } else {
        " "
    };
    anstream::println!(
        "{} {}/{}{mark} {}",
        time.get(11..23).unwrap_or(&time),
        field("app"),
        field("workload"),
        field("text")
    );
    Ok(())
}
