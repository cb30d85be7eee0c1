//! Streams: the events of a subject of an app, numbered 1, 2, 3, …, appended only when the stream is where the appender
//! believes it to be. They are events of the log like all others; the writer decides, one command after another, so that of any
//! number of appends with the same expectation one is done.

use std::{collections::HashSet, sync::Arc};

use model::{AppName, Namespace, Position, Time};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    batch::Batch,
    command,
    error::{Error, Result},
    log::{
        Appended, Command, Log, Logged, NewEvent, POSITION_BITS, Reply, UNEXPECTED, append,
        read::{self, MAX_BYTES},
        row_id,
    },
    queue::Urgency,
};

/// Most events that one command takes out of a stream.
const CHUNK: u32 = 500;

/// Which stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamKey {
    /// The app that it belongs to.
    pub app: AppName,
    /// What its events happened to.
    pub subject: String,
}

/// How far a stream goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    /// What its events happened to.
    pub subject: String,
    /// The number of its last event.
    pub version: u64,
    /// The first that it still has; one more than `version` when it has none.
    pub first: u64,
    /// When it changed last.
    pub at: Time,
}

/// Some events of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamPage {
    /// How far the stream goes.
    pub head: StreamHead,
    /// Events with their numbers, ascending.
    pub events: Vec<(u64, Logged)>,
}

/// Where events are to be appended.
pub(super) struct To {
    key: StreamKey,
    expected: u64,
}

/// Events to be taken out of a stream.
pub struct Truncate {
    namespace: Namespace,
    key: StreamKey,
    through: u64,
}

impl Log {
    /// Appends events to a stream, all or none, when its last event is number `expected` (0: it has had none); each with its
    /// number. An append that was done before, under the same ids, is answered as it was then.
    ///
    /// # Errors
    /// [`Error::Version`] says where the stream is; [`Error::Conflict`] when some, and not all, of the events were published before;
    /// those of [`Log::append`].
    pub async fn append_to_stream(
        &self,
        namespace: &Namespace,
        key: StreamKey,
        expected: u64,
        events: Vec<NewEvent>,
    ) -> Result<Vec<(u64, Appended)>> {
        let (append, size) = self.encoded(namespace, events).await?;
        let append = append.to(To { key, expected });
        let command = command::Command::Log(Command::Append(append));
        let pending = self.kernel.submit(command, Urgency::Intake, size)?;
        match pending.done().await? {
            command::Reply::Log(Reply::Streamed(appended)) => Ok(appended),
            _ => Err(UNEXPECTED),
        }
    }

    /// Events of a stream from number `from` on, at most `limit` and 4 MiB; `None` when there is no such stream. Fewer than
    /// `limit` does not mean that there are no more.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn stream(
        &self,
        namespace: &Namespace,
        key: StreamKey,
        from: u64,
        limit: u32,
    ) -> Result<Option<StreamPage>> {
        let namespace = namespace.clone();
        let blobs = Arc::clone(&self.blobs.shared);
        self.kernel
            .read(move |connection| {
                let Some((id, head)) = find(connection, &namespace, &key)? else {
                    return Ok(None);
                };
                // Up to what the head says, which was read first.
                let raws = raw_events(connection, id, from, head.version, limit)?;
                let decoded = raws
                    .into_iter()
                    .map(|(version, raw)| Ok((version, raw.decode(&blobs)?)));
                let events = decoded.collect::<Result<Vec<_>>>()?;
                Ok(Some(StreamPage { head, events }))
            })
            .await
    }

    /// The streams of an app whose subjects begin with `prefix` and come behind `after`, by subject.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn streams(
        &self,
        namespace: &Namespace,
        app: &AppName,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<StreamHead>> {
        let (namespace, app) = (namespace.clone(), app.clone());
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT s.subject, s.version, s.first, s.at FROM stream s JOIN log l ON l.id = s.log
                     WHERE l.namespace = ?1 AND s.app = ?2 AND s.subject >= ?3
                       AND (?4 IS NULL OR s.subject > ?4) ORDER BY s.subject LIMIT ?5",
                )?;
                let asked = (namespace.as_str(), app.as_str(), &prefix, &after, limit);
                let rows = statement.query_map(asked, |row| head(row, 0))?;
                let heads: rusqlite::Result<Vec<StreamHead>> = rows.collect();
                let mut heads = heads?;
                heads.retain(|head| head.subject.starts_with(&prefix));
                Ok(heads)
            })
            .await
    }

    /// Takes a chunk of the events up to number `through` out of a stream: the log keeps them as long as all others. Whether
    /// there are more.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Version`] when the stream has not come that far; those of the writer.
    pub async fn truncate_stream(
        &self,
        namespace: &Namespace,
        key: StreamKey,
        through: u64,
    ) -> Result<bool> {
        let truncate = Command::Truncate(Box::new(Truncate {
            namespace: namespace.clone(),
            key,
            through,
        }));
        match self.run(truncate).await? {
            command::Reply::Count(taken) => Ok(taken == u64::from(CHUNK)),
            _ => Err(UNEXPECTED),
        }
    }
}

/// A stream with how far it goes.
pub(super) fn find(
    connection: &Connection,
    namespace: &Namespace,
    key: &StreamKey,
) -> Result<Option<(i64, StreamHead)>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.id, s.subject, s.version, s.first, s.at FROM stream s JOIN log l ON l.id = s.log
         WHERE l.namespace = ?1 AND s.app = ?2 AND s.subject = ?3",
    )?;
    let asked = (namespace.as_str(), key.app.as_str(), &key.subject);
    let found = statement.query_row(asked, |row| Ok((row.get(0)?, head(row, 1)?)));
    Ok(found.optional()?)
}

fn head(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<StreamHead> {
    Ok(StreamHead {
        subject: row.get(first)?,
        version: row.get(first + 1)?,
        first: row.get(first + 2)?,
        at: Time(row.get(first + 3)?),
    })
}

fn raw_events(
    connection: &Connection,
    stream: i64,
    from: u64,
    through: u64,
    limit: u32,
) -> Result<Vec<(u64, read::RawEvent)>> {
    let mut statement = connection.prepare_cached(
        "SELECT e.id, e.at, e.size, e.cause, e.body, e.blob, s.version FROM stream_event s
         JOIN event e ON e.id = s.event WHERE s.stream = ?1 AND s.version BETWEEN ?2 AND ?3
         ORDER BY s.version LIMIT ?4",
    )?;
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let mut rows = statement.query((stream, from, through, limit))?;
    let (mut raws, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let raw = read::raw_event(connection, row)?;
        bytes += raw.size();
        if bytes > MAX_BYTES && !raws.is_empty() {
            break;
        }
        raws.push((row.get(6)?, raw));
    }
    Ok(raws)
}

/// A stream as the writer looks at it.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) version: u64,
    first: u64,
}

/// The stream of a key.
pub(super) fn row(batch: &Batch<'_>, log: i64, key: &StreamKey) -> Result<Option<Row>> {
    batch.row(
        "SELECT id, version, first FROM stream WHERE log = ?1 AND app = ?2 AND subject = ?3",
        (log, key.app.as_str(), &key.subject),
        |row| {
            Ok(Row {
                id: row.get(0)?,
                version: row.get(1)?,
                first: row.get(2)?,
            })
        },
    )
}

/// Appends to a stream; refuses before it writes anything.
pub(super) fn append(
    batch: &mut Batch<'_>,
    namespace: &Namespace,
    head: &mut append::Head,
    to: &To,
    events: &[append::Encoded],
) -> Result<Vec<(u64, Appended)>> {
    let found = row(batch, head.log, &to.key)?;
    let actual = found.as_ref().map_or(0, |row| row.version);
    if let Some(done) = done_before(batch, head, found.as_ref(), events)? {
        return Ok(done);
    }
    if actual != to.expected {
        return Err(Error::Version(actual));
    }
    let stream = match found {
        Some(row) => row.id,
        None => {
            batch.execute(
                "INSERT INTO stream (log, app, subject, version, at) VALUES (?1, ?2, ?3, 0, ?4)",
                (head.log, to.key.app.as_str(), &to.key.subject, batch.now.0),
            )?;
            batch.last_id()
        }
    };
    let mut appended = Vec::with_capacity(events.len());
    for (version, event) in (actual + 1..).zip(events) {
        let place = Some((stream, version));
        let one = append::append_one(batch, namespace, head, event, place)?;
        batch.execute(
            "INSERT INTO stream_event (stream, version, event) VALUES (?1, ?2, ?3)",
            (stream, version, row_id(head.log, one.position)),
        )?;
        appended.push((version, one));
    }
    batch.execute(
        "UPDATE stream SET version = ?2, at = ?3 WHERE id = ?1",
        (stream, actual + events.len() as u64, batch.now.0),
    )?;
    Ok(appended)
}

/// What the same append was answered when it was done; `None` when it was not.
fn done_before(
    batch: &Batch<'_>,
    head: &append::Head,
    stream: Option<&Row>,
    events: &[append::Encoded],
) -> Result<Option<Vec<(u64, Appended)>>> {
    let mut ids = HashSet::new();
    let mut done = Vec::new();
    let mut elsewhere = None;
    for event in events {
        if !ids.insert(&event.key) {
            let twice = format!("the event `{}` is in the append twice", event.id());
            return Err(Error::Conflict(twice));
        }
        let Some(position) = append::seen_before(batch, head.log, &event.key)? else {
            continue;
        };
        let place: Option<(Option<i64>, Option<u64>)> = batch.row(
            "SELECT stream, version FROM event WHERE id = ?1",
            [row_id(head.log, position)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        match place {
            Some((of, Some(version))) if of == stream.map(|row| row.id) => {
                let duplicate = true;
                let appended = Appended {
                    position,
                    duplicate,
                };
                done.push((version, appended));
            }
            _ => elsewhere = Some((event, position)),
        }
    }
    if !events.is_empty() && done.len() == events.len() {
        return Ok(Some(done));
    }
    let again = done.first().map(|(_, appended)| appended.position);
    match (elsewhere, again) {
        (Some((event, Position(at))), _) => Err(Error::Conflict(format!(
            "the event `{}` of this source was published before, at position {at}",
            event.id()
        ))),
        (None, Some(Position(at))) => Err(Error::Conflict(format!(
            "some of these events were appended before, at position {at}, and not all of them"
        ))),
        (None, None) => Ok(None),
    }
}

impl Truncate {
    pub(super) fn apply(&self, batch: &mut Batch<'_>) -> Result<u64> {
        let log = append::head(batch, &self.namespace)?.log;
        let row = row(batch, log, &self.key)?.ok_or(Error::NotFound("stream"))?;
        if self.through > row.version {
            return Err(Error::Version(row.version));
        }
        let end = (row.first + u64::from(CHUNK)).min(self.through + 1);
        if end <= row.first {
            return Ok(0);
        }
        let range = (row.id, row.first, end);
        // From now on it is as all others of its app, which may have been swept beyond it.
        batch.execute(
            "UPDATE publisher SET held = max(held - went.bytes, 0), swept = min(swept, coalesce((went.first & ?6) - 1, swept))
             FROM (SELECT coalesce(sum(e.size), 0) AS bytes, min(e.id) AS first FROM stream_event s
                   JOIN event e ON e.id = s.event WHERE s.stream = ?1 AND s.version >= ?2 AND s.version < ?3) AS went
             WHERE log = ?4 AND app = ?5",
            (
                row.id,
                row.first,
                end,
                log,
                self.key.app.as_str(),
                (1i64 << POSITION_BITS) - 1,
            ),
        )?;
        batch.execute(
            "UPDATE event SET stream = NULL, version = NULL WHERE id IN
             (SELECT event FROM stream_event WHERE stream = ?1 AND version >= ?2 AND version < ?3)",
            range,
        )?;
        batch.execute(
            "DELETE FROM stream_event WHERE stream = ?1 AND version >= ?2 AND version < ?3",
            range,
        )?;
        batch.execute(
            "UPDATE stream SET first = ?2, at = ?3 WHERE id = ?1",
            (row.id, end, batch.now.0),
        )?;
        Ok(end - row.first)
    }
}
