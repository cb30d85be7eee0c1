//! Subscriptions that an operator paused. They are known by their keys, so that a pause outlives deploys.

use model::{Name, SubscriptionKey, Time};
use serde_json::json;

use crate::{
    batch::Batch,
    command,
    error::{Error, Result},
    log::{Command, Log, Reply, UNEXPECTED, audit},
};

/// That a subscription is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPause {
    /// Since when.
    pub since: Time,
    /// By whom.
    pub by: String,
    /// What they said.
    pub reason: Option<String>,
}

/// To pause or to resume.
pub struct Pause {
    key: SubscriptionKey,
    by: String,
    /// `None`: to resume.
    reason: Option<Option<String>>,
}

impl Log {
    /// Pauses a subscription; one that is paused stays so since when it was.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn pause(
        &self,
        key: &SubscriptionKey,
        by: String,
        reason: Option<String>,
    ) -> Result<StoredPause> {
        let (key, reason) = (key.clone(), Some(reason));
        let pause = Command::Pause(Pause { key, by, reason });
        match self.run(pause).await? {
            command::Reply::Log(Reply::Paused(Some(paused))) => Ok(paused),
            _ => Err(UNEXPECTED),
        }
    }

    /// Resumes a subscription; says whether it was paused.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn resume(&self, key: &SubscriptionKey, by: String) -> Result<bool> {
        let (key, reason) = (key.clone(), None);
        let resume = Command::Pause(Pause { key, by, reason });
        match self.run(resume).await? {
            command::Reply::Log(Reply::Paused(paused)) => Ok(paused.is_some()),
            _ => Err(UNEXPECTED),
        }
    }

    /// All that are paused.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn pauses(&self) -> Result<Vec<(SubscriptionKey, StoredPause)>> {
        self.kernel
            .read(|connection| {
                let mut statement = connection
                    .prepare_cached("SELECT app, workload, name, since, by, reason FROM pause")?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    let name = |column: usize| -> Result<Name> {
                        let text: String = row.get(column)?;
                        Name::new(&text).map_err(|_| Error::Corrupt("name"))
                    };
                    let key = SubscriptionKey {
                        app: name(0)?,
                        workload: name(1)?,
                        name: name(2)?,
                    };
                    let paused = StoredPause {
                        since: Time(row.get(3)?),
                        by: row.get(4)?,
                        reason: row.get(5)?,
                    };
                    found.push((key, paused));
                }
                Ok(found)
            })
            .await
    }
}

impl Pause {
    /// How it stands after this; when resumed: how it stood before.
    pub(super) fn apply(&self, batch: &Batch<'_>) -> Result<Option<StoredPause>> {
        let (key, by) = (&self.key, &self.by);
        let (app, workload, name) = (key.app.as_str(), key.workload.as_str(), key.name.as_str());
        let read = |row: &rusqlite::Row<'_>| {
            Ok(StoredPause {
                since: Time(row.get(0)?),
                by: row.get(1)?,
                reason: row.get(2)?,
            })
        };
        let stands = match &self.reason {
            Some(reason) => batch.row(
                "INSERT INTO pause (app, workload, name, since, by, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET by = excluded.by, reason = excluded.reason
                 RETURNING since, by, reason",
                (app, workload, name, batch.now.0, by, reason),
                read,
            )?,
            None => batch.row(
                "DELETE FROM pause WHERE app = ?1 AND workload = ?2 AND name = ?3
                 RETURNING since, by, reason",
                (app, workload, name),
                read,
            )?,
        };
        let (action, detail) = match &self.reason {
            Some(reason) => ("pause", json!({ "reason": reason })),
            None if stands.is_none() => return Ok(None),
            None => ("resume", json!({})),
        };
        audit::note(batch, by, action, &key.to_string(), &detail)?;
        Ok(stands)
    }
}
