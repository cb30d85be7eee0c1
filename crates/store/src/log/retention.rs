//! Removing the oldest events, in chunks that let other commands between them. What a living cursor or a retry still
//! needs is never removed: a log that its consumers hold fills up and says so.

use std::time::Duration;

use model::{ByteSize, Namespace, Position};

use crate::{
    batch::Batch,
    blobs::refs,
    command,
    error::Result,
    log::{Command, Log, Reply, UNEXPECTED, append, position_of, retries, row_id},
};

/// Most events removed by one command.
const CHUNK: u32 = 500;

/// What is kept at least.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events younger than this.
    pub age: Duration,
    /// As long as all together is not larger than this.
    pub bytes: ByteSize,
}

impl Default for Retention {
    /// A week, 8 GiB.
    fn default() -> Self {
        Self {
            age: Duration::from_secs(7 * 86_400),
            bytes: ByteSize::mib(8192),
        }
    }
}

/// What one chunk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// Events removed.
    pub removed: u64,
    /// Whether there may be more to remove.
    pub more: bool,
}

impl Log {
    /// Removes a chunk of events that are too old or too much; call it again while there is more.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn retain(&self, namespace: &Namespace, keep: Retention) -> Result<Retained> {
        match self.run(Command::Retain(namespace.clone(), keep)).await? {
            command::Reply::Log(Reply::Retained(retained)) => Ok(retained),
            _ => Err(UNEXPECTED),
        }
    }
}

struct Old {
    id: i64,
    at: u64,
    size: u64,
    blob: Option<Vec<u8>>,
}

/// Removes a chunk from the front of a log, and of the ids that are out of their window.
pub(super) fn retain(
    batch: &mut Batch<'_>,
    namespace: &Namespace,
    keep: Retention,
) -> Result<Retained> {
    let more_ids = append::forget_old_ids(batch, CHUNK)?;
    let log = append::head(batch, namespace)?.log;
    let (mut bytes, tail): (u64, u64) = batch
        .row("SELECT bytes, tail FROM log WHERE id = ?1", [log], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .unwrap_or_default();
    let floor = floor(batch, log)?;
    let oldest = (batch.now - keep.age).0;
    let (before, mut last, mut removed) = (bytes, None, 0);
    for old in front(batch, log, Position(tail), floor)? {
        if old.at >= oldest && bytes <= keep.bytes.0 {
            break;
        }
        if let Some(hash) = &old.blob {
            refs::release(batch, hash)?;
        }
        bytes = bytes.saturating_sub(old.size);
        (last, removed) = (Some(old.id), removed + 1);
    }
    if let Some(last) = last {
        remove_through(batch, log, last, before - bytes)?;
    }
    let more = more_ids || removed == u64::from(CHUNK);
    Ok(Retained { removed, more })
}

fn front(batch: &Batch<'_>, log: i64, after: Position, through: Position) -> Result<Vec<Old>> {
    let mut statement = batch.prepare(
        "SELECT id, at, size, blob FROM event WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
    )?;
    let rows = statement.query_map((row_id(log, after), row_id(log, through), CHUNK), |row| {
        Ok(Old {
            id: row.get(0)?,
            at: row.get(1)?,
            size: row.get(2)?,
            blob: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn remove_through(batch: &Batch<'_>, log: i64, last: i64, bytes: u64) -> Result<()> {
    batch.execute(
        "DELETE FROM event WHERE id > ?1 AND id <= ?2",
        (row_id(log, Position(0)), last),
    )?;
    batch.execute(
        "UPDATE log SET tail = ?2, bytes = bytes - ?3 WHERE id = ?1",
        (log, position_of(last).0, bytes),
    )?;
    Ok(())
}

/// The last position that nobody needs: below every cursor and every retry.
fn floor(batch: &Batch<'_>, log: i64) -> Result<Position> {
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
    Ok(Position(cursors.min(retries).min(head)))
}
