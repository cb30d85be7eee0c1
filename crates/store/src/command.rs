//! The closed set of what the writer does. A domain is one variant here, with an enum of its own commands and
//! replies; commands are encoded, matched and validated before they come here, and each is short.

use crate::{
    apps, batch::Batch, calls, error::Result, inbox, kv, log, reconcile, shards, telemetry,
};

/// Everything that changes `state.db`.
pub enum Command {
    /// The kernel's own.
    Kernel(Kernel),
    /// Who owns which shard.
    Shards(shards::Command),
    /// Blobs without references.
    Blobs(crate::blobs::Command),
    /// Events, cursors, retries, dead letters.
    Log(log::Command),
    /// Asynchronous invocations.
    Calls(calls::Command),
    /// What workloads keep under keys.
    Kv(kv::Command),
    /// Revisions of apps.
    Apps(apps::Command),
    /// What differs between two places.
    Reconcile(reconcile::Command),
    /// What workloads used.
    Usage(telemetry::usage::Command),
    /// What consumers have seen.
    Inbox(inbox::Command),
}

/// What a command answers.
#[derive(Debug)]
pub enum Reply {
    /// It is done, and there is nothing to say.
    Done,
    /// How many rows it concerned.
    Count(u64),
    /// Of [`Command::Shards`].
    Shards(shards::Reply),
    /// Of [`Command::Log`].
    Log(log::Reply),
    /// Of [`Command::Calls`].
    Calls(calls::Reply),
    /// Of [`Command::Kv`].
    Kv(kv::Reply),
    /// Of [`Command::Inbox`].
    Inbox(inbox::Seen),
}

/// Commands of the kernel itself.
pub enum Kernel {
    /// Nothing: its answer says that all that came before it is durable.
    Flush,
    /// The server ends in order.
    CloseCleanly,
    /// Work of the outbox was done.
    OutboxDone(i64),
    /// Work of the outbox failed and waits until then (microseconds).
    OutboxLater(i64, u64),
}

impl Command {
    /// Applies the command inside the batch's transaction.
    ///
    /// # Errors
    /// A refusal concerns this command only and must come before its first write, unless
    /// [`Command::wants_savepoint`]; an error of SQLite undoes the batch.
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<Reply> {
        match self {
            Self::Kernel(command) => command.apply(batch),
            Self::Shards(command) => command.apply(batch),
            Self::Blobs(command) => command.apply(batch),
            Self::Log(command) => command.apply(batch),
            Self::Calls(command) => command.apply(batch),
            Self::Kv(command) => command.apply(batch),
            Self::Apps(command) => command.apply(batch),
            Self::Reconcile(command) => command.apply(batch),
            Self::Usage(command) => command.apply(batch),
            Self::Inbox(command) => command.apply(batch),
        }
    }

    /// What is left to do when this could not be written, though whoever asked was told.
    pub(crate) fn after_failure(&self) -> Option<Self> {
        match self {
            Self::Log(command) => command.after_failure().map(Self::Log),
            _ => None,
        }
    }

    /// Whether it says of deliveries where they stand.
    pub(crate) const fn moves_a_delivery(&self) -> bool {
        use log::Command::{GiveUp, Moved, Retry, RetryDone};
        matches!(
            self,
            Self::Log(Moved(..) | Retry(..) | RetryDone(..) | GiveUp(..))
        )
    }

    /// Whether it is a chunk of a redrive or a replay.
    pub(crate) const fn is_step(&self) -> bool {
        matches!(self, Self::Log(log::Command::StepJob(_)))
    }

    /// Whether it can be refused after its first write.
    pub(crate) const fn wants_savepoint(&self) -> bool {
        match self {
            Self::Log(command) => command.wants_savepoint(),
            _ => false,
        }
    }
}

impl Kernel {
    fn apply(&self, batch: &mut Batch<'_>) -> Result<Reply> {
        match self {
            Self::Flush => {}
            Self::CloseCleanly => {
                batch.execute("UPDATE meta SET value = 1 WHERE key = 'clean'", [])?;
            }
            Self::OutboxDone(id) => {
                batch.execute("DELETE FROM outbox WHERE id = ?1", [id])?;
            }
            Self::OutboxLater(id, due) => {
                batch.execute(
                    "UPDATE outbox SET due = ?2, attempts = attempts + 1 WHERE id = ?1",
                    (id, due),
                )?;
            }
        }
        Ok(Reply::Done)
    }
}

impl Reply {
    /// The count in it.
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::Count(count) => count,
            _ => 0,
        }
    }
}
