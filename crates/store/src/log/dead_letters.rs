//! Deliveries that were given up: the event, why, every attempt kept, and the trace (in the event's cause). They stay
//! until someone redrives or discards them, whatever becomes of the log or the subscription.

use std::sync::Arc;

use model::{
    AppName, Error as Fault, Name, Namespace, Position, SubscriptionKey, Time, WorkloadName,
};
use rusqlite::{Connection, Row};

use crate::{
    batch::Batch,
    blobs::{self, refs},
    command,
    error::{Error, Result},
    format,
    kernel::Pending,
    log::{Attempt, Command, Log, Logged, Reply, SubscriptionId, UNEXPECTED, read, retries},
    queue::Urgency,
    shards::Owned,
};

/// A delivery to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Whose.
    pub subscription: SubscriptionId,
    /// Which event.
    pub position: Position,
    /// When it was tried first.
    pub first_at: Time,
    /// Attempts in all.
    pub attempts: u32,
    /// Why no more.
    pub reason: Fault,
    /// What went wrong, oldest first.
    pub history: Vec<Attempt>,
    /// What its key is known by, where it holds the later events of that.
    pub lane: Option<i64>,
}

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its row.
    pub id: i64,
    /// Where its event was published.
    pub namespace: Namespace,
    /// Whose it was.
    pub key: SubscriptionKey,
    /// When it was given up.
    pub at: Time,
    /// When it was tried first.
    pub first_at: Time,
    /// Attempts in all.
    pub attempts: u32,
    /// Why no more.
    pub reason: Fault,
    /// What went wrong, oldest first; the last [`retries::HISTORY`].
    pub history: Vec<Attempt>,
    /// The event; its cause has the trace.
    pub logged: Logged,
}

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Of this namespace; `None`: of all.
    pub namespace: Option<Namespace>,
    /// Of this app.
    pub app: Option<AppName>,
    /// Of this workload.
    pub workload: Option<WorkloadName>,
    /// Of the subscription of this name.
    pub name: Option<Name>,
}

/// Where a redriven delivery waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redriven {
    /// With which subscription.
    pub subscription: SubscriptionId,
    /// Which event.
    pub position: Position,
    /// Since when.
    pub due: Time,
    /// What its key is known by.
    pub lane: Option<i64>,
    /// What still holds its key.
    pub left: Option<LeftDead>,
}

/// What still holds a key after one of its dead letters went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftDead {
    /// What the key is known by.
    pub lane: i64,
    /// The first of its dead letters that are left.
    pub first: Option<Position>,
}

const COLUMNS: &str =
    "d.id, l.namespace, d.app, d.workload, d.name, d.position, d.at, d.published_at,
    d.first_at, d.attempts, d.reason, d.history, d.cause, d.body, d.blob";

impl Log {
    /// A delivery is given up. Its position may leave the cursor's `running` only after this was committed.
    ///
    /// # Errors
    /// As [`Log::retry`].
    pub fn give_up(&self, owned: Owned, given_up: GivenUp) -> Result<Pending> {
        let size = 512 + given_up.history.len() * 256;
        let command = command::Command::Log(Command::GiveUp(owned, Box::new(given_up)));
        self.kernel.submit(command, Urgency::Settle, size)
    }

    /// Dead letters after the one with id `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>> {
        let blobs = Arc::clone(&self.blobs.shared);
        self.kernel
            .read(move |connection| list(connection, &blobs, &filter, after, limit))
            .await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>> {
        let found = self
            .dead_letters(DeadLetterFilter::default(), id - 1, 1)
            .await?;
        Ok(found.into_iter().find(|letter| letter.id == id))
    }

    /// How many dead letters there are of each key.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn count_dead_letters(&self) -> Result<Vec<(Namespace, SubscriptionKey, u64)>> {
        self.kernel
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT count(*), l.namespace, d.app, d.workload, d.name FROM dead_letter d
                     JOIN log l ON l.id = d.log GROUP BY d.log, d.app, d.workload, d.name",
                )?;
                let mut rows = statement.query([])?;
                let mut counts = Vec::new();
                while let Some(row) = rows.next()? {
                    counts.push((name(row, 1)?, key(row, 2)?, row.get(0)?));
                }
                Ok(counts)
            })
            .await
    }

    /// Tries a dead letter again, with a new budget of attempts and the same idempotency key, through the living
    /// subscription of its key.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the letter or such a subscription is not there.
    pub async fn redrive(&self, id: i64) -> Result<Redriven> {
        match self.run(Command::Redrive(id)).await? {
            command::Reply::Log(Reply::Redriven(redriven)) => Ok(redriven),
            _ => Err(UNEXPECTED),
        }
    }

    /// For each key that dead letters hold, the first of them.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn held_lanes(&self) -> Result<Vec<(SubscriptionKey, i64, Position)>> {
        self.kernel
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT app, workload, name, lane, min(position) FROM dead_letter
                     WHERE lane IS NOT NULL GROUP BY log, app, workload, name, lane",
                )?;
                let mut rows = statement.query([])?;
                let mut held = Vec::new();
                while let Some(row) = rows.next()? {
                    held.push((key(row, 0)?, row.get(3)?, Position(row.get(4)?)));
                }
                Ok(held)
            })
            .await
    }

    /// Throws a dead letter away; says what still holds its key.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn discard(&self, id: i64) -> Result<Option<LeftDead>> {
        match self.run(Command::Discard(id)).await? {
            command::Reply::Log(Reply::Discarded(left)) => Ok(left),
            _ => Err(UNEXPECTED),
        }
    }
}

fn list(
    connection: &Connection,
    blobs: &blobs::Shared,
    filter: &DeadLetterFilter,
    after: i64,
    limit: u32,
) -> Result<Vec<DeadLetter>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letter d JOIN log l ON l.id = d.log
         WHERE d.id > ?1 AND (?2 IS NULL OR l.namespace = ?2) AND (?3 IS NULL OR d.app = ?3)
           AND (?4 IS NULL OR d.workload = ?4) AND (?5 IS NULL OR d.name = ?5)
         ORDER BY d.id LIMIT ?6"
    ))?;
    let text = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
    let mut rows = statement.query((
        after,
        text(&filter.namespace),
        text(&filter.app),
        text(&filter.workload),
        text(&filter.name),
        limit,
    ))?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(letter(connection, blobs, row)?);
    }
    Ok(letters)
}

fn letter(connection: &Connection, blobs: &blobs::Shared, row: &Row<'_>) -> Result<DeadLetter> {
    let payload = read::payload(connection, row.get(13)?, row.get(14)?)?;
    let raw = read::RawEvent::copied(
        Position(row.get(5)?),
        Time(row.get(7)?),
        row.get(12)?,
        payload,
    );
    Ok(DeadLetter {
        id: row.get(0)?,
        namespace: name(row, 1)?,
        key: key(row, 2)?,
        at: Time(row.get(6)?),
        first_at: Time(row.get(8)?),
        attempts: row.get(9)?,
        reason: format::decode(&row.get::<_, Vec<u8>>(10)?, "reason")?,
        history: format::decode(&row.get::<_, Vec<u8>>(11)?, "history")?,
        logged: raw.decode(blobs)?,
    })
}

fn name(row: &Row<'_>, column: usize) -> Result<Name> {
    let text: String = row.get(column)?;
    Name::new(&text).map_err(|_| Error::Corrupt("name"))
}

fn key(row: &Row<'_>, first: usize) -> Result<SubscriptionKey> {
    Ok(SubscriptionKey {
        app: name(row, first)?,
        workload: name(row, first + 1)?,
        name: name(row, first + 2)?,
    })
}

/// Moves a delivery, with a copy of its event, to the dead letters.
pub(super) fn give_up(batch: &Batch<'_>, given_up: &GivenUp) -> Result<()> {
    let id = given_up.subscription;
    let log: i64 = batch
        .row(
            "SELECT log FROM subscription WHERE id = ?1",
            [id.0],
            |row| row.get(0),
        )?
        .ok_or(Error::NotFound("subscription"))?;
    let source = retries::source(batch, id, log, given_up.position)?;
    batch.execute(
        "INSERT INTO dead_letter (log, subscription, app, workload, name, position, at, published_at, first_at, attempts,
                                  reason, history, cause, body, blob, lane)
         SELECT ?2, ?1, app, workload, name, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
         FROM subscription WHERE id = ?1",
        (
            id.0,
            log,
            given_up.position.0,
            batch.now.0,
            source.published_at,
            given_up.first_at.0,
            given_up.attempts,
            format::encode(&given_up.reason),
            format::encode(&given_up.history),
            &source.cause,
            &source.body,
            &source.blob,
            given_up.lane,
        ),
    )?;
    keep(batch, source.blob.as_deref())?;
    retries::done(batch, id, given_up.position)
}

fn keep(batch: &Batch<'_>, blob: Option<&[u8]>) -> Result<()> {
    if let Some(hash) = blob {
        batch.execute(
            "UPDATE blob SET refs = refs + 1, free_since = NULL WHERE hash = ?1",
            [hash],
        )?;
    }
    Ok(())
}

/// Where a dead letter belongs.
struct Place {
    log: i64,
    key: [String; 3],
    position: Position,
    lane: Option<i64>,
}

fn place(batch: &Batch<'_>, id: i64) -> Result<Place> {
    let place = batch.row(
        "SELECT log, app, workload, name, position, lane FROM dead_letter WHERE id = ?1",
        [id],
        |row| {
            Ok(Place {
                log: row.get(0)?,
                key: [row.get(1)?, row.get(2)?, row.get(3)?],
                position: Position(row.get(4)?),
                lane: row.get(5)?,
            })
        },
    )?;
    place.ok_or(Error::NotFound("dead letter"))
}

/// What holds the key of a letter that is gone.
fn left(batch: &Batch<'_>, place: &Place) -> Result<Option<LeftDead>> {
    let Some(lane) = place.lane else {
        return Ok(None);
    };
    let [app, workload, name] = &place.key;
    let first: Option<Option<u64>> = batch.row(
        "SELECT min(position) FROM dead_letter
         WHERE log = ?1 AND app = ?2 AND workload = ?3 AND name = ?4 AND lane = ?5",
        (place.log, app, workload, name, lane),
        |row| row.get(0),
    )?;
    let first = first.flatten().map(Position);
    Ok(Some(LeftDead { lane, first }))
}

/// Moves a dead letter back to the retries.
pub(super) fn redrive(batch: &Batch<'_>, id: i64) -> Result<Redriven> {
    let place = place(batch, id)?;
    let [app, workload, name] = &place.key;
    let subscription: i64 = batch
        .row(
            "SELECT id FROM subscription WHERE log = ?1 AND app = ?2 AND workload = ?3 AND name = ?4
             AND end IS NULL",
            (place.log, app, workload, name),
            |row| row.get(0),
        )?
        .ok_or(Error::NotFound("subscription"))?;
    let moved = batch.execute(
        "INSERT INTO retry (subscription, log, position, due, attempts, born, first_at, published_at, history,
                            cause, body, blob, lane)
         SELECT ?2, log, position, ?3, 0, ?3, ?3, published_at, ?4, cause, body, blob, lane
         FROM dead_letter WHERE id = ?1 ON CONFLICT (subscription, position) DO NOTHING",
        (id, subscription, batch.now.0, format::encode::<[Attempt; 0]>(&[])),
    )?;
    if moved == 0 {
        return Err(Error::Conflict(
            "this event is being delivered again already".to_owned(),
        ));
    }
    batch.execute("DELETE FROM dead_letter WHERE id = ?1", [id])?;
    Ok(Redriven {
        subscription: SubscriptionId(subscription),
        position: place.position,
        due: batch.now,
        lane: place.lane,
        left: left(batch, &place)?,
    })
}

/// Removes a dead letter.
pub(super) fn discard(batch: &Batch<'_>, id: i64) -> Result<Option<LeftDead>> {
    let place = place(batch, id)?;
    let blob: Option<Option<Vec<u8>>> = batch.row(
        "DELETE FROM dead_letter WHERE id = ?1 RETURNING blob",
        [id],
        |row| row.get(0),
    )?;
    if let Some(hash) = blob.flatten() {
        refs::release(batch, &hash)?;
    }
    left(batch, &place)
}
