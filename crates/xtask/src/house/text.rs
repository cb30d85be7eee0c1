//! Rules about the text of files: they say what they are, promise nothing for later, tests do not sleep, and
//! documents name files that exist.

use std::{collections::BTreeSet, path::Path};

use super::{
    Report,
    source::{self, File},
};
use crate::workspace::Workspace;

/// Split, so that this file does not break its own rule.
const LATER: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ign", "ore"),
];

const SLEEPS: &[&str] = &["thread::sleep(", "time::sleep("];

/// Documents whose paths must exist.
const DOCUMENTS: &[&str] = &["README.md", "docs/ARCHITECTURE.md", "docs/acceptance.md"];

/// What is shown by which test.
const SHOWN: &str = "docs/acceptance.md";

/// Checks all Rust files, the other code, and the documents.
pub(super) fn check(workspace: &Workspace, files: &[File], report: &mut Report) {
    for file in files {
        if !file.text.starts_with("//!") {
            report.fail("opening", &file.path, 1, "does not open with `//!`");
        }
        later(&file.path, &file.text, report);
        sleeps(file, report);
    }
    let others = ["crates", "examples", "bench"];
    for path in others.iter().flat_map(|folder| workspace.files(folder)) {
        let other = path.extension().is_some_and(|e| {
            ["py", "js", "mjs", "ts", "sh", "toml", "yaml"]
                .iter()
                .any(|known| e == *known)
        });
        if other && let Ok(text) = std::fs::read_to_string(&path) {
            later(workspace.short(&path), &text, report);
        }
    }
    for document in DOCUMENTS {
        paths(workspace, document, report);
    }
    tests_named(workspace, &names(files), report);
}

fn later(path: &Path, text: &str, report: &mut Report) {
    for (number, line) in text.lines().enumerate() {
        for word in LATER {
            if line.contains(word) {
                report.fail("later", path, number + 1, format!("`{word}`"));
            }
        }
    }
}

/// Tests wait for a condition. Workloads that tests run (guests, handlers) may be slow on purpose.
fn sleeps(file: &File, report: &mut Report) {
    let part = |name: &str| file.path.components().any(|c| c.as_os_str() == name);
    if part("guests") || part("examples") || part("workloads") {
        return;
    }
    let tests_from = if part("tests") || part("testkit") {
        Some(0)
    } else {
        file.code.find("#[cfg(test)]")
    };
    let Some(from) = tests_from else { return };
    let first = file.code[..from].lines().count();
    for (number, line) in file.code[from..].lines().enumerate() {
        if SLEEPS.iter().any(|call| line.contains(call)) {
            let at = first + number + 1;
            report.fail(
                "sleep",
                &file.path,
                at,
                "a test sleeps: wait for a condition",
            );
        }
    }
}

/// Every path in backticks that begins like one of ours exists.
fn paths(workspace: &Workspace, document: &str, report: &mut Report) {
    let Ok(text) = std::fs::read_to_string(workspace.root.join(document)) else {
        report.fail("documents", document, None, "is missing");
        return;
    };
    for (number, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            if let Some(path) = path_of(quoted)
                && !workspace.root.join(path).exists()
            {
                report.fail("documents", document, number + 1, format!("no `{path}`"));
            }
        }
    }
}

/// What a test may be named by: every function, and every module by its file or folder.
fn names(files: &[File]) -> BTreeSet<String> {
    let modules = files.iter().flat_map(|file| file.path.iter());
    let modules =
        modules.filter_map(|part| Some(Path::new(part).file_stem()?.to_str()?.to_owned()));
    let functions = files.iter().flat_map(|file| source::functions(&file.code));
    modules.chain(functions.map(|f| f.name)).collect()
}

/// Every test that the table of what is shown by which test names is there.
fn tests_named(workspace: &Workspace, names: &BTreeSet<String>, report: &mut Report) {
    let text = std::fs::read_to_string(workspace.root.join(SHOWN)).unwrap_or_default();
    let mut named = 0;
    for (number, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let Some((_, name)) = quoted.rsplit_once("::") else {
                continue;
            };
            named += 1;
            if !names.contains(name) {
                report.fail(
                    "documents",
                    SHOWN,
                    number + 1,
                    format!("no test `{quoted}`"),
                );
            }
        }
    }
    report.figure("tests named in docs/acceptance.md", named);
}

/// `crates/x/src/y.rs` out of `crates/x/src/y.rs::name`; `None` for what is not a path of ours, or a pattern.
fn path_of(quoted: &str) -> Option<&str> {
    let path = quoted.split("::").next()?;
    let ours = ["crates/", "examples/", "bench/", "docs/"]
        .iter()
        .any(|p| path.starts_with(p));
    (ours && !path.contains(['*', ' ', '<', '{', '…'])).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_for_later_are_found() {
        let mut report = Report::default();
        let text = format!("a\n// {} x\n", LATER[0]);
        later(Path::new("a.py"), &text, &mut report);
        assert_eq!(report.failures[0].line, Some(2));
    }

    #[test]
    fn sleeping_is_for_what_is_not_a_test() {
        let sleeping = |path: &str, text: &str| {
            let mut report = Report::default();
            let file = File {
                path: path.into(),
                text: text.to_owned(),
                code: text.to_owned(),
            };
            sleeps(&file, &mut report);
            report.failures.len()
        };
        let call = SLEEPS[0];
        assert_eq!(sleeping("crates/a/src/b.rs", call), 0);
        assert_eq!(sleeping("crates/a/tests/b.rs", call), 1);
        assert_eq!(sleeping("crates/a/tests/guests/b.rs", call), 0);
        assert_eq!(
            sleeping("crates/a/src/b.rs", &format!("#[cfg(test)]\n{call}")),
            1
        );
    }

    #[test]
    fn tests_are_named_by_functions_and_modules() {
        let text = "fn it_holds() {}";
        let file = File {
            path: "crates/a/tests/suite/walls.rs".into(),
            text: text.to_owned(),
            code: text.to_owned(),
        };
        let names = names(&[file]);
        assert!(
            ["it_holds", "walls", "suite"]
                .iter()
                .all(|name| names.contains(*name))
        );
        assert!(!names.contains("it_does_not"));
    }

    #[test]
    fn paths_are_recognised() {
        assert_eq!(
            path_of("crates/a/tests/b.rs::name"),
            Some("crates/a/tests/b.rs")
        );
        assert_eq!(path_of("docs/errors/<code>.md"), None);
        assert_eq!(path_of("cargo xtask"), None);
    }
}
