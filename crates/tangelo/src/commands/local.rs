//! Commands that need no server: `init`, `check`, `schema`, `build`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use manifest::{Diagnostic, Severity};
use model::Limits;

use super::{
    Cli,
    contracts::{self, Finding},
    deploy::{self, Source},
};
use crate::{
    build::{self, Look},
    init, show,
};

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

pub(crate) fn init(cli: &Cli, ask: &Init) -> Result<ExitCode> {
    let written = init::run(&ask.ask)?;
    if cli.json {
        show::json(&written)?;
    } else {
        for file in &written.files {
            anstream::println!("wrote {}", written.folder.join(file).display());
        }
        for file in &written.changed {
            anstream::println!("added to {}", written.folder.join(file).display());
        }
        if !written.by_hand.is_empty() {
            let (file, by_hand) = (written.folder.join(manifest::FILE_NAME), &written.by_hand);
            anstream::println!("add to {}:\n\n{by_hand}", file.display());
        }
        anstream::println!("next: {}", written.next);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check(cli: &Cli, ask: &Check) -> Result<ExitCode> {
    let (file, text) = deploy::manifest_at(&ask.path)?;
    let name = file.display().to_string();
    let mut parsed = manifest::parse(&text, &name, &Limits::default());
    let folder = file.parent().unwrap_or(&ask.path);
    let mut missing = build::missing(folder, &parsed, &text, &name, Look::BeforeBuild);
    missing.extend(build::not_concurrent(folder, &parsed, &text, &name));
    if !missing.is_empty() {
        parsed.app = None;
        parsed.diagnostics.extend(missing);
    }
    let of_contracts = match &parsed.app {
        Some(app) => contracts::look(app, &contracts::files(folder)?),
        None => Vec::new(),
    };
    if of_contracts.iter().any(Finding::is_error) {
        parsed.app = None;
    }
    let complaints = counted(&parsed.diagnostics, &of_contracts);
    if cli.json {
        show::json(&serde_json::json!({
            "file": name, "valid": parsed.app.is_some(), "diagnostics": parsed.diagnostics,
            "contracts": of_contracts,
        }))?;
    } else {
        let rendered = manifest::render(&parsed.diagnostics, &text, &name);
        anstream::print!("{rendered}");
        for finding in &of_contracts {
            anstream::println!("{finding}");
        }
        match &parsed.app {
            Some(app) if complaints.is_empty() => anstream::println!(
                "{name} is good: app {}, {}, {}",
                app.name,
                number_of(app.workloads.len(), "workload"),
                number_of(app.routes.len(), "route")
            ),
            Some(_) => anstream::println!("{name} is good, with {complaints}"),
            None => anstream::println!("{name} has mistakes: {complaints}"),
        }
    }
    Ok(if parsed.app.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `1 route`, `2 routes`.
fn number_of(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// `2 errors, 1 warning`.
fn counted(diagnostics: &[Diagnostic], of_contracts: &[Finding]) -> String {
    let of = |severity, word: &str| {
        let diagnostics = diagnostics.iter().map(|d| d.severity);
        let all = diagnostics.chain(of_contracts.iter().map(|f| f.severity));
        match all.filter(|other| *other == severity).count() {
            0 => None,
            n => Some(number_of(n, word)),
        }
    };
    let counts = [
        of(Severity::Error, "error"),
        of(Severity::Warning, "warning"),
    ];
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    counts.join(", ")
}

pub(crate) fn schema() -> Result<ExitCode> {
    show::json(&manifest::schema())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn build(cli: &Cli, ask: &Build) -> Result<ExitCode> {
    let source = Source::read(&ask.path)?;
    source.warn();
    let built = build::run(&source.folder, &source.app, !ask.all, &mut |line| {
        anstream::eprintln!("{line}")
    })?;
    if cli.json {
        show::json(&built)?;
    } else {
        anstream::println!(
            "built {}, unchanged {}",
            built.built.len(),
            built.unchanged.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_warnings_are_counted_apart() {
        let text = "app: a\nworkloads:\n  b: {as: function, run: {wasm: {component: a.wasm}}, on: [{event: {typ: [x]}}], foo: 1}\n";
        let parsed = manifest::parse(text, "tangelo.yaml", &Limits::default());
        assert_eq!(counted(&parsed.diagnostics, &[]), "1 error, 2 warnings");
    }

    #[test]
    fn without_a_manifest_it_is_said_how_to_get_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = || {
            format!(
                "{:#}",
                deploy::manifest_at(folder.path()).expect_err("none")
            )
        };
        assert!(told().contains("tangelo init"), "{}", told());
        std::fs::write(folder.path().join("tangelo.yml"), "").expect("writes");
        assert!(told().contains("rename it (`mv "), "{}", told());
    }
}
