//! `tangelo ps`: what runs.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use model::ByteSize;
use serde_json::{Value, json};

use super::Cli;
use crate::{client::Client, show};

/// Show what runs
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Say what isolates the instances from each other and from the machine
    #[arg(long)]
    isolation: bool,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Ps) -> Result<ExitCode> {
    let answer: Value = client.get("/v1/ps").await?;
    let rows = answer["workloads"].as_array().cloned().unwrap_or_default();
    if ask.isolation {
        return isolation(cli, &rows);
    }
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "app",
        "workload",
        "as",
        "runtime",
        "version",
        "instances",
        "in flight",
        "starts",
        "failures",
        "memory",
    ];
    show::table(
        &header,
        rows.iter().map(row).collect(),
        "nothing is deployed",
    );
    Ok(ExitCode::SUCCESS)
}

fn row(row: &Value) -> Vec<String> {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let instances = row["instances"].as_array().map_or(&[][..], Vec::as_slice);
    let memory: u64 = instances.iter().filter_map(|i| i["memory"].as_u64()).sum();
    vec![
        text("app"),
        text("workload"),
        text("tier"),
        text("runtime"),
        text("version"),
        states(instances),
        row["in_flight"].to_string(),
        row["starts"].to_string(),
        row["failures"].to_string(),
        if memory == 0 {
            "-".to_owned()
        } else {
            format!("{:.1}MiB", ByteSize(memory).0 as f64 / f64::from(1 << 20))
        },
    ]
}

/// `2 idle, 1 busy`.
fn states(instances: &[Value]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for state in instances.iter().filter_map(|i| i["state"].as_str()) {
        *counts.entry(state).or_default() += 1;
    }
    if counts.is_empty() {
        return "0".to_owned();
    }
    counts
        .iter()
        .map(|(state, n)| format!("{n} {state}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What is enforced, and no more than that.
fn isolation(cli: &Cli, rows: &[Value]) -> Result<ExitCode> {
    let of = |runtime: &str| match runtime {
        "wasm" => {
            "memory-safe sandbox in the server's process; memory and time limits; no file system; egress by allow-list"
        }
        "lambda" | "process" => {
            "own process group, ended with the server; `calls` binds the mesh, not a raw connection to another port; \
             no memory limit, no file system or network isolation"
        }
        _ => "none: someone else runs it",
    };
    let facts = rows.iter().map(|r| {
        (
            &r["app"],
            &r["workload"],
            of(r["runtime"].as_str().unwrap_or_default()),
        )
    });
    if cli.json {
        let rows: Vec<_> = facts.map(|(app, workload, enforced)| json!({"app": app, "workload": workload, "enforced": enforced})).collect();
        show::json(&json!({ "isolation": rows }))?;
    } else {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let rows = facts
            .map(|(app, workload, enforced)| vec![text(app), text(workload), enforced.to_owned()]);
        show::table(
            &["app", "workload", "enforced"],
            rows.collect(),
            "nothing is deployed",
        );
    }
    Ok(ExitCode::SUCCESS)
}
