//! The usage ledger in `state.db`: what each workload consumed, per hour and trigger.
//!
//! Rows are absolute sums of one boot of one server and are replaced as they grow, so that writing one twice
//! counts nothing twice. A report adds up the boots.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use model::{Name, Time};
use rusqlite::{Connection, Row, Statement, params};

use crate::{
    batch::Batch,
    command::{self, Reply},
    error::Result,
    kernel::{Kernel, Pending},
    queue::Urgency,
};

/// What one workload consumed in one hour by one trigger, as one boot of the server counted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The beginning of the hour.
    pub hour: Time,
    /// The app.
    pub app: Name,
    /// The workload.
    pub workload: Name,
    /// `function`, `service` or `job`.
    pub tier: String,
    /// `route`, `event`, …
    pub trigger: String,
    /// When the server that counted was started: tells its rows from those of earlier starts.
    pub boot: Time,
    /// Invocations that ended.
    pub invocations: u64,
    /// Those that failed.
    pub errors: u64,
    /// Sum of their durations, in microseconds.
    pub wall_us: u64,
    /// Sum of their CPU time, in microseconds.
    pub cpu_us: u64,
    /// The highest peak of memory, in bytes.
    pub memory: u64,
    /// Body bytes in.
    pub bytes_in: u64,
    /// Body bytes out.
    pub bytes_out: u64,
    /// Invocations that waited for a cold start.
    pub cold_starts: u64,
    /// Sums over those by phase, in microseconds: waiting, loading, spawning, extensions, initialising.
    pub cold_us: [u64; 5],
    /// A histogram of durations, as `telemetry` encodes it.
    pub latency: Vec<u8>,
    /// How long instances were there, added up, in microseconds.
    pub instance_us: u64,
    /// Sum of their CPU time, in microseconds.
    pub instance_cpu_us: u64,
    /// Sum of their bytes of memory times the seconds for which they had them.
    pub instance_byte_seconds: u64,
}

const PUT: &str = "INSERT OR REPLACE INTO usage VALUES
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
    ?20, ?21, ?22, ?23)";

const PURGE: &str = "DELETE FROM usage WHERE (hour, app, workload, tier, trigger, boot) IN
    (SELECT hour, app, workload, tier, trigger, boot FROM usage WHERE hour < ?1 LIMIT ?2)";

/// What changes the ledger.
pub enum Command {
    /// Writes sums over what the same boot said before.
    Put(Vec<UsageRow>),
    /// Removes so many rows of hours before that, at most.
    Purge(Time, usize),
}

/// The usage ledger. Cheap to clone.
#[derive(Clone)]
pub struct Usage(Arc<Kernel>);

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<Reply> {
        match self {
            Self::Put(rows) => put(&mut *batch.prepare(PUT)?, rows)?,
            Self::Purge(before, limit) => {
                let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
                let removed = batch.execute(PURGE, params![int(before.0), limit])?;
                return Ok(Reply::Count(removed as u64));
            }
        }
        Ok(Reply::Done)
    }
}

impl Usage {
    pub(crate) const fn new(kernel: Arc<Kernel>) -> Self {
        Self(kernel)
    }

    /// Writes sums over what the same boot said before.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] or [`crate::Error::Closed`]; nothing was done.
    pub fn put(&self, rows: Vec<UsageRow>) -> Result<Pending> {
        let size = rows
            .iter()
            .map(|row| size_of::<UsageRow>() + row.latency.len())
            .sum();
        let command = command::Command::Usage(Command::Put(rows));
        self.0.submit(command, Urgency::Settle, size)
    }

    /// The same, waiting for the commit on this thread, which must not be one that polls tasks.
    ///
    /// # Errors
    /// Those of [`Usage::put`] and of the commit.
    pub fn put_blocking(&self, rows: Vec<UsageRow>) -> Result<()> {
        wait_for(self.put(rows)?.done()).map(|_| ())
    }

    /// All rows of hours from `since` on, of one app when `app` is given. Blocks on the disk.
    ///
    /// # Errors
    /// What the read fails with.
    pub fn rows_blocking(&self, since: Time, app: Option<&str>) -> Result<Vec<UsageRow>> {
        self.0
            .readers
            .run_blocking(|connection| Ok(rows(connection, since, app)?))
    }

    /// Removes at most `limit` rows of hours before `before`; says how many it removed.
    ///
    /// # Errors
    /// Those of the queue and the commit.
    pub async fn purge(&self, before: Time, limit: usize) -> Result<u64> {
        let command = command::Command::Usage(Command::Purge(before, limit));
        self.0.run(command).await.map(Reply::count)
    }
}

/// Waits for a future by parking this thread.
fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Writes `rows` with [`PUT`].
fn put(statement: &mut Statement<'_>, rows: &[UsageRow]) -> rusqlite::Result<()> {
    for row in rows {
        let [wait, load, spawn, extensions, init] = row.cold_us.map(int);
        statement.execute(params![
            int(row.hour.0),
            row.app.as_str(),
            row.workload.as_str(),
            row.tier,
            row.trigger,
            int(row.boot.0),
            int(row.invocations),
            int(row.errors),
            int(row.wall_us),
            int(row.cpu_us),
            int(row.memory),
            int(row.bytes_in),
            int(row.bytes_out),
            int(row.cold_starts),
            wait,
            load,
            spawn,
            init,
            row.latency,
            int(row.instance_us),
            int(row.instance_cpu_us),
            int(row.instance_byte_seconds),
            extensions,
        ])?;
    }
    Ok(())
}

fn rows(
    connection: &Connection,
    since: Time,
    app: Option<&str>,
) -> rusqlite::Result<Vec<UsageRow>> {
    let sql = "SELECT * FROM usage WHERE hour >= ?1 AND (?2 IS NULL OR app = ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![int(since.0), app], row)?;
    rows.collect()
}

fn row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    let number = |column: &str| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(UsageRow {
        hour: Time(number("hour")?),
        app: name(row, "app")?,
        workload: name(row, "workload")?,
        tier: row.get("tier")?,
        trigger: row.get("trigger")?,
        boot: Time(number("boot")?),
        invocations: number("invocations")?,
        errors: number("errors")?,
        wall_us: number("wall_us")?,
        cpu_us: number("cpu_us")?,
        memory: number("memory")?,
        bytes_in: number("bytes_in")?,
        bytes_out: number("bytes_out")?,
        cold_starts: number("cold_starts")?,
        cold_us: [
            number("wait_us")?,
            number("load_us")?,
            number("spawn_us")?,
            number("extensions_us")?,
            number("init_us")?,
        ],
        latency: row.get("latency")?,
        instance_us: number("instance_us")?,
        instance_cpu_us: number("instance_cpu_us")?,
        instance_byte_seconds: number("instance_byte_seconds")?,
    })
}

fn name(row: &Row<'_>, column: &str) -> rusqlite::Result<Name> {
    let text: String = row.get(column)?;
    Name::new(&text).map_err(|e| {
        let at = row.as_ref().column_index(column).unwrap_or(0);
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(e))
    })
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(hour: u64, boot: u64, invocations: u64) -> UsageRow {
        UsageRow {
            hour: Time(hour),
            app: Name::literal("shop"),
            workload: Name::literal("orders"),
            tier: "service".to_owned(),
            trigger: "route".to_owned(),
            boot: Time(boot),
            invocations,
            errors: 1,
            wall_us: 2,
            cpu_us: 3,
            memory: 4,
            bytes_in: 5,
            bytes_out: 6,
            cold_starts: 7,
            cold_us: [8, 9, 10, 15, 11],
            latency: vec![1, 2, 3],
            instance_us: 12,
            instance_cpu_us: 13,
            instance_byte_seconds: 14,
        }
    }

    #[tokio::test]
    async fn a_boot_replaces_its_own_sums_and_no_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        let clock = model::Clock::virtual_at(Time(1));
        let store = crate::Store::open(crate::Options::new(dir.path(), clock)).expect("opens");
        let ledger = store.usage();
        let put = async |rows: &[UsageRow]| {
            let pending = ledger.put(rows.to_vec()).expect("is taken");
            pending.done().await.expect("is written");
        };
        put(&[usage(100, 1, 5), usage(100, 2, 6)]).await;
        put(&[usage(100, 2, 9), usage(200, 2, 1)]).await;
        let rows = |since, app| ledger.rows_blocking(Time(since), app).expect("reads");
        let all = [usage(100, 1, 5), usage(100, 2, 9), usage(200, 2, 1)];
        assert_eq!(rows(0, Some("shop")), all);
        assert_eq!(rows(101, None).len(), 1);
        assert!(rows(0, Some("other")).is_empty());
        assert_eq!(ledger.purge(Time(200), 1).await.expect("purges"), 1);
        assert_eq!(ledger.purge(Time(200), 9).await.expect("purges"), 1);
        assert_eq!(rows(0, None), all[2..]);
        let alone = std::thread::spawn({
            let ledger = ledger.clone();
            move || ledger.put_blocking(vec![usage(300, 2, 2)])
        });
        let written = tokio::task::spawn_blocking(|| alone.join())
            .await
            .expect("joins");
        written.expect("does not panic").expect("is written");
        assert_eq!(rows(300, None).len(), 1);
        store.close().await.expect("closes");
    }
}
