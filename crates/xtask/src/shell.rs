//! Running other programs: with no standard input, output passed through, and an error that names the command.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// A command in `folder`, without standard input.
pub(crate) fn command(program: impl AsRef<OsStr>, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null());
    // `cargo run` says which package runs. For cargo's tools that means that cargo did not start them, and for
    // build scripts that something changed.
    for (name, _) in std::env::vars_os() {
        let of_run = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if name
            .to_str()
            .is_some_and(|name| of_run.iter().any(|start| name.starts_with(start)))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs it to its end; an exit other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{} does not start", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs it to its end and returns what it wrote to standard output; standard error passes through.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} does not start", line(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", line(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether it starts and ends well, quietly.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Takes everything of this terminal's environment from it but where programs are.
pub(crate) fn clean(command: &mut Command) -> &mut Command {
    command.env_clear();
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// What [`clean`] leaves of the environment.
const KEPT: [&str; 3] = ["PATH", "HOME", "LANG"];

/// The same for people: `HOME=/root LANG=C.UTF-8 PATH=…`.
pub(crate) fn environment() -> String {
    let of = |name: &&str| Some(format!("{name}={}", std::env::var_os(name)?.display()));
    let all: Vec<_> = KEPT.iter().filter_map(of).collect();
    all.join(" ")
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
