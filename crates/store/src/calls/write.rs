//! Accepting, trying, ending.

use model::{Error as Fault, InvocationId, Time, code};

use crate::{
    batch::Batch,
    blobs::refs,
    calls::{
        Accept, CallResult, Calls, Command, Consequence, Finish, NewCall, Reply, State, UNEXPECTED,
        Waiting,
    },
    command,
    error::{Error, Result},
    format,
    kernel::Pending,
    log::Attempt,
    queue::Urgency,
    shards::{Owned, Shard},
};

/// Most invocations removed by one command.
const CHUNK: u32 = 200;

impl Calls {
    /// Commits an invocation: it will be tried even if the server dies now. The same id again changes nothing, and is
    /// answered with `None`.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is too much work, else those of the disk.
    pub async fn accept(&self, call: NewCall) -> Result<Option<Waiting>> {
        let target = call.spec.target.clone();
        let id = call.id;
        let shard = shard(id);
        let spec = format::encode(&call.spec);
        let size = spec.len() + call.body.len().min(1 << 20) + 256;
        let accept = Accept {
            id,
            shard,
            target,
            spec,
            body: self.blobs.payload(format::encode_raw(&call.body)).await?,
        };
        let command = command::Command::Calls(Command::Accept(Box::new(accept)));
        let pending = self.kernel.submit(command, Urgency::Intake, size)?;
        match pending.done().await? {
            command::Reply::Calls(Reply::Accepted(due, new)) => {
                Ok(new.then_some(Waiting { due, id }))
            }
            _ => Err(UNEXPECTED),
        }
    }

    /// It is being tried for the `attempt`th time; written with the next commit.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn note_running(&self, owned: Owned, id: InvocationId, attempt: u32) -> Result<()> {
        let command = command::Command::Calls(Command::Running(owned, id, attempt));
        self.kernel.lazily(command, Urgency::Soon)
    }

    /// It failed and is tried again at `due`.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Closed`]; the answer says later [`Error::NotOwner`] or what the disk said.
    pub fn retry(
        &self,
        owned: Owned,
        id: InvocationId,
        due: Time,
        attempts: u32,
        history: Vec<Attempt>,
    ) -> Result<Pending> {
        let size = 256 + history.len() * 256;
        let command = Command::Retry(owned, id, due, attempts, history);
        self.kernel
            .submit(command::Command::Calls(command), Urgency::Settle, size)
    }

    /// The right to write for an invocation.
    ///
    /// # Errors
    /// [`Error::NotOwner`] when this node has none.
    pub fn owner(&self, id: InvocationId) -> Result<Owned> {
        self.shards.owner(shard(id))
    }

    /// It ended; `body` is its result's. The consequences are committed with it.
    ///
    /// # Errors
    /// As [`Calls::retry`], and those of writing a blob.
    #[allow(
        clippy::too_many_arguments,
        reason = "the columns that an end writes; a struct would name each a second time"
    )]
    pub async fn finish(
        &self,
        owned: Owned,
        id: InvocationId,
        state: State,
        result: &CallResult,
        body: Vec<u8>,
        attempts: u32,
        history: &[Attempt],
        consequences: Vec<Consequence>,
    ) -> Result<()> {
        let body = match body.is_empty() {
            true => None,
            false => Some(self.blobs.payload(format::encode_raw(&body)).await?),
        };
        let finish = Finish {
            id,
            state,
            result: format::encode(result),
            body,
            attempts,
            history: format::encode(&history),
            consequences,
        };
        self.run(Command::Finish(owned, Box::new(finish)))
            .await
            .map(|_| ())
    }

    /// What ran in the shards of this node when the server died waits again, an attempt poorer.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn recover(&self) -> Result<()> {
        let owned = self.shards.owned();
        self.run(Command::Recover(owned)).await.map(|_| ())
    }
}

/// The shard of an invocation.
pub(super) fn shard(id: InvocationId) -> Shard {
    Shard::of(&[&id.to_string()])
}

fn bytes(id: InvocationId) -> [u8; 16] {
    id.0.into_bytes()
}

pub(super) fn accept(batch: &Batch<'_>, accept: &Accept) -> Result<Reply> {
    let (body, blob) = accept.body.columns();
    let target = &accept.target;
    let inserted = batch.execute(
        "INSERT INTO call (id, namespace, app, workload, shard, accepted_at, due, spec, history, body, blob, target)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
        (
            bytes(accept.id),
            target.namespace.as_str(),
            target.app.as_str(),
            target.workload.as_str(),
            accept.shard.0,
            batch.now.0,
            &accept.spec,
            format::encode::<[Attempt; 0]>(&[]),
            body,
            blob,
            format::encode(target),
        ),
    )?;
    if let (1, Some(blob)) = (inserted, accept.body.blob()) {
        refs::add(batch, blob)?;
    }
    Ok(Reply::Accepted(batch.now, inserted == 1))
}

pub(super) fn running(batch: &Batch<'_>, id: InvocationId, attempt: u32) -> Result<()> {
    batch.execute(
        "UPDATE call SET running = 1, attempts = ?2 WHERE id = ?1 AND state = 0",
        (bytes(id), attempt),
    )?;
    Ok(())
}

pub(super) fn retry(
    batch: &Batch<'_>,
    id: InvocationId,
    due: Time,
    attempts: u32,
    history: &[Attempt],
) -> Result<()> {
    batch.execute(
        "UPDATE call SET running = 0, due = ?2, attempts = ?3, history = ?4 WHERE id = ?1 AND state = 0",
        (bytes(id), due.0, attempts, format::encode(&history)),
    )?;
    Ok(())
}

pub(super) fn finish(batch: &Batch<'_>, owned: Owned, finish: &Finish) -> Result<()> {
    let (body, blob) = finish
        .body
        .as_ref()
        .map_or((None, None), |body| body.columns());
    let ended = batch.execute(
        "UPDATE call SET state = ?2, running = 0, finished_at = ?3, result = ?4, attempts = ?5, history = ?6,
                result_body = ?7, result_blob = ?8
         WHERE id = ?1 AND state = 0",
        (
            bytes(finish.id),
            finish.state.number(),
            batch.now.0,
            &finish.result,
            finish.attempts,
            &finish.history,
            body,
            blob,
        ),
    )?;
    if ended == 0 {
        return Err(Error::NotFound("waiting invocation"));
    }
    if let Some(blob) = finish.body.as_ref().and_then(|body| body.blob()) {
        refs::add(batch, blob)?;
    }
    for consequence in &finish.consequences {
        let Consequence { kind, key, payload } = consequence;
        batch.outbox(kind, owned.shard, key, payload)?;
    }
    Ok(())
}

pub(super) fn recover(batch: &Batch<'_>, owned: &[Owned]) -> Result<()> {
    let cut_off = Attempt {
        at: batch.now,
        error: Fault::new(
            code::SHUTTING_DOWN,
            "the server stopped during this attempt",
        ),
    };
    let mut statement = batch.prepare(
        "SELECT seq, shard, history FROM call WHERE state = 0 AND running = 1 ORDER BY seq",
    )?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, Shard(row.get(1)?), row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(i64, Shard, Vec<u8>)>>>()?;
    let mine = |shard| owned.iter().any(|owned| owned.shard == shard);
    for (seq, _, history) in rows.into_iter().filter(|(_, shard, _)| mine(*shard)) {
        let mut history: Vec<Attempt> = format::decode(&history, "history")?;
        history.push(cut_off.clone());
        batch.execute(
            "UPDATE call SET running = 0, due = ?2, history = ?3 WHERE seq = ?1",
            (seq, batch.now.0, format::encode(&history)),
        )?;
    }
    Ok(())
}

pub(super) fn purge(batch: &Batch<'_>, before: Time) -> Result<u64> {
    let mut statement = batch.prepare(
        "DELETE FROM call WHERE seq IN
         (SELECT seq FROM call WHERE state > 0 AND finished_at < ?1 ORDER BY finished_at LIMIT ?2)
         RETURNING blob, result_blob",
    )?;
    let rows = statement
        .query_map((before.0, CHUNK), |row| Ok([row.get(0)?, row.get(1)?]))?
        .collect::<rusqlite::Result<Vec<[Option<Vec<u8>>; 2]>>>()?;
    for hash in rows.iter().flatten().flatten() {
        refs::release(batch, hash)?;
    }
    Ok(rows.len() as u64)
}

impl State {
    /// Whether it ended.
    #[must_use]
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Waiting)
    }
}
