//! Deliveries that failed and wait to be tried again: one row each, read by when they fall due. A row names the event
//! by its position; only one that was redriven from a dead letter carries a copy, since the log may have moved on.

use std::sync::Arc;

use model::{Error as Fault, Position, Time, code};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::{
    batch::Batch,
    blobs::refs,
    command,
    error::{Error, Result},
    format,
    kernel::Pending,
    log::{Command, Log, Logged, SubscriptionId, cursors, position_of, read, row_id},
    queue::Urgency,
    shards::Owned,
};

/// Most attempts kept in the history of a delivery; the oldest go first.
pub const HISTORY: usize = 20;

/// One try that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: Time,
    /// How.
    pub error: Fault,
}

/// A delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryRow {
    /// Whose.
    pub subscription: SubscriptionId,
    /// Which event.
    pub position: Position,
    /// When to try again.
    pub due: Time,
    /// Attempts so far.
    pub attempts: u32,
    /// From when its age counts: when the event was published, or redriven.
    pub born: Time,
    /// When it was tried first.
    pub first_at: Time,
    /// What went wrong, oldest first.
    pub history: Vec<Attempt>,
    /// What its key is known by, where its subscription has order.
    pub lane: Option<i64>,
    /// The replay that it belongs to; never written with the row.
    pub replay: Option<u64>,
}

/// What is kept in memory of a delivery that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// When to try again.
    pub due: Time,
    /// Which event.
    pub position: Position,
}

/// A delivery that waited, with its event.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryItem {
    /// Its row.
    pub row: RetryRow,
    /// Its event.
    pub logged: Logged,
}

impl Log {
    /// A delivery failed and waits. Its position may leave the cursor's `running` only after this was committed.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Closed`]; the answer says later [`Error::NotOwner`] or what the disk said.
    pub fn retry(&self, owned: Owned, row: RetryRow) -> Result<Pending> {
        let size = 256 + row.history.len() * 256;
        let command = command::Command::Log(Command::Retry(owned, Box::new(row)));
        self.kernel.submit(command, Urgency::Settle, size)
    }

    /// A retry is being tried for the `attempt`th time; written with the next commit.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn note_running(
        &self,
        owned: Owned,
        id: SubscriptionId,
        position: Position,
        attempt: u32,
    ) -> Result<()> {
        let command = Command::Running(owned, id, position, attempt);
        self.kernel
            .lazily(command::Command::Log(command), Urgency::Soon)
    }

    /// A retry succeeded.
    ///
    /// # Errors
    /// As [`Log::retry`].
    pub fn retry_done(
        &self,
        owned: Owned,
        id: SubscriptionId,
        position: Position,
    ) -> Result<Pending> {
        let command = command::Command::Log(Command::RetryDone(owned, id, position));
        self.kernel.submit(command, Urgency::Settle, 128)
    }

    /// What ran when the server died becomes a retry that is due now and has used an attempt.
    ///
    /// # Errors
    /// As [`Log::retry`].
    pub fn recover(&self, owned: Owned, id: SubscriptionId) -> Result<Pending> {
        let command = command::Command::Log(Command::Recover(owned, id));
        self.kernel.submit(command, Urgency::Settle, 64)
    }

    /// What waits of a subscription, by when it is due, at most `limit`, with its lane where that is known.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn waiting(
        &self,
        id: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<(Waiting, Option<i64>)>> {
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT due, position, lane FROM retry WHERE subscription = ?1 ORDER BY due LIMIT ?2",
                )?;
                let rows = statement.query_map((id.0, limit), |row| {
                    let waiting = Waiting {
                        due: Time(row.get(0)?),
                        position: Position(row.get(1)?),
                    };
                    Ok((waiting, row.get(2)?))
                })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// A delivery that waits, with its event.
    ///
    /// # Errors
    /// Those of reading; [`Error::Corrupt`] when the event is gone.
    pub async fn retry_item(
        &self,
        id: SubscriptionId,
        position: Position,
    ) -> Result<Option<RetryItem>> {
        let blobs = Arc::clone(&self.blobs.shared);
        self.kernel
            .read(move |connection| {
                let Some((row, raw)) = item(connection, id, position)? else {
                    return Ok(None);
                };
                let logged = raw.ok_or(Error::Corrupt("event"))?.decode(&blobs)?;
                Ok(Some(RetryItem { row, logged }))
            })
            .await
    }
}

type Columns = (i64, RetryRow, Vec<u8>, Time, Option<Vec<u8>>);

fn item(
    connection: &Connection,
    id: SubscriptionId,
    position: Position,
) -> Result<Option<(RetryRow, Option<read::RawEvent>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT log, due, attempts, born, first_at, history, published_at, cause, body, blob, lane, replay
         FROM retry WHERE subscription = ?1 AND position = ?2",
    )?;
    let mut copy = (None, None);
    let columns: Option<Columns> = statement
        .query_row((id.0, position.0), |row| {
            let retry = RetryRow {
                subscription: id,
                position,
                due: Time(row.get(1)?),
                attempts: row.get(2)?,
                born: Time(row.get(3)?),
                first_at: Time(row.get(4)?),
                history: Vec::new(),
                lane: row.get(10)?,
                replay: row.get(11)?,
            };
            copy = (row.get(8)?, row.get(9)?);
            Ok((
                row.get(0)?,
                retry,
                row.get(5)?,
                Time(row.get(6)?),
                row.get(7)?,
            ))
        })
        .optional()?;
    let Some((log, mut retry, history, published_at, cause)) = columns else {
        return Ok(None);
    };
    retry.history = format::decode(&history, "history")?;
    let raw = match cause {
        Some(cause) => {
            let payload = read::payload(connection, copy.0, copy.1)?;
            Some(read::RawEvent::copied(
                position,
                published_at,
                cause,
                payload,
            ))
        }
        None => read::raw_at(connection, row_id(log, position))?,
    };
    Ok(Some((retry, raw)))
}

/// Inserts or moves a retry.
pub(super) fn write(batch: &Batch<'_>, row: &RetryRow) -> Result<()> {
    let history = format::encode(&row.history);
    batch.execute(
        "INSERT INTO retry (subscription, log, position, due, attempts, born, first_at, published_at, history, lane)
         SELECT ?1, log, ?2, ?3, ?4, ?5, ?6, ?5, ?7, ?8 FROM subscription WHERE id = ?1
         ON CONFLICT (subscription, position) DO UPDATE
         SET due = excluded.due, attempts = excluded.attempts, running = 0, history = excluded.history,
             lane = excluded.lane",
        (
            row.subscription.0,
            row.position.0,
            row.due.0,
            row.attempts,
            row.born.0,
            row.first_at.0,
            history,
            row.lane,
        ),
    )?;
    Ok(())
}

/// Notes that a retry is being tried.
pub(super) fn running(
    batch: &Batch<'_>,
    id: SubscriptionId,
    position: Position,
    attempt: u32,
) -> Result<()> {
    batch.execute(
        "UPDATE retry SET running = 1, attempts = ?3 WHERE subscription = ?1 AND position = ?2",
        (id.0, position.0, attempt),
    )?;
    Ok(())
}

/// Removes a retry; what it copied is released.
pub(super) fn done(batch: &Batch<'_>, id: SubscriptionId, position: Position) -> Result<()> {
    let blob: Option<Option<Vec<u8>>> = batch.row(
        "DELETE FROM retry WHERE subscription = ?1 AND position = ?2 RETURNING blob",
        (id.0, position.0),
        |row| row.get(0),
    )?;
    match blob.flatten() {
        Some(hash) => refs::release(batch, &hash),
        None => Ok(()),
    }
}

/// What ran becomes a retry that is due now, and each attempt that was cut off is in its history.
pub(super) fn recover(batch: &mut Batch<'_>, id: SubscriptionId) -> Result<()> {
    let cut_off = Attempt {
        at: batch.now,
        error: Fault::new(
            code::SHUTTING_DOWN,
            "the server stopped during this attempt",
        ),
    };
    requeue_first_attempts(batch, id, &cut_off)?;
    let running = {
        let mut statement = batch.prepare(
            "SELECT position, history FROM retry WHERE subscription = ?1 AND running = 1",
        )?;
        let rows = statement.query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(u64, Vec<u8>)>>>()?
    };
    for (position, history) in running {
        let mut history: Vec<Attempt> = format::decode(&history, "history")?;
        push(&mut history, cut_off.clone());
        batch.execute(
            "UPDATE retry SET running = 0, due = ?3, history = ?4
             WHERE subscription = ?1 AND position = ?2",
            (id.0, position, batch.now.0, format::encode(&history)),
        )?;
    }
    Ok(())
}

fn requeue_first_attempts(
    batch: &mut Batch<'_>,
    id: SubscriptionId,
    cut_off: &Attempt,
) -> Result<()> {
    let stored = batch.row(
        "SELECT c.through, c.idle, c.running, l.mark, c.passed, s.log FROM cursor c
         JOIN subscription s ON s.id = c.subscription JOIN log l ON l.id = s.log
         WHERE c.subscription = ?1",
        [id.0],
        |row| Ok((cursors::read(row, 0)?, row.get::<_, i64>(5)?)),
    )?;
    let Some((raw, log)) = stored else {
        return Ok(());
    };
    let cursor = raw.decode()?;
    for position in &cursor.running {
        if given_up(batch, id, *position)? {
            continue;
        }
        let published: Option<u64> = batch.row(
            "SELECT at FROM event WHERE id = ?1",
            [row_id(log, *position)],
            |row| row.get(0),
        )?;
        let born = published.map_or(batch.now, Time);
        batch.execute(
            "INSERT INTO retry (subscription, log, position, due, attempts, born, first_at, published_at, history)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?4, ?5, ?6) ON CONFLICT (subscription, position) DO NOTHING",
            (
                id.0,
                log,
                position.0,
                batch.now.0,
                born.0,
                format::encode(&[cut_off]),
            ),
        )?;
    }
    batch.execute(
        "UPDATE cursor SET running = NULL, low = ?2 WHERE subscription = ?1",
        (
            id.0,
            cursor
                .passed
                .first()
                .map_or(cursor.through.0, |first| first.0 - 1),
        ),
    )?;
    Ok(())
}

/// Whether a delivery is a dead letter: it was committed, and the cursor that would have said so was not.
fn given_up(batch: &Batch<'_>, id: SubscriptionId, position: Position) -> Result<bool> {
    let letter = batch.row(
        "SELECT 1 FROM dead_letter WHERE subscription = ?1 AND position = ?2",
        (id.0, position.0),
        |_| Ok(()),
    )?;
    Ok(letter.is_some())
}

/// Adds to a history and keeps it short.
pub(super) fn push(history: &mut Vec<Attempt>, attempt: Attempt) {
    history.push(attempt);
    if history.len() > HISTORY {
        history.remove(0);
    }
}

/// The lowest position that retries of a log still need from it.
pub(super) fn held(batch: &Batch<'_>, log: i64) -> Result<Option<Position>> {
    let lowest: Option<Option<u64>> = batch.row(
        "SELECT min(position) FROM retry WHERE log = ?1 AND cause IS NULL",
        [log],
        |row| row.get(0),
    )?;
    Ok(lowest.flatten().map(Position))
}

/// The event of a delivery, wherever it is: the log, or the retry's copy.
pub(super) struct Source {
    pub(super) cause: Vec<u8>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) blob: Option<Vec<u8>>,
    pub(super) published_at: u64,
}

/// Finds the event of a delivery.
pub(super) fn source(
    batch: &Batch<'_>,
    id: SubscriptionId,
    log: i64,
    position: Position,
) -> Result<Source> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Source {
            cause: row.get(0)?,
            body: row.get(1)?,
            blob: row.get(2)?,
            published_at: row.get(3)?,
        })
    };
    let copy = batch.row(
        "SELECT cause, body, blob, published_at FROM retry
         WHERE subscription = ?1 AND position = ?2 AND cause IS NOT NULL",
        (id.0, position.0),
        read,
    )?;
    if let Some(copy) = copy {
        return Ok(copy);
    }
    let row = row_id(log, position);
    debug_assert_eq!(position_of(row), position, "positions fit their bits");
    batch
        .row(
            "SELECT cause, body, blob, at FROM event WHERE id = ?1",
            [row],
            read,
        )?
        .ok_or(Error::NotFound("event"))
}
