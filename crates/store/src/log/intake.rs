//! How far logs elsewhere (the partitions of topics of a bridge) were taken into this one: written in the transaction that
//! appends what was read, so that whenever the server ends, nothing is lost and nothing is taken twice.

use std::collections::BTreeMap;

use model::{AppName, Name, Namespace};
use rusqlite::params;

use crate::{
    batch::Batch,
    command,
    error::Result,
    log::{Appended, Command, Log, NewEvent, Reply, UNEXPECTED},
    queue::Urgency,
};

/// A partition of a topic that a bridge reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeKey {
    /// The app.
    pub app: AppName,
    /// The bridge.
    pub bridge: Name,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// How far a partition was taken, and what of it was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intake {
    /// The offset to read on at.
    pub next: i64,
    /// Records that were no events.
    pub refused: u64,
    /// Why the last of them was none.
    pub last_refused: Option<String>,
    /// Offsets that were gone before they were read.
    pub missed: u64,
}

/// A step: `next` is where it is now, the counts are added to those that are there.
pub struct Step {
    key: IntakeKey,
    adds: Intake,
}

impl Step {
    pub(super) fn apply(&self, batch: &mut Batch<'_>) -> Result<()> {
        let (key, adds) = (&self.key, &self.adds);
        batch.execute(
            "INSERT INTO intake (app, bridge, topic, partition, next, refused, last_refused, missed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (app, bridge, topic, partition) DO UPDATE SET
               next = excluded.next,
               refused = refused + excluded.refused,
               last_refused = coalesce(excluded.last_refused, last_refused),
               missed = missed + excluded.missed",
            params![
                key.app.as_str(),
                key.bridge.as_str(),
                key.topic,
                key.partition,
                adds.next,
                adds.refused,
                adds.last_refused,
                adds.missed,
            ],
        )?;
        Ok(())
    }
}

impl Log {
    /// Appends events as [`Log::append`] does, and in the same transaction says how far the partition that they are from was
    /// read: `next` is set, the counts are added. There may be no event.
    ///
    /// # Errors
    /// Those of [`Log::append`]: neither is done.
    pub async fn take_in(
        &self,
        namespace: &Namespace,
        events: Vec<NewEvent>,
        key: IntakeKey,
        adds: Intake,
    ) -> Result<Vec<Appended>> {
        let step = Step { key, adds };
        let (command, size) = match events.is_empty() {
            true => (Command::Intake(vec![step]), 256),
            false => {
                let (mut append, size) = self.encoded(namespace, events).await?;
                append.step = Some(step);
                (Command::Append(append), size)
            }
        };
        let command = command::Command::Log(command);
        let pending = self.kernel.submit(command, Urgency::Intake, size)?;
        match pending.done().await? {
            command::Reply::Log(Reply::Appended(appended)) => Ok(appended),
            command::Reply::Done => Ok(Vec::new()),
            _ => Err(UNEXPECTED),
        }
    }

    /// Says of partitions where they are read on, all or none: as [`Log::take_in`] without events.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn read_on(&self, places: Vec<(IntakeKey, Intake)>) -> Result<()> {
        let steps = places.into_iter().map(|(key, adds)| Step { key, adds });
        let command = command::Command::Log(Command::Intake(steps.collect()));
        self.kernel.run(command).await.map(drop)
    }

    /// How far the partitions of a topic were taken; those that never were are not among them.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn taken_in(
        &self,
        app: &AppName,
        bridge: &Name,
        topic: &str,
    ) -> Result<BTreeMap<i32, Intake>> {
        let key = [app.to_string(), bridge.to_string(), topic.to_owned()];
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT partition, next, refused, last_refused, missed FROM intake
                     WHERE app = ?1 AND bridge = ?2 AND topic = ?3",
                )?;
                let rows = statement.query_map(key, |row| {
                    let intake = Intake {
                        next: row.get(1)?,
                        refused: row.get(2)?,
                        last_refused: row.get(3)?,
                        missed: row.get(4)?,
                    };
                    Ok((row.get(0)?, intake))
                })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }
}
