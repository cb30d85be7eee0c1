//! Differences that reconciliations found: those of the last sweep, since when, and whether they were handed to repair. A
//! difference whose content changes is a new one.

use std::sync::Arc;

use model::{AppName, Name, Time};
use rusqlite::params;

use crate::{
    batch::Batch,
    command::{self, Reply},
    error::{Error, Result},
    kernel::Kernel,
};

/// A difference as a sweep found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key of the rows.
    pub key: String,
    /// Of its content: tells a difference that lasts from one that changed.
    pub hash: String,
    /// What differs, as JSON.
    pub body: String,
}

/// A difference that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was found.
    pub found: Found,
    /// When it was first found with this content.
    pub found_at: Time,
    /// When it was handed to repair, and under which invocation.
    pub handed: Option<(Time, String)>,
}

/// What changes differences.
pub enum Command {
    /// These are all that a sweep found.
    Sweep(AppName, Name, Vec<Found>, Time),
    /// One was handed to repair, unless it has changed: key, hash, when, the invocation.
    Handed(AppName, Name, String, String, Time, String),
    /// The reconciliation is no more.
    Forget(AppName, Name),
}

/// Differences. Cheap to clone.
#[derive(Clone)]
pub struct Differences(Arc<Kernel>);

const PUT: &str = "INSERT INTO difference VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, NULL, NULL)
    ON CONFLICT (app, reconciliation, key) DO UPDATE SET
      seen_at = excluded.seen_at,
      found_at = CASE WHEN hash = excluded.hash THEN found_at ELSE excluded.found_at END,
      handed_at = CASE WHEN hash = excluded.hash THEN handed_at END,
      invocation = CASE WHEN hash = excluded.hash THEN invocation END,
      body = excluded.body,
      hash = excluded.hash";

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<Reply> {
        match self {
            Self::Sweep(app, name, found, at) => {
                let (app, name) = (app.as_str(), name.as_str());
                // A sweep at the same moment as the last one is that one.
                batch.execute(
                    "UPDATE difference SET seen_at = -1 WHERE app = ?1 AND reconciliation = ?2",
                    [app, name],
                )?;
                for one in found {
                    let row = params![app, name, one.key, one.hash, one.body.as_bytes(), at.0];
                    batch.execute(PUT, row)?;
                }
                let gone = batch.execute(
                    "DELETE FROM difference WHERE app = ?1 AND reconciliation = ?2 AND seen_at = -1",
                    [app, name],
                )?;
                return Ok(Reply::Count(gone as u64));
            }
            Self::Handed(app, name, key, hash, at, invocation) => {
                batch.execute(
                    "UPDATE difference SET handed_at = ?5, invocation = ?6
                     WHERE app = ?1 AND reconciliation = ?2 AND key = ?3 AND hash = ?4",
                    params![app.as_str(), name.as_str(), key, hash, at.0, invocation],
                )?;
            }
            Self::Forget(app, name) => {
                batch.execute(
                    "DELETE FROM difference WHERE app = ?1 AND reconciliation = ?2",
                    [app.as_str(), name.as_str()],
                )?;
            }
        }
        Ok(Reply::Done)
    }
}

impl Differences {
    pub(crate) const fn new(kernel: Arc<Kernel>) -> Self {
        Self(kernel)
    }

    /// Notes all that a sweep found; how many known ones are gone.
    ///
    /// # Errors
    /// Those of the writer: nothing was noted.
    pub async fn sweep(
        &self,
        app: AppName,
        name: Name,
        found: Vec<Found>,
        at: Time,
    ) -> Result<u64> {
        let sweep = Command::Sweep(app, name, found, at);
        Ok(self.run(sweep).await?.count())
    }

    /// Notes that a difference was handed to repair.
    ///
    /// # Errors
    /// Those of the writer: it will be handed again, under the same invocation.
    pub async fn handed(
        &self,
        app: AppName,
        name: Name,
        found: &Found,
        at: Time,
        invocation: String,
    ) -> Result<()> {
        let (key, hash) = (found.key.clone(), found.hash.clone());
        let handed = Command::Handed(app, name, key, hash, at, invocation);
        self.run(handed).await.map(drop)
    }

    /// Forgets the differences of a reconciliation that is no more.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn forget(&self, app: AppName, name: Name) -> Result<()> {
        self.run(Command::Forget(app, name)).await.map(drop)
    }

    /// The reconciliations that have differences, whether anybody declares them still or not.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn kept(&self) -> Result<Vec<(AppName, Name)>> {
        self.0
            .read(|connection| {
                let mut statement = connection
                    .prepare_cached("SELECT DISTINCT app, reconciliation FROM difference")?;
                let mut rows = statement.query([])?;
                let mut kept = Vec::new();
                let name = |text: String| Name::new(&text).map_err(|_| Error::Corrupt("name"));
                while let Some(row) = rows.next()? {
                    kept.push((name(row.get(0)?)?, name(row.get(1)?)?));
                }
                Ok(kept)
            })
            .await
    }

    /// The differences of a reconciliation, by key.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn list(&self, app: AppName, name: Name) -> Result<Vec<Difference>> {
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT key, hash, body, found_at, handed_at, invocation FROM difference
                     WHERE app = ?1 AND reconciliation = ?2 ORDER BY key",
                )?;
                let rows = statement.query_map([app.as_str(), name.as_str()], |row| {
                    let body: Vec<u8> = row.get(2)?;
                    let handed: Option<u64> = row.get(4)?;
                    let invocation: Option<String> = row.get(5)?;
                    Ok(Difference {
                        found: Found {
                            key: row.get(0)?,
                            hash: row.get(1)?,
                            body: String::from_utf8_lossy(&body).into_owned(),
                        },
                        found_at: Time(row.get(3)?),
                        handed: handed.map(Time).zip(invocation),
                    })
                })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn run(&self, command: Command) -> Result<Reply> {
        self.0.run(command::Command::Reconcile(command)).await
    }
}
