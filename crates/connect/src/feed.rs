//! A feed: what is next in a table of an app's database, and what became of it.

use crate::{Address, Backlog, Error, Item, Settled, postgres, sqlite};

/// What a feed is made from.
#[derive(Clone)]
pub struct Options {
    /// The clock.
    pub clock: model::Clock,
    /// The database.
    pub address: Address,
    /// The outbox.
    pub table: String,
    /// Whether sent rows stay.
    pub keep: bool,
    /// The source of events whose rows name none.
    pub source: String,
    /// Bytes of the largest row.
    pub row_bytes: u64,
    /// Bytes of one batch, at least those of one row.
    pub batch_bytes: u64,
    /// Rows of one batch.
    pub batch_rows: u32,
}

/// The rows of an outbox in their order. One at a time per table: the second is refused.
#[allow(clippy::large_enum_variant, reason = "one for each outbox of a server")]
pub enum Feed {
    /// Of a file.
    Sqlite(sqlite::Outbox),
    /// Of a server.
    Postgres(postgres::Outbox),
}

impl Feed {
    /// Opens the database and looks whether its outbox can be relayed.
    ///
    /// # Errors
    /// Everything that [`Error`] has.
    pub async fn open(options: Options) -> Result<Self, Error> {
        match options.address.clone() {
            Address::Sqlite(file) => sqlite::Outbox::open(file, options).await.map(Self::Sqlite),
            Address::Postgres(config) => postgres::Outbox::open(&config, options)
                .await
                .map(Self::Postgres),
        }
    }

    /// The first rows that are neither sent nor refused, in order; empty when there are none. Until they are settled, nothing
    /// else may be asked.
    ///
    /// # Errors
    /// When the database fails: open another feed.
    pub async fn next(&mut self) -> Result<Vec<Item>, Error> {
        match self {
            Self::Sqlite(outbox) => outbox.next().await,
            Self::Postgres(outbox) => outbox.next().await,
        }
    }

    /// Notes what became of the last batch; rows that are not named are handed out again.
    ///
    /// # Errors
    /// When the database fails: the same rows come again, with the same ids.
    pub async fn settle(&mut self, settled: Vec<Settled>) -> Result<(), Error> {
        match self {
            Self::Sqlite(outbox) => outbox.settle(settled).await,
            Self::Postgres(outbox) => outbox.settle(settled).await,
        }
    }

    /// Counts what waits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn backlog(&mut self) -> Result<Backlog, Error> {
        match self {
            Self::Sqlite(outbox) => outbox.backlog().await,
            Self::Postgres(outbox) => outbox.backlog().await,
        }
    }

    /// Resolves when there may be something new, or the connection is gone. May be dropped and asked again.
    pub async fn changed(&mut self) {
        match self {
            Self::Sqlite(outbox) => outbox.changed().await,
            Self::Postgres(outbox) => outbox.changed().await,
        }
    }
}
