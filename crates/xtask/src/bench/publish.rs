//! Events appended and settled per second on the real schema: an example of the bus measures itself, since it has
//! the store at hand; this runs it and passes its figures on.

use anyhow::Context;
use serde::Deserialize;

use super::{Bench, Figure};
use crate::{shell, workspace::cargo};

#[derive(Deserialize)]
struct Line {
    metric: String,
    tangelo: f64,
}

/// Runs it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut arguments = vec![
        "run",
        "--quiet",
        "--locked",
        "-p",
        "tangelo-bus",
        "--example",
        "append_settle",
    ];
    if !bench.options.dev {
        arguments.push("--release");
    }
    arguments.extend(["--", "--json"]);
    let output = shell::output(&mut shell::command(
        cargo(),
        &arguments,
        &bench.workspace.root,
    ))?;
    output
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let figure: Line =
                serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
            Ok(bench.alone("publish", &figure.metric, figure.tangelo))
        })
        .collect()
}
