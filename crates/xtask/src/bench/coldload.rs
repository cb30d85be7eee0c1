//! The first request to a Wasm function whose compiled code is on disk and not loaded, after the server was started
//! anew: what it takes longer than the next ones. Beside it `wasmtime serve` with precompiled code, from the start of
//! its process to its first answer.

use std::{
    net::TcpStream,
    path::Path,
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

const STARTS: usize = 100;
/// Requests after the first, whose median is what a request takes.
const NEXT: usize = 20;
const STARTS_WITHIN: Duration = Duration::from_secs(20);

const MANIFEST: &str = "app: hello
workloads:
  hello: {as: function, run: {wasm: {component: hello.wasm}}}
gateway: {routes: [{path: /, to: hello}]}
";

/// Measures both sides in turns.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let component = wasm::component(bench.workspace, None)?;
    let wasmtime = wasm::wasmtime(bench.workspace)?;
    let compiled = bench.folder.join("hello.cwasm");
    let mut compile = process::clean(wasmtime.to_str().context("a path in UTF-8")?);
    compile.args(["compile", "-O", "pooling-allocator=y", "-o"]);
    shell::run(compile.arg(&compiled).arg(&component))?;
    wasm::deployed(bench, &component, MANIFEST, &[])?.stop()?;
    let (mut added, mut ready, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        let server = wasm::serve(bench, &bench.folder.join("data"), false, &[], None)?;
        ready.push(millis(begun.elapsed()));
        added.push(first_beyond_next(&server)?);
        server.stop()?;
        theirs.push(peer(&wasmtime, &compiled)?);
    }
    let name = format!("{}, from its start", wasm::NAME);
    Ok(vec![
        bench.less(
            "coldload",
            "ms that the first request takes longer, median of 100",
            &name,
            median(&mut added),
            median(&mut theirs),
        ),
        bench.less(
            "coldload",
            "ms that the first request takes longer, 99 of 100 within",
            &name,
            within(&mut added),
            within(&mut theirs),
        ),
        bench.alone(
            "coldload",
            "ms from the start of the server to ready, median of 100",
            median(&mut ready),
        ),
    ])
}

fn first_beyond_next(server: &Server) -> anyhow::Result<f64> {
    let mut client = Client::new(server.gateway()?);
    let mut ask = || {
        let answer = client.send(&Request::get("/"))?;
        ensure!(
            answer.status == 200,
            "the function answered {}",
            answer.status
        );
        anyhow::Ok(millis(answer.took))
    };
    let first = ask()?;
    let mut next = (0..NEXT)
        .map(|_| ask())
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(first - median(&mut next))
}

/// Milliseconds from the start of `wasmtime serve` with compiled code to its first answer.
fn peer(wasmtime: &Path, compiled: &Path) -> anyhow::Result<f64> {
    let address = process::free_address()?;
    let mut command = process::clean(wasmtime.to_str().context("a path in UTF-8")?);
    command.args([
        "serve",
        "-S",
        "cli",
        "-O",
        "pooling-allocator=y",
        "--allow-precompiled",
    ]);
    command.args(["--addr", &address.to_string()]).arg(compiled);
    command.stdout(std::process::Stdio::null());
    let begun = Instant::now();
    let mut process = command.spawn().context("wasmtime does not start")?;
    while TcpStream::connect(address).is_err() {
        ensure!(begun.elapsed() < STARTS_WITHIN, "wasmtime does not listen");
        thread::sleep(Duration::from_micros(200));
    }
    let answer = Client::new(address).send(&Request::get("/"));
    let took = millis(begun.elapsed());
    process::end(&mut process);
    let status = answer?.status;
    ensure!(status == 200, "wasmtime answered {status}");
    Ok(took)
}

/// What all but one of a hundred are within.
fn within(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * 99 / 100 - 1]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
