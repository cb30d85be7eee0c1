//! `cargo xtask soak`: kills the server under load, again and again, and accounts for all that it acknowledged.
//!
//! The ledger of what was acknowledged is here, outside of what is killed; the ledger of what arrived is written
//! by the workload, fsynced before it answers. When is killed follows from the seed; what happens between is real. Half of
//! the kills come at random, half at named moments in turn: inside a group commit, between a delivery and its settle, inside a
//! settle's commit or that of a replay's step, and while the last kill is recovered from.
//! Each server listens where the killed one did, and its workload wants the port and the lock of the one before it:
//! what did not die with its server is found out.

mod account;
mod app;
mod control;
mod kills;
mod ledger;
mod observer;
mod outcome;
mod place;
#[allow(unreachable_pub, dead_code, reason = "the tests have it as a library")]
#[path = "../../../testkit/src/postgres.rs"]
mod postgres;
mod publishers;
mod rounds;
mod rows;
mod statuses;
mod work;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use account::Known;
use control::Control;
use kills::{Kills, Named};
use observer::{Observer, Settled, Subscriptions};
use outcome::Spread;
pub(crate) use outcome::{Outcome, judge};
use place::{After, Place, Sink};
use publishers::{Kind, Load};
use rounds::Rounds;
use rows::Database;
use statuses::Statuses;

use crate::{
    server::{self, Ports, Server},
    workspace::Workspace,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Every so often the app's database is killed, too.
const DATABASE_KILLS: u32 = 7;
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
    /// Prints one JSON object on one line.
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
    /// Events delivered by key to a consumer that fails some, and settled.
    Deliveries,
    /// The log replayed and dead letters redriven, again and again.
    Replays,
    /// Rows that an app commits to the outbox in its SQLite file; the app is killed, too.
    OutboxSqlite,
    /// Rows that an app commits to the outbox in its Postgres; the app and the database are killed, too.
    OutboxPostgres,
}

impl Name {
    /// The database of the app, where rows are what is on the server.
    const fn engine(self) -> Option<&'static str> {
        match self {
            Self::OutboxSqlite => Some("sqlite"),
            Self::OutboxPostgres => Some("postgres"),
            _ => None,
        }
    }

    /// The named moments at which it is killed. Of rows the app acknowledges one at a time, while the server commits for several
    /// things: what came in, how far it is, what was delivered. Of a replay and a redrive together there are six steps.
    const fn moments(self) -> &'static [Named] {
        match self {
            Self::Events | Self::Invokes => &[
                ("commit", 150, 150),
                ("committed", 150, 150),
                ("recovery", 1, 2),
            ],
            Self::OutboxSqlite | Self::OutboxPostgres => &[
                ("relayed", 150, 150),
                ("committed", 450, 150),
                ("recovery", 1, 2),
            ],
            Self::Deliveries => &[
                ("delivered", 200, 150),
                ("settle", 150, 150),
                ("taken", 200, 150),
                ("settled", 150, 150),
                ("recovery", 1, 2),
            ],
            Self::Replays => &[
                ("step", 7, 6),
                ("stepped", 7, 6),
                ("delivered", 400, 500),
                ("recovery", 1, 3),
            ],
        }
    }

    /// Subscriptions whose settling is seen and acknowledged.
    const fn observed(self) -> &'static [&'static str] {
        match self {
            Self::Events | Self::Deliveries => &[app::HAPPENED],
            Self::Replays => &[app::HAPPENED, app::BROKEN],
            _ => &[],
        }
    }

    /// Whether the events of a key are asked to come in order.
    const fn is_ordered(self) -> bool {
        !matches!(self, Self::Events | Self::Invokes)
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events => "events",
            Self::Invokes => "invokes",
            Self::Deliveries => "deliveries",
            Self::Replays => "replays",
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
    let app = app::write(&folder, name, first_port + 4, database.as_ref())?;
    let data = folder.join("data");
    let place = Place {
        binary,
        data: &data,
        first_port,
    };
    let mut kills_to_come = Kills::new(seed, name.moments());
    let server = place.start(true, None)?;
    server.tangelo(&["deploy", app.to_str().context("a path in UTF-8")?])?;
    let sink = Sink::of(&server)?;
    let load = load(
        name,
        database.as_ref(),
        &folder,
        seed,
        (&server, &sink, &data),
    )?;
    let observer = observer(name, &load, (&server, &sink, &data))?;
    let mut after = After::default();
    let mut running = Some((sink, server));
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
    load.expect_work(load.acknowledged())?;
    let mut acknowledged = load.stop()?;
    if let Some(database) = &database {
        acknowledged = committed(database, &folder, acknowledged)?;
    }
    let account = wait_for(name, &acknowledged, &running.ledger, observer)?;
    server.stop()?;
    Ok(Some(Outcome {
        soak: name,
        kills,
        acknowledged: acknowledged.len(),
        lost: account.lost,
        duplicates_forbidden: account.duplicates_forbidden,
        out_of_order: account.out_of_order,
        orphans: after.orphans,
        ready_ms: Spread::of(after.ready),
        answers_ms: Spread::of(after.answers),
        seed,
    }))
}

/// Starts what keeps the server busy.
fn load(
    name: Name,
    database: Option<&Database>,
    folder: &Path,
    seed: u64,
    (server, sink, data): (&Server, &Sink, &Path),
) -> anyhow::Result<Load> {
    let gateway = server.gateway()?;
    Ok(match (name, database) {
        (_, Some(database)) => database.load(folder, seed),
        (Name::Invokes, None) => publishers::start(Kind::Invokes, gateway),
        (Name::Deliveries, None) => publishers::start_by_key(gateway),
        (Name::Replays, None) => {
            let broken = sink.ledger.with_file_name("broken");
            let control = Control::of(server, data)?;
            Load::once(move |shared| Rounds::new(gateway, control, broken).run(shared))
        }
        (_, None) => publishers::start(Kind::Events, gateway),
    })
}

/// Starts who looks at what is settled.
fn observer(
    name: Name,
    load: &Load,
    (server, sink, data): (&Server, &Sink, &Path),
) -> anyhow::Result<Option<Observer>> {
    let (ledger, shared) = (sink.ledger.clone(), load.shared());
    if name == Name::Invokes {
        let look = Statuses::new(server.gateway()?, ledger, shared);
        return Ok(Some(Observer::start(look)));
    }
    if name.observed().is_empty() {
        return Ok(None);
    }
    let control = Control::of(server, data)?;
    // Where publishers count what they are told themselves, that is what a kill wants.
    let counts = name != Name::Events;
    let look = Subscriptions::new(control, ledger, name.observed(), (shared, counts));
    Ok(Some(Observer::start(look)))
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

/// Waits until all that was acknowledged has arrived, or nothing has for too long.
fn wait_for(
    name: Name,
    acknowledged: &[String],
    ledger: &Path,
    observer: Option<Observer>,
) -> anyhow::Result<account::Account> {
    let nothing = Settled::new();
    let compare = |settled: &Settled| {
        let arrived = fs::read_to_string(ledger).context("the workload's ledger")?;
        let known = Known {
            acknowledged,
            settled,
            ordered: name.is_ordered(),
        };
        anyhow::Ok(account::compare(&known, &arrived))
    };
    let (mut missing, mut since) = (usize::MAX, Instant::now());
    loop {
        let account = compare(&nothing)?;
        if account.lost == 0 || since.elapsed() > PATIENCE {
            break;
        }
        if account.lost < missing {
            (missing, since) = (account.lost, Instant::now());
        }
        thread::sleep(Duration::from_millis(200));
    }
    let is_observed = observer.is_some();
    let settled = observer.map_or_else(|| Ok(nothing.clone()), Observer::stop)?;
    ensure!(
        !is_observed || !settled.is_empty(),
        "nothing was seen to be settled"
    );
    compare(&settled)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn the_command_line_takes_a_name_kills_a_seed_and_json() {
        let names = [
            "events",
            "invokes",
            "deliveries",
            "replays",
            "outbox-sqlite",
            "outbox-postgres",
        ];
        for name in names {
            let line = ["soak", name, "--kills", "1000", "--seed", "7", "--json"];
            let Cli { options } = Cli::try_parse_from(line).expect("is a command line");
            assert_eq!(format!("{:?}", options.name), name);
            assert_eq!((options.kills, options.seed, options.json), (1000, 7, true));
        }
        let Cli { options } =
            Cli::try_parse_from(["soak", "events"]).expect("the rest is optional");
        assert!(!options.json && options.kills > 0);
        assert!(Cli::try_parse_from(["soak"]).is_err(), "of what?");
    }
}
