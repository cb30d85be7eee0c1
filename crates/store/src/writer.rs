//! The one thread that writes: it drains the queue, applies a batch in one transaction, commits (one fsync), and
//! only then answers. A command that is refused harms no other; a batch that fails is tried again one by one.

use std::{sync::Arc, time::Duration};

use model::{Clock, Time};
use rusqlite::Connection;

use crate::{
    StoreLimits,
    batch::Batch,
    blobs,
    checkpoint::Checkpoints,
    command::{Command, Reply},
    crash::{Crash, Moment},
    error::{Error, Result},
    log,
    queue::{Answer, Item, Queue},
    shards::Identity,
};

/// What the writer thread owns.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) queue: Arc<Queue>,
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    pub(crate) limits: StoreLimits,
    pub(crate) log: Arc<log::Shared>,
    pub(crate) blobs: Arc<blobs::Shared>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) crash: Crash,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(items) = self.queue.take() {
            self.write(items);
        }
        self.log.tail.close();
        self.checkpoints.close();
    }

    fn write(&mut self, items: Vec<Item>) {
        match self.commit(&items) {
            Ok(replies) => answer(items, replies),
            Err(error) => self.one_by_one(items, &error),
        }
    }

    /// After a failed batch: each command alone and in order, so that one that cannot be written takes no other with
    /// it. Lazy ones go back to where they came from, since nobody else would write them.
    fn one_by_one(&mut self, items: Vec<Item>, error: &Error) {
        tracing::warn!(%error, commands = items.len(), "a commit failed");
        let alone = items.len() == 1;
        let mut put_off = Vec::new();
        for item in items {
            let replies = match (item.is_lazy(), put_off.is_empty()) {
                (true, false) => Err(error.clone()),
                _ if alone => Err(error.clone()),
                _ => self.commit(std::slice::from_ref(&item)),
            };
            match replies {
                Ok(replies) => answer(vec![item], replies),
                Err(_) if item.is_lazy() => put_off.push(item),
                Err(error) => {
                    put_off.extend(item.after_failure());
                    tell(item.answer, Err(error));
                }
            }
        }
        // Closing on a disk that refuses: cursors stay where they were, and work is done again.
        if !put_off.is_empty() && !self.queue.is_closed() {
            self.queue.give_back(put_off);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn commit(&mut self, items: &[Item]) -> Result<Vec<Result<Reply>>> {
        let gate = self.checkpoints.gate();
        let now = self.clock.now();
        self.execute("BEGIN IMMEDIATE")?;
        let effects = self.apply(now, items).and_then(|(replies, effects)| {
            self.pass(items, [Moment::Commit, Moment::Settle, Moment::Step]);
            self.execute("COMMIT")?;
            self.pass(items, [Moment::Committed, Moment::Settled, Moment::Stepped]);
            Ok((replies, effects))
        });
        match effects {
            Ok((replies, effects)) => {
                drop(gate);
                self.log.tail.extend(effects);
                Ok(replies)
            }
            Err(error) => {
                if !self.connection.is_autocommit() {
                    self.connection.execute_batch("ROLLBACK").ok();
                }
                Err(error)
            }
        }
    }

    /// Passes a moment of every commit, and those of one in which deliveries end, or a redrive or replay goes on.
    fn pass(&self, items: &[Item], [any, ends, steps]: [Moment; 3]) {
        if !self.crash.is_told() {
            return;
        }
        self.crash.pass(any);
        if items.iter().any(Item::ends_a_delivery) {
            self.crash.pass(ends);
        }
        if items.iter().any(|item| item.command.is_step()) {
            self.crash.pass(steps);
        }
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    fn apply(
        &self,
        now: Time,
        items: &[Item],
    ) -> Result<(Vec<Result<Reply>>, Vec<log::tail::Committed>)> {
        let mut batch = Batch::new(
            &self.connection,
            now,
            &self.identity,
            &self.limits,
            &self.blobs,
            self.log.source.read().clone(),
        );
        let mut replies = Vec::with_capacity(items.len());
        for item in items {
            match apply_one(&self.connection, &item.command, &mut batch) {
                Err(error) if !error.is_refusal() => return Err(error),
                reply => replies.push(reply),
            }
        }
        log::finish(&mut batch)?;
        Ok((replies, batch.log.into_effects()))
    }
}

fn apply_one(connection: &Connection, command: &Command, batch: &mut Batch<'_>) -> Result<Reply> {
    if !command.wants_savepoint() {
        return command.apply(batch);
    }
    connection.execute_batch("SAVEPOINT command")?;
    let reply = command.apply(batch);
    let end = match &reply {
        Ok(_) => "RELEASE command",
        Err(_) => "ROLLBACK TO command; RELEASE command",
    };
    connection.execute_batch(end)?;
    reply
}

fn answer(items: Vec<Item>, replies: Vec<Result<Reply>>) {
    for (item, reply) in items.into_iter().zip(replies) {
        tell(item.answer, reply);
    }
}

fn tell(answer: Answer, reply: Result<Reply>) {
    match (answer, reply) {
        (Some(answer), reply) => {
            // Whoever asked may have gone; the work is done all the same.
            answer.send(reply).ok();
        }
        (None, Err(error)) => tracing::debug!(%error, "a lazy command was refused"),
        (None, Ok(_)) => {}
    }
}
