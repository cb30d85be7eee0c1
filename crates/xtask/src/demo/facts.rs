//! What the platform says afterwards, asked through its command line: usage, subscriptions, traces, logs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::traffic::{self, ORDER_TRACE, SIGN_IN_TRACE, Visit};
use crate::{
    http::{Client, Request},
    server::Server,
    shell,
};

/// How long deliveries may take; a Node or Python start on two busy cores takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one workload did.
#[derive(Serialize)]
pub(super) struct Workload {
    pub(super) workload: String,
    pub(super) tier: String,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) cold_starts: ColdStarts,
    /// Events that it got, counted by deliveries that ended.
    pub(super) events: u64,
}

/// Cold starts and the sums of their phases.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ColdStarts {
    pub(super) count: u64,
    pub(super) wait_us: u64,
    pub(super) load_us: u64,
    pub(super) spawn_us: u64,
    pub(super) init_us: u64,
}

/// One trace, complete.
#[derive(Serialize)]
pub(super) struct Trace {
    pub(super) id: String,
    /// As `tangelo traces ID` prints it.
    pub(super) tree: String,
    pub(super) spans: usize,
    /// The workloads that it went through.
    pub(super) workloads: Vec<String>,
}

/// All of it.
pub(super) struct Evidence {
    pub(super) workloads: Vec<Workload>,
    pub(super) trace: Trace,
    pub(super) order_trace: Trace,
    /// What is left to deliver, and what was given up.
    pub(super) subscriptions: Vec<Value>,
    /// The first order, after all that happened to it.
    pub(super) order: Value,
    /// What the dashboard counts.
    pub(super) totals: Value,
    /// Orders that `confirm` says it confirmed.
    pub(super) confirmed: usize,
    /// The state of the queued order.
    pub(super) queued: Value,
}

/// Waits until all is delivered, then collects.
pub(super) fn gather(server: &Server, visit: &Visit) -> anyhow::Result<Evidence> {
    let mut client = Client::new(server.gateway()?);
    let expected = visit.orders.len() + usize::from(visit.queued.is_some());
    let queued = wait(
        || queued(&mut client, visit),
        |state| state["state"] == "done" || state["status"] == "done",
    )?;
    let subscriptions = wait(|| server.subscriptions(), |all| all.iter().all(is_quiet))?;
    let path = format!(
        "/api/orders/{}",
        visit.orders.first().map_or("", String::as_str)
    );
    let order = wait(
        || ask(&mut client, &path, visit),
        |order| !order["risk"].is_null(),
    )?;
    let totals = wait(
        || ask(&mut client, "/live/totals", visit),
        |totals| totals["orders"] == expected && totals["paid"] == visit.paid,
    )?;
    let confirmed = wait(|| confirmed(server), |n| *n >= expected)?;
    let complete = |names: &'static [&'static str]| {
        move |trace: &Trace| {
            names
                .iter()
                .all(|name| trace.workloads.iter().any(|w| w == name))
        }
    };
    let trace = wait(
        || trace(server, SIGN_IN_TRACE),
        complete(&["sign-in", "analytics", "live"]),
    )?;
    let order_names = &[
        "auth",
        "orders",
        "catalog",
        "confirm",
        "fraud",
        "analytics",
        "live",
    ];
    let order_trace = wait(|| self::trace(server, ORDER_TRACE), complete(order_names))?;
    Ok(Evidence {
        workloads: usage(server)?,
        trace,
        order_trace,
        subscriptions,
        order,
        totals,
        confirmed,
        queued,
    })
}

/// Asks until the answer is good or patience ends; the last answer either way, for `promises` to judge.
fn wait<T>(
    mut ask: impl FnMut() -> anyhow::Result<T>,
    good: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        let answer = ask()?;
        if good(&answer) || start.elapsed() > PATIENCE {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn queued(client: &mut Client, visit: &Visit) -> anyhow::Result<Value> {
    match &visit.queued {
        Some(url) => {
            let path = url
                .find("//")
                .and_then(|at| url[at + 2..].find('/').map(|n| &url[at + 2 + n..]));
            ask(client, path.unwrap_or(url), visit)
        }
        None => Ok(serde_json::json!({"state": "done", "missing": "no status URL was given"})),
    }
}

fn ask(client: &mut Client, path: &str, visit: &Visit) -> anyhow::Result<Value> {
    let request = Request::get(path).header("authorization", traffic::bearer(visit));
    Ok(client.send(&request)?.json())
}

fn is_quiet(subscription: &Value) -> bool {
    ["backlog", "in_flight", "retrying"]
        .iter()
        .all(|name| subscription[*name] == 0)
}

fn confirmed(server: &Server) -> anyhow::Result<usize> {
    let text = shell::output(&mut server.command(&[
        "logs",
        "shop/confirm",
        "--grep",
        "confirmed",
        "-n",
        "10000",
    ]))?;
    Ok(text.lines().count())
}

fn trace(server: &Server, id: &str) -> anyhow::Result<Trace> {
    let command = server
        .command(&["traces", id])
        .output()
        .context("tangelo traces")?;
    let answer: Value = serde_json::from_slice(&command.stdout).unwrap_or_default();
    let spans = answer["spans"].as_array().map_or(&[][..], Vec::as_slice);
    let mut workloads: Vec<String> = spans
        .iter()
        .filter_map(|span| span["workload"].as_str().map(str::to_owned))
        .collect();
    workloads.sort();
    workloads.dedup();
    let mut text = server.command(&[]);
    let tree = text_tree(&mut text, id)?;
    Ok(Trace {
        id: id.to_owned(),
        tree,
        spans: spans.len(),
        workloads,
    })
}

/// `tangelo traces ID` without `--json`; empty while the trace is not there yet.
fn text_tree(command: &mut std::process::Command, id: &str) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let arguments: Vec<_> = command
        .get_args()
        .filter(|a| *a != "--json")
        .map(ToOwned::to_owned)
        .collect();
    let output = std::process::Command::new(program)
        .args(arguments)
        .args(["traces", id])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

#[derive(Deserialize)]
struct Usage {
    usage: Vec<UsageRow>,
}

#[derive(Deserialize)]
struct UsageRow {
    workload: String,
    tier: String,
    triggers: std::collections::BTreeMap<String, u64>,
    requests: u64,
    errors: u64,
    p50_us: u64,
    p99_us: u64,
    cold_starts: ColdStarts,
}

fn usage(server: &Server) -> anyhow::Result<Vec<Workload>> {
    let usage: Usage = serde_json::from_value(server.tangelo(&["usage", "--app", "shop"])?)
        .context("tangelo usage said something else")?;
    let row = |row: UsageRow| Workload {
        events: row.triggers.get("event").copied().unwrap_or_default(),
        workload: row.workload,
        tier: row.tier,
        requests: row.requests,
        errors: row.errors,
        p50_us: row.p50_us,
        p99_us: row.p99_us,
        cold_starts: row.cold_starts,
    };
    Ok(usage.usage.into_iter().map(row).collect())
}
