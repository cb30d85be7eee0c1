//! Removing the oldest events of each app, in chunks that let other commands between them. What a living cursor, a retry or a
//! running replay still needs is never removed: a log that its consumers hold fills up and says so. What a stream has stays as
//! long as it has it.
//!
//! Each publisher has a place up to which it was swept: the log is walked once for each of them, and never further than the age
//! that it keeps, so that a look at one with nothing to remove costs one row.

use model::{AppName, Namespace, Position, Retention};

use crate::{
    batch::Batch,
    blobs::refs,
    command,
    error::Result,
    format,
    log::{Command, JobSpec, Log, Reply, UNEXPECTED, append, position_of, retries, row_id},
};

/// Most events looked at by one command.
const CHUNK: u32 = 500;

/// What one chunk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// Events removed.
    pub removed: u64,
    /// Whether there may be more to remove.
    pub more: bool,
}

/// What an app keeps from now on.
pub struct Keep {
    namespace: Namespace,
    app: AppName,
    keep: Option<Retention>,
}

impl Log {
    /// Removes a chunk of events that are too old or too much, by what their app says, else by `usual`; call it again while
    /// there is more.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn retain(&self, namespace: &Namespace, usual: Retention) -> Result<Retained> {
        match self.run(Command::Retain(namespace.clone(), usual)).await? {
            command::Reply::Log(Reply::Retained(retained)) => Ok(retained),
            _ => Err(UNEXPECTED),
        }
    }

    /// Says what is kept of the events of an app; `None`: what is usual.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn keep(
        &self,
        namespace: &Namespace,
        app: &AppName,
        keep: Option<Retention>,
    ) -> Result<()> {
        let keep = Keep {
            namespace: namespace.clone(),
            app: app.clone(),
            keep,
        };
        self.run(Command::Keep(keep)).await.map(|_| ())
    }
}

impl Keep {
    pub(super) fn apply(&self, batch: &mut Batch<'_>) -> Result<()> {
        let log = append::head(batch, &self.namespace)?.log;
        let id = append::publisher(batch, log, Some(&self.app))?;
        let age = self.keep.map(|keep| micros(keep.age));
        let size = self.keep.map(|keep| keep.bytes.0);
        batch.execute(
            "UPDATE publisher SET age = ?2, size = ?3 WHERE id = ?1",
            (id, age, size),
        )?;
        Ok(())
    }
}

fn micros(age: std::time::Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}

struct Publisher {
    id: i64,
    nobody: bool,
    /// Bytes of what may be removed.
    ordinary: u64,
    age: Option<u64>,
    size: Option<u64>,
    swept: Position,
}

struct Old {
    id: i64,
    at: u64,
    size: u64,
    blob: Option<Vec<u8>>,
    publisher: Option<i64>,
    in_stream: bool,
}

/// What was removed of one publisher.
#[derive(Default)]
struct Removed {
    events: u64,
    bytes: u64,
    last: Option<(Position, u64)>,
}

/// Removes a chunk from the front of a log, and of the ids that are out of their window.
pub(super) fn retain(
    batch: &mut Batch<'_>,
    namespace: &Namespace,
    usual: Retention,
) -> Result<Retained> {
    let more_ids = append::forget_old_ids(batch, CHUNK)?;
    let log = append::head(batch, namespace)?.log;
    let floor = floor(batch, log, namespace)?;
    let (mut left, mut removed) = (CHUNK, 0);
    for publisher in publishers(batch, log)? {
        removed += sweep(batch, log, &publisher, usual, floor, &mut left)?;
        if left == 0 {
            break;
        }
    }
    let more = more_ids || left == 0;
    Ok(Retained { removed, more })
}

fn publishers(batch: &Batch<'_>, log: i64) -> Result<Vec<Publisher>> {
    let mut statement = batch.prepare(
        "SELECT id, app = '', max(bytes - held, 0), age, size, swept FROM publisher WHERE log = ?1 ORDER BY id",
    )?;
    let rows = statement.query_map([log], |row| {
        Ok(Publisher {
            id: row.get(0)?,
            nobody: row.get(1)?,
            ordinary: row.get(2)?,
            age: row.get(3)?,
            size: row.get(4)?,
            swept: Position(row.get(5)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Walks on from where a publisher was swept, at most so many rows as are `left`.
fn sweep(
    batch: &Batch<'_>,
    log: i64,
    publisher: &Publisher,
    usual: Retention,
    floor: Position,
    left: &mut u32,
) -> Result<u64> {
    let age = publisher.age.unwrap_or_else(|| micros(usual.age));
    let most = publisher.size.unwrap_or(usual.bytes.0);
    let oldest = batch.now.0.saturating_sub(age);
    let (mut removed, mut swept) = (Removed::default(), publisher.swept);
    for old in front(batch, log, swept, floor, *left)? {
        if old.at >= oldest && publisher.ordinary - removed.bytes <= most {
            break;
        }
        *left -= 1;
        swept = position_of(old.id);
        let own = match old.publisher {
            Some(id) => id == publisher.id,
            None => publisher.nobody,
        };
        if own && !old.in_stream {
            if let Some(hash) = &old.blob {
                refs::release(batch, hash)?;
            }
            batch.execute("DELETE FROM event WHERE id = ?1", [old.id])?;
            removed.events += 1;
            removed.bytes = (removed.bytes + old.size).min(publisher.ordinary);
            removed.last = Some((swept, old.at));
        }
    }
    if swept > publisher.swept {
        write(batch, log, publisher.id, swept, &removed)?;
    }
    Ok(removed.events)
}

fn front(
    batch: &Batch<'_>,
    log: i64,
    after: Position,
    through: Position,
    limit: u32,
) -> Result<Vec<Old>> {
    let mut statement = batch.prepare(
        "SELECT id, at, size, blob, publisher, stream IS NOT NULL FROM event
         WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
    )?;
    let between = (row_id(log, after), row_id(log, through), limit);
    let rows = statement.query_map(between, |row| {
        Ok(Old {
            id: row.get(0)?,
            at: row.get(1)?,
            size: row.get(2)?,
            blob: row.get(3)?,
            publisher: row.get(4)?,
            in_stream: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn write(
    batch: &Batch<'_>,
    log: i64,
    publisher: i64,
    swept: Position,
    removed: &Removed,
) -> Result<()> {
    batch.execute(
        "UPDATE publisher SET swept = ?2, events = max(events - ?3, 0), bytes = max(bytes - ?4, 0) WHERE id = ?1",
        (publisher, swept.0, removed.events, removed.bytes),
    )?;
    if let Some((last, at)) = removed.last {
        batch.execute(
            "UPDATE log SET tail = max(tail, ?2), gone_at = max(gone_at, ?3), bytes = max(bytes - ?4, 0) WHERE id = ?1",
            (log, last.0, at, removed.bytes),
        )?;
    }
    Ok(())
}

/// The last position that nobody needs: below every cursor, every retry and every running replay.
fn floor(batch: &Batch<'_>, log: i64, namespace: &Namespace) -> Result<Position> {
    let lowest: Option<Option<u64>> = batch.row(
        "SELECT min(CASE WHEN c.idle THEN max(c.low, l.mark) ELSE c.low END)
         FROM subscription s JOIN cursor c ON c.subscription = s.id JOIN log l ON l.id = s.log
         WHERE s.log = ?1",
        [log],
        |row| row.get(0),
    )?;
    let head = batch
        .row("SELECT head FROM log WHERE id = ?1", [log], |row| {
            row.get(0)
        })?
        .unwrap_or(0);
    let cursors = lowest.flatten().unwrap_or(head);
    let retries = retries::held(batch, log)?.map_or(u64::MAX, |held| held.0 - 1);
    let replays = replays(batch, namespace)?.map_or(u64::MAX, |after| after.0);
    Ok(Position(cursors.min(retries).min(replays).min(head)))
}

/// Where the replay is that is furthest behind.
fn replays(batch: &Batch<'_>, namespace: &Namespace) -> Result<Option<Position>> {
    let mut statement = batch.prepare("SELECT spec, after FROM job WHERE ended_at IS NULL")?;
    let mut rows = statement.query([])?;
    let mut lowest: Option<Position> = None;
    while let Some(row) = rows.next()? {
        let spec: JobSpec = format::decode(&row.get::<_, Vec<u8>>(0)?, "job")?;
        if matches!(&spec, JobSpec::Replay { namespace: of, .. } if of == namespace) {
            let after = Position(row.get(1)?);
            lowest = Some(lowest.map_or(after, |lowest| lowest.min(after)));
        }
    }
    Ok(lowest)
}
