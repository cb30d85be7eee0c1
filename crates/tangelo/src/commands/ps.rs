//! `tangelo ps`: what runs.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use model::{ByteSize, Time};
use serde_json::{Value, json};

use super::Cli;
use crate::{client::Client, show};

/// Show what runs
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Say what isolates the instances from each other and from the machine
    #[arg(long)]
    isolation: bool,
    /// Show every instance by itself, with the memory and the CPU time that it has used
    #[arg(long, conflicts_with = "isolation")]
    instances: bool,
    /// Show what the pool of all Wasm components has, and how much of it is in use
    #[arg(long, conflicts_with_all = ["isolation", "instances"])]
    pool: bool,
}

/// Of the table of workloads.
const HEADER: [&str; 11] = [
    "app",
    "workload",
    "as",
    "runtime",
    "version",
    "instances",
    "in flight",
    "starts",
    "failures",
    "memory",
    "cpu",
];

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Ps) -> Result<ExitCode> {
    let answer: Value = client.get("/v1/ps").await?;
    let rows = answer["workloads"].as_array().cloned().unwrap_or_default();
    if ask.isolation {
        return isolation(cli, &rows);
    }
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    if ask.pool {
        show::table(&["wasm", "in use", "at most"], pool(&answer["wasm"]), "");
        return Ok(ExitCode::SUCCESS);
    }
    if ask.instances {
        let header = [
            "app",
            "workload",
            "instance",
            "state",
            "pid",
            "since",
            "in flight",
            "memory",
            "cpu",
            "ports",
            "last answer to a failed probe",
        ];
        let rows = rows.iter().flat_map(instances_of).collect();
        show::table(&header, rows, "nothing runs");
        return Ok(ExitCode::SUCCESS);
    }
    show::table(
        &HEADER,
        rows.iter().map(row).collect(),
        "nothing is deployed",
    );
    rows.iter()
        .filter_map(last_failure)
        .for_each(|line| anstream::println!("{line}"));
    for log in answer["logs"].as_array().into_iter().flatten() {
        anstream::println!("\n{}", super::log_state::line(log));
    }
    let projections = &answer["projections"];
    if projections.as_array().is_some_and(|all| !all.is_empty()) {
        anstream::println!();
        super::projections::table(projections);
    }
    Ok(ExitCode::SUCCESS)
}

/// What all instances of a workload have, under [`HEADER`].
fn row(row: &Value) -> Vec<String> {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let instances = row["instances"].as_array().map_or(&[][..], Vec::as_slice);
    let sum = |name: &str| {
        instances
            .iter()
            .filter_map(|i| i[name].as_u64())
            .sum::<u64>()
    };
    let memory = sum("memory");
    let cpu = sum("cpu_us") + row["ended"]["cpu_us"].as_u64().unwrap_or_default();
    vec![
        text("app"),
        text("workload"),
        text("tier"),
        text("runtime"),
        text("version"),
        states(instances),
        row["in_flight"].to_string(),
        row["starts"].to_string(),
        row["failures"].to_string(),
        mebibytes(memory),
        cpu_time(cpu),
    ]
}

/// Why an instance of a workload is not there any more, or never was, for as long as it may be so again.
fn last_failure(row: &Value) -> Option<String> {
    let failure = row["last_failure"].as_object()?;
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let at = failure["at"].as_u64().map(|at| Time(at).rfc3339());
    Some(format!(
        "{}/{}: {} [{}], {}; {} replaced for their liveness",
        text(&row["app"]),
        text(&row["workload"]),
        text(&failure["message"]),
        text(&failure["code"]),
        at.unwrap_or_default(),
        row["replaced"],
    ))
}

/// Unknown is no zero.
fn cpu_time(micros: u64) -> String {
    match micros {
        0 => "-".to_owned(),
        micros => model::units::display_duration(Duration::from_micros(micros)),
    }
}

/// The pool of all Wasm components, a row for each kind of thing in it.
fn pool(pool: &Value) -> Vec<Vec<String>> {
    let kinds = pool.as_object().into_iter().flatten();
    let kinds = kinds.filter(|(_, used)| used.is_object());
    let mut rows: Vec<_> = kinds
        .map(|(kind, used)| {
            let number = |name: &str| used[name].to_string();
            vec![kind.replace('_', " "), number("used"), number("most")]
        })
        .collect();
    let unused = pool["resident_unused"].as_u64().unwrap_or_default();
    rows.push(vec![
        "resident for the next".to_owned(),
        mebibytes(unused),
        String::new(),
    ]);
    rows
}

/// The instances of one workload, a row each.
fn instances_of(row: &Value) -> Vec<Vec<String>> {
    let instances = row["instances"].as_array().map_or(&[][..], Vec::as_slice);
    let line = |instance: &Value| {
        let text = |of: &Value| of.as_str().unwrap_or("-").to_owned();
        let number = |name: &str| instance[name].as_u64().unwrap_or_default();
        let cpu = number("cpu_us");
        vec![
            text(&row["app"]),
            text(&row["workload"]),
            text(&instance["instance"]),
            text(&instance["state"]),
            instance["pid"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            instance["since"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |since| Time(since).rfc3339()),
            number("in_flight").to_string(),
            mebibytes(number("memory")),
            cpu_time(cpu),
            ports(&instance["ports"]),
            instance["problem"].as_str().unwrap_or_default().to_owned(),
        ]
    };
    instances.iter().map(line).collect()
}

/// `metrics 127.0.0.1:41234`.
fn ports(ports: &Value) -> String {
    let ports = ports.as_object().into_iter().flatten();
    let ports = ports.map(|(name, port)| format!("{name} 127.0.0.1:{port}"));
    ports.collect::<Vec<_>>().join(", ")
}

/// Unknown is no zero.
fn mebibytes(bytes: u64) -> String {
    if bytes == 0 {
        return "-".to_owned();
    }
    format!("{:.1}MiB", ByteSize(bytes).0 as f64 / f64::from(1 << 20))
}

/// `2 idle, 1 busy`.
fn states(instances: &[Value]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for state in instances.iter().filter_map(|i| i["state"].as_str()) {
        *counts.entry(state).or_default() += 1;
    }
    if counts.is_empty() {
        return "0".to_owned();
    }
    counts
        .iter()
        .map(|(state, n)| format!("{n} {state}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What is enforced, and no more than that.
fn isolation(cli: &Cli, rows: &[Value]) -> Result<ExitCode> {
    let facts = rows.iter().map(|row| {
        let (enforced, not) = facts(row);
        (&row["app"], &row["workload"], enforced, not)
    });
    if cli.json {
        let rows: Vec<_> = facts
            .map(|(app, workload, enforced, not)| {
                json!({"app": app, "workload": workload, "enforced": enforced, "not_enforced": not})
            })
            .collect();
        show::json(&json!({ "isolation": rows }))?;
    } else {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let rows = facts.map(|(app, workload, enforced, not)| {
            vec![
                text(app),
                text(workload),
                enforced.join("; "),
                not.join("; "),
            ]
        });
        let header = ["app", "workload", "enforced", "not enforced"];
        show::table(&header, rows.collect(), "nothing is deployed");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is enforced of a workload's isolation, and what one could think that is.
fn facts(row: &Value) -> (Vec<String>, Vec<String>) {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let (mut enforced, mut not): (Vec<String>, Vec<String>) = match row["runtime"].as_str() {
        Some("wasm") => (
            owned(&[
                "memory-safe sandbox in the server's process",
                "memory and time limits",
                "no file system",
                "egress by allow-list",
            ]),
            Vec::new(),
        ),
        Some("lambda" | "process") => (
            owned(&["own process group, ended with the server"]),
            owned(&[
                "file system",
                "network: `calls` binds the mesh, not a raw connection to another port",
            ]),
        ),
        Some("container") => (
            owned(&[
                "own file system, read-only unless `writable`",
                "own processes and users, ended with the server",
                "no new privileges",
            ]),
            owned(&[
                "network: it is the machine's; `calls` binds the mesh, not a raw connection to another port",
            ]),
        ),
        _ => (Vec::new(), owned(&["anything: someone else runs it"])),
    };
    for limit in row["limits"].as_array().into_iter().flatten() {
        let of = |name: &str| limit[name].as_str().unwrap_or_default();
        let (what, most, by) = (of("what"), of("limit"), of("by"));
        match by {
            "" => not.push(format!("{what} {most}")),
            // Each process by itself is held to this, not all of them together.
            "rlimit" if what == "processes" => enforced.push(format!(
                "{what} {most} more than the server's user had at the start (rlimit)"
            )),
            "rlimit" => enforced.push(format!("{what} {most} per process (rlimit)")),
            "affinity" => enforced.push(format!("{what} {most}, always the same (affinity)")),
            by => enforced.push(format!("{what} {most} ({by})")),
        }
    }
    (enforced, not)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_says_what_all_its_instances_have_and_what_those_used_that_ended() {
        let deployed = json!({
            "app": "shop", "workload": "orders", "tier": "function", "runtime": "lambda", "version": "v-3",
            "instances": [
                {"instance": "i-1", "state": "busy", "memory": 3 << 20, "cpu_us": 1_500_000},
                {"instance": "i-2", "state": "idle", "memory": 2 << 20, "cpu_us": 250_000},
            ],
            "ended": {"instances": 3, "lived_us": 9_000_000, "cpu_us": 250_000},
            "in_flight": 1, "starts": 5, "failures": 2,
        });
        let row = row(&deployed);
        let cells: Vec<_> = HEADER
            .into_iter()
            .zip(row.iter().map(String::as_str))
            .collect();
        assert_eq!(row.len(), HEADER.len());
        assert_eq!(
            cells,
            [
                ("app", "shop"),
                ("workload", "orders"),
                ("as", "function"),
                ("runtime", "lambda"),
                ("version", "v-3"),
                ("instances", "1 busy, 1 idle"),
                ("in flight", "1"),
                ("starts", "5"),
                ("failures", "2"),
                ("memory", "5.0MiB"),
                ("cpu", "2.00s"),
            ]
        );
    }

    #[test]
    fn a_workload_without_instances_has_none_and_its_ended_ones_count() {
        let mut deployed = json!({"instances": [], "ended": {"cpu_us": 500_000}, "in_flight": 0, "starts": 1, "failures": 0});
        assert_eq!(row(&deployed)[5..], ["0", "0", "1", "0", "-", "500.0ms"]);
        deployed["ended"]["cpu_us"] = 0.into();
        assert_eq!(row(&deployed)[9..], ["-", "-"], "unknown is no zero");
    }

    #[test]
    fn each_instance_says_what_it_used_and_what_is_not_known() {
        let row = json!({"app": "shop", "workload": "orders", "instances": [
            {"instance": "i-1", "state": "busy", "pid": 7, "in_flight": 2, "memory": 3 << 20, "cpu_us": 1_500_000, "ports": {"metrics": 4123}},
            {"instance": "i-2", "state": "starting", "pid": null, "in_flight": 0, "memory": 0, "cpu_us": 0, "problem": "`/ready` answers 503"},
        ]});
        let rows = instances_of(&row);
        assert_eq!(rows[0][2..5], ["i-1", "busy", "7"]);
        assert_eq!(
            rows[0][6..],
            ["2", "3.0MiB", "1.50s", "metrics 127.0.0.1:4123", ""]
        );
        assert_eq!(rows[1][6..], ["0", "-", "-", "", "`/ready` answers 503"]);
    }

    #[test]
    fn what_is_asked_for_and_not_enforced_is_said_apart() {
        let row = json!({"runtime": "process", "limits": [
            {"what": "memory", "limit": "128MiB", "by": "cgroup v1"},
            {"what": "files", "limit": "64", "by": "rlimit"},
            {"what": "processes", "limit": "8", "by": null},
        ]});
        let (enforced, not) = facts(&row);
        assert_eq!(
            enforced[1..],
            ["memory 128MiB (cgroup v1)", "files 64 per process (rlimit)"]
        );
        assert_eq!(not.last().map(String::as_str), Some("processes 8"));
        let (enforced, not) = facts(&json!({"runtime": "external", "limits": []}));
        assert!(enforced.is_empty() && not.len() == 1);
    }
}
