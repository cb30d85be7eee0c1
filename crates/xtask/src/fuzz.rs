//! `cargo xtask fuzz`: each fuzz target for a while, from the committed corpus. What it finds is written below
//! `fuzz/artifacts`; fixed, it belongs into the corpus, which `cargo xtask test` replays as ordinary tests.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use clap::Args;

use crate::{
    shell,
    tools::{self, FUZZ, Found},
    workspace::Workspace,
};

/// The longest case, in bytes: longer ones cost time and find nothing else.
const LONGEST: usize = 4096;

/// Runs the fuzz targets.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this one.
    target: Option<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let folder = workspace.root.join("fuzz");
    let targets = targets(&folder)?;
    let chosen: Vec<&String> = match &options.target {
        None => targets.iter().collect(),
        Some(name) => targets.iter().filter(|target| *target == name).collect(),
    };
    if chosen.is_empty() {
        bail!("there is no such target; there are {}", targets.join(", "));
    }
    if let Found::Offline = FUZZ.ensure(workspace)? {
        bail!("cargo-fuzz is not here, and no registry answers");
    }
    let arguments = arguments(has_nightly(workspace));
    for target in chosen {
        eprintln!("fuzzing {target} for {} s", options.seconds);
        let found = folder.join("work").join(target);
        fs::create_dir_all(&found)?;
        let corpus = folder.join("corpus").join(target);
        // By its name: where there are several toolchains, only rustup's `cargo` knows them.
        let mut command = tools::command(workspace, "cargo", arguments);
        command.arg(target).args([&found, &corpus]).args([
            "--".to_owned(),
            format!("-max_total_time={}", options.seconds),
            format!("-max_len={LONGEST}"),
            "-timeout=10".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        shell::run(&mut command).with_context(|| format!("the law of {target} does not hold"))?;
    }
    Ok(())
}

/// What `cargo` is told. Sanitizers need a nightly toolchain, and are on where there is one. Else there are none, so that the
/// pinned toolchain builds it: the code under test is safe Rust, and what is looked for are broken laws.
const fn arguments(has_nightly: bool) -> &'static [&'static str] {
    if has_nightly {
        &["+nightly", FUZZ.name, "run"]
    } else {
        &[FUZZ.name, "run", "--sanitizer", "none"]
    }
}

/// Whether there is a nightly toolchain. If not, rustup is not to download one.
fn has_nightly(workspace: &Workspace) -> bool {
    let mut version = tools::command(workspace, "cargo", &["+nightly", "--version"]);
    shell::works(version.env("RUSTUP_AUTO_INSTALL", "0"))
}

/// The names of the targets.
fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.join("targets"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().and_then(|name| name.to_str());
            names.extend(name.map(str::to_owned));
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of committed cases that a target may have.
    const MOST: u64 = 1 << 20;

    #[test]
    fn a_nightly_toolchain_fuzzes_with_its_sanitizer_and_the_pinned_one_without() {
        assert_eq!(arguments(true), ["+nightly", "fuzz", "run"]);
        assert_eq!(arguments(false), ["fuzz", "run", "--sanitizer", "none"]);
    }

    #[test]
    fn parsers_are_fuzzed_without_wasmtime() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.lock");
        let lock = fs::read_to_string(lock).expect("there is a lock");
        let names = lock.lines().filter_map(|line| line.strip_prefix("name = "));
        let names: Vec<&str> = names.map(|name| name.trim_matches('"')).collect();
        assert!(names.contains(&"wasmparser"), "{names:?}");
        let of_wasmtime = |name: &&str| *name == "wasmtime" || name.starts_with("wasmtime-");
        assert_eq!(names.into_iter().find(of_wasmtime), None);
    }

    #[test]
    fn every_target_has_a_corpus_of_a_mebibyte_at_most() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let targets = targets(&folder).expect("there are targets");
        assert!(targets.len() >= 6, "{targets:?}");
        for target in targets {
            let cases = fs::read_dir(folder.join("corpus").join(&target)).expect("a corpus");
            let sizes = cases.map(|case| case.and_then(|case| case.metadata()).expect("a case"));
            let sizes: Vec<u64> = sizes.map(|case| case.len()).collect();
            assert!(sizes.len() > 5, "{target} has hardly any cases");
            assert!(sizes.iter().sum::<u64>() <= MOST, "{target} has too many");
        }
    }
}
