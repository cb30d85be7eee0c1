//! The programs that run handlers and build components.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Finding;
use crate::build::tools;

/// What a program must be able to do, beside being there.
struct Wanted {
    what: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// The least version, as its first two numbers; `None`: any.
    least: Option<(u32, u32)>,
    without: &'static str,
    todo: &'static str,
}

const WANTED: &[Wanted] = &[
    Wanted {
        what: "python3",
        program: "python3",
        arguments: &["--version"],
        least: Some((3, 9)),
        without: "`run: {lambda: {runtime: python3}}` (TG0413), `build: {python: …}` (TG0105)",
        todo: "install Python 3.9 or newer (apt install python3)",
    },
    Wanted {
        what: "python3 venv",
        program: "python3",
        arguments: &[
            "-c",
            "import venv, ensurepip, sys; print('%d.%d' % sys.version_info[:2])",
        ],
        least: None,
        without: "`build: {python: …}`: its builder lives in a virtual environment",
        todo: "install Python's venv (apt install python3-venv)",
    },
    Wanted {
        what: "node",
        program: "node",
        arguments: &["--version"],
        least: Some((20, 0)),
        without: "`run: {lambda: {runtime: nodejs}}` (TG0413), `build: {js: …}` (TG0105)",
        todo: "install Node.js 20 or newer (https://nodejs.org)",
    },
    Wanted {
        what: "npm",
        program: "npm",
        arguments: &["--version"],
        least: None,
        without: "`build: {js: …}`: its builder is installed with npm",
        todo: "install npm (apt install npm, or with Node.js)",
    },
    Wanted {
        what: "cargo",
        program: "cargo",
        arguments: &["--version"],
        least: None,
        without: "`build: {rust: …}` (TG0105)",
        todo: "install Rust (https://rustup.rs)",
    },
    Wanted {
        what: "C compiler",
        program: "cc",
        arguments: &["--version"],
        least: None,
        without: "`build: {rust: …}` of packages with C in them or with build scripts",
        todo: "install a C compiler (apt install gcc)",
    },
];

const TARGET: &str = "wasm32-wasip2";

pub(super) fn look() -> Vec<Finding> {
    let mut findings: Vec<Finding> = WANTED.iter().map(program).collect();
    findings.push(target());
    for (what, tool, without) in [
        ("componentize-js", tools::JS, "`build: {js: …}`"),
        ("componentize-py", tools::PYTHON, "`build: {python: …}`"),
    ] {
        findings.push(builder(what, tool, without));
    }
    findings
}

fn program(wanted: &Wanted) -> Finding {
    let missing = |found: String| Finding::missing(wanted.what, found, wanted.without, wanted.todo);
    let Some(path) = on_path(wanted.program) else {
        return missing(format!("no `{}` on PATH", wanted.program));
    };
    let said = match ask(&path, wanted.arguments) {
        Ok(said) => said,
        Err(why) => return missing(format!("{}: {why}", path.display())),
    };
    let found = format!("{} ({said})", path.display());
    match (wanted.least, version(&said)) {
        (Some(least), Some(version)) if version < least => {
            missing(format!("{found}: older than {}.{}", least.0, least.1))
        }
        _ => Finding::good(wanted.what, found, wanted.without),
    }
}

/// The first line of what a program says when it is asked.
fn ask(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("does not start ({error})"))?;
    let (text, noise) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let first = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
    if output.status.success() {
        Ok(first(&text))
    } else {
        let last = noise.lines().last().unwrap_or_default();
        Err(format!("fails ({})", last.trim()))
    }
}

/// The first two numbers in `Python 3.11.2`, `v22.1.0`.
fn version(said: &str) -> Option<(u32, u32)> {
    let digits = said.find(|c: char| c.is_ascii_digit())?;
    let mut parts = said[digits..].split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Asked of the compiler, not of rustup: not every toolchain comes from there.
fn target() -> Finding {
    let without =
        "`build: {rust: …}` without network: the builder adds it with rustup on first use";
    let todo = format!("rustup target add {TARGET}");
    let missing = |found: String| Finding::missing(TARGET, found, without, todo.clone());
    let Some(rustc) = on_path("rustc") else {
        return missing("no `rustc` on PATH".to_owned());
    };
    match ask(&rustc, &["--print", "sysroot"]) {
        Err(why) => missing(format!("{}: {why}", rustc.display())),
        Ok(sysroot) => {
            let folder = Path::new(&sysroot).join("lib/rustlib").join(TARGET);
            if folder.is_dir() {
                Finding::good(TARGET, folder.display().to_string(), without)
            } else {
                missing(format!("not in {sysroot}"))
            }
        }
    }
}

fn builder(what: &'static str, tool: &str, without: &'static str) -> Finding {
    let cache = tools::cache().ok();
    let installed = cache.filter(|cache| cache.join(format!("{tool}.installed")).exists());
    match installed.map(|cache| cache.join(tool)) {
        Some(folder) => Finding::good(what, folder.display().to_string(), without),
        None => Finding::good(
            what,
            format!("not installed yet: the first build fetches {tool}, which needs network"),
            without,
        ),
    }
}

/// Where a program is, by `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_say_them() {
        for (said, expected) in [
            ("Python 3.11.2", Some((3, 11))),
            ("v22.1.0", Some((22, 1))),
            ("10.8.2", Some((10, 8))),
            ("cc (Debian 12.2.0-14) 12.2.0", Some((12, 2))),
            ("no number", None),
        ] {
            assert_eq!(version(said), expected, "{said}");
        }
    }
}
