//! Changes of tables as events: who takes them from a database, and how an event of one looks.
//!
//! A SQLite file gets triggers, which write rows of the shape of an outbox that are relayed as such; Postgres has a slot of logical
//! replication. Both are made and taken away by command, never by themselves: a slot that nobody reads holds the server's log.

mod changes;
#[doc(hidden)]
pub mod law;
pub mod pgoutput;
pub(crate) mod postgres;
mod sqlite;
mod values;

use serde::Serialize;

use crate::{Address, Error};

/// The table that the triggers of a SQLite file write to.
pub(crate) const CHANGES: &str = "tangelo_changes";

/// What is captured of a database.
#[derive(Debug, Clone)]
pub struct Capture {
    /// The database.
    pub address: Address,
    /// Its tables.
    pub tables: Vec<String>,
    /// The name of slot and publication in Postgres.
    pub slot: String,
}

/// One table, and how it is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// Its name.
    pub table: String,
    /// Whether its changes become events.
    pub captured: bool,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Capture {
    /// Makes what captures the tables, or brings it up to date with their columns.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn init(&self) -> Result<Vec<TableStatus>, Error> {
        let tables = self.tables.clone();
        match self.address.clone() {
            Address::Sqlite(file) => {
                crate::sqlite::blocking(move || sqlite::init(&file, &tables)).await
            }
            Address::Postgres(server) => postgres::init(&server, &self.slot, &tables).await,
        }
    }

    /// How each table is captured.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn status(&self) -> Result<Vec<TableStatus>, Error> {
        let tables = self.tables.clone();
        match self.address.clone() {
            Address::Sqlite(file) => {
                crate::sqlite::blocking(move || sqlite::status(&file, &tables)).await
            }
            Address::Postgres(server) => postgres::status(&server, &self.slot, &tables).await,
        }
    }

    /// Takes away what captures: changes that were not relayed yet are lost. In SQLite, how many they were; in
    /// Postgres, whether there was a slot.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn drop(&self) -> Result<u64, Error> {
        match self.address.clone() {
            Address::Sqlite(file) => crate::sqlite::blocking(move || sqlite::drop(&file)).await,
            Address::Postgres(server) => postgres::drop(&server, &self.slot).await,
        }
    }
}
