//! Commands that need no server: `init`, `check`, `schema`, `build`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use model::Limits;

use super::{Cli, deploy::Source};
use crate::{build, init, show};

/// Make a new app from a template
#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    ask: init::Ask,
}

/// Check a manifest
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The folder of tangelo.yaml, or the file itself
    #[arg(default_value = ".")]
    path: PathBuf,
}

/// Build what changed
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The folder of tangelo.yaml, or the file itself
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Build everything, changed or not
    #[arg(long)]
    all: bool,
}

pub(crate) fn init(ask: &Init) -> Result<ExitCode> {
    init::run(&ask.ask)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check(cli: &Cli, ask: &Check) -> Result<ExitCode> {
    let file = if ask.path.is_dir() {
        ask.path.join(manifest::FILE_NAME)
    } else {
        ask.path.clone()
    };
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.display().to_string();
    let mut parsed = manifest::parse(&text, &name, &Limits::default());
    let missing = build::missing(file.parent().unwrap_or(&ask.path), &parsed, &text, &name);
    if !missing.is_empty() {
        parsed.app = None;
        parsed.diagnostics.extend(missing);
    }
    if cli.json {
        show::json(
            &serde_json::json!({"file": name, "valid": parsed.app.is_some(), "diagnostics": parsed.diagnostics}),
        )?;
    } else {
        let rendered = manifest::render(&parsed.diagnostics, &text, &name);
        anstream::print!("{rendered}");
        match (&parsed.app, parsed.diagnostics.len()) {
            (Some(app), 0) => anstream::println!(
                "{name} is good: app {}, {} workloads, {} routes",
                app.name,
                app.workloads.len(),
                app.routes.len()
            ),
            (Some(_), n) => anstream::println!("{name} is good, with {n} warnings"),
            (None, n) => anstream::println!("{name} has mistakes: {n} findings"),
        }
    }
    Ok(if parsed.app.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(crate) fn schema() -> Result<ExitCode> {
    show::json(&manifest::schema())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn build(ask: &Build) -> Result<ExitCode> {
    let source = Source::read(&ask.path)?;
    let built = build::run(&source.folder, &source.app, !ask.all, &mut |line| {
        anstream::eprintln!("{line}")
    })?;
    anstream::println!(
        "built {}, unchanged {}",
        built.built.len(),
        built.unchanged.len()
    );
    Ok(ExitCode::SUCCESS)
}
