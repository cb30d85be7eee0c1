//! Redrives and replays: work over many deliveries, done in chunks that yield. How far a job is moves in the commit of
//! its chunk, so that a killed server goes on where it was, and nothing is done twice or left out.

use model::{EventFilter, Namespace, Position, Rate, SubscriptionKey, Time};
use rusqlite::Row;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    batch::Batch,
    command,
    error::{Error, Result},
    format,
    log::{
        Attempt, Command, DeadLetterFilter, Log, Redriven, Reply, SubscriptionId, UNEXPECTED,
        audit, redrives,
    },
};

/// What a job does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobSpec {
    /// Delivers dead letters again.
    Redrive {
        /// Which.
        filter: DeadLetterFilter,
        /// Those up to this number: the ones that were there when it began.
        through: i64,
        /// How fast.
        rate: Option<Rate>,
    },
    /// Delivers events of the log again, to one subscription.
    Replay {
        /// Whose log.
        namespace: Namespace,
        /// To which.
        key: SubscriptionKey,
        /// Events after this position.
        after: Position,
        /// And up to this.
        through: Position,
        /// Published from then on.
        since: Option<Time>,
        /// And before then.
        until: Option<Time>,
        /// Only these, of those that the subscription asks for.
        filter: Option<EventFilter>,
        /// How fast.
        rate: Option<Rate>,
        /// Events of that range up to this position were no longer in the log when it began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gone_through: Option<Position>,
    },
}

/// How far a job is: a subscription's row (redrives only) and a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Default)]
pub struct Place {
    /// The subscription that the last letter was of.
    pub group: i64,
    /// The last position that was looked at.
    pub after: Position,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub spec: JobSpec,
    /// Who began it.
    pub by: String,
    /// When.
    pub at: Time,
    /// How far it is.
    pub place: Place,
    /// Deliveries made again.
    pub done: u64,
    /// Those that were left: gone, or under way already.
    pub skipped: u64,
    /// When it ended; `None`: it runs.
    pub ended_at: Option<Time>,
    /// Whether it ended before it was through.
    pub cancelled: bool,
}

/// A delivery to make again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Which event.
    pub position: Position,
    /// When it was published.
    pub published_at: Time,
    /// What its key is known by.
    pub lane: Option<i64>,
}

/// One chunk of a job.
pub struct Step {
    /// Which job.
    pub job: u64,
    /// How far it was when the chunk was put together.
    pub from: Place,
    /// How far it is after it.
    pub to: Place,
    /// What is in it.
    pub chunk: Chunk,
    /// Whether that is all.
    pub last: bool,
}

/// What is in a chunk.
pub enum Chunk {
    /// Dead letters, by number.
    Letters(Vec<i64>),
    /// Events for a subscription.
    Events(SubscriptionId, Vec<Replayed>),
}

const COLUMNS: &str = "id, spec, by, at, group_after, after, done, skipped, ended_at, cancelled";

impl Log {
    /// Begins a job; a running server is to be told.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn start_job(&self, spec: JobSpec, by: String) -> Result<u64> {
        match self.run(Command::StartJob(Box::new(spec), by)).await? {
            command::Reply::Count(id) => Ok(id),
            _ => Err(UNEXPECTED),
        }
    }

    /// Does a chunk; what waits now is answered.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the job is not where the chunk begins, or has ended; those of the writer.
    pub async fn step_job(&self, step: Step) -> Result<Vec<Redriven>> {
        match self.run(Command::StepJob(Box::new(step))).await? {
            command::Reply::Log(Reply::Stepped(redriven)) => Ok(redriven),
            _ => Err(UNEXPECTED),
        }
    }

    /// Ends a job where it is; whether it ran.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn cancel_job(&self, id: u64, by: String) -> Result<bool> {
        match self.run(Command::CancelJob(id, by)).await? {
            command::Reply::Count(count) => Ok(count > 0),
            _ => Err(UNEXPECTED),
        }
    }

    /// Jobs, newest first, at most `limit`; only those that run with `running`.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn jobs(&self, running: bool, limit: u32) -> Result<Vec<Job>> {
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM job WHERE NOT ?1 OR ended_at IS NULL ORDER BY id DESC LIMIT ?2"
                ))?;
                let mut rows = statement.query((running, limit))?;
                let mut jobs = Vec::new();
                while let Some(row) = rows.next()? {
                    jobs.push(read(row)?);
                }
                Ok(jobs)
            })
            .await
    }

    /// One job.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn job(&self, id: u64) -> Result<Option<Job>> {
        self.kernel
            .read(move |connection| {
                let sql = format!("SELECT {COLUMNS} FROM job WHERE id = ?1");
                let mut statement = connection.prepare_cached(&sql)?;
                let mut rows = statement.query([id])?;
                rows.next()?.map(read).transpose()
            })
            .await
    }
}

fn read(row: &Row<'_>) -> Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        spec: format::decode(&row.get::<_, Vec<u8>>(1)?, "job")?,
        by: row.get(2)?,
        at: Time(row.get(3)?),
        place: Place {
            group: row.get(4)?,
            after: Position(row.get(5)?),
        },
        done: row.get(6)?,
        skipped: row.get(7)?,
        ended_at: row.get::<_, Option<u64>>(8)?.map(Time),
        cancelled: row.get(9)?,
    })
}

/// Begins a job.
pub(super) fn start(batch: &Batch<'_>, spec: &JobSpec, by: &str) -> Result<u64> {
    let after = match spec {
        JobSpec::Redrive { .. } => Position(0),
        JobSpec::Replay { after, .. } => *after,
    };
    batch.execute(
        "INSERT INTO job (spec, by, at, after) VALUES (?1, ?2, ?3, ?4)",
        (format::encode(spec), by, batch.now.0, after.0),
    )?;
    let id = batch.last_id();
    let (action, subject) = match spec {
        JobSpec::Redrive { filter, .. } => ("redrive", filter.subject()),
        JobSpec::Replay { key, .. } => ("replay", key.to_string()),
    };
    let detail = json!({"job": id, "asked": spec});
    audit::note(batch, by, action, &subject, &detail)?;
    Ok(id.unsigned_abs())
}

/// Ends a job where it is.
pub(super) fn cancel(batch: &Batch<'_>, id: u64, by: &str) -> Result<u64> {
    let ended = batch.execute(
        "UPDATE job SET ended_at = ?2, cancelled = 1 WHERE id = ?1 AND ended_at IS NULL",
        (id, batch.now.0),
    )?;
    if ended > 0 {
        audit::note(
            batch,
            by,
            "cancel",
            &format!("job {id}"),
            &json!({"job": id}),
        )?;
    }
    Ok(ended as u64)
}

/// Does a chunk.
pub(super) fn step(batch: &Batch<'_>, step: &Step) -> Result<Vec<Redriven>> {
    let at = batch.row(
        "SELECT group_after, after FROM job WHERE id = ?1 AND ended_at IS NULL",
        [step.job],
        |row| {
            Ok(Place {
                group: row.get(0)?,
                after: Position(row.get(1)?),
            })
        },
    )?;
    if at != Some(step.from) {
        return Err(Error::Conflict("the job moved or has ended".to_owned()));
    }
    let (redriven, asked) = match &step.chunk {
        Chunk::Letters(ids) => (letters(batch, ids)?, ids.len()),
        Chunk::Events(id, events) => (replay(batch, step.job, *id, events)?, events.len()),
    };
    let ended = step.last.then_some(batch.now.0);
    batch.execute(
        "UPDATE job SET group_after = ?2, after = ?3, done = done + ?4, skipped = skipped + ?5, ended_at = ?6
         WHERE id = ?1",
        (
            step.job,
            step.to.group,
            step.to.after.0,
            redriven.len(),
            asked - redriven.len(),
            ended,
        ),
    )?;
    Ok(redriven)
}

/// Those that are gone, whose subscription is, or that are under way already are left as they are.
fn letters(batch: &Batch<'_>, ids: &[i64]) -> Result<Vec<Redriven>> {
    let mut redriven = Vec::with_capacity(ids.len());
    for id in ids {
        match redrives::redrive(batch, *id) {
            Ok(one) => redriven.push(one),
            Err(Error::NotFound(_) | Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(redriven)
}

/// What is being delivered already is left as it is.
fn replay(
    batch: &Batch<'_>,
    job: u64,
    id: SubscriptionId,
    events: &[Replayed],
) -> Result<Vec<Redriven>> {
    let mut redriven = Vec::with_capacity(events.len());
    let nothing = format::encode::<[Attempt; 0]>(&[]);
    for event in events {
        let inserted = batch.execute(
            "INSERT INTO retry (subscription, log, position, due, attempts, born, first_at, published_at, history, lane, replay)
             SELECT ?1, log, ?2, ?3, 0, ?3, ?3, ?4, ?5, ?6, ?7 FROM subscription WHERE id = ?1 AND end IS NULL
             ON CONFLICT (subscription, position) DO NOTHING",
            (
                id.0,
                event.position.0,
                batch.now.0,
                event.published_at.0,
                &nothing,
                event.lane,
                job,
            ),
        )?;
        if inserted > 0 {
            redriven.push(Redriven {
                subscription: id,
                position: event.position,
                due: batch.now,
                lane: event.lane,
                dead: false,
                left: None,
            });
        }
    }
    Ok(redriven)
}
