//! What every domain's handle holds: the way to the writer, and the readers.

use std::sync::Arc;

use model::Clock;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    StoreLimits,
    command::{Command, Reply},
    error::{Error, Result},
    queue::{Item, Queue, Urgency},
    readers::Readers,
};

/// The core that handles share.
pub(crate) struct Kernel {
    pub(crate) queue: Arc<Queue>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) clock: Clock,
    pub(crate) limits: StoreLimits,
}

/// A command on its way; its answer comes after the commit. Dropping it does not undo the command.
#[must_use]
pub struct Pending(oneshot::Receiver<Result<Reply>>);

impl Pending {
    /// Waits for the commit.
    ///
    /// # Errors
    /// What the command was refused with, or why its commit failed.
    pub async fn done(self) -> Result<Reply> {
        self.0.await.map_err(|_| Error::Closed)?
    }
}

impl Kernel {
    /// Puts a command into the queue without waiting: commands are applied in the order of these calls.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`]; nothing was done.
    pub(crate) fn submit(
        &self,
        command: Command,
        urgency: Urgency,
        size: usize,
    ) -> Result<Pending> {
        let (answer, pending) = oneshot::channel();
        self.queue.push(Item {
            command,
            urgency,
            size,
            answer: Some(answer),
        })?;
        Ok(Pending(pending))
    }

    /// Puts a command into the queue that nobody waits for.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn lazily(&self, command: Command, urgency: Urgency) -> Result<()> {
        self.queue.push(Item {
            command,
            urgency,
            size: 64,
            answer: None,
        })
    }

    /// Runs a command of the control plane and waits for its commit.
    ///
    /// # Errors
    /// Those of the queue, the command and the commit.
    pub(crate) async fn run(&self, command: Command) -> Result<Reply> {
        self.submit(command, Urgency::Settle, 256)?.done().await
    }

    /// Reads.
    ///
    /// # Errors
    /// What `read` fails with.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.readers.run(read).await
    }
}
