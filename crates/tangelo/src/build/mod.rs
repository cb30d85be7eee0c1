//! `build:` of the manifest: makes artifacts with named builders or the user's commands, where inputs changed.
//!
//! Runs on the machine of whoever develops or deploys, never in a server. What was built from what is noted beside the
//! manifest in `.tangelo/build/`, so that an unchanged workload costs a look at its inputs' names, sizes and times.

mod artifacts;
mod builders;
mod command;
mod fingerprint;
mod imports;
mod record;
pub(crate) mod tools;
mod wit;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use model::{App, Build, Error, Run, Workload, WorkloadName, code};
use serde::Serialize;

pub(crate) use artifacts::{Look, missing, not_concurrent};

use record::Record;

/// What a build did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Built {
    /// Workloads whose artifact was made anew.
    pub(crate) built: Vec<WorkloadName>,
    /// Workloads whose inputs had not changed.
    pub(crate) unchanged: Vec<WorkloadName>,
}

/// Builds what the app says how to build, in the manifest's `folder`; with `only_changed` what is up to date is left alone.
/// `progress` gets a line before and after each build.
///
/// # Errors
/// `TG0102` with the builder's output when one fails, `TG0105` when a builder's tool is missing and cannot be installed.
pub(crate) fn run(
    folder: &Path,
    app: &App,
    only_changed: bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Built> {
    let mut built = Built::default();
    for workload in app.workloads.values() {
        let Some(build) = &workload.build else {
            continue;
        };
        let path = Record::path(folder, &workload.name);
        let output = output(workload, build);
        let fingerprint = |record: Option<&Record>| {
            let found = record.map_or(&[][..], |record| &record.found);
            fingerprint::of(folder, workload, build, found)
                .with_context(|| format!("cannot look at the inputs of `{}`", workload.name))
        };
        let record = Record::read(&path);
        let fresh = record
            .as_ref()
            .filter(|_| only_changed && folder.join(output).exists());
        if let Some(record) = fresh
            && record.fingerprint == fingerprint(Some(record))?
        {
            built.unchanged.push(workload.name.clone());
            continue;
        }
        // Taken before the build, so that what changes while it runs is seen by the next one.
        let before = fingerprint(record.as_ref())?;
        let found = build_one(folder, workload, build, progress)?;
        let mut made = Record {
            fingerprint: before,
            found,
        };
        if made.found != record.map_or_else(Vec::new, |record| record.found) {
            made.fingerprint = fingerprint(Some(&made))?;
        }
        made.write(&path)?;
        built.built.push(workload.name.clone());
    }
    Ok(built)
}

/// The path that a build makes, relative to the manifest.
fn output<'w>(workload: &'w Workload, build: &'w Build) -> &'w str {
    match (build, &workload.run) {
        (Build::Command { output, .. }, _) => output,
        (_, Run::Wasm { component, .. }) => component,
        _ => "",
    }
}

/// Runs the builder; answers with the inputs that only it knows.
fn build_one(
    folder: &Path,
    workload: &Workload,
    build: &Build,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    let name = &workload.name;
    progress(&format!("building {name} ({})", kind(build)));
    let (ran, took) = command::timed(|| builders::run(folder, workload, build, progress));
    let found = ran.with_context(|| format!("building `{name}` failed"))?;
    if !folder.join(output(workload, build)).exists() {
        let message = format!(
            "the build of `{name}` ended well, but did not make {}",
            output(workload, build)
        );
        return Err(Error::new(code::BUILD_FAILED, message).into());
    }
    progress(&format!("built {name} in {}", shown(took)));
    Ok(found)
}

fn kind(build: &Build) -> &str {
    match build {
        Build::Rust { .. } => "rust",
        Build::Js { .. } => "js",
        Build::Python { .. } => "python",
        Build::Command { command, .. } => command.first().map_or("command", String::as_str),
    }
}

fn shown(took: Duration) -> String {
    model::units::display_duration(took)
}

#[cfg(test)]
mod tests;
