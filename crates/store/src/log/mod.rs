//! The log of events and the cursors over it. The log is the truth, a subscription is a cursor: publishing appends and
//! nothing else; only what failed, waits or is dead has a row of its own. Order of positions is order of commits.
//!
//! What each command does is in the file named after its thing; this file is the list of them and the handle.

mod append;
mod audit;
mod cursors;
mod dead_letters;
mod intake;
mod jobs;
mod pauses;
mod projections;
mod read;
mod redrives;
mod retention;
mod retries;
mod seek;
mod snapshots;
mod state;
mod streams;
mod subscriptions;
pub mod tail;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use model::{AppName, Cause, Event, Namespace, Position, Time};
use parking_lot::RwLock;

pub(crate) use read::payload;

pub use append::{Appended, NewEvent};
pub use audit::Audited;
pub use cursors::{Cursor, Source, StoredCursor};
pub use dead_letters::{DeadLetter, DeadLetterFilter, GivenUp, LeftDead, Letters, Redriven};
pub use intake::{Intake, IntakeKey};
pub use jobs::{Chunk, Job, JobSpec, Place, Replayed, Step};
pub use model::Retention;
pub use pauses::StoredPause;
pub use projections::{StoredGeneration, StoredProjection, What};
pub use read::Extent;
pub use retention::Retained;
pub use retries::{Attempt, HISTORY, RetryItem, RetryRow, Waiting};
pub use snapshots::Snapshot;
pub use state::{HOLDERS, Holder, LogState, Published};
pub use streams::{StreamHead, StreamKey, StreamPage};
pub use subscriptions::{StoredSubscription, SubscriptionId, Switched};

use crate::{
    batch::Batch,
    blobs::Blobs,
    command,
    error::{Error, Result},
    kernel::Kernel,
    shards::Owned,
};

/// Bits of an event's row id that are its position.
const POSITION_BITS: u32 = 44;

/// An event as the log has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Its place.
    pub position: Position,
    /// When it was published, by the store's clock.
    pub at: Time,
    /// Encoded bytes.
    pub size: u64,
    /// The event.
    pub event: Arc<Event>,
    /// What caused it.
    pub cause: Arc<Cause>,
}

/// Verbs of the log that write.
pub enum Command {
    /// Appends events to the log of a namespace.
    Append(append::Append),
    /// Says which subscriptions an app has from now on.
    Switch(subscriptions::Switch),
    /// Forgets an ended subscription that has nothing left to do.
    Finish(Owned, SubscriptionId),
    /// A subscription moved: where it stands is asked for at the end of the batch.
    Moved(Owned, SubscriptionId),
    /// How far those with nothing outstanding are.
    Mark(Namespace, Position),
    /// Turns what ran when the server died into retries.
    Recover(Owned, SubscriptionId),
    /// A delivery failed and is to be tried again.
    Retry(Owned, Box<RetryRow>),
    /// A retry is being tried: so many attempts with this one.
    Running(Owned, SubscriptionId, Position, u32),
    /// A retry succeeded.
    RetryDone(Owned, SubscriptionId, Position),
    /// A delivery is given up.
    GiveUp(Owned, Box<GivenUp>),
    /// A dead letter is tried again.
    Redrive(i64, String),
    /// A dead letter is thrown away.
    Discard(i64, String),
    /// The event of a dead letter is another from now on.
    Edit(i64, crate::blobs::Payload, String),
    /// Begins a redrive or a replay.
    StartJob(Box<JobSpec>, String),
    /// Does a chunk of one.
    StepJob(Box<Step>),
    /// Ends one where it is.
    CancelJob(u64, String),
    /// Removes a chunk of what is too old or too much.
    Retain(Namespace, Retention),
    /// Says what an app keeps.
    Keep(retention::Keep),
    /// Pauses or resumes a subscription.
    Pause(pauses::Pause),
    /// Rebuilds, switches or drops of a projection.
    Projection(Box<projections::Ask>),
    /// Puts a snapshot of a stream.
    Snapshot(Box<snapshots::Put>),
    /// Says how far partitions elsewhere were read.
    Intake(Vec<intake::Step>),
    /// Takes events out of a stream.
    Truncate(Box<streams::Truncate>),
}

/// Answers of the log.
#[derive(Debug)]
pub enum Reply {
    /// One per event, in order.
    Appended(Vec<Appended>),
    /// One per event of an append to a stream, in order, with its number.
    Streamed(Vec<(u64, Appended)>),
    /// What the switch changed.
    Switched(Arc<Switched>),
    /// Where the redriven event waits.
    Redriven(Redriven),
    /// What was removed.
    Retained(Retained),
    /// What still holds the key of a dead letter that was discarded.
    Discarded(Option<LeftDead>),
    /// What a chunk of a job made wait.
    Stepped(Vec<Redriven>),
    /// How a subscription is paused.
    Paused(Option<StoredPause>),
}

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<command::Reply> {
        match self {
            Self::Append(append) => append.apply(batch),
            Self::Switch(switch) => switch.apply(batch).map(Reply::Switched),
            Self::Redrive(id, by) => redrives::redrive_one(batch, *id, by).map(Reply::Redriven),
            Self::StartJob(spec, by) => {
                return jobs::start(batch, spec, by).map(command::Reply::Count);
            }
            Self::CancelJob(id, by) => {
                return jobs::cancel(batch, *id, by).map(command::Reply::Count);
            }
            Self::Truncate(truncate) => return truncate.apply(batch).map(command::Reply::Count),
            Self::Projection(ask) => return ask.apply(batch).map(command::Reply::Count),
            Self::StepJob(step) => jobs::step(batch, step).map(Reply::Stepped),
            Self::Retain(namespace, limits) => {
                retention::retain(batch, namespace, *limits).map(Reply::Retained)
            }
            Self::Discard(id, by) => redrives::discard(batch, *id, by).map(Reply::Discarded),
            Self::Pause(pause) => pause.apply(batch).map(Reply::Paused),
            other => return other.apply_quietly(batch).map(|()| command::Reply::Done),
        }
        .map(command::Reply::Log)
    }

    /// Those that have nothing to say but that they are done.
    fn apply_quietly(&self, batch: &mut Batch<'_>) -> Result<()> {
        if let Some(owned) = self.owner() {
            batch.check_owner(owned.shard, owned.epoch)?;
        }
        match self {
            Self::Finish(_, id) => subscriptions::finish(batch, *id),
            Self::Moved(_, id) => {
                batch.log.moved.insert(*id);
                Ok(())
            }
            Self::Mark(namespace, position) => {
                batch.log.marks.insert(namespace.clone(), *position);
                Ok(())
            }
            Self::Recover(_, id) => retries::recover(batch, *id),
            Self::Retry(_, row) => retries::write(batch, row),
            Self::Running(_, id, position, attempt) => {
                retries::running(batch, *id, *position, *attempt)
            }
            Self::RetryDone(_, id, position) => retries::done(batch, *id, *position),
            Self::GiveUp(_, given_up) => dead_letters::give_up(batch, given_up),
            Self::Keep(keep) => keep.apply(batch),
            Self::Intake(steps) => steps.iter().try_for_each(|step| step.apply(batch)),
            Self::Snapshot(put) => put.apply(batch),
            Self::Edit(id, body, by) => redrives::edit(batch, *id, body, by),
            Self::Append(_)
            | Self::Switch(_)
            | Self::Redrive(..)
            | Self::Discard(..)
            | Self::StartJob(..)
            | Self::StepJob(_)
            | Self::CancelJob(..)
            | Self::Retain(..)
            | Self::Pause(_)
            | Self::Projection(_)
            | Self::Truncate(_) => unreachable!("answered by `apply`"),
        }
    }

    const fn owner(&self) -> Option<&Owned> {
        match self {
            Self::Finish(owned, _)
            | Self::Moved(owned, _)
            | Self::Recover(owned, _)
            | Self::Retry(owned, _)
            | Self::Running(owned, ..)
            | Self::RetryDone(owned, ..)
            | Self::GiveUp(owned, _) => Some(owned),
            _ => None,
        }
    }

    /// What must be written all the same when this could not be: a position that somebody was told has not moved is
    /// harmless, one that the mark passes by is not.
    pub(crate) const fn after_failure(&self) -> Option<Self> {
        match self {
            Self::Moved(owned, id) => Some(Self::Moved(*owned, *id)),
            _ => None,
        }
    }

    /// None of them can be refused after its first write.
    pub(crate) const fn wants_savepoint(&self) -> bool {
        false
    }
}

/// What the commands of a batch put together.
#[derive(Default)]
pub(crate) struct Pending {
    heads: HashMap<Namespace, append::Head>,
    publishers: HashMap<(i64, Option<AppName>), append::Publisher>,
    moved: BTreeSet<SubscriptionId>,
    marks: HashMap<Namespace, Position>,
    effects: Vec<tail::Committed>,
}

impl Pending {
    /// What is seen after the commit.
    pub(crate) fn into_effects(self) -> Vec<tail::Committed> {
        self.effects
    }
}

/// Writes what was put together, as the last part of the transaction.
pub(crate) fn finish(batch: &mut Batch<'_>) -> Result<()> {
    append::write_heads(batch)?;
    cursors::write(batch)
}

/// What the log's handles and the writer share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) tail: Arc<tail::Shared>,
    pub(crate) source: RwLock<Option<cursors::Source>>,
}

/// The log's handle. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    kernel: Arc<Kernel>,
    blobs: Blobs,
    shared: Arc<Shared>,
}

impl Log {
    pub(crate) const fn new(kernel: Arc<Kernel>, blobs: Blobs, shared: Arc<Shared>) -> Self {
        Self {
            kernel,
            blobs,
            shared,
        }
    }

    /// Begins to hand out what is committed from now on; one at a time.
    #[must_use]
    pub fn tail(&self) -> tail::Tail {
        self.shared.tail.attach()
    }

    async fn run(&self, command: Command) -> Result<command::Reply> {
        self.kernel.run(command::Command::Log(command)).await
    }
}

/// The row id of an event.
const fn row_id(log: i64, position: Position) -> i64 {
    (log << POSITION_BITS) | position.0.cast_signed()
}

/// The position in a row id.
const fn position_of(id: i64) -> Position {
    Position(id.cast_unsigned() & ((1 << POSITION_BITS) - 1))
}

const UNEXPECTED: Error = Error::Corrupt("reply");
