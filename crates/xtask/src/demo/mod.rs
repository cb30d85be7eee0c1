//! `cargo xtask demo`: the shop on a real server, real requests through it, and what came of them.
//!
//! It promises what it checks: every line of "promised" is a condition that was looked at, and with `--once` the
//! exit code says whether all of them hold.

mod facts;
mod print;
mod promises;
mod traffic;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::{
    server::{self, Addresses, Server},
    tools,
    workspace::Workspace,
};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Exits afterwards, with a code other than 0 when a promise was not kept.
    #[arg(long)]
    once: bool,
    /// Prints one JSON object with the same facts.
    #[arg(long)]
    json: bool,
    /// Builds with optimisation: slower to build, faster to run.
    #[arg(long)]
    release: bool,
    /// Uses this `tangelo` instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Everything that there is to say.
#[derive(Serialize)]
struct Story {
    addresses: Addresses,
    seconds: Seconds,
    workloads: Vec<facts::Workload>,
    trace: facts::Trace,
    promises: Vec<promises::Promise>,
    kept: bool,
}

/// How long the parts took.
#[derive(Serialize)]
struct Seconds {
    build: f64,
    deploy: f64,
    requests: f64,
    deliveries: f64,
}

/// Runs it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let stays = !options.once && std::io::stdout().is_terminal();
    let (server, story) = play(workspace, options, stays)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&story)?);
    } else {
        print::story(&story);
    }
    if stays {
        print::stays(&story);
        return server.wait();
    }
    server
        .stop()
        .context("the server does not stop as it should")?;
    verdict(&story)
}

/// The demonstration as a step of the tests: how many promises it kept.
pub(crate) fn once(workspace: &Workspace) -> anyhow::Result<usize> {
    let options = Options {
        once: true,
        json: false,
        release: false,
        binary: None,
    };
    let (server, story) = play(workspace, &options, false)?;
    print::story(&story);
    server
        .stop()
        .context("the server does not stop as it should")?;
    verdict(&story)?;
    Ok(story.promises.len())
}

fn verdict(story: &Story) -> anyhow::Result<()> {
    match story.promises.iter().filter(|p| !p.kept).count() {
        0 => Ok(()),
        n => bail!("{n} promises were not kept"),
    }
}

fn play(workspace: &Workspace, options: &Options, stays: bool) -> anyhow::Result<(Server, Story)> {
    say("installing what is missing");
    tools::machine(workspace)?;
    tools::wasm_target(workspace)?;
    say("building tangelo");
    let (binary, build) = timed(|| match &options.binary {
        Some(binary) => Ok(binary.clone()),
        None => server::build(workspace, options.release),
    })?;
    let shop = workspace.root.join("examples/shop");
    let server = Server::start(&server::Options {
        binary: &binary,
        data: &workspace.target.join("demo"),
        fresh: true,
        secrets: Some(&shop.join("secrets.toml")),
        ports: if stays {
            server::Ports::Usual
        } else {
            server::Ports::Any
        },
        flags: &[],
        clean: false,
        crash: None,
        path: None,
    })?;
    say("building and deploying the shop");
    let ((), deploy) = timed(|| deploy(&server, &shop))?;
    say("shopping");
    let gateway = server.gateway()?;
    let (visit, requests) = timed(|| traffic::visit(gateway))?;
    say("waiting for deliveries");
    let (evidence, deliveries) = timed(|| facts::gather(&server, &visit))?;
    let promises = promises::check(&visit, &evidence);
    let story = Story {
        addresses: server.addresses.clone(),
        seconds: Seconds {
            build,
            deploy,
            requests,
            deliveries,
        },
        kept: promises.iter().all(|promise| promise.kept),
        workloads: evidence.workloads,
        trace: evidence.trace,
        promises,
    };
    Ok((server, story))
}

fn deploy(server: &Server, shop: &Path) -> anyhow::Result<()> {
    let path = shop
        .to_str()
        .context("the path of the repository is not UTF-8")?;
    server.tangelo(&["deploy", path]).map(drop)
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let start = Instant::now();
    let result = work()?;
    Ok((result, rounded(start.elapsed())))
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

fn say(what: &str) {
    eprintln!("-- {what}");
}
