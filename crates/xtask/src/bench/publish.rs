//! Events published durably, beside the brokers; and what an example of a crate measures itself, since it has what is
//! measured at hand: events appended and settled on the real schema, and patterns in an index.

use anyhow::Context;
use serde::Deserialize;

use super::{Bench, Figure, brokers};
use crate::{shell, workspace::cargo};

#[derive(Deserialize)]
struct Line {
    metric: String,
    tangelo: f64,
}

/// Events published per second over HTTP, and appended and settled by the bus alone.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = brokers::run(bench)?;
    figures.extend(example(bench, "publish", "tangelo-bus", "append_settle")?);
    Ok(figures)
}

/// Events per second against many patterns.
pub(super) fn patterns(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    example(bench, "patterns", "tangelo-pattern", "many")
}

fn example(
    bench: &Bench<'_>,
    name: &'static str,
    package: &str,
    example: &str,
) -> anyhow::Result<Vec<Figure>> {
    let mut arguments = vec![
        "run",
        "--quiet",
        "--locked",
        "-p",
        package,
        "--example",
        example,
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
            Ok(bench.alone(name, &figure.metric, figure.tangelo))
        })
        .collect()
}
