//! Reading: a few connections that cannot write, each used by one blocking task at a time and for at most a second,
//! so that no reader holds the WAL back.

use std::{sync::Arc, time::Duration};

use model::Clock;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::{
    connection::Database,
    error::{Error, Result},
};

/// Readers at the same time.
const READERS: usize = 4;
/// The longest read.
const LONGEST: Duration = Duration::from_secs(1);
/// Virtual-machine steps between two looks at the clock: about a millisecond.
const STEPS: i32 = 100_000;

/// The connections that read.
pub(crate) struct Readers {
    database: Database,
    clock: Clock,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    pub(crate) fn new(database: Database, clock: Clock) -> Self {
        Self {
            database,
            clock,
            idle: Mutex::default(),
            permits: Semaphore::new(READERS),
        }
    }

    /// Runs `read` on a connection, off the async threads.
    ///
    /// # Errors
    /// What `read` fails with; a read longer than a second is interrupted.
    pub(crate) async fn run<T, F>(self: &Arc<Self>, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let _permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let readers = Arc::clone(self);
        tokio::task::spawn_blocking(move || readers.run_blocking(read))
            .await
            .map_err(|_| Error::Closed)?
    }

    /// The same on this thread: for the start, before anything is async.
    pub(crate) fn run_blocking<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.database.reader()?,
        };
        let clock = self.clock.clone();
        let until = clock.monotonic() + LONGEST;
        connection.progress_handler(STEPS, Some(move || clock.monotonic() > until))?;
        let transaction = connection.transaction()?;
        let result = read(&transaction);
        transaction.finish()?;
        self.idle.lock().push(connection);
        result
    }

    /// Refuses further reads and closes what is idle.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }
}
