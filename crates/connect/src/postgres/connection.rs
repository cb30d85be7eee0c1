//! A connection to a Postgres database that belongs to an app: one, kept for as long as it works, since what it listens to and
//! what it holds is bound to it. A pooler that hands out another one for each transaction will not do.

use std::{collections::HashMap, pin::Pin, sync::Arc};

use futures_util::Stream;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_postgres::{
    AsyncMessage, Client, NoTls, Row, RowStream, config::SslMode, error::SqlState, types::ToSql,
};

use super::slot::{SlotFound, SlotProblem};
use crate::{Error, address::Server, tls::Tls};

/// What a statement may take on the server: nothing of a relay's is long.
const STATEMENT: &str = "30s";
/// How long one waits for a lock of the app's: schema changes hold them.
const LOCK: &str = "10s";

/// A connection.
pub(crate) struct Connection {
    client: Client,
    notified: Arc<Notify>,
    driver: JoinHandle<()>,
    place: String,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(crate) async fn open(server: &Server) -> Result<Self, Error> {
        let (config, place) = (&server.config, server.to_string());
        let failed = |error: tokio_postgres::Error| told(&place, None, &error);
        let notified = Arc::new(Notify::new());
        let (client, driver) = if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            (client, drive(connection, Arc::clone(&notified)))
        } else {
            let tls = Tls::new(server.roots.as_deref());
            let tls = tls.await.map_err(|why| Error::Unreachable {
                place: place.clone(),
                why,
            })?;
            let (client, connection) = config.connect(tls).await.map_err(failed)?;
            (client, drive(connection, Arc::clone(&notified)))
        };
        let connection = Self {
            client,
            notified,
            driver,
            place,
        };
        let settings = format!(
            "SET statement_timeout = '{STATEMENT}'; SET lock_timeout = '{LOCK}'; SET search_path TO \"$user\", public"
        );
        connection.run(&settings).await?;
        Ok(connection)
    }

    /// Resolves when somebody notified, or the connection is gone.
    pub(crate) async fn notified(&self) {
        self.notified.notified().await;
    }

    pub(crate) async fn run(&self, text: &str) -> Result<(), Error> {
        let done = self.client.batch_execute(text).await;
        done.map_err(|error| told(&self.place, Some(text), &error))
    }

    pub(crate) async fn query(
        &self,
        text: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let rows = self.client.query(text, values).await;
        rows.map_err(|error| told(&self.place, Some(text), &error))
    }

    pub(crate) async fn execute(
        &self,
        text: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        let count = self.client.execute(text, values).await;
        count.map_err(|error| told(&self.place, Some(text), &error))
    }

    /// An error unless `table` has the columns of an outbox.
    pub(crate) async fn check_outbox(&self, table: &str) -> Result<(), Error> {
        let text = "SELECT attname::text FROM pg_attribute
                    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let rows = self.query(text, &[&table]).await?;
        let mut found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        if !found.is_empty() && !found.iter().any(|name| name == "data_bytes") {
            found.retain(|name| name != "data");
        }
        let missing = crate::outbox::missing(&found);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::NoOutbox {
            place: self.place.clone(),
            table: table.to_owned(),
            why: missing,
            engine: "postgres",
        })
    }

    /// Rows as they come.
    pub(crate) async fn stream(
        &self,
        text: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<RowStream, Error> {
        let stream = self.client.query_raw(text, values.iter().copied()).await;
        stream.map_err(|error| told(&self.place, Some(text), &error))
    }

    /// The next of them.
    pub(crate) async fn row(&self, mut stream: Pin<&mut RowStream>) -> Result<Option<Row>, Error> {
        let next = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await;
        next.transpose()
            .map_err(|error| told(&self.place, None, &error))
    }

    pub(crate) fn failed(&self, why: String) -> Error {
        Error::Failed {
            place: self.place.clone(),
            why,
        }
    }

    pub(crate) fn no_capture(&self, why: impl Into<String>) -> Error {
        Error::NoCapture {
            place: self.place.clone(),
            why: why.into(),
        }
    }

    /// An error unless there is a slot `name` for `pgoutput`, with its publication, that has not lost what it was to keep.
    pub(crate) async fn check_slot(&self, name: &str) -> Result<(), Error> {
        if let Some(problem) = self.slot_problem(name).await? {
            return Err(self.no_capture(problem.to_string()));
        }
        let text = "SELECT 1 FROM pg_publication WHERE pubname = $1";
        if self.query(text, &[&name]).await?.is_empty() {
            return Err(self.no_capture(format!("there is no publication `{name}`")));
        }
        Ok(())
    }

    /// Why nothing can be read from the slot `name`; `None`: it can.
    pub(crate) async fn slot_problem(&self, name: &str) -> Result<Option<SlotProblem>, Error> {
        let text = "SELECT coalesce(plugin::text, ''), coalesce(wal_status, ''), database = current_database() \
                    FROM pg_replication_slots WHERE slot_name = $1";
        let rows = self.query(text, &[&name]).await?;
        let found = rows.first().map(|row| SlotFound {
            plugin: row.get(0),
            wal_status: row.get(1),
            is_here: row.get::<_, Option<bool>>(2).unwrap_or_default(),
        });
        Ok(SlotProblem::of(name, found.as_ref()))
    }

    /// The columns of the primary keys of a publication's tables, by the tables' numbers.
    pub(crate) async fn keys(&self, publication: &str) -> Result<HashMap<u32, Vec<String>>, Error> {
        let text = "SELECT i.indrelid::oid, a.attname::text FROM pg_publication p \
                    JOIN pg_publication_rel r ON r.prpubid = p.oid \
                    JOIN pg_index i ON i.indrelid = r.prrelid AND i.indisprimary \
                    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                    WHERE p.pubname = $1 ORDER BY array_position(i.indkey::int2[], a.attnum)";
        let mut keys: HashMap<u32, Vec<String>> = HashMap::new();
        for row in self.query(text, &[&publication]).await? {
            keys.entry(row.get(0)).or_default().push(row.get(1));
        }
        Ok(keys)
    }

    /// Makes this the one reader of the slot `name` for as long as the connection lives.
    pub(crate) async fn hold_name(&self, name: &str) -> Result<(), Error> {
        let text = "SELECT pg_try_advisory_lock(hashtextextended('tangelo capture ' || $1, 0))";
        let rows = self.query(text, &[&name]).await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            return Ok(());
        }
        Err(Error::Held {
            place: self.place.clone(),
            table: name.to_owned(),
        })
    }

    /// Makes this the one relay of `table` for as long as the connection lives.
    pub(crate) async fn hold(&self, table: &str) -> Result<(), Error> {
        let text = "SELECT pg_try_advisory_lock(hashtextextended('tangelo relay of ' || to_regclass($1)::oid::text, 0))";
        let rows = self.query(text, &[&table]).await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            return Ok(());
        }
        Err(Error::Held {
            place: self.place.clone(),
            table: table.to_owned(),
        })
    }
}

/// Drives a connection, and says when it was notified or has ended.
fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    notified: Arc<Notify>,
) -> JoinHandle<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            let message = std::future::poll_fn(|cx| connection.poll_message(cx)).await;
            match message {
                Some(Ok(AsyncMessage::Notification(_))) => notified.notify_one(),
                Some(Ok(_)) => {}
                // Whoever asks next is told what happened.
                Some(Err(_)) | None => break,
            }
        }
        notified.notify_one();
    })
}

/// A failure in words, as what can be done about it.
fn told(place: &str, statement: Option<&str>, error: &tokio_postgres::Error) -> Error {
    let place = place.to_owned();
    let Some(server) = error.as_db_error() else {
        let cause = std::error::Error::source(error);
        let why = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        return Error::Unreachable { place, why };
    };
    let why = match server.hint() {
        Some(hint) => format!("{} ({hint})", server.message()),
        None => server.message().to_owned(),
    };
    let state = server.code();
    let class = state.code().get(..2).unwrap_or_default();
    if *state == SqlState::INSUFFICIENT_PRIVILEGE || class == "28" {
        return Error::Forbidden { place, why };
    }
    // 3D: no such database; 57P: the server stops or starts; 53300: too many connections.
    if class == "3D" || state.code().starts_with("57P") || *state == SqlState::TOO_MANY_CONNECTIONS
    {
        return Error::Unreachable { place, why };
    }
    let what = statement.and_then(|text| text.split_whitespace().next());
    let why = what.map_or_else(|| why.clone(), |verb| format!("{verb}: {why}"));
    Error::Failed { place, why }
}
