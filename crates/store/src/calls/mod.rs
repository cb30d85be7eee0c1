//! Asynchronous invocations: committed before they are acknowledged, tried until they are done or given up, kept with
//! their result for whoever asks for it, purged when old. What an end causes elsewhere goes through the outbox.

mod read;
mod write;

use std::{sync::Arc, time::Duration};

use model::{
    AppName, Cause, Destinations, Error as Fault, InvocationId, Namespace, RetryPolicy, Target,
    Time, Trigger, WorkloadName,
};
use serde::{Deserialize, Serialize};

use crate::{
    batch::Batch,
    blobs::{Blobs, Payload},
    command,
    error::{Error, Result},
    kernel::Kernel,
    log::Attempt,
    shards::{Owned, Shard, Shards},
};

/// What is invoked and how: everything but the input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Whom to call.
    pub target: Target,
    /// What asked for it.
    pub trigger: Trigger,
    /// On whose behalf, in which trace.
    pub cause: Cause,
    /// When to try again, and when to stop.
    pub retry: RetryPolicy,
    /// Where the result is to be POSTed.
    #[serde(default)]
    pub callback: Option<String>,
    /// Who learns how it ended.
    #[serde(default)]
    pub destinations: Destinations,
}

/// An invocation to accept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCall {
    /// Its id; accepting the same id again changes nothing.
    pub id: InvocationId,
    /// What and how.
    pub spec: Spec,
    /// Its input; what it means is the caller's.
    pub body: Vec<u8>,
}

/// What became of an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallResult {
    /// HTTP status, 200 where there is none.
    pub status: u16,
    /// What else belongs to it (headers); its meaning is the caller's.
    #[serde(default)]
    pub head: serde_json::Value,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Fault>,
}

/// Where an invocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits or runs.
    Waiting,
    /// It answered.
    Done,
    /// It was given up.
    Failed,
}

impl State {
    const fn number(self) -> u8 {
        match self {
            Self::Waiting => 0,
            Self::Done => 1,
            Self::Failed => 2,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Waiting),
            1 => Some(Self::Done),
            2 => Some(Self::Failed),
            _ => None,
        }
    }
}

/// An invocation as it is stored, without its bodies.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its place among all accepted ones.
    pub seq: i64,
    /// Its id.
    pub id: InvocationId,
    /// Which part of the work it is.
    pub shard: Shard,
    /// What and how.
    pub spec: Spec,
    /// Where it stands.
    pub state: State,
    /// When it was accepted.
    pub accepted_at: Time,
    /// When it is tried next, while it waits.
    pub due: Time,
    /// Attempts so far.
    pub attempts: u32,
    /// What went wrong, oldest first.
    pub history: Vec<Attempt>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// What became of it.
    pub result: Option<CallResult>,
    /// Its input.
    pub body: Payload,
    /// The body of its result.
    pub result_body: Option<Payload>,
}

/// What is kept in memory of an invocation that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// When to try it.
    pub due: Time,
    /// Its id.
    pub id: InvocationId,
}

/// Which invocations to list.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// Of this namespace.
    pub namespace: Option<Namespace>,
    /// Of this app.
    pub app: Option<AppName>,
    /// Of this workload.
    pub workload: Option<WorkloadName>,
    /// In this state.
    pub state: Option<State>,
}

/// Work for another domain, committed with the end of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    /// Whose work.
    pub kind: &'static str,
    /// Under which key it is recognised when repeated.
    pub key: String,
    /// What to do, behind its format byte.
    pub payload: Vec<u8>,
}

/// The end of an invocation.
pub struct Finish {
    id: InvocationId,
    state: State,
    result: Vec<u8>,
    body: Option<Payload>,
    attempts: u32,
    history: Vec<u8>,
    consequences: Vec<Consequence>,
}

/// An invocation on its way to the writer.
pub struct Accept {
    id: InvocationId,
    shard: Shard,
    target: Target,
    spec: Vec<u8>,
    body: Payload,
}

/// Verbs of asynchronous invocations that write.
pub enum Command {
    /// Commits an invocation.
    Accept(Box<Accept>),
    /// It is being tried: so many attempts with this one.
    Running(Owned, InvocationId, u32),
    /// It failed and is tried again.
    Retry(Owned, InvocationId, Time, u32, Vec<Attempt>),
    /// It ended.
    Finish(Owned, Box<Finish>),
    /// What ran in a shard when the server died waits again, an attempt poorer.
    Recover(Vec<Owned>),
    /// Removes a chunk of what ended before.
    Purge(Time),
}

/// Answers of asynchronous invocations.
#[derive(Debug)]
pub enum Reply {
    /// When it is due; `false`: it was accepted before.
    Accepted(Time, bool),
}

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<command::Reply> {
        if let Self::Running(owned, ..) | Self::Retry(owned, ..) | Self::Finish(owned, _) = self {
            batch.check_owner(owned.shard, owned.epoch)?;
        }
        match self {
            Self::Accept(accept) => {
                let reply = write::accept(batch, accept)?;
                return Ok(command::Reply::Calls(reply));
            }
            Self::Running(_, id, attempt) => write::running(batch, *id, *attempt)?,
            Self::Retry(_, id, due, attempts, history) => {
                write::retry(batch, *id, *due, *attempts, history)?;
            }
            Self::Finish(owned, finish) => write::finish(batch, *owned, finish)?,
            Self::Recover(owned) => write::recover(batch, owned)?,
            Self::Purge(before) => return write::purge(batch, *before).map(command::Reply::Count),
        }
        Ok(command::Reply::Done)
    }
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    kernel: Arc<Kernel>,
    blobs: Blobs,
    shards: Shards,
}

impl Calls {
    pub(crate) const fn new(kernel: Arc<Kernel>, blobs: Blobs, shards: Shards) -> Self {
        Self {
            kernel,
            blobs,
            shards,
        }
    }

    /// Removes a chunk of what ended longer than `age` ago; returns how many. Call it again while it is not zero.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn purge(&self, age: Duration) -> Result<u64> {
        let before = self.kernel.clock.now() - age;
        Ok(self.run(Command::Purge(before)).await?.count())
    }

    async fn run(&self, command: Command) -> Result<command::Reply> {
        self.kernel.run(command::Command::Calls(command)).await
    }
}

const UNEXPECTED: Error = Error::Corrupt("reply");
