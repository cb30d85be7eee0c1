//! A feed: what is next in a table of an app's database, and what became of it.

use crate::{
    Address, Backlog, Error, Item, Settled,
    capture::{CHANGES, postgres as slot},
    postgres, sqlite,
};

/// What a feed is made from.
#[derive(Clone)]
pub struct Options {
    /// The clock.
    pub clock: model::Clock,
    /// The database.
    pub address: Address,
    /// What is taken from it.
    pub what: What,
    /// The outbox; of captured changes the name of the slot in Postgres, and nothing in SQLite.
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

/// What a feed takes from a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Rows of an outbox.
    Outbox,
    /// Changes of tables.
    Capture,
}

/// The rows of an outbox, or changes of tables, in their order. One at a time per table: the second is refused.
#[allow(clippy::large_enum_variant, reason = "one for each outbox of a server")]
pub enum Feed {
    /// Of a file.
    Sqlite(sqlite::Outbox),
    /// Of a server.
    Postgres(postgres::Outbox),
    /// Changes of a server's tables.
    Slot(slot::Slot),
}

impl Feed {
    /// Opens the database and looks whether its outbox can be relayed.
    ///
    /// # Errors
    /// Everything that [`Error`] has.
    pub async fn open(mut options: Options) -> Result<Self, Error> {
        let capture = options.what == What::Capture;
        match options.address.clone() {
            Address::Postgres(server) if capture => {
                slot::Slot::open(&server, options).await.map(Self::Slot)
            }
            Address::Sqlite(file) if capture => {
                options.table = CHANGES.to_owned();
                let opened = sqlite::Outbox::open(file, options).await;
                opened.map(Self::Sqlite).map_err(Error::of_capture)
            }
            Address::Sqlite(file) => sqlite::Outbox::open(file, options).await.map(Self::Sqlite),
            Address::Postgres(server) => postgres::Outbox::open(&server, options)
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
            Self::Slot(slot) => slot.next().await,
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
            Self::Slot(slot) => slot.settle(settled).await,
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
            Self::Slot(slot) => slot.backlog().await,
        }
    }

    /// Resolves when there may be something new, or the connection is gone. May be dropped and asked again.
    pub async fn changed(&mut self) {
        match self {
            Self::Sqlite(outbox) => outbox.changed().await,
            Self::Postgres(outbox) => outbox.changed().await,
            Self::Slot(slot) => slot.changed().await,
        }
    }
}
