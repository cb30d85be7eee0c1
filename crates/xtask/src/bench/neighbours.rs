//! What a service minds of its neighbours: its latencies alone, while functions want every CPU, and while a batch of a
//! thousand asynchronous invocations is worked off. Rounds alternate; the ratio is that of alone to disturbed.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{Bench, Figure, median, process, wasm};
use crate::{
    http::{Client, Request},
    server::Server,
    shell,
};

/// Functions that work at a time: more than there are CPUs.
const BURNING: usize = 8;
/// Asynchronous invocations of a batch.
const BATCH: usize = 1_000;
/// Between two requests of the one client that is timed.
const PAUSE: Duration = Duration::from_millis(5);
/// From the first burning function to all of them.
const WARM_UP: Duration = Duration::from_secs(3);

const MANIFEST: &str = "
app: neighbours
workloads:
  service:
    as: service
    run: {process: {command: [python3, service.py], files: [service.py]}}
    reserve: {cpu: 0.5}
  burn:
    as: function
    run: {lambda: {runtime: python3, handler: burn.handler, code: burn.py}}
    scale: {max: 8}
gateway:
  routes:
    - {path: /service, to: service}
    - {path: /burn, to: burn}
    - {path: /batch, to: burn, async: true}
";

const SERVICE: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const BURN: &str = "
import time

def handler(event, context):
    begun = time.process_time()
    while time.process_time() - begun < 0.05:
        pass
    return {'statusCode': 200}
";

/// Measures it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let app = bench.folder.join("app");
    fs::create_dir_all(&app)?;
    fs::write(app.join("service.py"), SERVICE)?;
    fs::write(app.join("burn.py"), BURN)?;
    let server = wasm::deployed(bench, Path::new(""), MANIFEST, &[])?;
    stand_aside()?;
    let (mut alone, mut saturated, mut batched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        alone.push(p99(bench, &server)?);
        saturated.push(beside_functions(bench, &server)?);
        batched.push(beside_a_batch(bench, &server)?);
    }
    server.stop()?;
    let alone = median(&mut alone);
    let figure = |metric: &str, mut disturbed: Vec<f64>| {
        let disturbed = median(&mut disturbed);
        let peer = "the same service alone";
        bench.less("neighbours", metric, peer, disturbed, alone)
    };
    Ok(vec![
        figure("p99 in ms while functions want every CPU", saturated),
        figure("p99 in ms while a batch of 1000 is worked off", batched),
    ])
}

/// A client is elsewhere: how long it waits for one of these CPUs is not to be measured.
fn stand_aside() -> anyhow::Result<()> {
    let own = std::process::id().to_string();
    let mut command = process::clean("chrt");
    shell::run(command.args(["--all-tasks", "--fifo", "--pid", "1", &own]))
        .context("chrt is needed, and the right to use it: run as root")
}

/// Milliseconds within which 99 of 100 requests to the service are answered, one at a time.
fn p99(bench: &Bench<'_>, server: &Server) -> anyhow::Result<f64> {
    let mut client = Client::new(server.gateway()?);
    let mut millis = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(bench.options.seconds) {
        let answer = client.send(&Request::get("/service"))?;
        ensure!(
            answer.status == 200,
            "the service answers {}",
            answer.status
        );
        millis.push(answer.took.as_secs_f64() * 1000.0);
        thread::sleep(PAUSE);
    }
    millis.sort_by(f64::total_cmp);
    let at = (millis.len() * 99 / 100).min(millis.len().saturating_sub(1));
    Ok(millis[at])
}

fn beside_functions(bench: &Bench<'_>, server: &Server) -> anyhow::Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let gateway = server.gateway()?;
    let callers: Vec<_> = (0..BURNING)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut client = Client::new(gateway);
                while !over.load(Relaxed) {
                    // What is refused while it grows is asked for again.
                    let _ = client.send(&Request::get("/burn"));
                }
            })
        })
        .collect();
    thread::sleep(WARM_UP);
    let measured = p99(bench, server);
    over.store(true, Relaxed);
    for caller in callers {
        let _ = caller.join();
    }
    measured
}

fn beside_a_batch(bench: &Bench<'_>, server: &Server) -> anyhow::Result<f64> {
    let mut client = Client::new(server.gateway()?);
    let before = ended(server)?;
    for _ in 0..BATCH {
        let answer = client.send(&Request::get("/batch"))?;
        ensure!(
            answer.status == 202,
            "the batch is answered {}",
            answer.status
        );
    }
    let measured = p99(bench, server)?;
    ensure!(
        ended(server)? > before,
        "nothing of the batch was worked off meanwhile"
    );
    while ended(server)? < before + BATCH as u64 {
        thread::sleep(Duration::from_millis(200));
    }
    Ok(measured)
}

/// Invocations of the function that have ended.
fn ended(server: &Server) -> anyhow::Result<u64> {
    let usage = server.tangelo(&["usage"])?;
    let mut rows = usage["usage"].as_array().into_iter().flatten();
    let row = rows.find(|row| row["workload"] == "burn");
    Ok(row.and_then(|row| row["requests"].as_u64()).unwrap_or(0))
}
