//! From no instance to many and back (row A3): 500 requests a second come to a Python function of which nothing runs,
//! for as long as `--seconds` says; none may fail or be refused, and afterwards no instance may be left.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};

use super::{Bench, Figure, open_loop, wasm};
use crate::server::Server;

/// Requests each second.
const RATE: f64 = 500.0;
/// Connections: more than requests ever wait at a time.
const CLIENTS: usize = 128;
const LOOK: Duration = Duration::from_millis(100);
/// Far longer than `idle` below.
const GONE_WITHIN: Duration = Duration::from_secs(60);

const MANIFEST: &str = "
app: surge
workloads:
  tide:
    as: function
    run: {lambda: {runtime: python3, handler: tide.handler, code: tide.py}}
    scale: {max: 16, idle: 2s}
gateway:
  routes:
    - {path: /, to: tide}
";

const HANDLER: &str = "
def handler(event, context):
    return {'statusCode': 200, 'body': 'ok'}
";

/// Measures it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let app = bench.folder.join("app");
    fs::create_dir_all(&app)?;
    fs::write(app.join("tide.py"), HANDLER)?;
    let server = wasm::deployed(bench, Path::new(""), MANIFEST, &[])?;
    ensure!(instances(&server)? == 0, "nothing was asked for yet");
    let load = open_loop::Load {
        address: server.gateway()?,
        path: "/",
        rate: RATE,
        time: Duration::from_secs(bench.options.seconds),
        clients: CLIENTS,
    };
    let over = AtomicBool::new(false);
    let (outcome, most) = thread::scope(|scope| {
        let highest = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Relaxed) {
                most = most.max(instances(&server)?);
                thread::sleep(LOOK);
            }
            anyhow::Ok(most)
        });
        let outcome = open_loop::put(&load);
        over.store(true, Relaxed);
        let most = highest
            .join()
            .map_err(|_| anyhow!("the look-out panicked"))?;
        anyhow::Ok((outcome?, most?))
    })?;
    ensure!(
        outcome.refused == 0,
        "{} requests were refused",
        outcome.refused
    );
    let ended = Instant::now();
    while instances(&server)? > 0 {
        ensure!(ended.elapsed() < GONE_WITHIN, "instances are left");
        thread::sleep(LOOK);
    }
    let gone = ended.elapsed().as_secs_f64();
    server.stop()?;
    let alone = |metric: &str, value| bench.alone("surge", metric, value);
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let most = most as f64;
    Ok(vec![
        alone(
            "requests served per second, from no instance on, none failed",
            outcome.per_second(),
        ),
        alone(
            "ms within which 99 of 100 are answered",
            outcome.within(0.99),
        ),
        alone("ms within which all are answered", outcome.within(1.0)),
        alone("instances at most", most),
        alone("seconds until no instance is left", gone),
    ])
}

fn instances(server: &Server) -> anyhow::Result<usize> {
    let said = server.tangelo(&["ps"])?;
    let rows = said["workloads"].as_array().context("rows")?;
    let counts = rows
        .iter()
        .map(|row| row["instances"].as_array().map_or(0, Vec::len));
    Ok(counts.sum())
}
