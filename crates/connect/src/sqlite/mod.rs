//! The outbox of a SQLite file, beside the app that writes it.
//!
//! SQLite has one writer at a time, so the order of `position` is that of the commits. Reading is one short transaction,
//! settling another; nothing is held while events are published, so that the app never waits for the log.

mod connection;
mod wake;

use std::{path::PathBuf, sync::Arc};

use model::Time;
use parking_lot::Mutex;
use rusqlite::{Row as Found, TransactionBehavior, params, types::ValueRef};

use crate::{
    Backlog, Error, Fate, Item, Settled,
    feed::Options,
    outbox::{Data, Row, TEXTS, too_large},
};

pub(crate) use connection::Connection;
use wake::Wake;

/// The outbox of a file.
pub struct Outbox {
    connection: Arc<Mutex<Connection>>,
    options: Arc<Options>,
    wake: Wake,
}

impl Outbox {
    pub(crate) async fn open(file: PathBuf, options: Options) -> Result<Self, Error> {
        // Watched before it is read, so that nothing comes between.
        let wake = Wake::of(&file, options.clock.clone());
        let options = Arc::new(options);
        let table = options.table.clone();
        let open = move || {
            let mut connection = Connection::open(&file)?;
            connection.check_outbox(&table)?;
            connection.hold(&table)?;
            Ok(connection)
        };
        let connection = blocking(open).await?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            options,
            wake,
        })
    }

    pub(crate) async fn next(&mut self) -> Result<Vec<Item>, Error> {
        let options = Arc::clone(&self.options);
        self.with(move |connection| {
            connection.still_there()?;
            next(connection, &options)
        })
        .await
    }

    pub(crate) async fn settle(&mut self, settled: Vec<Settled>) -> Result<(), Error> {
        let options = Arc::clone(&self.options);
        self.with(move |connection| settle(connection, &options, &settled))
            .await
    }

    pub(crate) async fn backlog(&mut self) -> Result<Backlog, Error> {
        let options = Arc::clone(&self.options);
        self.with(move |connection| backlog(connection, &options.table))
            .await
    }

    pub(crate) async fn changed(&mut self) {
        self.wake.changed().await;
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = Arc::clone(&self.connection);
        blocking(move || work(&mut connection.lock())).await
    }
}

/// SQLite waits for locks and disks: never on a thread that others need.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| {
        Err(Error::Failed {
            place: "a file".to_owned(),
            why: panicked.to_string(),
        })
    })
}

fn next(connection: &Connection, options: &Options) -> Result<Vec<Item>, Error> {
    let text = format!(
        "SELECT position, ifnull(octet_length(id), 0) + ifnull(octet_length(type), 0) + ifnull(octet_length(source), 0)
           + ifnull(octet_length(subject), 0) + ifnull(octet_length(key), 0) + ifnull(octet_length(extensions), 0)
           + ifnull(octet_length(dataschema), 0) + ifnull(octet_length(data), 0) AS size,
           id, type, source, subject, key, ifnull(time, created_at), dataschema, datacontenttype, extensions, data,
           traceparent
         FROM {} WHERE sent_at IS NULL AND refused IS NULL ORDER BY position LIMIT ?1",
        options.table
    );
    connection.run(|db| {
        let mut statement = db.prepare_cached(&text)?;
        let mut rows = statement.query([options.batch_rows])?;
        let (mut items, mut bytes) = (Vec::new(), 0);
        while let Some(found) = rows.next()? {
            let (position, size) = (found.get(0)?, found.get::<_, u64>(1)?);
            if size > options.row_bytes {
                // Not read: what is not looked at of a row stays on disk.
                items.push(too_large(position, None, size, options.row_bytes));
                continue;
            }
            bytes += size;
            if bytes > options.batch_bytes && !items.is_empty() {
                break;
            }
            items.push(row(found, position)?.item(&options.source));
        }
        Ok(items)
    })
}

/// The first of the texts, which stand from the third column of the statement on, that is none in UTF-8: SQLite does not look.
fn garbled(found: &Found<'_>) -> rusqlite::Result<Option<&'static str>> {
    for (at, name) in TEXTS.iter().enumerate() {
        if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = found.get_ref(at + 2)?
            && std::str::from_utf8(bytes).is_err()
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn row(found: &Found<'_>, position: i64) -> rusqlite::Result<Row> {
    Ok(Row {
        position,
        garbled: garbled(found)?,
        id: text(found, 2)?.unwrap_or_default(),
        kind: text(found, 3)?.unwrap_or_default(),
        source: text(found, 4)?,
        subject: text(found, 5)?,
        key: text(found, 6)?,
        time: text(found, 7)?,
        schema: text(found, 8)?,
        content_type: text(found, 9)?,
        extensions: text(found, 10)?,
        data: match found.get_ref(11)? {
            ValueRef::Null => Data::None,
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Data::Text(text.to_owned()),
                Err(_) => Data::Bytes(bytes.to_vec()),
            },
            ValueRef::Blob(bytes) => Data::Bytes(bytes.to_vec()),
            ValueRef::Integer(number) => Data::Number(number.into()),
            ValueRef::Real(number) => {
                serde_json::Number::from_f64(number).map_or(Data::None, Data::Number)
            }
        },
        traceparent: text(found, 12)?,
    })
}

/// A column as text, whatever its type: SQLite keeps in a column what it is given.
pub(crate) fn text(found: &Found<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match found.get_ref(column)? {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    })
}

fn settle(
    connection: &mut Connection,
    options: &Options,
    settled: &[Settled],
) -> Result<(), Error> {
    let table = &options.table;
    let sent = if options.keep {
        format!(
            "UPDATE {table} SET sent_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE position = ?1"
        )
    } else {
        format!("DELETE FROM {table} WHERE position = ?1")
    };
    let refused = format!("UPDATE {table} SET refused = ?2 WHERE position = ?1");
    connection.run_mut(|db| {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut sent = transaction.prepare_cached(&sent)?;
            let mut refused = transaction.prepare_cached(&refused)?;
            for one in settled {
                match &one.fate {
                    Fate::Sent => sent.execute([one.place])?,
                    Fate::Refused(why) => refused.execute(params![one.place, why])?,
                };
            }
        }
        transaction.commit()
    })
}

fn backlog(connection: &Connection, table: &str) -> Result<Backlog, Error> {
    let most = Backlog::MOST;
    let text = format!(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM {table} WHERE sent_at IS NULL AND refused IS NULL LIMIT {most})),
           (SELECT created_at FROM {table} WHERE sent_at IS NULL AND refused IS NULL ORDER BY position LIMIT 1),
           (SELECT count(*) FROM (SELECT 1 FROM {table} WHERE refused IS NOT NULL LIMIT {most}))"
    );
    connection.run(|db| {
        db.prepare_cached(&text)?.query_row([], |found| {
            Ok(Backlog {
                waiting: found.get(0)?,
                oldest: text_time(found, 1)?,
                refused: found.get(2)?,
                retained: None,
            })
        })
    })
}

fn text_time(found: &Found<'_>, column: usize) -> rusqlite::Result<Option<Time>> {
    Ok(text(found, column)?.and_then(|text| Time::parse_rfc3339(&text)))
}
