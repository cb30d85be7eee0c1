//! What one domain causes in another: committed with its cause, done at least once afterwards, recognised by its key.
//! Whoever does a kind of work asks for what is due, does it, and says so; a crash between only repeats it.

use std::{sync::Arc, time::Duration};

use model::Time;

use crate::{
    command::{self, Command},
    error::Result,
    kernel::Kernel,
};

/// Work that waits in the outbox.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its row.
    pub id: i64,
    /// The key under which repeated work is recognised.
    pub key: String,
    /// What to do, behind its format byte.
    pub payload: Vec<u8>,
    /// How often it was tried and failed.
    pub attempts: u32,
    /// Since or until when it waits.
    pub due: Time,
}

/// The outbox. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    kernel: Arc<Kernel>,
}

impl Outbox {
    pub(crate) const fn new(kernel: Arc<Kernel>) -> Self {
        Self { kernel }
    }

    /// Work of `kind` in the order in which it falls due, at most `limit`; also what is not due yet, so that the
    /// caller knows how long to sleep.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn next(&self, kind: &'static str, limit: u32) -> Result<Vec<Work>> {
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT id, key, payload, attempts, due FROM outbox WHERE kind = ?1
                     ORDER BY due, id LIMIT ?2",
                )?;
                let rows = statement.query_map((kind, limit), |row| {
                    Ok(Work {
                        id: row.get(0)?,
                        key: row.get(1)?,
                        payload: row.get(2)?,
                        attempts: row.get(3)?,
                        due: Time(row.get(4)?),
                    })
                })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// The work is done.
    ///
    /// # Errors
    /// Those of the writer: it will be done again.
    pub async fn done(&self, id: i64) -> Result<()> {
        let done = Command::Kernel(command::Kernel::OutboxDone(id));
        self.kernel.run(done).await.map(|_| ())
    }

    /// The work failed and is tried again after `wait`.
    ///
    /// # Errors
    /// Those of the writer: it will be tried again at once.
    pub async fn later(&self, id: i64, wait: Duration) -> Result<()> {
        let due = self.kernel.clock.now() + wait;
        let later = Command::Kernel(command::Kernel::OutboxLater(id, due.0));
        self.kernel.run(later).await.map(|_| ())
    }
}
