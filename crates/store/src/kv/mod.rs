//! What workloads keep under keys: buckets of an app, each write one commit, conditional where asked, counted against
//! what the app may keep. Several changes of one bucket are made together or not at all.
//!
//! Not sharded: nothing here waits or is tried again, so that no node has to own it; conditions are checked inside the
//! transaction that writes.

mod read;
mod write;

use std::sync::Arc;

use model::keyvalue::{Bucket, Change, Condition, Numbers, Revision};

use crate::{
    batch::Batch,
    blobs::{Blobs, Payload},
    command,
    error::{Error, Result},
    format,
    kernel::Kernel,
    queue::Urgency,
};

/// What a write did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It has a value now.
    Put {
        /// What it is known by.
        revision: Revision,
        /// Whether there was none before.
        created: bool,
    },
    /// It has none now.
    Deleted {
        /// Whether it had one before.
        existed: bool,
    },
}

/// Verbs of buckets that write.
pub enum Command {
    /// Changes keys of one bucket, all or none.
    Write(Bucket, Vec<Encoded>),
    /// Adds to a counter.
    Increment(Bucket, String, i128, Numbers),
}

/// Answers of buckets.
#[derive(Debug)]
pub enum Reply {
    /// One for each change.
    Written(Vec<Written>),
    /// The number that is there now.
    Incremented(i128, Revision),
}

/// A change on its way to the writer.
pub struct Encoded {
    key: String,
    condition: Condition,
    value: Option<Value>,
}

/// A value as it is stored, and its own length.
struct Value {
    size: u64,
    payload: Payload,
}

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<command::Reply> {
        let reply = match self {
            Self::Write(bucket, changes) => write::write(batch, bucket, changes)?,
            Self::Increment(bucket, key, by, numbers) => {
                write::increment(batch, bucket, key, *by, *numbers)?
            }
        };
        Ok(command::Reply::Kv(reply))
    }
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Kv {
    kernel: Arc<Kernel>,
    blobs: Blobs,
}

impl Kv {
    pub(crate) const fn new(kernel: Arc<Kernel>, blobs: Blobs) -> Self {
        Self { kernel, blobs }
    }

    /// Makes `changes` of one bucket together, or none of them; answers one result for each, in their order. When it
    /// returns they are on disk. Of several changes of one key the last counts, and its condition.
    ///
    /// # Errors
    /// [`Error::Condition`], [`Error::TooLarge`], [`Error::Full`]: nothing was written; [`Error::Busy`], and those of
    /// the disk.
    pub async fn write(&self, bucket: &Bucket, changes: Vec<Change>) -> Result<Vec<Written>> {
        let mut encoded = Vec::with_capacity(changes.len());
        let mut size = 0;
        for change in changes {
            size += 256 + change.key.len();
            let value = match change.value {
                Some(value) => {
                    if value.len() as u64 > self.kernel.limits.kv_value.0 {
                        return Err(Error::TooLarge(self.kernel.limits.kv_value));
                    }
                    let value = self.encode(&value).await?;
                    size += usize::try_from(value.inline()).unwrap_or(usize::MAX);
                    Some(value)
                }
                None => None,
            };
            encoded.push(Encoded {
                key: change.key,
                condition: change.condition,
                value,
            });
        }
        let command = Command::Write(bucket.clone(), encoded);
        match self.submit(command, size).await? {
            Reply::Written(written) => Ok(written),
            Reply::Incremented(..) => Err(UNEXPECTED),
        }
    }

    /// Adds `by` to the whole number, in decimal digits, that is under `key`; nothing counts as 0. Answers what is
    /// there now.
    ///
    /// # Errors
    /// [`Error::NotANumber`] when there is something else or the sum is none of `numbers`; as [`Kv::write`].
    pub async fn increment(
        &self,
        bucket: &Bucket,
        key: String,
        by: i128,
        numbers: Numbers,
    ) -> Result<(i128, Revision)> {
        let size = 256 + key.len();
        let command = Command::Increment(bucket.clone(), key, by, numbers);
        match self.submit(command, size).await? {
            Reply::Incremented(number, revision) => Ok((number, revision)),
            Reply::Written(_) => Err(UNEXPECTED),
        }
    }

    async fn encode(&self, value: &[u8]) -> Result<Value> {
        Ok(Value {
            size: value.len() as u64,
            payload: self.blobs.payload(format::encode_raw(value)).await?,
        })
    }

    async fn submit(&self, command: Command, size: usize) -> Result<Reply> {
        let command = command::Command::Kv(command);
        let pending = self.kernel.submit(command, Urgency::Intake, size)?;
        match pending.done().await? {
            command::Reply::Kv(reply) => Ok(reply),
            _ => Err(UNEXPECTED),
        }
    }
}

impl Value {
    /// Bytes of it that stay in the row.
    const fn inline(&self) -> u64 {
        match &self.payload {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Blob(_) => 32,
        }
    }
}

const UNEXPECTED: Error = Error::Corrupt("reply");
