//! The inbox of consumers: which keys a workload has seen, and the highest version under each. One command decides and
//! notes, so that of any number of duplicates exactly one is first.
//!
//! A key is taken by a delivery. When the attempt that took it fails or dies, the delivery is made again, and its later
//! attempt takes the key again: otherwise a crash between taking the key and doing the work would lose the work.

use std::{sync::Arc, time::Duration};

use model::{AppName, Time, WorkloadName};
use rusqlite::OptionalExtension;
use serde::Serialize;

use crate::{
    batch::Batch,
    command,
    error::{Error, Result},
    kernel::Kernel,
    queue::Urgency,
};

/// How long a key is kept after it was seen last.
pub const KEYS_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// How long a version is kept after it changed last.
pub const VERSIONS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// Most rows removed by one command.
const CHUNK: u32 = 500;

/// Whose key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxKey {
    /// The app.
    pub app: AppName,
    /// The workload.
    pub workload: WorkloadName,
    /// The key; the workload's own.
    pub key: String,
}

/// The attempt of a delivery that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The delivery: the same over all its attempts.
    pub delivery: String,
    /// From 1.
    pub attempt: u32,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Whether this was the first to see it; with a version: whether none as high was seen before.
    pub first: bool,
    /// The highest version seen, this one included.
    pub version: Option<i64>,
    /// When it was seen first, or its version changed.
    pub since: Time,
}

/// Verbs that write.
pub enum Command {
    /// Takes a key, or raises its version.
    Take(InboxKey, Option<i64>, Option<Claim>),
    /// Forgets a key.
    Forget(InboxKey),
    /// Removes a chunk of what is old.
    Purge,
}

/// The inbox's handle. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    kernel: Arc<Kernel>,
}

impl Inbox {
    pub(crate) const fn new(kernel: Arc<Kernel>) -> Self {
        Self { kernel }
    }

    /// Takes a key; with a `version`, only when that is higher than every one seen before. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is too much work, else those of the disk.
    pub async fn take(
        &self,
        key: InboxKey,
        version: Option<i64>,
        claim: Option<Claim>,
    ) -> Result<Seen> {
        let size = key.key.len() + 256;
        let take = command::Command::Inbox(Command::Take(key, version, claim));
        let pending = self.kernel.submit(take, Urgency::Intake, size)?;
        match pending.done().await? {
            command::Reply::Inbox(seen) => Ok(seen),
            _ => Err(Error::Corrupt("reply")),
        }
    }

    /// Forgets a key; whether it was there.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn forget(&self, key: InboxKey) -> Result<bool> {
        let forget = command::Command::Inbox(Command::Forget(key));
        Ok(self.kernel.run(forget).await?.count() > 0)
    }

    /// What is known of a key.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn get(&self, key: InboxKey) -> Result<Option<Seen>> {
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT version, at FROM inbox WHERE app = ?1 AND workload = ?2 AND key = ?3",
                )?;
                let of = (key.app.as_str(), key.workload.as_str(), &key.key);
                let found = statement.query_row(of, |row| {
                    Ok(Seen {
                        first: false,
                        version: row.get(0)?,
                        since: Time(row.get(1)?),
                    })
                });
                Ok(found.optional()?)
            })
            .await
    }

    /// Removes a chunk of what is old; how many.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn purge(&self) -> Result<u64> {
        let purge = command::Command::Inbox(Command::Purge);
        Ok(self.kernel.run(purge).await?.count())
    }
}

impl Command {
    pub(crate) fn apply(&self, batch: &Batch<'_>) -> Result<command::Reply> {
        match self {
            Self::Take(key, version, claim) => {
                take(batch, key, *version, claim.as_ref()).map(command::Reply::Inbox)
            }
            Self::Forget(key) => {
                let removed = batch.execute(
                    "DELETE FROM inbox WHERE app = ?1 AND workload = ?2 AND key = ?3",
                    (key.app.as_str(), key.workload.as_str(), &key.key),
                )?;
                Ok(command::Reply::Count(removed as u64))
            }
            Self::Purge => purge(batch).map(command::Reply::Count),
        }
    }
}

fn take(
    batch: &Batch<'_>,
    key: &InboxKey,
    version: Option<i64>,
    claim: Option<&Claim>,
) -> Result<Seen> {
    let of = (key.app.as_str(), key.workload.as_str(), &key.key);
    let before = batch.row(
        "SELECT version, at, claim, attempt FROM inbox WHERE app = ?1 AND workload = ?2 AND key = ?3",
        of,
        |row| {
            let seen = Seen {
                first: false,
                version: row.get(0)?,
                since: Time(row.get(1)?),
            };
            let by: Option<String> = row.get(2)?;
            Ok((seen, by, row.get::<_, u32>(3)?))
        },
    )?;
    let first = match &before {
        None => true,
        Some((seen, by, attempt)) => {
            let again = claim.is_some_and(|claim| {
                by.as_ref() == Some(&claim.delivery) && claim.attempt > *attempt
            });
            let newer = version.is_some_and(|version| seen.version.is_none_or(|was| version > was));
            newer || (again && version == seen.version)
        }
    };
    if let Some((seen, ..)) = before.filter(|_| !first) {
        return Ok(seen);
    }
    batch.execute(
        "INSERT OR REPLACE INTO inbox (app, workload, key, version, claim, attempt, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            of.0,
            of.1,
            of.2,
            version,
            claim.map(|claim| &claim.delivery),
            claim.map_or(0, |claim| claim.attempt),
            batch.now.0,
        ),
    )?;
    Ok(Seen {
        first,
        version,
        since: batch.now,
    })
}

fn purge(batch: &Batch<'_>) -> Result<u64> {
    let removed = batch.execute(
        "DELETE FROM inbox WHERE (app, workload, key) IN
         (SELECT app, workload, key FROM inbox WHERE at < ?1 AND (version IS NULL OR at < ?2) ORDER BY at LIMIT ?3)",
        (
            (batch.now - KEYS_KEPT).0,
            (batch.now - VERSIONS_KEPT).0,
            CHUNK,
        ),
    )?;
    Ok(removed as u64)
}
