//! Changes of a Postgres database through a slot of logical replication.
//!
//! The slot is read by SQL (`pg_logical_slot_peek_binary_changes`, then `pg_replication_slot_advance`) and not by the streaming
//! protocol: what was peeked at is still in the slot until it was published and fsynced, a cut connection loses nothing, any
//! client library and any proxy of the usual protocol will do, and nothing has to be answered in time. It costs
//! a look each `poll`; a server without changes is asked for its position only.

use std::pin::Pin;

use model::Event;
use tokio_postgres::{RowStream, types::ToSql};

use super::{
    TableStatus,
    changes::{Changes, Outcome},
    pgoutput::{self, Lsn},
};
use crate::{
    Backlog, Error, Item, Relayed, Settled,
    address::Server,
    feed::Options,
    postgres::{Connection, SlotProblem},
};

/// Changes that are looked at at once; a transaction is never cut.
const CHANGES: i32 = 5_000;
/// The slot is moved on without changes of ours when the server has written so much else.
const STRIDE: u64 = 16 << 20;
/// What an event has beside its data.
const ATTRIBUTES: u64 = 8 << 10;

/// The slot of a server's database.
pub struct Slot {
    connection: Connection,
    options: Options,
    changes: Changes,
    /// What the server is telling.
    stream: Option<Pin<Box<RowStream>>>,
    /// Where the server was when it began to.
    head: Lsn,
    /// Up to where all was handed out.
    told: Option<Lsn>,
    confirmed: Lsn,
    place: i64,
    waiting: Vec<Event>,
    refused: u64,
}

impl Slot {
    pub(crate) async fn open(server: &Server, options: Options) -> Result<Self, Error> {
        let connection = Connection::open(server).await?;
        connection.run("SET statement_timeout = 0").await?;
        let slot = &options.table;
        connection.check_slot(slot).await?;
        connection.hold_name(slot).await?;
        let keys = connection.keys(slot).await?;
        let limit = options.row_bytes.saturating_sub(ATTRIBUTES);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Self {
            changes: Changes::new(&options.source, limit, keys),
            stream: None,
            head: Lsn(0),
            told: None,
            confirmed: Lsn(0),
            place: 0,
            waiting: Vec::new(),
            refused: 0,
            connection,
            options,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Vec<Item>, Error> {
        loop {
            if self.stream.is_none() && !self.begin().await? {
                return Ok(Vec::new());
            }
            let items = self.batch().await?;
            // Behind what was confirmed there may be more.
            if !items.is_empty() || !self.confirm().await? {
                return Ok(items);
            }
        }
    }

    /// As many changes as a batch has, from what the server is telling.
    async fn batch(&mut self) -> Result<Vec<Item>, Error> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < self.options.batch_rows as usize && bytes < self.options.batch_bytes {
            if let Some(event) = self.waiting.pop() {
                self.place += 1;
                bytes += event.to_json().to_string().len() as u64;
                items.push(Item {
                    place: self.place,
                    key: event.subject.clone(),
                    event: Ok(Relayed {
                        event,
                        trace: None,
                        depth: 0,
                    }),
                });
            } else if !self.read().await? {
                break;
            }
        }
        Ok(items)
    }

    /// Asks for changes, if the server has written anything.
    async fn begin(&mut self) -> Result<bool, Error> {
        let text = "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint";
        let rows = self.connection.query(text, &[]).await?;
        let head = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        let head = Lsn(u64::try_from(head).unwrap_or_default());
        if head == self.head {
            return Ok(false);
        }
        let text = "SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, $2, 'proto_version', '1',
                    'publication_names', $3)";
        let stream = self
            .connection
            .stream(text, &[&self.options.table, &CHANGES, &self.options.table])
            .await?;
        (self.stream, self.head, self.told) = (Some(Box::pin(stream)), head, None);
        Ok(true)
    }

    /// Takes one message of the server's; whether there was one.
    async fn read(&mut self) -> Result<bool, Error> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let Some(row) = self.connection.row(stream.as_mut()).await? else {
            self.stream = None;
            return Ok(false);
        };
        let bytes: &[u8] = row.get(0);
        let message = pgoutput::decode(bytes).map_err(|e| self.connection.failed(e.to_string()))?;
        match self
            .changes
            .take(message)
            .map_err(|e| self.connection.failed(e))?
        {
            Outcome::Nothing => {}
            // Taken from the end.
            Outcome::Events(events) => self.waiting.extend(events.into_iter().rev()),
            Outcome::End(end) => self.told = Some(end),
        }
        Ok(true)
    }

    /// What is handed out was published, fsynced, when this is asked: the next batch is asked for only after that.
    #[allow(clippy::unused_async, reason = "as the other feeds")]
    pub(crate) async fn settle(&mut self, settled: Vec<Settled>) -> Result<(), Error> {
        let refused = settled.iter().filter(|one| one.fate != crate::Fate::Sent);
        self.refused += refused.count() as u64;
        if self.stream.is_none() && self.waiting.is_empty() {
            self.confirm().await?;
        }
        Ok(())
    }

    /// Moves the slot behind what was told: the last whole transaction, or where the server was if there was none. Whether there
    /// was one.
    async fn confirm(&mut self) -> Result<bool, Error> {
        if self.stream.is_some() {
            return Ok(false);
        }
        let told = self.told.take();
        let idle = self.head.0 >= self.confirmed.0 + STRIDE;
        let Some(target) = told.or_else(|| idle.then_some(self.head)) else {
            return Ok(false);
        };
        if told.is_some() {
            self.head = Lsn(0);
        }
        let text = "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)";
        let lsn = target.to_string();
        let values: [&(dyn ToSql + Sync); 2] = [&self.options.table, &lsn];
        self.connection.query(text, &values).await?;
        self.confirmed = target;
        Ok(told.is_some())
    }

    pub(crate) async fn backlog(&mut self) -> Result<Backlog, Error> {
        let text = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
                    FROM pg_replication_slots WHERE slot_name = $1";
        let rows = self.connection.query(text, &[&self.options.table]).await?;
        let Some(row) = rows.first() else {
            return Err(self.connection.no_capture("its slot is gone"));
        };
        let held: Option<i64> = row.get(0);
        Ok(Backlog {
            refused: self.refused,
            retained: held.and_then(|bytes| u64::try_from(bytes).ok()),
            ..Backlog::default()
        })
    }

    pub(crate) async fn changed(&mut self) {
        // Nothing tells of changes: the loop above looks each `poll`.
        std::future::pending().await
    }
}

/// Makes publication and slot, and has the tables tell their rows as they were.
pub(super) async fn init(
    server: &Server,
    slot: &str,
    tables: &[String],
) -> Result<Vec<TableStatus>, Error> {
    let connection = Connection::open(server).await?;
    let rows = connection.query("SHOW wal_level", &[]).await?;
    let level: String = rows.first().map_or_else(String::new, |row| row.get(0));
    if level != "logical" {
        let why = format!("`wal_level` is `{level}`: set it to `logical` and restart the server");
        return Err(connection.no_capture(why));
    }
    let list = tables.join(", ");
    let there = "SELECT count(*) FROM pg_publication WHERE pubname = $1";
    let there = connection.query(there, &[&slot]).await?;
    let verb = if there.first().is_some_and(|row| row.get::<_, i64>(0) > 0) {
        format!("ALTER PUBLICATION {slot} SET TABLE {list}")
    } else {
        format!("CREATE PUBLICATION {slot} FOR TABLE {list}")
    };
    connection.run(&verb).await?;
    for table in tables {
        let text = format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
        connection.run(&text).await?;
    }
    let make = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')
                WHERE NOT EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = $1)";
    connection.query(make, &[&slot]).await?;
    look(&connection, slot, tables).await
}

pub(super) async fn status(
    server: &Server,
    slot: &str,
    tables: &[String],
) -> Result<Vec<TableStatus>, Error> {
    look(&Connection::open(server).await?, slot, tables).await
}

/// Drops slot and publication; whether the slot was there.
pub(super) async fn drop(server: &Server, slot: &str) -> Result<u64, Error> {
    let connection = Connection::open(server).await?;
    // Names are the server's: one of another database is somebody else's.
    let text = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                WHERE slot_name = $1 AND database = current_database()";
    let dropped = connection.query(text, &[&slot]).await?;
    connection
        .run(&format!("DROP PUBLICATION IF EXISTS {slot}"))
        .await?;
    Ok(dropped.len() as u64)
}

async fn look(
    connection: &Connection,
    slot: &str,
    tables: &[String],
) -> Result<Vec<TableStatus>, Error> {
    let of_slot = connection.slot_problem(slot).await?;
    let text = "SELECT
        to_regclass($2) IS NOT NULL,
        EXISTS (SELECT 1 FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                WHERE p.pubname = $1 AND r.prrelid = to_regclass($2)),
        (SELECT relreplident = 'f' FROM pg_class WHERE oid = to_regclass($2))";
    let mut found = Vec::with_capacity(tables.len());
    for table in tables {
        let rows = connection.query(text, &[&slot, &table]).await?;
        let row = rows.first();
        let is = |column: usize| {
            row.and_then(|row| row.get::<_, Option<bool>>(column))
                .unwrap_or_default()
        };
        let problem = if !is(0) {
            Some("there is no such table".to_owned())
        } else if let Some(of_slot) = &of_slot {
            Some(match of_slot {
                SlotProblem::Missing(_) => format!("{of_slot}: run `tangelo capture init`"),
                _ => of_slot.to_string(),
            })
        } else if !is(1) {
            Some("it is not in the publication: run `tangelo capture init` again".to_owned())
        } else if !is(2) {
            Some("its REPLICA IDENTITY is not FULL: `before` has the key only".to_owned())
        } else {
            None
        };
        found.push(TableStatus {
            table: table.clone(),
            captured: is(0) && of_slot.is_none() && is(1),
            problem,
        });
    }
    Ok(found)
}
