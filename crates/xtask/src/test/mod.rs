//! `cargo xtask test`: every check there is, in the order in which it fails fastest. What `.ci/run` calls.
//!
//! Stops at the first step that fails, because what follows would fail for the same reason. Each step has a
//! budget on two cores from cold; a step over its budget is named, not failed.

mod steps;

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::workspace::Workspace;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs only these steps.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Begins with this step.
    #[arg(long, value_name = "STEP", conflicts_with = "only")]
    from: Option<String>,
    /// Runs all steps even when one fails.
    #[arg(long)]
    keep_going: bool,
    /// Prints the steps and their budgets.
    #[arg(long)]
    list: bool,
}

/// What a step found.
enum Verdict {
    /// It is as it should be; so many tests say so.
    Passed(usize),
    /// What was looked at is as it should be, and the rest could not be looked at.
    Partly {
        /// Tests that passed.
        passed: usize,
        /// What was not looked at, and why; one for each test.
        skipped: Vec<String>,
    },
    /// Some tests failed.
    Failed {
        /// Tests that passed.
        passed: usize,
        /// Tests that did not.
        failed: usize,
    },
    /// It could not be looked at, and why; visible, but not a failure.
    Skipped(String),
}

impl Verdict {
    /// Of `all` tests, none of which failed, all but `skipped` passed.
    fn of(all: usize, skipped: Vec<String>) -> Self {
        match all.saturating_sub(skipped.len()) {
            passed if skipped.is_empty() => Self::Passed(passed),
            0 => Self::Skipped(skipped.join("; ")),
            passed => Self::Partly { passed, skipped },
        }
    }
}

/// A check with a name.
struct Step {
    name: &'static str,
    about: &'static str,
    budget: Duration,
    run: fn(&Workspace) -> anyhow::Result<Verdict>,
}

/// How a step ended.
struct Ended {
    step: &'static Step,
    verdict: Verdict,
    took: Duration,
}

/// Runs the steps and sums them up.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let chosen = choose(options)?;
    if options.list {
        for step in chosen {
            println!(
                "{:<12} {:>5} s  {}",
                step.name,
                step.budget.as_secs(),
                step.about
            );
        }
        return Ok(());
    }
    workspace.take_target()?;
    let mut ended = Vec::new();
    for step in &chosen {
        ended.push(run_one(workspace, step));
        let failed = matches!(
            ended.last(),
            Some(Ended {
                verdict: Verdict::Failed { .. },
                ..
            })
        );
        if failed && !options.keep_going {
            break;
        }
    }
    sum_up(&ended, &chosen)
}

fn choose(options: &Options) -> anyhow::Result<Vec<&'static Step>> {
    let named = options.only.iter().chain(&options.from);
    for name in named {
        if !steps::ALL.iter().any(|step| step.name == name) {
            let names: Vec<_> = steps::ALL.iter().map(|step| step.name).collect();
            bail!("no step `{name}`; the steps are {}", names.join(", "));
        }
    }
    let first = options
        .from
        .as_ref()
        .and_then(|from| steps::ALL.iter().position(|s| s.name == from));
    Ok(steps::ALL
        .iter()
        .skip(first.unwrap_or(0))
        .filter(|step| options.only.is_empty() || options.only.iter().any(|only| only == step.name))
        .collect())
}

fn run_one(workspace: &Workspace, step: &'static Step) -> Ended {
    eprintln!(
        "\n== {} (budget {} s): {}",
        step.name,
        step.budget.as_secs(),
        step.about
    );
    let start = Instant::now();
    let verdict = (step.run)(workspace).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Verdict::Failed {
            passed: 0,
            failed: 1,
        }
    });
    let took = start.elapsed();
    let ended = Ended {
        step,
        verdict,
        took,
    };
    eprintln!("{}", describe(&ended));
    ended
}

fn describe(ended: &Ended) -> String {
    let verdict = match &ended.verdict {
        Verdict::Passed(1) => "ok".to_owned(),
        Verdict::Passed(tests) => format!("ok, {tests} tests"),
        Verdict::Partly { passed, skipped } => {
            let (count, why) = (skipped.len(), skipped.join("; "));
            format!("ok, {passed} tests, {count} skipped: {why}")
        }
        Verdict::Failed { passed: 0, .. } => "FAILED".to_owned(),
        Verdict::Failed { passed, failed } => format!("FAILED: {failed} of {}", passed + failed),
        Verdict::Skipped(why) => format!("skipped: {why}"),
    };
    let over = if ended.took > ended.step.budget {
        format!("  OVER BUDGET of {} s", ended.step.budget.as_secs())
    } else {
        String::new()
    };
    format!(
        "{:<12} {:>7.1} s  {verdict}{over}",
        ended.step.name,
        ended.took.as_secs_f64()
    )
}

fn sum_up(ended: &[Ended], chosen: &[&'static Step]) -> anyhow::Result<()> {
    println!("\n== summary");
    for one in ended {
        println!("{}", describe(one));
    }
    for step in &chosen[ended.len()..] {
        println!("{:<12}            not run", step.name);
    }
    let (line, failed) = totals(ended.iter().map(|one| &one.verdict));
    println!("{line}");
    if failed > 0 {
        bail!("not everything is as it should be");
    }
    Ok(())
}

/// `7 passed, 0 failed, 1 skipped`, and how many failed. What was skipped is never among what passed.
fn totals<'v>(verdicts: impl Iterator<Item = &'v Verdict>) -> (String, usize) {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for verdict in verdicts {
        match verdict {
            Verdict::Passed(tests) => passed += tests,
            Verdict::Partly {
                passed: tests,
                skipped: missed,
            } => (passed, skipped) = (passed + tests, skipped + missed.len()),
            Verdict::Failed {
                passed: p,
                failed: f,
            } => (passed, failed) = (passed + p, failed + f),
            Verdict::Skipped(_) => skipped += 1,
        }
    }
    let skipped = match skipped {
        0 => String::new(),
        n => format!(", {n} skipped"),
    };
    (format!("{passed} passed, {failed} failed{skipped}"), failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_is_not_among_what_passed() {
        let why = || "OutboxPostgres: this machine has no postgres".to_owned();
        let verdict = Verdict::of(6, vec![why()]);
        let (line, failed) = totals([&Verdict::Passed(40), &verdict].into_iter());
        assert_eq!(
            (line.as_str(), failed),
            ("45 passed, 0 failed, 1 skipped", 0)
        );
        let said = describe(&Ended {
            step: &steps::ALL[0],
            verdict,
            took: Duration::ZERO,
        });
        assert!(
            said.ends_with(&format!("ok, 5 tests, 1 skipped: {}", why())),
            "{said}"
        );
        assert!(matches!(Verdict::of(6, Vec::new()), Verdict::Passed(6)));
        assert!(matches!(Verdict::of(1, vec![why()]), Verdict::Skipped(_)));
    }
}
