//! `cargo xtask soak`: kills the server under load, again and again, and accounts for all that it acknowledged.
//!
//! The ledger of what was acknowledged is here, outside of what is killed; the ledger of what arrived is written
//! by the workload, fsynced before it answers. When is killed follows from the seed; what happens between is real. Half of
//! the kills come at random, half at named moments: inside a group commit, after one, and while the last kill is recovered from.
//! Each server listens where the killed one did, and its workload wants the port and the lock of the one before it:
//! what did not die with its server is found out.

mod account;
mod kills;
#[allow(unreachable_pub, reason = "the tests have it as a library")]
#[path = "../../../testkit/src/postgres.rs"]
mod postgres;
mod publishers;
mod rows;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use kills::{Kill, Kills};
use publishers::{Kind, Load};
use rows::Database;

use crate::{
    http::{Client, Request},
    server::{self, Ports, Server},
    workspace::Workspace,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// What must be acknowledged between two kills: a kill of a server that has nothing to lose shows nothing.
const WORK: usize = 100;
/// Every so often the app's database is killed, too.
const DATABASE_KILLS: u32 = 7;
const SINK: &str = include_str!("sink.py");
const MANIFEST: &str = "app: soak
workloads:
  sink:
    as: service
    run: {process: {command: [python3, sink.py]}}
    env: {SINK_PORT: 'PORT'}
    state: [folder]
    timeout: 10s
    async: {backoff: 1s}
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
#[serde(rename_all = "kebab-case")]
pub(crate) enum Name {
    /// Events published, to a subscription.
    Events,
    /// Requests accepted with 202, to be done later.
    Invokes,
    /// Rows that an app commits to the outbox in its SQLite file; the app is killed, too.
    OutboxSqlite,
    /// Rows that an app commits to the outbox in its Postgres; the app and the database are killed, too.
    OutboxPostgres,
}

impl Name {
    /// The database of the app, where rows are what is on the server.
    const fn engine(self) -> Option<&'static str> {
        match self {
            Self::Events | Self::Invokes => None,
            Self::OutboxSqlite => Some("sqlite"),
            Self::OutboxPostgres => Some("postgres"),
        }
    }
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
    /// The subscription of the soaks promises no order.
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
            Self::OutboxSqlite => "outbox-sqlite",
            Self::OutboxPostgres => "outbox-postgres",
        })
    }
}

/// Runs one soak and prints what came of it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => server::build(workspace, false)?,
    };
    let (name, kills, seed) = (options.name, options.kills, options.seed);
    let Some(outcome) = soak(workspace, &binary, name, kills, seed)? else {
        bail!("this machine has no postgres to soak (Debian: apt-get install postgresql)");
    };
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

/// Runs one soak; `None` where the machine lacks what it is about.
pub(crate) fn soak(
    workspace: &Workspace,
    binary: &Path,
    name: Name,
    kills: u32,
    seed: u64,
) -> anyhow::Result<Option<Outcome>> {
    let folder = workspace.target.join("soak");
    let _ = fs::remove_dir_all(&folder);
    let mut database = match name.engine() {
        None => None,
        Some(engine) => match Database::create(engine, &folder, binary)? {
            None => return Ok(None),
            database => database,
        },
    };
    let first_port = Ports::free(5)?;
    let app = write_app(&folder, first_port + 4, database.as_ref())?;
    let data = folder.join("data");
    let place = Place {
        binary,
        data: &data,
        first_port,
    };
    let mut kills_to_come = Kills::new(seed, database.is_some());
    let server = place.start(true, None)?;
    server.tangelo(&["deploy", app.to_str().context("a path in UTF-8")?])?;
    let load = match (name, &database) {
        (_, Some(database)) => database.load(&folder, seed),
        (Name::Invokes, None) => publishers::start(Kind::Invokes, server.gateway()?),
        (_, None) => publishers::start(Kind::Events, server.gateway()?),
    };
    let mut after = After::default();
    let mut running = Some((sink(&server)?, server));
    for number in 1..=kills {
        let kill = kills_to_come.next();
        let killed = || format!("at kill {number} of seed {seed}, {kill:?}");
        let (sink, server) = running.take().context("a server runs")?;
        let next = place.kill(server, &kill, &load).with_context(killed)?;
        let (sink, server) = after.note(&sink, next).with_context(killed)?;
        if let Some(database) = database.as_mut().filter(|_| number % DATABASE_KILLS == 0) {
            database.kill()?;
        }
        running = Some((sink, server));
    }
    let (running, server) = running.context("a server runs")?;
    load.expect_work()?;
    let mut acknowledged = load.stop()?;
    if let Some(database) = &database {
        acknowledged = committed(database, &folder, acknowledged)?;
    }
    let account = wait_for(&acknowledged, &running.ledger)?;
    server.stop()?;
    Ok(Some(Outcome {
        soak: name,
        kills,
        acknowledged: acknowledged.len(),
        lost: account.lost,
        duplicates_forbidden: account.duplicates_forbidden,
        out_of_order: 0,
        orphans: after.orphans,
        ready_ms: Spread::of(after.ready),
        answers_ms: Spread::of(after.answers),
        seed,
    }))
}

/// All orders of the database, of which the apps must have said nothing that is not there.
fn committed(
    database: &Database,
    folder: &Path,
    acknowledged: Vec<String>,
) -> anyhow::Result<Vec<String>> {
    let committed = database.committed(folder)?;
    let known: std::collections::HashSet<_> = committed.iter().collect();
    let gone = acknowledged.iter().find(|id| !known.contains(id));
    ensure!(gone.is_none(), "the database itself lost {gone:?}");
    Ok(committed)
}

fn write_app(
    folder: &Path,
    sink_port: u16,
    database: Option<&Database>,
) -> anyhow::Result<PathBuf> {
    let app = folder.join("app");
    fs::create_dir_all(&app)?;
    let mut manifest = MANIFEST.replace("'PORT'", &format!("'{sink_port}'"));
    manifest.push_str(&database.map_or_else(String::new, Database::manifest));
    fs::write(app.join("tangelo.yaml"), manifest)?;
    fs::write(app.join("sink.py"), SINK)?;
    Ok(app)
}

/// Where each server of a soak runs.
struct Place<'a> {
    binary: &'a Path,
    data: &'a Path,
    first_port: u16,
}

impl Place<'_> {
    fn options<'o>(&'o self, fresh: bool, crash: Option<&'o str>) -> server::Options<'o> {
        server::Options {
            binary: self.binary,
            data: self.data,
            fresh,
            secrets: None,
            ports: Ports::From(self.first_port),
            flags: &[],
            clean: false,
            crash,
            path: None,
        }
    }

    fn start(&self, fresh: bool, crash: Option<&str>) -> anyhow::Result<Server> {
        Server::start(&self.options(fresh, crash))
    }

    /// Kills `server` as `kill` has it, once it has work, and starts the next; answers with when that began.
    fn kill(&self, server: Server, kill: &Kill, load: &Load) -> anyhow::Result<(Server, Instant)> {
        load.expect_work()?;
        match kill {
            Kill::After(pause) => {
                thread::sleep(*pause);
                server.kill()?;
            }
            Kill::Commit(moment) => {
                // Told from its start on, so it is another server that comes to its moment.
                server.stop()?;
                let told = self.start(false, Some(moment))?;
                let before = load.acknowledged();
                told.ends()?;
                let meanwhile = load.acknowledged() - before;
                ensure!(
                    meanwhile >= WORK,
                    "only {meanwhile} were acknowledged before the moment came"
                );
            }
            Kill::Recovery(pause, moment) => {
                thread::sleep(*pause);
                server.kill()?;
                Server::start_to_end(&self.options(false, Some(moment)))?;
            }
        }
        let begun = Instant::now();
        Ok((self.start(false, None)?, begun))
    }
}

/// What was seen after the kills.
#[derive(Default)]
struct After {
    orphans: usize,
    ready: Vec<Duration>,
    answers: Vec<Duration>,
}

impl After {
    /// Looks at a server that was started at `begun`, and for what its predecessor's `sink` left behind.
    fn note(&mut self, sink: &Sink, next: (Server, Instant)) -> anyhow::Result<(Sink, Server)> {
        let (server, begun) = next;
        self.ready.push(begun.elapsed());
        self.orphans += usize::from(is_alive(sink.pid));
        let sink = self::sink(&server)?;
        self.answers.push(begun.elapsed());
        Ok((sink, server))
    }
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
