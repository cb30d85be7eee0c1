//! The number of instances follows what is asked of each workload, from nothing and back; what instances use is counted.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{ECHO, server, under_load::load::Load};

const APP: &str = include_str!("under_load/app.py");

/// A worker that holds what it is given until the file `open` is there, and notes what it has done.
const WORKER: &str = r#"
import json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        while not os.path.exists(os.environ["GATES"] + "/open"):
            time.sleep(0.02)
        with open(os.environ["GATES"] + "/done", "a") as done:
            done.write(self.headers["ce-id"] + "\n")
        self.send_response(204)
        self.end_headers()
    def log_message(self, *args):
        pass

ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer.request_queue_size = 256
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// How many instances of each workload there are, ready or on their way.
fn instances(server: &Server) -> Result<BTreeMap<String, usize>> {
    let ps = server.json(&["ps"])?;
    let rows = ps["workloads"].as_array().context("rows")?.iter();
    let count = |row: &Value| row["instances"].as_array().map_or(0, Vec::len);
    Ok(rows
        .filter_map(|row| Some((row["workload"].as_str()?.to_owned(), count(row))))
        .collect())
}

async fn settles(server: &Server, what: &str, workload: &str, wanted: impl Fn(usize) -> bool) {
    eventually(what, || async {
        let count = instances(server).ok()?.get(workload).copied()?;
        wanted(count).then_some(())
    })
    .await;
}

/// A3 in short: clients that come to nothing at all are served, and when they have gone, nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_nothing_and_back_without_a_failed_request() -> Result<()> {
    let server = server();
    let gates = server.scratch().display().to_string();
    let manifest = format!(
        "
app: tide
workloads:
  service:
    as: service
    run: {{process: {{command: [python3, code/app.py], files: [code]}}}}
    env: {{VERSION: '1', GATES: '{gates}'}}
    scale: {{min: 0, max: 3, concurrency: 2, idle: 1s}}
  function:
    as: function
    run: {{lambda: {{runtime: python3, handler: app.handler, code: code}}}}
    env: {{VERSION: '1', GATES: '{gates}'}}
    scale: {{max: 3, idle: 1s}}
gateway:
  routes:
    - {{path: /service/*, to: service, rewrite: /*}}
    - {{path: /function/*, to: function, rewrite: /*}}
"
    );
    server.deploy(&[("tangelo.yaml", &manifest), ("code/app.py", APP)])?;
    for _ in 0..2 {
        for workload in ["service", "function"] {
            settles(&server, "nothing is there", workload, |n| n == 0).await;
        }
        let load = Load::start(&server.addresses().gateway, &["/service/", "/function/"]);
        for _ in 0..5 {
            load.goes_on().await;
        }
        settles(&server, "it has grown", "service", |n| n > 1).await;
        load.stop_unharmed().await?;
    }
    for workload in ["service", "function"] {
        settles(&server, "nothing is left", workload, |n| n == 0).await;
    }
    Ok(())
}

/// D4 on a real bus: the worker follows what waits, and what only answers requests does not mind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_follows_its_backlog_and_loses_no_event() -> Result<()> {
    const EVENTS: usize = 200;
    let server = server();
    let gates = server.scratch().join("gates");
    fs::create_dir_all(&gates)?;
    let manifest = format!(
        "
app: post
workloads:
  worker:
    as: service
    run: {{process: {{command: [python3, worker.py]}}}}
    env: {{GATES: '{}'}}
    scale: {{min: 0, max: 3, on: {{backlog: 50}}, down: 1s, idle: 1s}}
    on:
      - event: {{type: letter.sent}}
  front:
    as: service
    run: {{process: {{command: [python3, echo.py]}}}}
    scale: {{max: 3}}
    publishes: [letter.sent]
gateway:
  routes:
    - {{path: /front, to: front}}
    - {{path: /events, to: events}}
",
        gates.display()
    );
    let files = [
        ("tangelo.yaml", &*manifest),
        ("worker.py", WORKER),
        ("echo.py", ECHO),
    ];
    server.deploy(&files)?;
    settles(&server, "nobody works", "worker", |n| n == 0).await;
    let batch: Vec<Value> = (0..EVENTS)
        .map(|n| json!({"specversion": "1.0", "id": n.to_string(), "source": "/test", "type": "letter.sent", "data": n}))
        .collect();
    let kind = [("content-type", "application/cloudevents-batch+json")];
    let body = serde_json::to_vec(&batch)?;
    let taken = server
        .gateway()
        .send(http::Method::POST, "/events", &kind, body.into())
        .await?;
    ensure!(taken.status.is_success(), "{}", taken.text());
    settles(&server, "as many work as there may be", "worker", |n| {
        n == 3
    })
    .await;
    assert_eq!(instances(&server)?["front"], 1);
    fs::write(gates.join("open"), "")?;
    let done = eventually("all is done", || async {
        let done = fs::read_to_string(gates.join("done")).ok()?;
        let ids: std::collections::BTreeSet<String> = done.lines().map(str::to_owned).collect();
        (ids.len() == EVENTS).then_some(ids)
    })
    .await;
    assert_eq!(done.len(), EVENTS);
    settles(&server, "nobody works any more", "worker", |n| n == 0).await;
    Ok(())
}

/// What a service used, as `tangelo usage` has it: microseconds of instances and of their CPU, byte-seconds, requests.
fn used(server: &Server, workload: &str) -> Option<[u64; 4]> {
    let usage = server.json(&["usage"]).ok()?;
    let mut rows = usage["usage"].as_array()?.iter();
    let row = rows.find(|row| row["workload"] == workload)?;
    let number = |name: &str| row[name].as_u64();
    Some([
        number("instance_us")?,
        number("instance_cpu_us")?,
        number("instance_byte_seconds")?,
        number("requests")?,
    ])
}

#[tokio::test]
async fn what_instances_use_is_counted_for_both_tiers_and_survives_a_restart() -> Result<()> {
    let mut server = server();
    let manifest = "
app: metered
workloads:
  idle:
    as: service
    run: {process: {command: [python3, echo.py]}}
  handler:
    as: function
    run: {lambda: {runtime: python3, handler: app.handler, code: code}}
    env: {VERSION: '1', GATES: /nowhere}
    scale: {min: 1}
gateway:
  routes:
    - {path: /handler, to: handler}
";
    let files = [
        ("tangelo.yaml", manifest),
        ("echo.py", ECHO),
        ("code/app.py", APP),
    ];
    server.deploy(&files)?;
    // Nobody asks the service for anything: it is there, and that is what it costs.
    let second = Duration::from_secs(1).as_micros();
    for workload in ["idle", "handler"] {
        eventually("two seconds of it are counted", || async {
            let [time, cpu, memory, requests] = used(&server, workload)?;
            assert_eq!(requests, 0);
            (u128::from(time) > 2 * second && cpu > 0 && memory > 1 << 20).then_some(())
        })
        .await;
    }
    let text = server.control().get("/metrics").await?.text();
    for name in [
        "instance_seconds",
        "instance_cpu_seconds",
        "instance_memory_byte_seconds",
    ] {
        let line =
            format!("tangelo_{name}_total{{app=\"metered\",workload=\"idle\",tier=\"service\"}}");
        let value = text.lines().find_map(|l| l.strip_prefix(&line));
        let value: f64 = value
            .with_context(|| format!("{line} in {text}"))?
            .trim()
            .parse()?;
        assert!(value > 0.0, "{name}");
    }
    assert!(!text.contains("trigger=\"instance\""));
    let ps = server.json(&["ps"])?;
    let rows = ps["workloads"].as_array().context("rows")?;
    assert!(
        rows.iter()
            .all(|row| row["instances"][0]["cpu_us"].as_u64() > Some(0)),
        "{ps}"
    );

    server.stop()?;
    server.restart()?;
    let before = used(&server, "idle").context("it is still counted")?;
    assert!(u128::from(before[0]) > 2 * second);
    eventually("it is counted on", || async {
        let now = used(&server, "idle")?;
        (now[0] > before[0] + 500_000).then_some(())
    })
    .await;
    let table = String::from_utf8(server.cli(&["usage"])?.stdout)?;
    assert!(
        table.contains("INSTANCE TIME") && table.contains("GiB·s"),
        "{table}"
    );
    Ok(())
}
