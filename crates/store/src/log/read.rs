//! Reading the log: ranges for those who fall behind, single events for retries, heads for the start.

use std::sync::Arc;

use model::{Namespace, Position, Time};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    blobs::{self, BlobRef, Payload, refs},
    error::{Error, Result},
    format,
    log::{Log, Logged, position_of, row_id},
};

/// Most bytes of events in one answer, unless one event alone is larger.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// An event's row, before its payload is read.
pub(super) struct RawEvent {
    position: Position,
    at: Time,
    size: u64,
    cause: Vec<u8>,
    payload: Payload,
}

/// How far a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The last position given.
    pub head: Position,
    /// The last position removed; of what is before it, some may be there.
    pub tail: Position,
    /// The mark of those with nothing outstanding.
    pub mark: Position,
    /// Bytes of what there is.
    pub bytes: u64,
    /// When the last one removed was published.
    pub gone_at: Time,
}

impl Log {
    /// Events after `after` and up to `through`, in order, at most `limit` and 4 MiB; fewer than `limit` does not mean
    /// that there are no more.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn range(
        &self,
        namespace: &Namespace,
        after: Position,
        through: Position,
        limit: u32,
    ) -> Result<Vec<Logged>> {
        let namespace = namespace.clone();
        let blobs = Arc::clone(&self.blobs.shared);
        self.kernel
            .read(move |connection| {
                let Some(log) = log_id(connection, &namespace)? else {
                    return Ok(Vec::new());
                };
                let (first, last) = (row_id(log, after) + 1, row_id(log, through));
                let raws = raw_range(connection, first, last, limit)?;
                raws.into_iter().map(|raw| raw.decode(&blobs)).collect()
            })
            .await
    }

    /// One event, when the log still has it.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn event(&self, namespace: &Namespace, at: Position) -> Result<Option<Logged>> {
        let before = Position(at.0.saturating_sub(1));
        Ok(self.range(namespace, before, at, 1).await?.pop())
    }

    /// When the first event after `after` was published.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn published_after(
        &self,
        namespace: &Namespace,
        after: Position,
    ) -> Result<Option<Time>> {
        let namespace = namespace.clone();
        self.kernel
            .read(move |connection| {
                let Some(log) = log_id(connection, &namespace)? else {
                    return Ok(None);
                };
                let mut statement = connection.prepare_cached(
                    "SELECT at FROM event WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT 1",
                )?;
                let between = (row_id(log, after), row_id(log + 1, Position(0)));
                let found = statement.query_row(between, |row| row.get(0).map(Time));
                Ok(found.optional()?)
            })
            .await
    }

    /// How far one log goes; `None`: nothing was ever published to it.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn extent(&self, namespace: &Namespace) -> Result<Option<Extent>> {
        let own = self.extents().await?.into_iter();
        let mut own = own.filter(|(of, _)| of == namespace);
        Ok(own.next().map(|(_, extent)| extent))
    }

    /// Every log with how far it goes.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn extents(&self) -> Result<Vec<(Namespace, Extent)>> {
        self.kernel
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT namespace, head, tail, mark, bytes, gone_at FROM log",
                )?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    let text: String = row.get(0)?;
                    let namespace = Namespace::new(&text).map_err(|_| Error::Corrupt("name"))?;
                    found.push((namespace, extent(row)?));
                }
                Ok(found)
            })
            .await
    }
}

fn extent(row: &Row<'_>) -> rusqlite::Result<Extent> {
    Ok(Extent {
        head: Position(row.get(1)?),
        tail: Position(row.get(2)?),
        mark: Position(row.get(3)?),
        bytes: row.get(4)?,
        gone_at: Time(row.get(5)?),
    })
}

/// The id of a namespace's log, when it has one.
pub(super) fn log_id(connection: &Connection, namespace: &Namespace) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM log WHERE namespace = ?1")?;
    Ok(statement
        .query_row([namespace.as_str()], |row| row.get(0))
        .optional()?)
}

fn raw_range(connection: &Connection, first: i64, last: i64, limit: u32) -> Result<Vec<RawEvent>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, size, cause, body, blob FROM event WHERE id BETWEEN ?1 AND ?2
         ORDER BY id LIMIT ?3",
    )?;
    let mut rows = statement.query((first, last, limit))?;
    let (mut raws, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let raw = raw_event(connection, row)?;
        bytes += raw.size;
        if bytes > MAX_BYTES && !raws.is_empty() {
            break;
        }
        raws.push(raw);
    }
    Ok(raws)
}

/// The event in a row of these columns: id, at, size, cause, body, blob.
pub(super) fn raw_event(connection: &Connection, row: &Row<'_>) -> Result<RawEvent> {
    Ok(RawEvent {
        position: position_of(row.get(0)?),
        at: Time(row.get(1)?),
        size: row.get(2)?,
        cause: row.get(3)?,
        payload: payload(connection, row.get(4)?, row.get(5)?)?,
    })
}

/// The payload of a row's two columns.
pub(crate) fn payload(
    connection: &Connection,
    body: Option<Vec<u8>>,
    blob: Option<[u8; 32]>,
) -> Result<Payload> {
    match (body, blob) {
        (Some(bytes), _) => Ok(Payload::Inline(bytes)),
        (None, Some(hash)) => {
            let size = refs::size(connection, &hash)?;
            let hash = model::BlobHash(hash);
            Ok(Payload::Blob(BlobRef { hash, size }))
        }
        (None, None) => Err(Error::Corrupt("payload")),
    }
}

impl RawEvent {
    /// Encoded bytes.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// From the columns of a row that keeps a copy of its event.
    pub(super) const fn copied(
        position: Position,
        at: Time,
        cause: Vec<u8>,
        payload: Payload,
    ) -> Self {
        let size = payload.len() + cause.len() as u64;
        Self {
            position,
            at,
            size,
            cause,
            payload,
        }
    }

    pub(super) fn decode(self, blobs: &blobs::Shared) -> Result<Logged> {
        let event = match &self.payload {
            Payload::Inline(bytes) => format::decode(bytes, "event")?,
            Payload::Blob(blob) => format::decode(&blobs.read(blob)?, "event")?,
        };
        Ok(Logged {
            position: self.position,
            at: self.at,
            size: self.size,
            event: Arc::new(event),
            cause: Arc::new(format::decode(&self.cause, "cause")?),
        })
    }
}

/// The event at a row id.
pub(super) fn raw_at(connection: &Connection, id: i64) -> Result<Option<RawEvent>> {
    Ok(raw_range(connection, id, id, 1)?.pop())
}
