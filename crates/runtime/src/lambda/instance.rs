//! One instance as the Runtime API sees it: a process that asks for work, gets it, and answers.
//!
//! It works on one invocation at a time. Every change of its stage happens under one lock; telling others of it
//! (the caller, the pool) happens after that lock is free.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use model::{ByteSize, Invocation, InvocationId, Time};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    conn::Conn, gauge::Gauge, logs::Logs, payload::failure, pool::Pool, protocol::Refusal,
};
use crate::{
    call::Meter,
    host::Presence,
    launcher::{Child, Exit},
    pool::{InstanceStat, InstanceState},
};

/// Pieces of a streamed reply that wait for their reader; each is at most what one read brings.
const PIECES: usize = 4;

/// A process and what it is doing.
pub(crate) struct Instance {
    pub(crate) presence: Arc<Presence>,
    pub(crate) since: Time,
    pub(crate) pid: u32,
    pub(crate) logs: Logs,
    pub(crate) gauge: Gauge,
    /// The largest reply it may give.
    pub(crate) reply_limit: ByteSize,
    /// The largest reply it may stream.
    pub(crate) stream_limit: ByteSize,
    pool: Weak<Pool>,
    child: Mutex<Option<Child>>,
    stage: Mutex<Stage>,
}

/// What an instance is made of.
pub(crate) struct Parts {
    pub(crate) presence: Arc<Presence>,
    pub(crate) since: Time,
    pub(crate) logs: Logs,
    pub(crate) reply_limit: ByteSize,
    pub(crate) stream_limit: ByteSize,
    pub(crate) pool: Weak<Pool>,
    pub(crate) child: Child,
    pub(crate) ready: oneshot::Sender<Result<(), InitFailure>>,
}

enum Stage {
    /// It has not asked for work yet.
    Init(oneshot::Sender<Result<(), InitFailure>>),
    /// It waits for work on this connection.
    Idle(Arc<Conn>, Time),
    /// It works.
    Busy(Work),
    /// It does not ask for work, since then: it has answered this invocation and not yet asked for more, or hung up.
    Silent(Option<InvocationId>, Time),
    /// It is gone, or about to be.
    Gone,
}

/// What it works on, and who waits for that.
pub(crate) struct Work {
    pub(crate) invocation: Arc<Invocation>,
    /// The invocation's id as the client writes it.
    pub(crate) id: String,
    /// Told of the answer; once the reply streams, of its end.
    pub(crate) answer: oneshot::Sender<Progress>,
    /// Whether the reply streams.
    pub(crate) streams: bool,
    /// Where the client asks for more before its streamed reply is read: it does that on another connection.
    pub(crate) asks: Option<Arc<Conn>>,
}

/// What is heard of an invocation.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Its reply has begun.
    Streams(Streamed),
    /// It has ended.
    Ended(Answer),
}

/// A reply that comes piece by piece.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// What the client says that it is.
    pub(crate) content_type: Option<String>,
    /// Its pieces, as they come: who does not take them makes the handler wait.
    pub(crate) pieces: mpsc::Receiver<Bytes>,
    /// How it ended, known after the last piece.
    pub(crate) end: oneshot::Receiver<Progress>,
}

/// How an invocation ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The handler replied.
    Reply(Bytes),
    /// The handler's streamed reply is complete.
    Streamed,
    /// The handler failed: the error object and the type that the client named.
    Error(Bytes, Option<String>),
    /// The handler's reply was too large.
    TooLarge,
    /// The process ended; `None` when it is not known how.
    Died(Option<Exit>),
    /// It had more than this in its temporary folder, and was ended.
    Overflowed(ByteSize),
}

/// Why an instance did not become ready.
#[derive(Debug)]
pub(crate) enum InitFailure {
    /// The client reported this error object.
    Reported(Bytes, Option<String>),
    /// The process ended.
    Exited(Option<Exit>),
}

impl Instance {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            presence: parts.presence,
            since: parts.since,
            pid: parts.child.pid,
            gauge: Gauge::new(parts.child.pid),
            logs: parts.logs,
            reply_limit: parts.reply_limit,
            stream_limit: parts.stream_limit,
            pool: parts.pool,
            child: Mutex::new(Some(parts.child)),
            stage: Mutex::new(Stage::Init(parts.ready)),
        }
    }

    /// Gives it work; `None` when it does not wait for any (its connection broke, or it is gone).
    pub(crate) fn begin(&self, work: Work) -> Option<Arc<Conn>> {
        let mut stage = self.stage.lock();
        let Stage::Idle(conn, _) = &*stage else {
            return None;
        };
        let conn = Arc::clone(conn);
        self.presence.begin(Arc::clone(&work.invocation));
        self.logs
            .begin(work.invocation.id, work.invocation.trace.trace);
        *stage = Stage::Busy(work);
        Some(conn)
    }

    /// The client asks for work on `conn`; `now` is when.
    pub(crate) fn next(self: &Arc<Self>, conn: &Arc<Conn>, now: Time) -> Result<(), Refusal> {
        let mut stage = self.stage.lock();
        let before = match &mut *stage {
            Stage::Busy(work) if work.streams && work.asks.is_none() => {
                work.asks = Some(Arc::clone(conn));
                return Ok(());
            }
            Stage::Busy(_) | Stage::Gone => return Err(Refusal::InvalidStateTransition),
            _ => std::mem::replace(&mut *stage, Stage::Idle(Arc::clone(conn), now)),
        };
        drop(stage);
        match before {
            Stage::Init(ready) => {
                self.logs.end();
                drop(ready.send(Ok(())));
            }
            Stage::Silent(worked_on, _) => {
                self.logs.end();
                if let Some(id) = worked_on {
                    self.presence.end(id);
                }
                if let Some(pool) = self.pool.upgrade() {
                    pool.offer(Arc::clone(self), None);
                }
            }
            // Asked again on another connection: the pool has it as idle already.
            Stage::Idle(..) | Stage::Busy(_) | Stage::Gone => {}
        }
        Ok(())
    }

    /// The client closed the connection on which it asked for work: until it asks again, there is no giving it any.
    pub(crate) fn hung_up(&self, conn: &Arc<Conn>, now: Time) {
        let mut stage = self.stage.lock();
        match &mut *stage {
            Stage::Idle(idle, _) if Arc::ptr_eq(idle, conn) => {}
            Stage::Busy(work) if work.asks.as_ref().is_some_and(|c| Arc::ptr_eq(c, conn)) => {
                work.asks = None;
                return;
            }
            _ => return,
        }
        *stage = Stage::Silent(None, now);
        drop(stage);
        if let Some(pool) = self.pool.upgrade() {
            pool.withdraw(self);
        }
    }

    /// The client begins to stream its reply to the invocation `id`; returns where the pieces go.
    pub(crate) fn stream(
        &self,
        id: &str,
        content_type: Option<String>,
    ) -> Result<mpsc::Sender<Bytes>, Refusal> {
        let mut stage = self.stage.lock();
        let work = match &mut *stage {
            Stage::Busy(work) if work.id == id && !work.streams => work,
            Stage::Busy(work) if work.id == id => return Err(Refusal::InvalidStateTransition),
            Stage::Init(_) => return Err(Refusal::InvalidStateTransition),
            _ => return Err(Refusal::InvalidRequestId),
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let (at_end, end) = oneshot::channel();
        work.streams = true;
        let answer = std::mem::replace(&mut work.answer, at_end);
        drop(stage);
        let streamed = Streamed {
            content_type,
            pieces,
            end,
        };
        drop(answer.send(Progress::Streams(streamed)));
        Ok(sender)
    }

    /// The client answers the invocation `id` in one piece; `now` is when.
    pub(crate) fn answer(
        self: &Arc<Self>,
        id: &str,
        answer: Answer,
        now: Time,
    ) -> Result<(), Refusal> {
        self.close(id, answer, now, false)
    }

    /// The client has streamed its reply to the invocation `id`; `now` is when.
    pub(crate) fn end_stream(
        self: &Arc<Self>,
        id: &str,
        answer: Answer,
        now: Time,
    ) -> Result<(), Refusal> {
        self.close(id, answer, now, true)
    }

    fn close(
        self: &Arc<Self>,
        id: &str,
        answer: Answer,
        now: Time,
        streamed: bool,
    ) -> Result<(), Refusal> {
        let mut stage = self.stage.lock();
        let invocation = match &*stage {
            Stage::Busy(work) if work.id == id && work.streams == streamed => work.invocation.id,
            Stage::Busy(work) if work.id == id => return Err(Refusal::InvalidStateTransition),
            Stage::Init(_) => return Err(Refusal::InvalidStateTransition),
            _ => return Err(Refusal::InvalidRequestId),
        };
        let before = std::mem::replace(&mut *stage, Stage::Silent(Some(invocation), now));
        drop(stage);
        self.logs.catch_up();
        if let Some(pool) = self.pool.upgrade() {
            pool.answered(self);
        }
        if let Stage::Busy(work) = before {
            drop(work.answer.send(Progress::Ended(answer)));
            if let Some(conn) = work.asks {
                return self.next(&conn, now);
            }
        }
        Ok(())
    }

    /// The client reports that the handler could not be loaded.
    pub(crate) fn init_error(
        &self,
        body: Bytes,
        error_type: Option<String>,
    ) -> Result<(), Refusal> {
        let mut stage = self.stage.lock();
        if !matches!(&*stage, Stage::Init(_)) {
            return Err(Refusal::InvalidStateTransition);
        }
        let before = std::mem::replace(&mut *stage, Stage::Gone);
        drop(stage);
        self.logs.catch_up();
        if let Stage::Init(ready) = before {
            drop(ready.send(Err(InitFailure::Reported(body, error_type))));
        }
        Ok(())
    }

    /// Kills its processes. Who waits for its answer is told nothing: that is for whoever kills it to say.
    pub(crate) fn kill(&self) {
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Gone);
        self.end_presence(&before);
        let child = self.child.lock().take();
        drop(child);
    }

    /// Ends it, because it had more than `limit` in its temporary folder.
    pub(crate) fn overflowed(&self, limit: ByteSize) {
        self.logs.catch_up();
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Gone);
        self.end_presence(&before);
        match before {
            Stage::Init(ready) => {
                let object = failure::overflowed(None, limit);
                drop(ready.send(Err(InitFailure::Reported(object, None))));
            }
            Stage::Busy(work) => {
                let ended = Progress::Ended(Answer::Overflowed(limit));
                drop(work.answer.send(ended));
            }
            Stage::Idle(..) | Stage::Silent(..) | Stage::Gone => {}
        }
        drop(self.child.lock().take());
    }

    /// Its process has ended. True when nobody had asked for that.
    pub(crate) fn died(&self, exit: Exit) -> bool {
        self.logs.catch_up();
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Gone);
        self.end_presence(&before);
        drop(self.child.lock().take());
        match before {
            Stage::Gone => return false,
            Stage::Init(ready) => drop(ready.send(Err(InitFailure::Exited(Some(exit))))),
            Stage::Busy(work) => {
                let died = Progress::Ended(Answer::Died(Some(exit)));
                drop(work.answer.send(died));
            }
            Stage::Idle(..) | Stage::Silent(..) => {}
        }
        true
    }

    fn end_presence(&self, stage: &Stage) {
        match stage {
            Stage::Busy(work) => self.presence.end(work.invocation.id),
            Stage::Silent(Some(id), _) => self.presence.end(*id),
            _ => {}
        }
    }

    /// Notes on `meter` what it has used since this was last asked.
    pub(crate) fn used(&self, meter: &Meter) {
        if let Some(used) = self.gauge.since_last() {
            meter.add_cpu(used.cpu);
            meter.peak_memory(used.memory);
        }
    }

    /// Since when it has nothing to do, if it has nothing to do.
    pub(crate) fn idle_since(&self) -> Option<Time> {
        match &*self.stage.lock() {
            Stage::Idle(_, since) => Some(*since),
            _ => None,
        }
    }

    /// When it was started.
    pub(crate) const fn since(&self) -> Time {
        self.since
    }

    /// The CPU time that it was last seen to have used.
    pub(crate) fn cpu_seen(&self) -> std::time::Duration {
        self.gauge.seen()
    }

    /// Since when it has not asked for work though it has none, if that is so.
    pub(crate) fn silent_since(&self) -> Option<Time> {
        match &*self.stage.lock() {
            Stage::Silent(_, since) => Some(*since),
            _ => None,
        }
    }

    pub(crate) fn stat(&self) -> InstanceStat {
        let state = match &*self.stage.lock() {
            Stage::Init(_) => InstanceState::Starting,
            Stage::Idle(..) | Stage::Silent(..) => InstanceState::Idle,
            Stage::Busy(_) => InstanceState::Busy,
            Stage::Gone => InstanceState::Draining,
        };
        let used = self.gauge.read().unwrap_or_default();
        InstanceStat {
            instance: self.presence.instance,
            state,
            pid: Some(self.pid),
            since: self.since,
            in_flight: u32::from(state == InstanceState::Busy),
            memory: used.memory,
            cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
            problem: None,
        }
    }
}
