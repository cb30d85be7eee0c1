//! `tangelo doctor` and `tangelo config`: what this machine has, and what this server would run with.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::Cli;
use crate::{config, show};

/// One thing that some workloads need.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    found: Option<String>,
    needed_for: &'static str,
    install: &'static str,
}

pub(crate) fn run(cli: &Cli) -> Result<ExitCode> {
    let findings = [
        finding(
            "python3",
            "`run: {lambda: {runtime: python3}}`, `build: {python: …}`",
            "apt install python3",
        ),
        finding(
            "node",
            "`run: {lambda: {runtime: nodejs}}`",
            "apt install nodejs, or https://nodejs.org",
        ),
        finding("npm", "`build: {js: …}`", "apt install npm"),
        finding("cargo", "`build: {rust: …}`", "https://rustup.rs"),
        finding(
            "cc",
            "`build: {rust: …}` with C dependencies",
            "apt install gcc",
        ),
    ];
    let missing = findings.iter().filter(|f| f.found.is_none()).count();
    if cli.json {
        show::json(&json!({"machine": findings, "missing": missing}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = findings.iter().map(|f| {
        let found = f
            .found
            .clone()
            .unwrap_or_else(|| format!("missing: {}", f.install));
        vec![f.what.to_owned(), found, f.needed_for.to_owned()]
    });
    show::table(&["what", "found", "needed for"], rows.collect(), "");
    let verdict = match missing {
        0 => "everything is there".to_owned(),
        n => format!(
            "{n} missing: what needs them fails with TG0413 or TG0102, everything else works"
        ),
    };
    anstream::println!("\n{verdict}");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn config(cli: &Cli, flags: &config::Flags) -> Result<ExitCode> {
    let config = config::Config::read(&cli.data, flags)?;
    if cli.json {
        show::json(&config.origins)?;
    } else {
        let rows = config
            .origins
            .iter()
            .map(|o| vec![o.setting.to_owned(), o.value.clone(), o.from.clone()]);
        show::table(&["setting", "value", "from"], rows.collect(), "");
    }
    Ok(ExitCode::SUCCESS)
}

fn finding(what: &'static str, needed_for: &'static str, install: &'static str) -> Finding {
    Finding {
        what,
        found: on_path(what).map(|p| p.display().to_string()),
        needed_for,
        install,
    }
}

/// Where a program is, by `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
