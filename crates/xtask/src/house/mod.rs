//! `cargo xtask house`: what `docs/ARCHITECTURE.md` promises about the shape of the code, as figures and failures.
//!
//! Reads text only: it works on a tree that does not compile.

mod arrows;
mod codes;
mod lengths;
mod source;
mod text;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::bail;
use serde::Serialize;

use crate::workspace::Workspace;

/// Options of `cargo xtask house`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Default, Serialize)]
struct Report {
    figures: BTreeMap<&'static str, f64>,
    failures: Vec<Failure>,
}

/// One broken rule.
#[derive(Serialize)]
struct Failure {
    rule: &'static str,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    problem: String,
}

impl Report {
    fn fail(
        &mut self,
        rule: &'static str,
        file: impl Into<PathBuf>,
        line: impl Into<Option<usize>>,
        problem: impl Into<String>,
    ) {
        self.failures.push(Failure {
            rule,
            file: file.into(),
            line: line.into(),
            problem: problem.into(),
        });
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of lines are small")]
    fn figure(&mut self, name: &'static str, value: usize) {
        self.figures.insert(name, value as f64);
    }
}

/// Runs all checks, prints them, and fails when one does.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    if !options.json {
        return check(workspace);
    }
    let report = examine(workspace);
    println!("{}", serde_json::to_string_pretty(&report)?);
    verdict(&report)
}

/// The same for people, as a step of the tests.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let report = examine(workspace);
    print(&report);
    verdict(&report)
}

fn examine(workspace: &Workspace) -> Report {
    let mut report = Report::default();
    arrows::check(workspace, &mut report);
    codes::check(workspace, &mut report);
    let files = source::read_all(workspace);
    lengths::check(&files, &mut report);
    text::check(workspace, &files, &mut report);
    report
}

fn verdict(report: &Report) -> anyhow::Result<()> {
    match report.failures.len() {
        0 => Ok(()),
        n => bail!("the house has {n} broken rules"),
    }
}

fn print(report: &Report) {
    for (name, value) in &report.figures {
        println!("{name:<36} {value}");
    }
    for failure in &report.failures {
        let line = failure.line.map(|n| format!(":{n}")).unwrap_or_default();
        println!(
            "{}: {}{line}: {}",
            failure.rule,
            failure.file.display(),
            failure.problem
        );
    }
}
