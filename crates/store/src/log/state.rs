//! What there is of a log, whose events they are, and who still needs some: for those who want to know.

use std::time::Duration;

use model::{ByteSize, Namespace, Position, Retention, Time};
use rusqlite::Connection;

use crate::{
    error::{Error, Result},
    format,
    log::{JobSpec, Log},
};

/// What of a log there is, whose it is, and who holds it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LogState {
    /// Which log.
    pub namespace: Namespace,
    /// The last position given.
    pub head: Position,
    /// Events in it.
    pub events: u64,
    /// Their bytes, encoded.
    pub bytes: u64,
    /// When the oldest was published.
    pub oldest: Option<Time>,
    /// Some, or all, up to this position were removed.
    pub gone_through: Position,
    /// When that one was published.
    pub gone_at: Option<Time>,
    /// By app.
    pub apps: Vec<Published>,
    /// Who still needs something of it, those that need the oldest first, at most [`HOLDERS`].
    pub held: Vec<Holder>,
}

/// The events of one app.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// Which; `None`: those that no app published.
    pub app: Option<String>,
    /// How many.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, bytes that streams keep.
    pub in_streams: u64,
    /// What it keeps; `None`: what is usual.
    pub keeps: Option<Retention>,
}

/// Who needs events of a log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Holder {
    /// A subscription, a delivery that waits for its next attempt, a replay.
    pub by: String,
    /// Everything behind this position.
    pub after: Position,
}

/// Most holders that are shown.
pub const HOLDERS: usize = 10;

impl Log {
    /// What there is of each log, and who holds it.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn states(&self) -> Result<Vec<LogState>> {
        self.kernel.read(states).await
    }
}

fn states(connection: &Connection) -> Result<Vec<LogState>> {
    let mut statement = connection.prepare_cached(
        "SELECT l.id, l.namespace, l.head, l.bytes, l.tail, l.gone_at,
                (SELECT at FROM event WHERE id > l.id << 44 AND id < (l.id + 1) << 44 ORDER BY id LIMIT 1),
                (SELECT coalesce(sum(events), 0) FROM publisher WHERE log = l.id)
         FROM log l ORDER BY l.namespace",
    )?;
    let mut rows = statement.query([])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        let log: i64 = row.get(0)?;
        let text: String = row.get(1)?;
        let head = Position(row.get(2)?);
        let gone_at: u64 = row.get(5)?;
        let namespace = Namespace::new(&text).map_err(|_| Error::Corrupt("name"))?;
        states.push(LogState {
            head,
            events: row.get(7)?,
            bytes: row.get(3)?,
            oldest: row.get::<_, Option<u64>>(6)?.map(Time),
            gone_through: Position(row.get(4)?),
            gone_at: (gone_at > 0).then_some(Time(gone_at)),
            apps: by_app(connection, log)?,
            held: holders(connection, log, &namespace, head)?,
            namespace,
        });
    }
    Ok(states)
}

fn by_app(connection: &Connection, log: i64) -> Result<Vec<Published>> {
    let mut statement = connection.prepare_cached(
        "SELECT app, events, bytes, held, age, size FROM publisher WHERE log = ?1 ORDER BY app",
    )?;
    let rows = statement.query_map([log], |row| {
        let app: String = row.get(0)?;
        let age: Option<u64> = row.get(4)?;
        let size: Option<u64> = row.get(5)?;
        let keeps = age.zip(size).map(|(age, size)| Retention {
            age: Duration::from_micros(age),
            bytes: ByteSize(size),
        });
        Ok(Published {
            app: (!app.is_empty()).then_some(app),
            events: row.get(1)?,
            bytes: row.get(2)?,
            in_streams: row.get(3)?,
            keeps,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn holders(
    connection: &Connection,
    log: i64,
    namespace: &Namespace,
    head: Position,
) -> Result<Vec<Holder>> {
    let mut statement = connection.prepare_cached(
        "SELECT CASE WHEN s.generation IS NULL THEN 'subscription ' ELSE 'projection ' END
                || s.app || '/' || s.workload || '/' || s.name,
                CASE WHEN c.idle THEN max(c.low, l.mark) ELSE c.low END
         FROM subscription s JOIN cursor c ON c.subscription = s.id JOIN log l ON l.id = s.log WHERE s.log = ?1
         UNION ALL
         SELECT 'deliveries that wait of ' || s.app || '/' || s.workload || '/' || s.name, min(r.position) - 1
         FROM retry r JOIN subscription s ON s.id = r.subscription
         WHERE r.log = ?1 AND r.cause IS NULL GROUP BY s.id",
    )?;
    let rows = statement.query_map([log], |row| {
        Ok(Holder {
            by: row.get(0)?,
            after: Position(row.get(1)?),
        })
    })?;
    let mut holders: Vec<Holder> = rows.collect::<rusqlite::Result<_>>()?;
    let mut jobs =
        connection.prepare_cached("SELECT id, spec, after FROM job WHERE ended_at IS NULL")?;
    let mut rows = jobs.query([])?;
    while let Some(row) = rows.next()? {
        let spec: JobSpec = format::decode(&row.get::<_, Vec<u8>>(1)?, "job")?;
        if matches!(&spec, JobSpec::Replay { namespace: of, .. } if of == namespace) {
            holders.push(Holder {
                by: format!("replay {}", row.get::<_, i64>(0)?),
                after: Position(row.get(2)?),
            });
        }
    }
    holders.retain(|holder| holder.after < head);
    holders.sort_by_key(|holder| holder.after);
    holders.truncate(HOLDERS);
    Ok(holders)
}
