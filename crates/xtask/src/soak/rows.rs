//! The outbox soaks: an app commits rows in its own database, SQLite's or Postgres's, and is killed like the server is.
//!
//! The ledger is the app's own table of orders, committed with the rows: every order in it has to arrive, under one key.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    postgres::Postgres,
    publishers::{Load, Shared},
    work::UnderWay,
};
use crate::shell;

const WRITER: &str = include_str!("writer.py");
/// Apps that write at the same time.
const WRITERS: usize = 2;

/// The database of the app.
pub(super) enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, killed too from time to time.
    Postgres(Box<Postgres>),
}

impl Database {
    /// Makes it with an outbox and the app's own tables; `None` where the machine has no Postgres.
    pub(super) fn create(
        engine: &str,
        folder: &Path,
        binary: &Path,
    ) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("writer.py"), WRITER)?;
        let outbox = shell::output(&mut shell::command(
            binary,
            &["outbox", "init", engine],
            folder,
        ))?;
        let orders = "CREATE TABLE orders (key text, n bigint, PRIMARY KEY (key, n));";
        if engine == "postgres" {
            let Some(server) = Postgres::start() else {
                return Ok(None);
            };
            server.psql(&format!(
                "{outbox} {orders} CREATE TABLE counters (key text PRIMARY KEY, n bigint);
                 INSERT INTO counters SELECT 'k' || i, 0 FROM generate_series(0, 4) AS i;"
            ))?;
            return Ok(Some(Self::Postgres(Box::new(server))));
        }
        let file = folder.join("orders.db");
        let make = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
        let mut command = shell::command("python3", &["-c", make], folder);
        shell::run(command.arg(&file).arg(format!("{outbox} {orders}")))?;
        Ok(Some(Self::Sqlite(file)))
    }

    fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Sqlite(file) => file.display().to_string(),
            Self::Postgres(server) => server.url(),
        }
    }

    /// What the manifest says of it.
    pub(super) fn manifest(&self) -> String {
        let engine = match self {
            Self::Sqlite(file) => format!("sqlite: {{file: '{}'}}", file.display()),
            Self::Postgres(server) => format!("postgres: {{url: '{}'}}", server.url()),
        };
        format!("databases:\n  orders:\n    {engine}\n    outbox: {{publishes: [soak.happened]}}\n")
    }

    /// Starts the apps that write.
    pub(super) fn load(&self, folder: &Path, seed: u64) -> Load {
        let (engine, place) = (self.engine(), self.place());
        let script = folder.join("writer.py");
        Load::of(WRITERS, move |shared, number| {
            Ok(write(shared, seed.wrapping_add(number as u64 + 1), || {
                let mut command = Command::new("python3");
                command.arg(&script).args([engine, &place, "write"]);
                command
            }))
        })
    }

    /// Kills a server of this database; a file has none.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        if let Self::Postgres(server) = self {
            server.kill()?;
            server.restart()?;
        }
        Ok(())
    }

    /// Every order that is committed.
    pub(super) fn committed(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let arguments = ["writer.py", self.engine(), &self.place(), "list"];
        let listed = shell::output(&mut shell::command("python3", &arguments, folder))?;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }
}

/// Keeps an app writing, and kills it every so often; the ids that it said it had committed.
fn write(shared: &Shared, seed: u64, app: impl Fn() -> Command) -> Vec<String> {
    let (mut acknowledged, mut random) = (Vec::new(), seed | 1);
    while !shared.stops() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let life = 50 + (random >> 33) % 400;
        let Ok(mut child) = app()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            break;
        };
        // As long as it lives it commits rows, and the server relays them.
        let under_way = UnderWay::of(shared);
        acknowledged.extend(listen(shared, &mut child, life));
        drop(under_way);
        let _ = child.kill();
        let _ = child.wait();
    }
    acknowledged
}

fn listen(shared: &Shared, child: &mut Child, life: u64) -> Vec<String> {
    let output = child.stdout.take().map(BufReader::new);
    let lines = output
        .into_iter()
        .flat_map(BufRead::lines)
        .map_while(Result::ok);
    let mut ids = Vec::new();
    for id in lines.take(usize::try_from(life).unwrap_or(usize::MAX)) {
        ids.push(id);
        shared.acknowledge();
        if shared.stops() {
            break;
        }
    }
    ids
}
