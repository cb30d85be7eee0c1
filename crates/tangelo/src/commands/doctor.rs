//! `tangelo doctor` and `tangelo config`: what this machine lacks, and what this server would run with.
//!
//! Each finding says what would not work and what to do. Nothing is installed, and nothing of a data folder is touched.

mod engine;
mod machine;
mod programs;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::Cli;
use crate::{config, memory, show};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// As it is everywhere, and worth knowing.
    Note,
    /// Something would not work, or not for long.
    Missing,
    /// The server would not start.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    /// What there is.
    found: String,
    /// What would not work.
    without: &'static str,
    /// What to do about it; empty when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    todo: String,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>, without: &'static str) -> Self {
        Self {
            what,
            state: State::Ok,
            found: found.into(),
            without,
            todo: String::new(),
        }
    }

    fn missing(
        what: &'static str,
        found: impl Into<String>,
        without: &'static str,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            what,
            state: State::Missing,
            found: found.into(),
            without,
            todo: todo.into(),
        }
    }

    fn broken(self) -> Self {
        Self {
            state: State::Broken,
            ..self
        }
    }
}

pub(crate) fn run(cli: &Cli, flags: &config::Flags) -> Result<ExitCode> {
    let mut findings = programs::look();
    let config = config::Config::read(cli.data.as_deref(), flags);
    let given = cli
        .data
        .as_deref()
        .unwrap_or_else(|| Path::new(config::DATA));
    let data = config.as_ref().map_or(given, |config| &config.data);
    findings.extend(machine::look(data, &config));
    let count = |state| findings.iter().filter(|f| f.state == state).count();
    let (missing, broken) = (count(State::Missing), count(State::Broken));
    if cli.json {
        show::json(&json!({"findings": findings, "missing": missing, "broken": broken}))?;
    } else {
        print(&findings);
        let runs = match machine::is_served(data) {
            true => "runs here, with flags of its own that this does not know",
            false => "starts here",
        };
        let verdict = match (broken, missing) {
            (0, 0) => "everything is there".to_owned(),
            (0, n) => format!("a server {runs}; {n} of what some workloads need is missing"),
            (n, _) => format!("the server does not start here: {n} to mend first"),
        };
        anstream::println!("\n{verdict}");
    }
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(findings: &[Finding]) {
    let rows = findings.iter().map(|f| {
        let mark = match f.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "missing",
            State::Broken => "BROKEN",
        };
        vec![f.what.to_owned(), mark.to_owned(), f.found.clone()]
    });
    show::table(&["what", "", "found"], rows.collect(), "");
    for finding in findings.iter().filter(|f| f.state > State::Note) {
        anstream::println!(
            "\n{}\n  would not work: {}\n  what to do: {}",
            finding.what,
            finding.without,
            finding.todo
        );
    }
}

pub(crate) fn config(cli: &Cli, flags: &config::Flags) -> Result<ExitCode> {
    let config = config::Config::read(cli.data.as_deref(), flags)?;
    let bound = memory::bound(&config.limits);
    if cli.json {
        show::json(&json!({"settings": config.origins, "memory": bound}))?;
    } else {
        let rows = config
            .origins
            .iter()
            .map(|o| vec![o.setting.to_owned(), o.value.clone(), o.from.clone()]);
        show::table(&["setting", "value", "from"], rows.collect(), "");
        let rows = bound.parts.iter().map(|part| {
            let (what, from) = (part.what.to_owned(), part.follows_from.to_owned());
            vec![what, memory::shown(part.bytes), from]
        });
        anstream::println!(
            "\nResident memory stays under {}:\n",
            memory::shown(bound.bytes)
        );
        show::table(&["what", "at most", "follows from"], rows.collect(), "");
        anstream::println!("\nBeside it:\n  {}", bound.beside.join("\n  "));
    }
    Ok(ExitCode::SUCCESS)
}
