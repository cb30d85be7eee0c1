//! `cargo xtask soak`: kills the server under load, again and again, and accounts for all that it acknowledged.
//!
//! The ledger of what was acknowledged is here, outside of what is killed; the ledger of what arrived is written
//! by the workload, fsynced before it answers. When is killed follows from the seed; what happens between is real.
//! Each server listens where the killed one did, and its workload wants the port and the lock of the one before it:
//! what did not die with its server is found out.

mod account;
mod publishers;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use crate::{
    http::{Client, Request},
    server::{self, Ports, Server},
    workspace::Workspace,
};

const PATIENCE: Duration = Duration::from_secs(120);
const SINK: &str = include_str!("sink.py");
const MANIFEST: &str = "app: soak
workloads:
  sink:
    as: service
    run: {process: {command: [python3, sink.py]}}
    env: {SINK_PORT: 'PORT'}
    state: [folder]
    timeout: 10s
    on:
      - event: {type: [soak.happened]}
        retry: {attempts: 100, backoff: 100ms, max_backoff: 1s}
gateway:
  routes:
    - {path: /events, methods: [POST], to: events}
    - {path: /later, methods: [POST], to: sink, async: true}
    - {path: /sink, methods: [GET], to: sink}
";

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What is put on the server.
    #[arg(value_enum)]
    name: Name,
    /// How often it is killed.
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// What the moments of the kills follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Uses this `tangelo` instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Kinds of work.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    /// Events published, to a subscription.
    Events,
    /// Requests accepted with 202, to be done later.
    Invokes,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    soak: Name,
    kills: u32,
    acknowledged: usize,
    lost: usize,
    /// Deliveries of one thing under different idempotency keys, or of two things under one.
    duplicates_forbidden: usize,
    /// Neither kind promises an order.
    out_of_order: usize,
    /// Workload processes that outlived their server.
    orphans: usize,
    /// Milliseconds from the start after a kill to the ready line: usually, and at worst.
    ready_ms: Spread,
    /// And to the first answer of the workload.
    answers_ms: Spread,
    /// What the moments of the kills followed from.
    seed: u64,
}

/// Median and largest of several.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Spread {
    median: u128,
    most: u128,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let millis = |at: usize| all.get(at).map_or(0, Duration::as_millis);
        Self {
            median: millis(all.len() / 2),
            most: millis(all.len().saturating_sub(1)),
        }
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events => "events",
            Self::Invokes => "invokes",
        })
    }
}

/// Runs one soak and prints what came of it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => server::build(workspace, false)?,
    };
    let outcome = soak(
        workspace,
        &binary,
        options.name,
        options.kills,
        options.seed,
    )?;
    if options.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{outcome:?}");
    }
    judge(&outcome)
}

/// An error unless everything is accounted for.
pub(crate) fn judge(outcome: &Outcome) -> anyhow::Result<()> {
    let Outcome {
        lost,
        duplicates_forbidden,
        orphans,
        acknowledged,
        ..
    } = outcome;
    ensure!(
        *acknowledged > 0,
        "nothing was acknowledged: the soak shows nothing"
    );
    ensure!(*lost == 0, "{lost} acknowledged were lost");
    ensure!(
        *duplicates_forbidden == 0,
        "{duplicates_forbidden} were repeated in a forbidden way"
    );
    ensure!(
        *orphans == 0,
        "{orphans} workload processes outlived their server"
    );
    Ok(())
}

/// Runs one soak.
pub(crate) fn soak(
    workspace: &Workspace,
    binary: &Path,
    name: Name,
    kills: u32,
    seed: u64,
) -> anyhow::Result<Outcome> {
    let folder = workspace.target.join("soak");
    let _ = fs::remove_dir_all(&folder);
    let first_port = Ports::free(5)?;
    let app = write_app(&folder, first_port + 4)?;
    let start = |fresh| start(binary, &folder.join("data"), fresh, first_port);
    let mut server = start(true)?;
    server.tangelo(&["deploy", app.to_str().context("a path in UTF-8")?])?;
    let mut moments = Moments(seed.max(1));
    let load = publishers::start(name, server.gateway()?);
    let (mut orphans, mut ready, mut answers) = (0, Vec::new(), Vec::new());
    let mut running = sink(&server)?;
    for kill in 1..=kills {
        let killed = || format!("at kill {kill} of seed {seed}");
        load.expect_more().with_context(killed)?;
        thread::sleep(moments.next_pause());
        server.kill().with_context(killed)?;
        let begun = Instant::now();
        server = start(false).with_context(killed)?;
        ready.push(begun.elapsed());
        orphans += usize::from(is_alive(running.pid));
        running = sink(&server).with_context(killed)?;
        answers.push(begun.elapsed());
    }
    load.expect_more()?;
    let acknowledged = load.stop()?;
    let account = wait_for(&acknowledged, &running.ledger)?;
    server.stop()?;
    Ok(Outcome {
        soak: name,
        kills,
        acknowledged: acknowledged.len(),
        lost: account.lost,
        duplicates_forbidden: account.duplicates_forbidden,
        out_of_order: 0,
        orphans,
        ready_ms: Spread::of(ready),
        answers_ms: Spread::of(answers),
        seed,
    })
}

fn write_app(folder: &Path, sink_port: u16) -> anyhow::Result<PathBuf> {
    let app = folder.join("app");
    fs::create_dir_all(&app)?;
    let manifest = MANIFEST.replace("'PORT'", &format!("'{sink_port}'"));
    fs::write(app.join("tangelo.yaml"), manifest)?;
    fs::write(app.join("sink.py"), SINK)?;
    Ok(app)
}

fn start(binary: &Path, data: &Path, fresh: bool, first_port: u16) -> anyhow::Result<Server> {
    Server::start(&server::Options {
        binary,
        data,
        fresh,
        secrets: None,
        ports: Ports::From(first_port),
        flags: &[],
        clean: false,
    })
}

/// What the sink says about itself.
struct Sink {
    pid: u32,
    ledger: PathBuf,
}

/// Asks the sink; waits until it is up.
fn sink(server: &Server) -> anyhow::Result<Sink> {
    let mut client = Client::new(server.gateway()?);
    let start = Instant::now();
    loop {
        let answer = client.send(&Request::get("/sink"))?;
        let body = answer.json();
        if let (Some(pid), Some(ledger)) = (body["pid"].as_u64(), body["ledger"].as_str()) {
            return Ok(Sink {
                pid: pid.try_into()?,
                ledger: ledger.into(),
            });
        }
        if start.elapsed() > PATIENCE {
            bail!("the workload does not come up: {} {body}", answer.status);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a process runs. A zombie that nobody waited for yet does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|rest| !rest.starts_with('Z'))
}

/// Waits until all that was acknowledged has arrived, or nothing has for too long.
fn wait_for(acknowledged: &[String], ledger: &Path) -> anyhow::Result<account::Account> {
    let (mut missing, mut since) = (usize::MAX, Instant::now());
    loop {
        let arrived = fs::read_to_string(ledger).context("the workload's ledger")?;
        let account = account::compare(acknowledged, &arrived);
        if account.lost == 0 || since.elapsed() > PATIENCE {
            return Ok(account);
        }
        if account.lost < missing {
            (missing, since) = (account.lost, Instant::now());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// When to kill next: xorshift, so that a seed gives the same pauses on every machine.
struct Moments(u64);

impl Moments {
    fn next_pause(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(1_000 + self.0 % 400_000)
    }
}
