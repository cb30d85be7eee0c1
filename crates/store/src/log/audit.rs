//! What operators did to deliveries: who, when, what. A row is written in the commit of what it tells of, so that
//! nothing happens without one.

use model::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{batch::Batch, error::Result, format, log::Log};

/// Rows that are kept; the oldest go first.
const KEPT: i64 = 100_000;

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Its number; ascending.
    pub id: u64,
    /// When.
    pub at: Time,
    /// Who.
    pub by: String,
    /// What: `pause`, `redrive`, …
    pub action: String,
    /// To what: a subscription's key.
    pub subject: String,
    /// More about it.
    pub detail: Value,
}

impl Log {
    /// What was done, newest first, at most `limit`; to `subject` alone when it is given.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn audit(&self, subject: Option<String>, limit: u32) -> Result<Vec<Audited>> {
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT id, at, by, action, subject, detail FROM audit
                     WHERE ?1 IS NULL OR subject = ?1 ORDER BY id DESC LIMIT ?2",
                )?;
                let mut rows = statement.query((subject, limit))?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(Audited {
                        id: row.get(0)?,
                        at: Time(row.get(1)?),
                        by: row.get(2)?,
                        action: row.get(3)?,
                        subject: row.get(4)?,
                        detail: format::decode(&row.get::<_, Vec<u8>>(5)?, "audit")?,
                    });
                }
                Ok(found)
            })
            .await
    }
}

/// Notes what an operator does.
pub(super) fn note(
    batch: &Batch<'_>,
    by: &str,
    action: &str,
    subject: &str,
    detail: &Value,
) -> Result<()> {
    batch.execute(
        "INSERT INTO audit (at, by, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
        (batch.now.0, by, action, subject, format::encode(detail)),
    )?;
    batch.execute("DELETE FROM audit WHERE id <= ?1", [batch.last_id() - KEPT])?;
    Ok(())
}
