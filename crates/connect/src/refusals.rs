//! Rows that were set aside because they are no events: listed, put back, thrown away. Each over a connection of its own, so that
//! a relay that waits is no hindrance.

use serde::Serialize;

use crate::{Address, Error, postgres, sqlite};

/// A row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Its place in the table.
    pub position: i64,
    /// The id of the event that it should have been.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is ordered by.
    pub key: Option<String>,
    /// When it was written, as the database has it.
    pub created_at: String,
    /// Why it was set aside.
    pub reason: String,
}

/// The rows of one outbox that were set aside.
#[derive(Debug, Clone)]
pub struct Refusals {
    /// The database.
    pub address: Address,
    /// The outbox.
    pub table: String,
}

impl Refusals {
    /// Those that there are, in order, `limit` at most.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn list(&self, limit: u32) -> Result<Vec<Refusal>, Error> {
        let table = &self.table;
        let columns = "position, substr(coalesce(id, ''), 1, 200), substr(coalesce(type, ''), 1, 200), \
                       substr(coalesce(key, subject), 1, 200)";
        let rest = format!(
            "refused FROM {table} WHERE refused IS NOT NULL ORDER BY position LIMIT {limit}"
        );
        match self.address.clone() {
            Address::Sqlite(file) => {
                let text = format!("SELECT {columns}, created_at, {rest}");
                let list = move |db: &rusqlite::Connection| {
                    let mut statement = db.prepare(&text)?;
                    // A bad row may have anything in its columns.
                    let rows = statement.query_map([], |row| {
                        Ok(Refusal {
                            position: row.get(0)?,
                            id: sqlite::text(row, 1)?.unwrap_or_default(),
                            kind: sqlite::text(row, 2)?.unwrap_or_default(),
                            key: sqlite::text(row, 3)?,
                            created_at: sqlite::text(row, 4)?.unwrap_or_default(),
                            reason: sqlite::text(row, 5)?.unwrap_or_default(),
                        })
                    })?;
                    rows.collect()
                };
                sqlite::blocking(move || sqlite::Connection::open(&file)?.run(list)).await
            }
            Address::Postgres(server) => {
                let at =
                    "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
                let text = format!("SELECT {columns}, {at}, {rest}");
                let connection = postgres::Connection::open(&server).await?;
                let rows = connection.query(&text, &[]).await?;
                let refusal = |row: &tokio_postgres::Row| Refusal {
                    position: row.get(0),
                    id: row.get(1),
                    kind: row.get(2),
                    key: row.get(3),
                    created_at: row.get(4),
                    reason: row.get(5),
                };
                Ok(rows.iter().map(refusal).collect())
            }
        }
    }

    /// Lets the relay have them again: those at `positions`, or all. How many they were.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn retry(&self, positions: Option<Vec<i64>>) -> Result<u64, Error> {
        let verb = format!("UPDATE {} SET refused = NULL", self.table);
        self.change(verb, positions).await
    }

    /// Deletes them: those at `positions`, or all. How many they were.
    ///
    /// # Errors
    /// What the database fails with.
    pub async fn discard(&self, positions: Option<Vec<i64>>) -> Result<u64, Error> {
        self.change(format!("DELETE FROM {}", self.table), positions)
            .await
    }

    async fn change(&self, verb: String, positions: Option<Vec<i64>>) -> Result<u64, Error> {
        match self.address.clone() {
            Address::Sqlite(file) => {
                let positions =
                    positions.map(|some| some.iter().map(i64::to_string).collect::<Vec<_>>());
                // Numbers, joined here since SQLite binds no lists.
                let which = positions.map_or_else(String::new, |some| {
                    format!(" AND position IN ({})", some.join(", "))
                });
                let text = format!("{verb} WHERE refused IS NOT NULL{which}");
                let change = move |db: &rusqlite::Connection| Ok(db.execute(&text, [])? as u64);
                sqlite::blocking(move || sqlite::Connection::open(&file)?.run(change)).await
            }
            Address::Postgres(server) => {
                let connection = postgres::Connection::open(&server).await?;
                let text = format!(
                    "{verb} WHERE refused IS NOT NULL AND ($1::bigint[] IS NULL OR position = ANY ($1))"
                );
                connection.execute(&text, &[&positions]).await
            }
        }
    }
}
