//! Publishing: one insert per event, a look into the window of ids, one update of the head per batch.

use std::sync::Arc;

use model::{AppName, Cause, Event, Namespace, Position, Principal, Time, event::EventData};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    batch::Batch,
    blobs::{Payload, refs},
    command,
    error::{Error, Result},
    format,
    log::{Command, Log, Logged, Reply, UNEXPECTED, intake, row_id, streams, tail::Committed},
    queue::Urgency,
};

/// An event to publish, checked and encoded.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event.
    pub event: Arc<Event>,
    /// What causes it.
    pub cause: Arc<Cause>,
    /// The app that publishes it, which says how long it is kept.
    pub app: Option<AppName>,
    encoded: Vec<u8>,
}

impl NewEvent {
    /// Encodes an event.
    #[must_use]
    pub fn new(event: Arc<Event>, cause: Arc<Cause>) -> Self {
        let encoded = format::encode_sized(&*event, about(&event));
        Self {
            event,
            cause,
            app: None,
            encoded,
        }
    }

    /// The same, published by an app.
    #[must_use]
    pub fn of(self, app: Option<AppName>) -> Self {
        Self { app, ..self }
    }

    /// Encoded bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.encoded.len() as u64
    }
}

/// Bytes that an event takes, about: of structured data nobody knows without writing it.
fn about(event: &Event) -> usize {
    const ATTRIBUTES: usize = 320;
    ATTRIBUTES
        + match &event.data {
            EventData::None => 0,
            EventData::Json(Value::String(text)) => text.len() + 32,
            EventData::Json(_) => 512,
            EventData::Binary(bytes) => bytes.len() * 4 / 3 + 8,
        }
}

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its position; the first one's when it is a duplicate.
    pub position: Position,
    /// Whether an event with its source and id was published within the window: this one was not stored.
    pub duplicate: bool,
}

/// Encoded events on their way to one log.
pub struct Append {
    namespace: Namespace,
    events: Vec<Encoded>,
    to: Option<streams::To>,
    pub(super) step: Option<intake::Step>,
}

/// An event with everything that a row wants.
pub(super) struct Encoded {
    event: Arc<Event>,
    cause_of: Arc<Cause>,
    cause: Vec<u8>,
    app: Option<AppName>,
    body: Payload,
    /// What it is recognised by when it is published again.
    pub(super) key: Vec<u8>,
}

impl Encoded {
    pub(super) fn id(&self) -> &str {
        &self.event.id
    }
}

/// The head of a log as the batch knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) log: i64,
    pub(super) head: Position,
    bytes: u64,
    added: u64,
}

/// What the batch adds to what an app published.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Publisher {
    id: i64,
    events: u64,
    bytes: u64,
    held: u64,
}

impl Log {
    /// Appends events, all or none, in this order; they are durable when this returns. An id that was seen from the
    /// same source within the window is answered with its first position.
    ///
    /// # Errors
    /// [`Error::Busy`] and [`Error::LogFull`] when there is too much work, else those of the disk.
    pub async fn append(
        &self,
        namespace: &Namespace,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Appended>> {
        let (append, size) = self.encoded(namespace, events).await?;
        let append = command::Command::Log(Command::Append(append));
        let pending = self.kernel.submit(append, Urgency::Intake, size)?;
        match pending.done().await? {
            command::Reply::Log(Reply::Appended(appended)) => Ok(appended),
            _ => Err(UNEXPECTED),
        }
    }

    /// A command that appends events, and how large it is.
    pub(super) async fn encoded(
        &self,
        namespace: &Namespace,
        events: Vec<NewEvent>,
    ) -> Result<(Append, usize)> {
        let mut encoded = Vec::with_capacity(events.len());
        let mut size = 0;
        for new in events {
            let cause = format::encode(&*new.cause);
            // Also what goes to a blob is held in memory until it was handed on.
            size += cause.len() + new.encoded.len() + 256;
            encoded.push(Encoded {
                key: dedup_key(&new.cause, &new.event.source, &new.event.id),
                event: new.event,
                cause_of: new.cause,
                app: new.app,
                cause,
                body: self.blobs.payload(new.encoded).await?,
            });
        }
        let append = Append {
            namespace: namespace.clone(),
            events: encoded,
            to: None,
            step: None,
        };
        Ok((append, size))
    }
}

impl Append {
    /// The same, to a stream.
    pub(super) fn to(self, to: streams::To) -> Self {
        Self {
            to: Some(to),
            ..self
        }
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_>) -> Result<Reply> {
        let mut head = head(batch, &self.namespace)?;
        if head.bytes + head.added > batch.limits.log.0 {
            return Err(Error::LogFull(batch.limits.log));
        }
        let reply = match &self.to {
            Some(to) => {
                let events = &self.events;
                let appended = streams::append(batch, &self.namespace, &mut head, to, events)?;
                Reply::Streamed(appended)
            }
            None => {
                let mut appended = Vec::with_capacity(self.events.len());
                for event in &self.events {
                    let one = append_one(batch, &self.namespace, &mut head, event, None)?;
                    appended.push(one);
                }
                Reply::Appended(appended)
            }
        };
        if let Some(step) = &self.step {
            step.apply(batch)?;
        }
        batch.log.heads.insert(self.namespace.clone(), head);
        Ok(reply)
    }
}

/// Appends one event, unless it was seen; `place` is its stream and its number there.
pub(super) fn append_one(
    batch: &mut Batch<'_>,
    namespace: &Namespace,
    head: &mut Head,
    event: &Encoded,
    place: Option<(i64, u64)>,
) -> Result<Appended> {
    let position = Position(head.head.0 + 1);
    if let Some(position) = seen(batch, head.log, &event.key, position)? {
        return Ok(Appended {
            position,
            duplicate: true,
        });
    }
    let size = event.body.len() + event.cause.len() as u64;
    let (body, blob) = event.body.columns();
    let publisher = publisher(batch, head.log, event.app.as_ref())?;
    batch.execute(
        "INSERT INTO event (id, at, size, cause, body, blob, stream, version, publisher)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            row_id(head.log, position),
            batch.now.0,
            size,
            &event.cause,
            body,
            blob,
            place.map(|(stream, _)| stream),
            place.map(|(_, version)| version),
            publisher,
        ),
    )?;
    if let Some(adds) = batch.log.publishers.get_mut(&(head.log, event.app.clone())) {
        adds.events += 1;
        adds.bytes += size;
        adds.held += if place.is_some() { size } else { 0 };
    }
    if let Some(blob) = event.body.blob() {
        refs::add(batch, blob)?;
    }
    head.head = position;
    head.added += size;
    let logged = Logged {
        position,
        at: batch.now,
        size,
        event: Arc::clone(&event.event),
        cause: Arc::clone(&event.cause_of),
    };
    let committed = Committed::Event(namespace.clone(), Arc::new(logged));
    batch.log.effects.push(committed);
    Ok(Appended {
        position,
        duplicate: false,
    })
}

/// Appends an event that a command of the log causes, in its commit.
pub(super) fn caused(
    batch: &mut Batch<'_>,
    namespace: &Namespace,
    event: Event,
    cause: &Arc<Cause>,
) -> Result<()> {
    let mut head = head(batch, namespace)?;
    let new = NewEvent::new(Arc::new(event), Arc::clone(cause));
    let encoded = Encoded {
        key: dedup_key(&new.cause, &new.event.source, &new.event.id),
        cause: format::encode(&**cause),
        event: new.event,
        cause_of: new.cause,
        app: new.app,
        body: Payload::Inline(new.encoded),
    };
    append_one(batch, namespace, &mut head, &encoded, None)?;
    batch.log.heads.insert(namespace.clone(), head);
    Ok(())
}

/// The head of the log of a namespace; the log is made when it is new.
pub(super) fn head(batch: &Batch<'_>, namespace: &Namespace) -> Result<Head> {
    if let Some(head) = batch.log.heads.get(namespace) {
        return Ok(*head);
    }
    let read = |batch: &Batch<'_>| {
        batch.row(
            "SELECT id, head, bytes FROM log WHERE namespace = ?1",
            [namespace.as_str()],
            |row| {
                Ok(Head {
                    log: row.get(0)?,
                    head: Position(row.get(1)?),
                    bytes: row.get(2)?,
                    added: 0,
                })
            },
        )
    };
    if let Some(head) = read(batch)? {
        return Ok(head);
    }
    batch.execute(
        "INSERT INTO log (namespace) VALUES (?1)",
        [namespace.as_str()],
    )?;
    batch.execute(
        "INSERT INTO publisher (log, app) VALUES (?1, '')",
        [batch.last_id()],
    )?;
    read(batch)?.ok_or(Error::Corrupt("log"))
}

/// The row of what an app publishes to a log; made when it is new. `None`: what no app publishes.
pub(super) fn publisher(batch: &mut Batch<'_>, log: i64, app: Option<&AppName>) -> Result<i64> {
    let key = (log, app.cloned());
    if let Some(known) = batch.log.publishers.get(&key) {
        return Ok(known.id);
    }
    let name = app.map_or("", AppName::as_str);
    batch.execute(
        "INSERT INTO publisher (log, app) VALUES (?1, ?2) ON CONFLICT (log, app) DO NOTHING",
        (log, name),
    )?;
    let id = batch.row(
        "SELECT id FROM publisher WHERE log = ?1 AND app = ?2",
        (log, name),
        |row| row.get(0),
    )?;
    let id = id.ok_or(Error::Corrupt("publisher"))?;
    let adds = Publisher {
        id,
        ..Publisher::default()
    };
    batch.log.publishers.insert(key, adds);
    Ok(id)
}

/// Writes the heads that moved.
pub(super) fn write_heads(batch: &Batch<'_>) -> Result<()> {
    for head in batch.log.heads.values() {
        batch.execute(
            "UPDATE log SET head = ?2, bytes = bytes + ?3 WHERE id = ?1",
            (head.log, head.head.0, head.added),
        )?;
    }
    for adds in batch.log.publishers.values().filter(|adds| adds.events > 0) {
        batch.execute(
            "UPDATE publisher SET events = events + ?2, bytes = bytes + ?3, held = held + ?4 WHERE id = ?1",
            (adds.id, adds.events, adds.bytes, adds.held),
        )?;
    }
    Ok(())
}

fn slot(at: Time, window: std::time::Duration) -> u64 {
    at.0 / u64::try_from(window.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Where an event with this key was published within the window; nothing is remembered.
pub(super) fn seen_before(batch: &Batch<'_>, log: i64, key: &[u8]) -> Result<Option<Position>> {
    let now = slot(batch.now, batch.limits.dedup_window);
    let key = keyed(log, key);
    for slot in [Some(now), now.checked_sub(1)].into_iter().flatten() {
        let found = remembered(batch, slot, &key)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What is remembered of a key in one slot, unless that is out of the window.
fn remembered(batch: &Batch<'_>, slot: u64, key: &[u8]) -> Result<Option<Position>> {
    let since = batch.now - batch.limits.dedup_window;
    batch.row(
        "SELECT position FROM dedup WHERE slot = ?1 AND key = ?2 AND at > ?3",
        (slot, key, since.0),
        |row| row.get(0).map(Position),
    )
}

/// Where the event with this key was published within the window; else remembers that it is at `position`. A slot is as
/// long as the window, so that only this one and the one before can have it, and what is in this one is within it.
fn seen(batch: &Batch<'_>, log: i64, key: &[u8], position: Position) -> Result<Option<Position>> {
    let now = slot(batch.now, batch.limits.dedup_window);
    let key = keyed(log, key);
    if let Some(before) = now.checked_sub(1)
        && let Some(found) = remembered(batch, before, &key)?
    {
        return Ok(Some(found));
    }
    let inserted = batch.execute(
        "INSERT OR IGNORE INTO dedup (slot, key, position, at) VALUES (?1, ?2, ?3, ?4)",
        (now, &key, position.0, batch.now.0),
    )?;
    match inserted {
        0 => remembered(batch, now, &key),
        _ => Ok(None),
    }
}

/// Removes a chunk of the ids that are out of the window; says whether there may be more.
pub(super) fn forget_old_ids(batch: &Batch<'_>, chunk: u32) -> Result<bool> {
    let removed = batch.execute(
        "DELETE FROM dedup WHERE (slot, key) IN
         (SELECT slot, key FROM dedup WHERE slot < ?1 ORDER BY slot, key LIMIT ?2)",
        (
            slot(batch.now, batch.limits.dedup_window).saturating_sub(1),
            chunk,
        ),
    )?;
    Ok(removed == chunk as usize)
}

fn keyed(log: i64, key: &[u8]) -> Vec<u8> {
    let log = u32::try_from(log).expect("fewer than four billion namespaces");
    [&log.to_be_bytes(), key].concat()
}

/// What an event is recognised by: a stranger who says a workload's source and id cannot hide the workload's event.
/// Ids are kept readable by order where they are short: those that grow with time (UUIDv7, counters) then fall on the
/// same few pages of the index, which is most of what deduplication costs.
fn dedup_key(cause: &Cause, source: &str, id: &str) -> Vec<u8> {
    let mut publisher = Sha256::new_with_prefix(source.as_bytes());
    if let Some(Principal::Workload(name)) = cause.principals.last() {
        // No source holds a zero byte.
        publisher.update([0]);
        publisher.update(name.as_bytes());
    }
    let mut key = publisher.finalize()[..8].to_vec();
    if id.len() <= 40 {
        key.push(1);
        key.extend_from_slice(id.as_bytes());
    } else {
        key.push(2);
        key.extend_from_slice(&Sha256::digest(id.as_bytes())[..24]);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_sources_and_ids_apart() {
        let long = "x".repeat(41);
        let outside = Cause {
            invocation: None,
            class: model::Class::Async,
            principals: Vec::new(),
            trace: model::TraceContext {
                trace: model::TraceId(1),
                parent: None,
                sampled: true,
            },
            depth: 0,
            idempotency_key: None,
        };
        let workload = Cause {
            principals: vec![Principal::Workload("shop/orders".into())],
            ..outside.clone()
        };
        let keys = [
            dedup_key(&outside, "a", "1"),
            dedup_key(&workload, "a", "1"),
            dedup_key(&outside, "b", "1"),
            dedup_key(&outside, "a", "2"),
            dedup_key(&outside, "a", &long),
            dedup_key(&outside, "a", &(long.clone() + "x")),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        let again = dedup_key(&outside, "a", &long);
        assert_eq!(again, dedup_key(&outside, "a", &long));
    }
}
