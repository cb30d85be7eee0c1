//! Where subscriptions stand: written once per subscription and batch, however often it moved. A subscription with
//! nothing outstanding is not written at all: the log's mark moves for all of those together.

use std::sync::Arc;

use model::Position;

use crate::{
    batch::Batch,
    command,
    error::Result,
    format,
    kernel::Pending,
    log::{Command, Log, SubscriptionId},
    queue::Urgency,
    shards::Owned,
};

/// Where a subscription stands. Everything up to `through` is settled, runs, or has a row of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Whose.
    pub subscription: SubscriptionId,
    /// The position up to which nothing waits to be taken.
    pub through: Position,
    /// What runs on its first attempt, ascending; all of it at or below `through`.
    pub running: Vec<Position>,
    /// What was passed over and was not tried yet, ascending; all of it at or below `through`.
    pub passed: Vec<Position>,
    /// Whether nothing is outstanding, so that the log's mark counts for it as well.
    pub idle: bool,
}

/// Where a subscription stood when it was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCursor {
    /// The position up to which nothing waits to be taken; the mark is taken into account.
    pub through: Position,
    /// What ran.
    pub running: Vec<Position>,
    /// What was passed over and was not tried yet.
    pub passed: Vec<Position>,
}

/// Says where a subscription stands, now: what is settled of it, and what runs. It may say of a position that it is
/// settled only when that is so, or its own row was committed. Called by the writer at the end of a batch, so that a
/// hundred moves are one look and one write; it must not wait for the writer.
pub type Source = Arc<dyn Fn(SubscriptionId) -> Option<Cursor> + Send + Sync>;

impl Log {
    /// Who knows where subscriptions stand; the last one set is asked.
    pub fn set_cursors(&self, source: Source) {
        *self.shared.source.write() = Some(source);
    }

    /// A subscription moved, and somebody waits for that to be durable.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] or [`crate::Error::Closed`]; what the answer says later is also
    /// [`crate::Error::NotOwner`].
    pub fn settle(&self, owned: Owned, id: SubscriptionId) -> Result<Pending> {
        let command = command::Command::Log(Command::Moved(owned, id));
        self.kernel.submit(command, Urgency::Settle, 64)
    }

    /// The position up to which all of a subscription is over, as far as the disk knows: what was delivered up to there will
    /// not be delivered again by itself. During a redrive or a replay that is before what it makes wait. `None`: there is
    /// no such subscription.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn settled(&self, id: SubscriptionId) -> Result<Option<Position>> {
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT CASE WHEN c.idle THEN max(c.low, l.mark) ELSE c.low END,
                            (SELECT min(position) FROM retry WHERE subscription = s.id)
                     FROM subscription s JOIN cursor c ON c.subscription = s.id JOIN log l ON l.id = s.log
                     WHERE s.id = ?1",
                )?;
                let mut rows = statement.query([id.0])?;
                let Some(row) = rows.next()? else {
                    return Ok(None);
                };
                let (low, waits): (u64, Option<u64>) = (row.get(0)?, row.get(1)?);
                let before = waits.map_or(u64::MAX, |waits| waits.saturating_sub(1));
                Ok(Some(Position(low.min(before))))
            })
            .await
    }

    /// A subscription moved; written with the next commit: `Soon` when it says what runs, `Ride` when nothing is lost
    /// by waiting for company.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn note(&self, owned: Owned, id: SubscriptionId, urgency: Urgency) -> Result<()> {
        let command = command::Command::Log(Command::Moved(owned, id));
        self.kernel.lazily(command, urgency)
    }

    /// Moves the mark of those with nothing outstanding, with the next commit. Every subscription that is not idle
    /// must have said so before.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn mark(&self, namespace: &model::Namespace, through: Position) -> Result<()> {
        let command = command::Command::Log(Command::Mark(namespace.clone(), through));
        self.kernel.lazily(command, Urgency::Ride)
    }
}

/// Writes what the batch collected.
pub(super) fn write(batch: &Batch<'_>) -> Result<()> {
    let source = batch.cursors.clone();
    let stand = |id: &SubscriptionId| source.as_ref().and_then(|source| source(*id));
    for cursor in batch.log.moved.iter().filter_map(stand) {
        let lists = [&cursor.running, &cursor.passed];
        let first = lists.into_iter().filter_map(|list| list.first()).min();
        let low = first.map_or(cursor.through.0, |first| first.0 - 1);
        let encoded = lists.map(|list| (!list.is_empty()).then(|| format::encode_positions(list)));
        let [running, passed] = encoded;
        batch.execute(
            "UPDATE cursor SET low = ?2, through = ?3, idle = ?4, running = ?5, passed = ?6
             WHERE subscription = ?1",
            (
                cursor.subscription.0,
                low,
                cursor.through.0,
                cursor.idle,
                running,
                passed,
            ),
        )?;
    }
    for (namespace, mark) in &batch.log.marks {
        batch.execute(
            "UPDATE log SET mark = max(mark, ?2) WHERE namespace = ?1",
            (namespace.as_str(), mark.0),
        )?;
    }
    Ok(())
}

/// Reads a cursor beside the mark of its log; the columns are through, idle, running, mark, passed.
pub(super) fn read(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<RawCursor> {
    Ok(RawCursor {
        through: row.get(first)?,
        idle: row.get(first + 1)?,
        running: row.get(first + 2)?,
        mark: row.get(first + 3)?,
        passed: row.get(first + 4)?,
    })
}

/// A cursor's columns.
pub(super) struct RawCursor {
    through: u64,
    idle: bool,
    running: Option<Vec<u8>>,
    mark: u64,
    passed: Option<Vec<u8>>,
}

impl RawCursor {
    pub(super) fn decode(&self) -> Result<StoredCursor> {
        let through = if self.idle {
            self.through.max(self.mark)
        } else {
            self.through
        };
        let decode = |list: Option<&[u8]>| list.map_or(Ok(Vec::new()), format::decode_positions);
        Ok(StoredCursor {
            through: Position(through),
            running: decode(self.running.as_deref())?,
            passed: decode(self.passed.as_deref())?,
        })
    }
}
