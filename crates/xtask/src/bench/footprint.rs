//! What a server takes that has nothing to do: the shop deployed, its functions scaled down, its services idle.
//! Resident memory of the server and of its launcher, without the workloads' own processes, and how long it takes from
//! its start until it is ready when compiled code is there.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{Bench, Figure, cpu, median, memory, wasm};
use crate::{
    server::{self, Server},
    tools,
};

const STARTS: usize = 7;
/// What a start left to do is done by then: code is loaded, services are up.
const SETTLES: Duration = Duration::from_secs(5);

/// Measures it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    tools::machine(bench.workspace)?;
    tools::wasm_target(bench.workspace)?;
    let shop = bench.workspace.root.join("examples/shop");
    let data = bench.folder.join("data");
    let start = |fresh| {
        Server::start(&server::Options {
            binary: &bench.binary,
            data: &data,
            fresh,
            secrets: Some(&shop.join("secrets.toml")),
            ports: server::Ports::Any,
            flags: &[],
            clean: true,
            crash: None,
            path: None,
        })
    };
    let server = start(true)?;
    server.tangelo(&["deploy", shop.to_str().context("a path in UTF-8")?])?;
    server.stop()?;
    let (mut ready, mut resident, mut launcher) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        let server = start(false)?;
        ready.push(begun.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(SETTLES);
        resident.push(memory::resident_mib(server.pid())?);
        launcher
            .push(cpu::child_named(server.pid(), "tangelo").map_or(Ok(0.0), memory::resident_mib)?);
        server.stop()?;
    }
    let empty = wasm::serve(bench, &bench.folder.join("empty"), true, &[], None)?;
    thread::sleep(SETTLES);
    let nothing = memory::resident_mib(empty.pid())?;
    empty.stop()?;
    let alone = |metric: &str, value| bench.alone("footprint", metric, value);
    Ok(vec![
        alone(
            "MiB resident of an idle server with the shop deployed",
            median(&mut resident),
        ),
        alone("MiB resident of its launcher", median(&mut launcher)),
        alone("MiB resident of a server with nothing deployed", nothing),
        alone(
            "ms from start to ready, compiled code cached",
            median(&mut ready),
        ),
    ])
}
