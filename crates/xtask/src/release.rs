//! `cargo xtask release`: the binary that is shipped, built twice. The first build counts, under load, which way its code
//! goes; the second lays out the code by that (profile-guided optimisation). A request goes through so much code once that
//! a third of its time is the processor's waiting for code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{
    bench, shell, tools,
    workspace::{Workspace, cargo},
};

/// Options of `cargo xtask release`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of load of each kind that the first build is trained with.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Builds it, and prints where it is.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let merge = tools::llvm_profdata(workspace)?;
    let counts = workspace.target.join("release-counts");
    let _ = fs::remove_dir_all(&counts);
    fs::create_dir_all(&counts)?;
    eprintln!("1 of 3: building a `tangelo` that counts where it goes");
    let counting = build(workspace, "counting", "profile-generate", &counts)?;
    eprintln!("2 of 3: putting load on it");
    bench::train(workspace, &counting, options.seconds)?;
    let profile = merged(&merge, &counts)?;
    eprintln!("3 of 3: building `tangelo` by what it counted");
    let trained = build(workspace, "trained", "profile-use", &profile)?;
    println!("{}", trained.display());
    Ok(())
}

/// Builds `tangelo` with one of the compiler's settings for profiles, in a target folder of its own.
fn build(
    workspace: &Workspace,
    kind: &str,
    setting: &str,
    profile: &Path,
) -> anyhow::Result<PathBuf> {
    let target = workspace.target.join("release-builds").join(kind);
    let host = tools::host(workspace)?;
    // For a named target, so that build scripts and macros are compiled without the setting.
    let arguments = [
        "build",
        "--release",
        "--locked",
        "-p",
        "tangelo",
        "--target",
        &host,
    ];
    let mut command = shell::command(cargo(), &arguments, &workspace.root);
    command
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-C{setting}={}", profile.display()),
        );
    // Its output is for standard error: standard output says where the binary is.
    shell::run(command.stdout(std::io::stderr()))?;
    Ok(target.join(host).join("release/tangelo"))
}

/// What all processes counted, in one file.
fn merged(merge: &Path, counts: &Path) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(counts)?.filter_map(|entry| Some(entry.ok()?.path()));
    let raw: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "profraw"))
        .collect();
    ensure!(!raw.is_empty(), "the trained server counted nothing");
    let profile = counts.join("merged.profdata");
    let out = profile.to_str().context("a path in UTF-8")?;
    let mut command = shell::command(merge, &["merge", "--sparse", "-o", out], counts);
    shell::run(command.args(raw))?;
    Ok(profile)
}
