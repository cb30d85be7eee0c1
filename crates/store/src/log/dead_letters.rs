//! Deliveries that were given up: the event, why, every attempt kept, and the trace (in the event's cause). They stay
//! until someone redrives or discards them, whatever becomes of the log or the subscription.

use std::sync::Arc;

use model::{
    AppName, Code, Error as Fault, Event, Name, Namespace, Position, SubscriptionKey, Time,
    WorkloadName,
};
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use crate::{
    batch::Batch,
    blobs, command,
    error::{Error, Result},
    format,
    kernel::Pending,
    log::{Attempt, Command, Log, Logged, Place, Reply, SubscriptionId, UNEXPECTED, read, retries},
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
    /// The subscription's row when it was given up.
    pub subscription: SubscriptionId,
    /// The replay that it belongs to.
    pub replay: Option<u64>,
}

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterFilter {
    /// Of this namespace; `None`: of all.
    pub namespace: Option<Namespace>,
    /// Of this app.
    pub app: Option<AppName>,
    /// Of this workload.
    pub workload: Option<WorkloadName>,
    /// Of the subscription of this name.
    pub name: Option<Name>,
    /// With events of this type.
    #[serde(default)]
    pub kind: Option<String>,
    /// Given up with this code.
    #[serde(default)]
    pub code: Option<Code>,
}

impl DeadLetterFilter {
    /// What it is about, for the record: a subscription's key, with `*` for what is not said.
    pub(super) fn subject(&self) -> String {
        let text = |name: &Option<Name>| {
            name.as_ref()
                .map_or_else(|| "*".to_owned(), Name::to_string)
        };
        format!(
            "{}/{}/{}",
            text(&self.app),
            text(&self.workload),
            text(&self.name)
        )
    }

    /// Whether it asks for a letter, as far as that must be read to know.
    fn asks_for(&self, letter: &DeadLetter) -> bool {
        let kind = self.kind.as_ref();
        kind.is_none_or(|kind| *kind == letter.logged.event.kind)
            && self.code.is_none_or(|code| code == letter.reason.code)
    }
}

/// Some letters of a redrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letters {
    /// Those to redrive.
    pub ids: Vec<i64>,
    /// Up to where letters were looked at.
    pub to: Place,
    /// Whether there are no more.
    pub last: bool,
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
    /// Whether it was a dead letter.
    pub dead: bool,
    /// What still holds its key, if it was one that did.
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
    d.first_at, d.attempts, d.reason, d.history, d.cause, d.body, d.blob,
    d.subscription, d.replay";

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

    /// The letters of a redrive after `after`, in the order in which their events were published to each subscription:
    /// at most `most` that the filter asks for, among at most `look` that are looked at.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn letters_to_redrive(
        &self,
        filter: DeadLetterFilter,
        through: i64,
        after: Place,
        (look, most): (u32, u32),
    ) -> Result<Letters> {
        let blobs = Arc::clone(&self.blobs.shared);
        self.kernel
            .read(move |connection| {
                to_redrive(connection, &blobs, &filter, through, after, (look, most))
            })
            .await
    }

    /// The number of the newest dead letter.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn newest_dead_letter(&self) -> Result<i64> {
        self.kernel
            .read(|connection| {
                let newest = "SELECT coalesce(max(id), 0) FROM dead_letter";
                let mut statement = connection.prepare_cached(newest)?;
                Ok(statement.query_row([], |row| row.get(0))?)
            })
            .await
    }

    /// Gives a dead letter another event; its id, source and type stay.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn edit_dead_letter(&self, id: i64, event: &Event, by: String) -> Result<()> {
        let body = self.blobs.payload(format::encode(event)).await?;
        self.run(Command::Edit(id, body, by)).await.map(|_| ())
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
    pub async fn redrive(&self, id: i64, by: String) -> Result<Redriven> {
        match self.run(Command::Redrive(id, by)).await? {
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

    /// The first dead letter of a key, of those that hold what comes after them.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn first_dead(
        &self,
        namespace: &Namespace,
        of: &SubscriptionKey,
        lane: i64,
    ) -> Result<Option<Position>> {
        let of = (
            namespace.as_str().to_owned(),
            of.app.as_str().to_owned(),
            of.workload.as_str().to_owned(),
            of.name.as_str().to_owned(),
            lane,
        );
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT min(position) FROM dead_letter
                     WHERE log = (SELECT id FROM log WHERE namespace = ?1)
                       AND app = ?2 AND workload = ?3 AND name = ?4 AND lane = ?5",
                )?;
                let first: Option<u64> = statement.query_row(of, |row| row.get(0))?;
                Ok(first.map(Position))
            })
            .await
    }

    /// Throws a dead letter away; says what still holds its key.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn discard(&self, id: i64, by: String) -> Result<Option<LeftDead>> {
        match self.run(Command::Discard(id, by)).await? {
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
         ORDER BY d.id"
    ))?;
    let text = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
    let mut rows = statement.query((
        after,
        text(&filter.namespace),
        text(&filter.app),
        text(&filter.workload),
        text(&filter.name),
    ))?;
    let mut letters = Vec::new();
    while letters.len() < limit as usize
        && let Some(row) = rows.next()?
    {
        let letter = letter(connection, blobs, row)?;
        if filter.asks_for(&letter) {
            letters.push(letter);
        }
    }
    Ok(letters)
}

fn to_redrive(
    connection: &Connection,
    blobs: &blobs::Shared,
    filter: &DeadLetterFilter,
    through: i64,
    after: Place,
    (look, most): (u32, u32),
) -> Result<Letters> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letter d JOIN log l ON l.id = d.log
         WHERE (d.subscription, d.position) > (?1, ?2) AND d.id <= ?3 AND (?4 IS NULL OR d.app = ?4)
           AND (?5 IS NULL OR d.workload = ?5) AND (?6 IS NULL OR d.name = ?6)
         ORDER BY d.subscription, d.position LIMIT ?7"
    ))?;
    let text = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
    let mut rows = statement.query((
        after.group,
        after.after.0,
        through,
        text(&filter.app),
        text(&filter.workload),
        text(&filter.name),
        look,
    ))?;
    let (mut looked_at, mut ids, mut to) = (0, Vec::new(), after);
    while ids.len() < most as usize {
        let Some(row) = rows.next()? else {
            let last = looked_at < look;
            return Ok(Letters { ids, to, last });
        };
        let letter = letter(connection, blobs, row)?;
        looked_at += 1;
        to = Place {
            group: letter.subscription.0,
            after: letter.logged.position,
        };
        if filter.asks_for(&letter) {
            ids.push(letter.id);
        }
    }
    let last = false;
    Ok(Letters { ids, to, last })
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
        subscription: SubscriptionId(row.get(15)?),
        replay: row.get(16)?,
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
                                  reason, history, cause, body, blob, lane, replay)
         SELECT ?2, ?1, app, workload, name, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
                (SELECT replay FROM retry WHERE subscription = ?1 AND position = ?3)
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
