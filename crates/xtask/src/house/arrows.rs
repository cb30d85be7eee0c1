//! Arrows between crates: only down, never sideways, as drawn in `docs/ARCHITECTURE.md`; and what a room must not
//! know, as dependencies that it must not have. Dev-dependencies are excepted: a test may look from above.

use std::path::Path;

use super::Report;
use crate::workspace::{Package, Workspace};

/// The rooms by layer, lowest first.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["store", "asl", "pattern", "contract"],
    &[
        "bus",
        "storage",
        "connect",
        "workflow",
        "runtime",
        "telemetry",
        "access",
        "placement",
        "manifest",
    ],
    &["platform"],
    &["gateway", "aws", "api"],
    &["tangelo"],
];

/// Rooms that stand beside the house: for development only, so nothing may need them.
const BESIDE: &[&str] = &["testkit", "xtask"];

/// What a room must not know although an arrow could point there, by package name.
const IGNORANT: &[(&str, &[&str])] = &[
    ("runtime", &["tangelo-store", "rusqlite"]),
    ("gateway", &["tangelo-store", "rusqlite"]),
    ("aws", &["tangelo-store", "rusqlite"]),
    ("api", &["tangelo-store", "rusqlite"]),
    ("platform", &["rusqlite", "wasmtime"]),
    ("bus", &["rusqlite", "hyper"]),
    ("connect", &["tangelo-store", "hyper", "axum", "wasmtime"]),
    ("store", &["hyper", "http", "axum", "wasmtime"]),
    ("model", &["hyper", "http", "rusqlite"]),
    ("pattern", &["tokio", "rand", "getrandom", "jiff"]),
    ("contract", &["tokio", "rand", "hyper", "jiff"]),
    ("asl", &["tokio", "rand", "getrandom", "jiff"]),
];

/// Checks every package of the workspace.
pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    report.figure("crates", workspace.packages.len());
    for package in &workspace.packages {
        let file = workspace.short(&package.manifest_path);
        describe(package, file, report);
        let Some(room) = room(&package.manifest_path) else {
            report.fail("arrows", file, None, "is not in crates/");
            continue;
        };
        arrows_of(package, room, file, report);
        ignorance_of(package, room, file, report);
    }
}

fn describe(package: &Package, file: &Path, report: &mut Report) {
    let description = package.description.as_deref().unwrap_or_default();
    if description.is_empty() || description == "TBD" {
        report.fail("description", file, None, "the package says not what it is");
    }
    let manifest = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
    if !manifest.contains("[lints]\nworkspace = true") {
        report.fail(
            "lints",
            file,
            None,
            "the package does not take the workspace's lints",
        );
    }
}

fn arrows_of(package: &Package, room: &str, file: &Path, report: &mut Report) {
    let beside = BESIDE.contains(&room);
    let from = layer(room);
    if from.is_none() && !beside {
        let problem = format!("`{room}` is not a room of the house");
        report.fail("arrows", file, None, problem);
    }
    let inner = package
        .dependencies
        .iter()
        .filter(|d| d.kind.as_deref() != Some("dev"))
        .filter_map(|d| d.path.as_deref())
        .filter_map(|path| path.file_name()?.to_str());
    for to in inner {
        let down = match (from, layer(to)) {
            (Some(from), Some(to)) => to < from,
            (None, Some(_)) => room == "testkit",
            _ => false,
        };
        if !down {
            let problem = format!("`{room}` must not depend on `{to}`: arrows only point down");
            report.fail("arrows", file, None, problem);
        }
    }
}

fn ignorance_of(package: &Package, room: &str, file: &Path, report: &mut Report) {
    let forbidden = IGNORANT
        .iter()
        .find(|(name, _)| *name == room)
        .map_or(&[][..], |(_, forbidden)| forbidden);
    for dependency in &package.dependencies {
        if dependency.kind.is_none() && forbidden.contains(&dependency.name.as_str()) {
            let problem = format!("`{room}` must not know `{}`", dependency.name);
            report.fail("arrows", file, None, problem);
        }
    }
}

/// The room of a package: the name of its folder.
fn room(manifest: &Path) -> Option<&str> {
    let folder = manifest.parent()?;
    (folder.parent()?.file_name()? == "crates").then(|| folder.file_name()?.to_str())?
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn failures(room: &str, dependencies: &[(&str, Option<&str>)]) -> usize {
        let package = Package {
            description: None,
            manifest_path: format!("/w/crates/{room}/Cargo.toml").into(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).to_owned(),
                    kind: kind.map(str::to_owned),
                    path: name
                        .strip_prefix("tangelo-")
                        .map(|n| format!("/w/crates/{n}").into()),
                })
                .collect(),
        };
        let mut report = Report::default();
        arrows_of(&package, room, Path::new("x"), &mut report);
        ignorance_of(&package, room, Path::new("x"), &mut report);
        report.failures.len()
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(
            failures("bus", &[("tangelo-store", None), ("tangelo-model", None)]),
            0
        );
        assert_eq!(failures("bus", &[("tangelo-runtime", None)]), 1, "sideways");
        assert_eq!(failures("store", &[("tangelo-bus", None)]), 1, "up");
        assert_eq!(
            failures("store", &[("tangelo-testkit", Some("dev"))]),
            0,
            "a test"
        );
        assert_eq!(failures("api", &[("tangelo-testkit", None)]), 1, "dev only");
        assert_eq!(failures("common", &[]), 1, "no such room");
        assert_eq!(
            failures("runtime", &[("tangelo-store", None)]),
            1,
            "ignorant"
        );
    }
}
