//! One instance as the Runtime API sees it: a process that asks for work, gets it, and answers.
//!
//! It works on as many invocations at a time as its manifest says, one unless said. Every change of its stage happens
//! under one lock; telling others of it (the caller, the pool) happens after that lock is free.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use model::{ByteSize, InvocationId, Time};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub(crate) use super::work::{Answer, InitFailure, Progress, Streamed, Work};
use super::{
    conn::Conn, extension_api::Reason, extensions::Extensions, gauge::Gauge, logs::Logs,
    marks::Marks, pool::Pool, protocol::Refusal, work::Up,
};
use crate::{
    call::Meter,
    host::Presence,
    launcher::Child,
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
    /// Invocations that it may work on at the same time; 1 or more.
    pub(crate) concurrency: usize,
    /// Its extensions.
    pub(crate) extensions: Extensions,
    /// How far it got with them.
    pub(crate) marks: Marks,
    pub(super) pool: Weak<Pool>,
    pub(super) child: Mutex<Option<Child>>,
    pub(super) stage: Mutex<Stage>,
}

/// What an instance is made of.
pub(crate) struct Parts {
    pub(crate) presence: Arc<Presence>,
    pub(crate) since: Time,
    pub(crate) logs: Logs,
    pub(crate) reply_limit: ByteSize,
    pub(crate) stream_limit: ByteSize,
    pub(crate) concurrency: usize,
    /// File names of the extensions that are started with it.
    pub(crate) external: Vec<String>,
    pub(crate) pool: Weak<Pool>,
    pub(crate) child: Child,
    pub(crate) ready: oneshot::Sender<Result<(), InitFailure>>,
}

pub(super) enum Stage {
    /// It has not asked for work yet.
    Init(oneshot::Sender<Result<(), InitFailure>>),
    /// It has asked.
    Up(Up),
    /// It is gone, or about to be.
    Gone,
}

impl Instance {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            presence: parts.presence,
            since: parts.since,
            pid: parts.child.pid,
            // With extensions its first process is a shell.
            gauge: Gauge::new(parts.child.pid, !parts.external.is_empty()),
            marks: Marks::default(),
            logs: parts.logs,
            reply_limit: parts.reply_limit,
            stream_limit: parts.stream_limit,
            concurrency: parts.concurrency.max(1),
            extensions: Extensions::new(parts.external),
            pool: parts.pool,
            child: Mutex::new(Some(parts.child)),
            stage: Mutex::new(Stage::Init(parts.ready)),
        }
    }

    /// Gives it work; `None` when it does not wait for any (its connection broke, or it is gone). Either way the place
    /// in it is used up.
    pub(crate) fn begin(&self, work: Work, now: Time) -> Option<Arc<Conn>> {
        let mut stage = self.stage.lock();
        let Stage::Up(up) = &mut *stage else {
            return None;
        };
        up.offered = up.offered.saturating_sub(1);
        if up.retires {
            return None;
        }
        let conn = up.asking.pop()?;
        up.since = now;
        self.presence.begin(Arc::clone(&work.invocation));
        if up.works.is_empty() {
            self.logs
                .begin(work.invocation.id, work.invocation.trace.trace);
        } else {
            // From now on a line may be anybody's.
            self.logs.end();
        }
        up.works.push(work);
        Some(conn)
    }

    /// The client asks for work on `conn`; `now` is when.
    pub(crate) fn next(self: &Arc<Self>, conn: &Arc<Conn>, now: Time) -> Result<(), Refusal> {
        let mut stage = self.stage.lock();
        if let Stage::Init(_) = &*stage {
            let up = Up {
                asking: vec![Arc::clone(conn)],
                works: Vec::new(),
                // Whoever waits for the start offers it.
                offered: 1,
                answered: None,
                since: now,
                retires: false,
            };
            let before = std::mem::replace(&mut *stage, Stage::Up(up));
            drop(stage);
            self.logs.end();
            if let Stage::Init(ready) = before {
                drop(ready.send(Ok(())));
            }
            return Ok(());
        }
        let Stage::Up(up) = &mut *stage else {
            return Err(Refusal::InvalidStateTransition);
        };
        if self.concurrency == 1
            && let Some(work) = up.works.first_mut()
        {
            if !work.streams || work.asks.is_some() {
                return Err(Refusal::InvalidStateTransition);
            }
            work.asks = Some(Arc::clone(conn));
            return Ok(());
        }
        if up.works.is_empty() {
            up.since = now;
        }
        up.asking.push(Arc::clone(conn));
        let (answered, free) = (up.answered.take(), up.free(self.concurrency));
        drop(stage);
        if self.concurrency == 1 {
            self.logs.end();
        }
        if let Some(id) = answered {
            self.presence.end(id);
        }
        self.offer(free);
        Ok(())
    }

    fn offer(self: &Arc<Self>, places: usize) {
        if let Some(pool) = self.pool.upgrade().filter(|_| places > 0) {
            (0..places).for_each(|_| pool.offer(Arc::clone(self), None));
        }
    }

    /// The client closed the connection on which it asked for work: until it asks again, there is no giving it any.
    pub(crate) fn hung_up(&self, conn: &Arc<Conn>, now: Time) {
        self.extensions.hung_up(conn);
        let mut stage = self.stage.lock();
        let Stage::Up(up) = &mut *stage else { return };
        for work in &mut up.works {
            if work.asks.as_ref().is_some_and(|c| Arc::ptr_eq(c, conn)) {
                work.asks = None;
                return;
            }
        }
        let Some(at) = up.asking.iter().position(|c| Arc::ptr_eq(c, conn)) else {
            return;
        };
        up.asking.remove(at);
        if up.works.is_empty() && up.asking.is_empty() {
            up.since = now;
        }
        let room = self.concurrency.saturating_sub(up.works.len());
        let over = up.offered.saturating_sub(up.asking.len().min(room));
        drop(stage);
        // What somebody holds already is found out when it is used.
        if let Some(pool) = self.pool.upgrade().filter(|_| over > 0) {
            let withdrawn = pool.withdraw(self, over);
            if let Stage::Up(up) = &mut *self.stage.lock() {
                up.offered = up.offered.saturating_sub(withdrawn);
            }
        }
    }

    /// What it is told of the invocation `id`, in the states in which it may be told; else why not.
    fn work<'a>(stage: &'a mut Stage, id: &str) -> Result<&'a mut Work, Refusal> {
        match stage {
            Stage::Up(up) => up
                .works
                .iter_mut()
                .find(|work| work.id == id)
                .ok_or(Refusal::InvalidRequestId),
            Stage::Init(_) => Err(Refusal::InvalidStateTransition),
            Stage::Gone => Err(Refusal::InvalidRequestId),
        }
    }

    /// The client begins to stream its reply to the invocation `id`; returns where the pieces go.
    pub(crate) fn stream(
        &self,
        id: &str,
        content_type: Option<String>,
    ) -> Result<mpsc::Sender<Bytes>, Refusal> {
        let mut stage = self.stage.lock();
        let work = Self::work(&mut stage, id)?;
        if work.streams {
            return Err(Refusal::InvalidStateTransition);
        }
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
        if Self::work(&mut stage, id)?.streams != streamed {
            return Err(Refusal::InvalidStateTransition);
        }
        let Some((work, last)) = self.finish(&mut stage, id, now) else {
            return Err(Refusal::InvalidRequestId);
        };
        let free = match &mut *stage {
            Stage::Up(up) => up.free(self.concurrency),
            _ => 0,
        };
        drop(stage);
        if self.concurrency == 1 {
            // What it writes until it asks for more is still this one's.
            self.logs.catch_up();
        } else {
            self.logs.end();
        }
        if let Some(pool) = self.pool.upgrade().filter(|_| free == 0 && !last) {
            pool.answered(self);
        }
        drop(work.answer.send(Progress::Ended(answer)));
        if last {
            self.retire(Reason::Timeout);
        } else if let Some(conn) = work.asks {
            return self.ask(&conn, now);
        }
        self.offer(free);
        Ok(())
    }

    /// Takes the invocation `id` from what it works on; also whether it was the last of one that retires.
    fn finish(&self, stage: &mut Stage, id: &str, now: Time) -> Option<(Work, bool)> {
        let Stage::Up(up) = stage else { return None };
        let at = up.works.iter().position(|work| work.id == id)?;
        let work = up.works.swap_remove(at);
        if up.works.is_empty() {
            up.since = now;
        }
        if self.concurrency == 1 {
            up.answered = Some(work.invocation.id);
        } else {
            self.presence.end(work.invocation.id);
        }
        Some((work, up.retires && up.works.is_empty()))
    }

    /// An invocation has run out of time. Alone it takes the instance with it; where others are under way these end
    /// first, and the instance gets no more.
    pub(crate) fn late(self: &Arc<Self>, id: InvocationId) {
        let mut stage = self.stage.lock();
        let offered = match &mut *stage {
            Stage::Up(up) if up.works.iter().any(|work| work.invocation.id != id) => {
                up.works.retain(|work| work.invocation.id != id);
                up.retires = true;
                std::mem::take(&mut up.offered)
            }
            _ => {
                drop(stage);
                self.logs.note("timed out: killed".to_owned());
                return self.retire(Reason::Timeout);
            }
        };
        drop(stage);
        self.presence.end(id);
        self.logs
            .note("timed out: killed when its other invocations have ended".to_owned());
        if let Some(pool) = self.pool.upgrade() {
            pool.withdraw(self, offered);
        }
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
        self.leave();
        let child = self.child.lock().take();
        drop(child);
    }

    /// It gets no more work, and what it says of what it has counts no more.
    pub(super) fn leave(&self) {
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Gone);
        self.end_presence(&before);
    }

    /// Its runtime does nothing more; what else runs in it does.
    pub(super) fn freeze(&self) {
        let child = self.child.lock();
        let runs = child.as_ref().is_some_and(|child| child.exit().is_none());
        let of = |pid: u32| rustix::process::Pid::from_raw(pid.cast_signed());
        let first = of(self.pid);
        let pid = match self.marks.runtime() {
            Some(runtime) => of(runtime),
            None => first,
        };
        // One that has ended may be another's number by now: then it is of another session.
        let ours = |pid: &rustix::process::Pid| rustix::process::getsid(Some(*pid)).ok() == first;
        if let Some(pid) = pid.filter(|pid| runs && ours(pid)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::STOP);
        }
    }

    /// Whether it works on an invocation, and can take no other.
    pub(super) fn is_working(&self) -> bool {
        let stage = self.stage.lock();
        self.concurrency == 1 && matches!(&*stage, Stage::Up(up) if !up.works.is_empty())
    }

    pub(super) fn end_presence(&self, stage: &Stage) {
        if let Stage::Up(up) = stage {
            let working = up.works.iter().map(|work| work.invocation.id);
            let all = working.chain(up.answered);
            all.for_each(|id| self.presence.end(id));
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
            Stage::Up(up) if up.works.is_empty() && !up.asking.is_empty() => Some(up.since),
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
            Stage::Up(up) if up.works.is_empty() && up.asking.is_empty() => Some(up.since),
            _ => None,
        }
    }

    pub(crate) fn stat(&self) -> InstanceStat {
        let (state, in_flight) = match &*self.stage.lock() {
            Stage::Init(_) => (InstanceState::Starting, 0),
            Stage::Up(up) if up.retires => (InstanceState::Draining, up.works.len()),
            Stage::Up(up) if up.works.is_empty() => (InstanceState::Idle, 0),
            Stage::Up(up) => (InstanceState::Busy, up.works.len()),
            Stage::Gone => (InstanceState::Draining, 0),
        };
        let used = self.gauge.read().unwrap_or_default();
        InstanceStat {
            instance: self.presence.instance,
            state,
            pid: Some(self.pid),
            since: self.since,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            memory: used.memory,
            cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
            problem: None,
            ports: std::collections::BTreeMap::new(),
        }
    }
}
