//! The outbox of a Postgres database.
//!
//! A batch is one short transaction: its rows are locked (`FOR UPDATE SKIP LOCKED`), their events published, the rows settled,
//! and all committed. A row that somebody else has locked is passed over, and with it all later rows of its key.
//!
//! Order: `position` is taken under a lock of the row's key that is held to the commit (the trigger of `tangelo outbox
//! init`). So positions of one key are in the order of their commits, and a row never appears before one that was relayed
//! already. Across keys a later position may commit first: that is nobody's order, and waiting for it (a snapshot's
//! horizon) would let any long transaction of the server, a backup for one, hold every event.

mod connection;
mod slot;

use std::collections::{BTreeMap, BTreeSet};

use model::Time;
use tokio_postgres::Row as Found;

use crate::{
    Backlog, Error, Fate, Item, Settled,
    address::Server,
    feed::Options,
    outbox::{Data, Row, too_large},
};

pub(crate) use connection::Connection;
pub(crate) use slot::SlotProblem;

/// What waits.
const PENDING: &str = "sent_at IS NULL AND refused IS NULL";

/// The outbox of a server's database.
pub struct Outbox {
    connection: Connection,
    options: Options,
    /// Whether a transaction is open: between a batch and its settling.
    open: bool,
}

/// A row before it is read.
struct Head {
    position: i64,
    key: Option<String>,
    size: u64,
}

impl Outbox {
    pub(crate) async fn open(server: &Server, options: Options) -> Result<Self, Error> {
        let connection = Connection::open(server).await?;
        connection.check_outbox(&options.table).await?;
        connection.hold(&options.table).await?;
        // The name of the channel is that of the table, as the trigger has it.
        let listen = format!("LISTEN \"{}\"", options.table);
        connection.run(&listen).await?;
        Ok(Self {
            connection,
            options,
            open: false,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Vec<Item>, Error> {
        // An earlier batch that was never settled is given up: its rows come again.
        self.end("ROLLBACK").await?;
        self.connection.run("BEGIN").await?;
        self.open = true;
        let mut held = BTreeSet::new();
        loop {
            let heads = self.heads(&held).await?;
            let exhausted = heads.len() < self.options.batch_rows as usize;
            let before = held.len();
            let items = self.lock(heads, &mut held).await?;
            if !items.is_empty() {
                return Ok(items);
            }
            if exhausted || held.len() == before {
                // Nothing, or nothing that is not somebody else's for now.
                self.end("ROLLBACK").await?;
                return Ok(Vec::new());
            }
        }
    }

    /// The first rows whose keys are not `held`, unread.
    async fn heads(&self, held: &BTreeSet<String>) -> Result<Vec<Head>, Error> {
        let text = format!(
            "SELECT position, coalesce(key, subject),
               coalesce(octet_length(id), 0)::bigint + coalesce(octet_length(type), 0) + coalesce(octet_length(source), 0)
               + coalesce(octet_length(subject), 0) + coalesce(octet_length(key), 0) + coalesce(octet_length(dataschema), 0)
               + coalesce(octet_length(extensions::text), 0) + coalesce(octet_length(data::text), 0)
               + coalesce(octet_length(data_bytes), 0)
             FROM {} WHERE {PENDING} AND coalesce(key, subject, '') <> ALL ($1) ORDER BY position LIMIT $2",
            self.options.table
        );
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        let limit = i64::from(self.options.batch_rows);
        let rows = self.connection.query(&text, &[&held, &limit]).await?;
        let head = |row: &Found| Head {
            position: row.get(0),
            key: row.get(1),
            size: u64::try_from(row.get::<_, i64>(2)).unwrap_or(u64::MAX),
        };
        Ok(rows.iter().map(head).collect())
    }

    /// Locks what can be, reads what is not too large, and notes in `held` the keys of what was somebody else's.
    async fn lock(
        &self,
        mut heads: Vec<Head>,
        held: &mut BTreeSet<String>,
    ) -> Result<Vec<Item>, Error> {
        self.cut(&mut heads);
        let lock = format!(
            "SELECT position FROM {} WHERE position = ANY ($1) AND {PENDING} ORDER BY position FOR UPDATE SKIP LOCKED",
            self.options.table
        );
        let wanted: Vec<i64> = heads.iter().map(|head| head.position).collect();
        let locked = self.connection.query(&lock, &[&wanted]).await?;
        let locked: BTreeSet<i64> = locked.iter().map(|row| row.get(0)).collect();
        heads.retain(|head| {
            let free = head.key.as_ref().is_none_or(|key| !held.contains(key));
            let ours = free && locked.contains(&head.position);
            if !ours {
                held.extend(head.key.clone());
            }
            ours
        });
        let mut rows = self.rows(&heads).await?;
        let limit = self.options.row_bytes;
        let item = |head: Head| match rows.remove(&head.position) {
            Some(row) => row.item(&self.options.source),
            None => too_large(head.position, head.key, head.size, limit),
        };
        Ok(heads.into_iter().map(item).collect())
    }

    /// Those of `heads` that are not too large, read.
    async fn rows(&self, heads: &[Head]) -> Result<BTreeMap<i64, Row>, Error> {
        let text = format!(
            "SELECT position, id, type, source, subject, key,
               to_char(coalesce(time, created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), dataschema,
               datacontenttype, extensions::text, data::text, data_bytes, traceparent
             FROM {} WHERE position = ANY ($1)",
            self.options.table
        );
        let small = |head: &&Head| head.size <= self.options.row_bytes;
        let small: Vec<i64> = heads.iter().filter(small).map(|h| h.position).collect();
        let rows = self.connection.query(&text, &[&small]).await?;
        Ok(rows
            .iter()
            .map(read)
            .map(|row| (row.position, row))
            .collect())
    }

    /// Keeps as many as a batch may have bytes, and one at least.
    fn cut(&self, heads: &mut Vec<Head>) {
        let mut bytes = 0;
        let fits = |head: &&Head| {
            let counts = head.size <= self.options.row_bytes;
            bytes += if counts { head.size } else { 0 };
            bytes <= self.options.batch_bytes
        };
        let count = heads.iter().take_while(fits).count();
        heads.truncate(count.max(1));
    }

    pub(crate) async fn settle(&mut self, settled: Vec<Settled>) -> Result<(), Error> {
        let table = &self.options.table;
        let mut sent = Vec::new();
        let mut refused = (Vec::new(), Vec::new());
        for one in settled {
            match one.fate {
                Fate::Sent => sent.push(one.place),
                Fate::Refused(why) => {
                    refused.0.push(one.place);
                    // Postgres has no text with a zero byte in it.
                    refused.1.push(why.replace('\0', "\u{fffd}"));
                }
            }
        }
        if !sent.is_empty() {
            let text = if self.options.keep {
                format!("UPDATE {table} SET sent_at = clock_timestamp() WHERE position = ANY ($1)")
            } else {
                format!("DELETE FROM {table} WHERE position = ANY ($1)")
            };
            self.connection.execute(&text, &[&sent]).await?;
        }
        if !refused.0.is_empty() {
            let text = format!(
                "UPDATE {table} AS o SET refused = r.why FROM unnest($1::bigint[], $2::text[]) AS r (position, why)
                 WHERE o.position = r.position"
            );
            let (places, reasons) = &refused;
            self.connection.execute(&text, &[places, reasons]).await?;
        }
        self.end("COMMIT").await
    }

    pub(crate) async fn backlog(&mut self) -> Result<Backlog, Error> {
        let (table, most) = (&self.options.table, Backlog::MOST);
        let text = format!(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {PENDING} LIMIT {most}) AS w),
               (SELECT (extract(epoch FROM created_at) * 1000000)::bigint FROM {table} WHERE {PENDING}
                ORDER BY position LIMIT 1),
               (SELECT count(*) FROM (SELECT 1 FROM {table} WHERE refused IS NOT NULL LIMIT {most}) AS r)"
        );
        let rows = self.connection.query(&text, &[]).await?;
        let Some(row) = rows.first() else {
            return Ok(Backlog::default());
        };
        let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        let oldest: Option<i64> = row.get(1);
        Ok(Backlog {
            waiting: count(0),
            oldest: oldest
                .and_then(|micros| u64::try_from(micros).ok())
                .map(Time),
            refused: count(2),
            retained: None,
        })
    }

    pub(crate) async fn changed(&mut self) {
        self.connection.notified().await;
    }

    async fn end(&mut self, how: &str) -> Result<(), Error> {
        if std::mem::take(&mut self.open) {
            self.connection.run(how).await?;
        }
        Ok(())
    }
}

fn read(found: &Found) -> Row {
    let data = match (found.get::<_, Option<String>>(10), found.get(11)) {
        (Some(text), _) => Data::Text(text),
        (None, Some(bytes)) => Data::Bytes(bytes),
        (None, None) => Data::None,
    };
    Row {
        garbled: None,
        position: found.get(0),
        id: found.get::<_, Option<_>>(1).unwrap_or_default(),
        kind: found.get::<_, Option<_>>(2).unwrap_or_default(),
        source: found.get(3),
        subject: found.get(4),
        key: found.get(5),
        time: found.get(6),
        schema: found.get(7),
        content_type: found.get(8),
        extensions: found.get(9),
        data,
        traceparent: found.get(12),
    }
}
