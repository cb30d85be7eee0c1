//! The steps of `cargo xtask test`, in order.

use std::{fs, time::Duration};

use anyhow::Context;

use super::{Step, Verdict};
use crate::{
    demo, house, server, shell,
    soak::{self, Name},
    tools::{self, CargoTool, Found},
    workspace::{Workspace, cargo},
};

const fn step(
    name: &'static str,
    about: &'static str,
    budget: u64,
    run: fn(&Workspace) -> anyhow::Result<Verdict>,
) -> Step {
    Step {
        name,
        about,
        budget: Duration::from_secs(budget),
        run,
    }
}

/// All steps. Budgets are seconds on two cores from cold: tools 8 minutes, build and clippy 14, guests and
/// examples 8, tests 20, soaks 6.
pub(super) static ALL: &[Step] = &[
    step("house", "arrows, `//!`, lengths, error pages", 10, house),
    step("format", "rustfmt", 20, format),
    step("tools", "what the other steps need", 480, tools),
    step("unused", "dependencies that nobody uses", 20, unused),
    step(
        "licences",
        "licences, bans and sources of dependencies",
        30,
        licences,
    ),
    step(
        "clippy",
        "the compiler's and clippy's warnings",
        360,
        clippy,
    ),
    step("docs", "the documentation's warnings", 90, docs),
    step("build", "everything that tests need", 390, build),
    step(
        "examples",
        "the shop is built as its users build it",
        360,
        examples,
    ),
    step("tests", "all tests", 1200, all_tests),
    step("doctests", "examples in the documentation", 120, doctests),
    step("demo", "the demonstration keeps its promises", 120, demo),
    step(
        "soaks",
        "killed under load, nothing acknowledged is lost",
        360,
        soaks,
    ),
];

fn house(workspace: &Workspace) -> anyhow::Result<Verdict> {
    house::check(workspace)?;
    Ok(Verdict::Passed(1))
}

fn format(workspace: &Workspace) -> anyhow::Result<Verdict> {
    cargo_step(workspace, &["fmt", "--all", "--check"])
}

fn tools(workspace: &Workspace) -> anyhow::Result<Verdict> {
    tools::machine(workspace)?;
    tools::wasm_target(workspace)?;
    tools::of_the_machine(workspace);
    let mut offline = Vec::new();
    for tool in [&tools::MACHETE, &tools::NEXTEST, &tools::DENY] {
        if matches!(tool.ensure(workspace)?, Found::Offline) {
            offline.push(tool.name);
        }
    }
    tools::install_packages(workspace)?;
    if offline.is_empty() {
        Ok(Verdict::Passed(1))
    } else {
        let names = offline.join(", ");
        Ok(Verdict::Skipped(format!(
            "no registry to install {names} from"
        )))
    }
}

fn unused(workspace: &Workspace) -> anyhow::Result<Verdict> {
    tool_step(workspace, &tools::MACHETE, &["--skip-target-dir"])
}

fn licences(workspace: &Workspace) -> anyhow::Result<Verdict> {
    tool_step(
        workspace,
        &tools::DENY,
        &["--locked", "check", "licenses", "bans", "sources"],
    )
}

fn clippy(workspace: &Workspace) -> anyhow::Result<Verdict> {
    cargo_step(
        workspace,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
    )
}

fn docs(workspace: &Workspace) -> anyhow::Result<Verdict> {
    let arguments = [
        "doc",
        "--workspace",
        "--no-deps",
        "--locked",
        "--document-private-items",
    ];
    let mut command = shell::command(cargo(), &arguments, &workspace.root);
    // Links to private items resolve here, since private items are documented: readers are this project's own.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    shell::run(command.env("RUSTDOCFLAGS", flags))?;
    Ok(Verdict::Passed(1))
}

fn build(workspace: &Workspace) -> anyhow::Result<Verdict> {
    cargo_step(
        workspace,
        &["build", "--workspace", "--all-targets", "--locked"],
    )
}

fn all_tests(workspace: &Workspace) -> anyhow::Result<Verdict> {
    if !tools::NEXTEST.works(workspace) {
        eprintln!("cargo-nextest is not here: tests run without isolation and are not counted");
        return cargo_step(
            workspace,
            &["test", "--workspace", "--all-targets", "--locked"],
        );
    }
    // Nextest keeps its reports below the workspace, wherever the target folder is.
    let counts = workspace.root.join("target/nextest/ci/junit.xml");
    let _ = fs::remove_file(&counts);
    let arguments = [
        "run",
        "--workspace",
        "--all-targets",
        "--locked",
        "--profile",
        "ci",
    ];
    let ran = shell::run(&mut tools::NEXTEST.command(workspace, &arguments));
    let report = fs::read_to_string(&counts).unwrap_or_default();
    let all = attribute(&report, "tests");
    let failed = attribute(&report, "failures") + attribute(&report, "errors");
    match ran {
        Ok(()) => Ok(Verdict::Passed(all)),
        Err(error) if failed == 0 => Err(error),
        Err(_) => Ok(Verdict::Failed {
            passed: all.saturating_sub(failed),
            failed,
        }),
    }
}

fn examples(workspace: &Workspace) -> anyhow::Result<Verdict> {
    let binary = server::build(workspace, false)?;
    shell::run(&mut shell::command(
        binary,
        &["build", "examples/shop"],
        &workspace.root,
    ))?;
    Ok(Verdict::Passed(1))
}

fn doctests(workspace: &Workspace) -> anyhow::Result<Verdict> {
    cargo_step(workspace, &["test", "--doc", "--workspace", "--locked"])
}

fn demo(workspace: &Workspace) -> anyhow::Result<Verdict> {
    Ok(Verdict::Passed(demo::once(workspace)?))
}

/// As many kills of events as are promised, fewer of the rest; `cargo xtask soak NAME` does as many as it is told.
fn soaks(workspace: &Workspace) -> anyhow::Result<Verdict> {
    let soaks = [
        (Name::Events, 50),
        (Name::Invokes, 6),
        (Name::Deliveries, 10),
        (Name::Replays, 8),
        (Name::OutboxSqlite, 8),
        (Name::OutboxPostgres, 8),
    ];
    let binary = server::build(workspace, false)?;
    let seed = u64::from(std::process::id());
    let mut skipped = Vec::new();
    for (name, kills) in soaks {
        let repeat = format!("cargo xtask soak {name:?} --kills {kills} --seed {seed}");
        let outcome = soak::soak(workspace, &binary, name, kills, seed);
        let Some(outcome) = outcome.with_context(|| repeat.clone())? else {
            eprintln!("SKIPPED {name:?}: this machine has no postgres");
            skipped.push(format!("{name:?}: this machine has no postgres"));
            continue;
        };
        println!("{}", serde_json::to_string(&outcome)?);
        soak::judge(&outcome).context(repeat)?;
    }
    Ok(Verdict::of(soaks.len(), skipped))
}

fn cargo_step(workspace: &Workspace, arguments: &[&str]) -> anyhow::Result<Verdict> {
    shell::run(&mut shell::command(cargo(), arguments, &workspace.root))?;
    Ok(Verdict::Passed(1))
}

fn tool_step(
    workspace: &Workspace,
    tool: &CargoTool,
    arguments: &[&str],
) -> anyhow::Result<Verdict> {
    if !tool.works(workspace) {
        return Ok(Verdict::Skipped(format!("cargo-{} is not here", tool.name)));
    }
    shell::run(&mut tool.command(workspace, arguments))?;
    Ok(Verdict::Passed(1))
}

/// The number in the first `name="…"` of an XML report; 0 when there is none.
fn attribute(report: &str, name: &str) -> usize {
    let start = format!(" {name}=\"");
    report
        .split_once(&start)
        .and_then(|(_, rest)| rest.split_once('"'))
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_are_read_from_the_report() {
        let report = "<testsuites name=\"x\" tests=\"12\" failures=\"1\" errors=\"0\"><testsuite tests=\"3\"";
        assert_eq!(super::attribute(report, "tests"), 12);
        assert_eq!(super::attribute(report, "failures"), 1);
        assert_eq!(super::attribute("", "tests"), 0);
    }
}
