//! An instance of WASI 0.3 as its requests see it: who is aboard, who may still come, and what each is told in the end.
//!
//! Its driver ([`super::drive`]) works on its store; this is what both share. A request is aboard from when it has a
//! seat until it is told its verdict or leaves. An instance that somebody left, that is worn or that failed takes
//! nobody any more.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use model::{ColdStart, Error};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use wasmtime::component::GuestTaskId;

use super::{
    drive::{self, Call},
    session::Session,
};
use crate::wasm::{
    Pool,
    place::Place,
    run::{Run, thread_cpu},
    ticker::Working,
    turns::Turn as Share,
};

/// Tasks of requests that have ended whose output still goes to the right log.
const REMEMBERED: usize = 64;

/// What a guest may hold in wasmtime's table of streams, futures, tasks and sets, of any size.
const WAITABLES: usize = 4096;
/// The same for each request that it may serve at the same time. One that streams both ways takes about twenty.
const WAITABLES_PER_SEAT: usize = 64;

/// One instance.
pub(in crate::wasm) struct Instance {
    pub(super) pool: Arc<Pool>,
    /// Requests that it may serve at the same time.
    seats: usize,
    /// Requests that it may serve before it ends.
    requests: u32,
    pub(super) calls: mpsc::UnboundedSender<Call>,
    aboard: Mutex<Aboard>,
    /// Wakes the driver, when somebody left.
    pub(super) driver: AtomicWaker,
    /// It is instantiated: until then whoever comes waits as long in it as in another.
    began: AtomicBool,
    /// It is in the middle of work: another instance would be quicker.
    working: AtomicBool,
    /// The epoch moved in this turn.
    ticked: AtomicBool,
    /// Its guest used up this turn.
    yielded: AtomicBool,
    turn: Share,
    /// CPU time of its thread up to which somebody was charged.
    charged: Mutex<Duration>,
    /// Bytes of linear memory that it has.
    memory: AtomicU64,
}

#[derive(Default)]
struct Aboard {
    flights: Vec<Flight>,
    /// Requests that ever had a seat.
    boarded: u32,
    /// Those that were served to their end.
    arrived: u32,
    leaving: bool,
    /// No task of its guest is left.
    quiet: bool,
    /// When the last of those who were aboard had to be done.
    until: Option<Instant>,
    tasks: VecDeque<(GuestTaskId, Arc<Run>)>,
}

struct Flight {
    number: u32,
    run: Arc<Run>,
    verdict: oneshot::Sender<Result<(), Error>>,
}

/// What an instance that nothing happens in should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Somebody is aboard.
    Busy,
    /// Nobody will ever need it again.
    End,
    /// It ends when nobody has come for so long; `boarded` tells one rest from the next.
    Wait { time: Duration, boarded: u32 },
}

impl Instance {
    /// Starts one with its first request, in a task of the runtime that the request came to.
    ///
    /// # Errors
    /// When this machine has no room for the engine of WASI 0.3.
    pub(super) fn start(run: &Arc<Run>, place: Place, cold: ColdStart) -> Result<Session, Error> {
        let pool = &run.pool;
        let engine = pool.engine.preview3()?;
        let (calls, called) = mpsc::unbounded_channel();
        let reuse = pool.reuse;
        let instance = Arc::new(Self {
            pool: Arc::clone(pool),
            seats: reuse.map_or(1, |reuse| reuse.concurrent as usize),
            requests: reuse.map_or(1, |reuse| reuse.requests),
            calls,
            aboard: Mutex::default(),
            driver: AtomicWaker::new(),
            began: AtomicBool::new(false),
            working: AtomicBool::new(false),
            ticked: AtomicBool::new(false),
            yielded: AtomicBool::new(false),
            turn: Share::default(),
            charged: Mutex::default(),
            memory: AtomicU64::new(0),
        });
        let session = instance.seat(run);
        let session = session.ok_or_else(|| Error::internal("a new instance has no seat"))?;
        pool.starts.fetch_add(1, Relaxed);
        if instance.requests > 1 {
            pool.preview3.0.lock().push(Arc::clone(&instance));
        }
        let store = drive::store(engine, &instance, run);
        Handle::current().spawn(drive::drive(instance, store, place, called, cold));
        Ok(session)
    }

    /// Whether several requests may be in it at the same time.
    pub(super) const fn is_shared(&self) -> bool {
        self.seats > 1
    }

    fn seat(self: &Arc<Self>, run: &Arc<Run>) -> Option<Session> {
        let mut aboard = self.aboard.lock();
        let full = aboard.flights.len() >= self.seats || aboard.boarded >= self.requests;
        if full || aboard.leaving {
            return None;
        }
        aboard.boarded += 1;
        aboard.quiet = false;
        let number = aboard.boarded;
        let deadline = run.invocation.deadline;
        aboard.until = Some(aboard.until.map_or(deadline, |until| until.max(deadline)));
        let (verdict, told) = oneshot::channel();
        aboard.flights.push(Flight {
            number,
            run: Arc::clone(run),
            verdict,
        });
        drop(aboard);
        run.meter.peak_memory(self.memory.load(Relaxed));
        Some(Session::new(Arc::clone(self), run, number, told))
    }

    /// Whether it will never take another request.
    fn is_spent(&self) -> bool {
        let aboard = self.aboard.lock();
        aboard.leaving || aboard.boarded >= self.requests
    }

    /// The task `task` of the guest serves `run`.
    pub(super) fn serves(&self, task: GuestTaskId, run: &Arc<Run>) {
        if !self.is_shared() {
            return;
        }
        let mut aboard = self.aboard.lock();
        aboard.tasks.retain(|(taken, _)| *taken != task);
        if aboard.tasks.len() >= self.seats + REMEMBERED {
            aboard.tasks.pop_front();
        }
        aboard.tasks.push_back((task, Arc::clone(run)));
    }

    /// The request that a task of the guest serves, or served.
    pub(super) fn run_of(&self, task: GuestTaskId) -> Option<Arc<Run>> {
        let aboard = self.aboard.lock();
        let mut tasks = aboard.tasks.iter();
        let found = tasks.find(|(known, _)| *known == task);
        found.map(|(_, run)| Arc::clone(run))
    }

    /// Says whether any task of the guest is left.
    pub(super) fn set_quiet(&self, quiet: bool) {
        self.aboard.lock().quiet = quiet;
    }

    /// A request was served to its end.
    pub(super) fn arrive(&self, number: u32) {
        let flight = {
            let mut aboard = self.aboard.lock();
            aboard.arrived += 1;
            aboard.take(number)
        };
        if let Some(flight) = flight {
            // Whoever does not listen any more needs no verdict.
            let _ = flight.verdict.send(Ok(()));
        }
        if self.is_spent() {
            self.pool.preview3.forget(self);
        }
    }

    /// A request does not wait for its end any more. What its guest does for it cannot be cut out of an instance, so
    /// that this one takes nobody else.
    pub(super) fn leave(&self, number: u32) {
        let left = {
            let mut aboard = self.aboard.lock();
            let left = aboard.take(number).is_some();
            aboard.leaving |= left;
            left
        };
        if left {
            self.pool.preview3.forget(self);
            self.driver.wake();
        }
    }

    /// Everybody aboard is told what `verdict` says of them; nobody comes aboard any more.
    pub(super) fn end(&self, verdict: impl Fn(&Run) -> Result<(), Error>) {
        let flights = {
            let mut aboard = self.aboard.lock();
            aboard.leaving = true;
            std::mem::take(&mut aboard.flights)
        };
        for flight in flights {
            let _ = flight.verdict.send(verdict(&flight.run));
        }
        self.pool.preview3.forget(self);
    }

    /// Those aboard.
    pub(super) fn runs(&self) -> Vec<Arc<Run>> {
        let aboard = self.aboard.lock();
        let runs = aboard.flights.iter();
        runs.map(|flight| Arc::clone(&flight.run)).collect()
    }

    /// What it should do while nothing happens in it. Told to end, it takes nobody any more.
    pub(super) fn rest(&self) -> Rest {
        let mut aboard = self.aboard.lock();
        if !aboard.flights.is_empty() {
            return Rest::Busy;
        }
        let rest = if aboard.leaving {
            // A task of whoever has left is in it: waiting for that to end helps nobody.
            None
        } else if aboard.quiet {
            let kept = aboard.boarded < self.requests && self.pool.engine.may_keep();
            self.pool.reuse.filter(|_| kept).map(|reuse| reuse.idle)
        } else {
            // What it began for those that it has served is worth finishing, for as long as they had.
            let now = self.pool.ctx.clock.monotonic();
            let until = aboard.until;
            let until = until.filter(|_| self.is_shared() && aboard.arrived > 0);
            until.map(|until| until.saturating_duration_since(now))
        };
        match rest {
            Some(time) if !time.is_zero() => Rest::Wait {
                time,
                boarded: aboard.boarded,
            },
            _ => {
                aboard.leaving = true;
                Rest::End
            }
        }
    }

    /// It rested for long enough: ends it, unless somebody has come meanwhile.
    pub(super) fn close(&self) -> bool {
        let mut aboard = self.aboard.lock();
        aboard.leaving |= aboard.flights.is_empty();
        aboard.leaving && aboard.flights.is_empty()
    }

    /// It has so much linear memory now.
    pub(in crate::wasm) fn has_memory(&self, bytes: u64) {
        self.memory.store(bytes, Relaxed);
        for flight in &self.aboard.lock().flights {
            flight.run.meter.peak_memory(bytes);
        }
    }

    /// It is instantiated.
    pub(super) fn begin(&self) {
        self.began.store(true, Relaxed);
    }

    /// A turn of its guest begins on this thread, and lasts until what this gives is dropped.
    pub(super) fn begin_turn(&self) -> Turn<'_> {
        self.working.store(self.began.load(Relaxed), Relaxed);
        self.ticked.store(false, Relaxed);
        self.yielded.store(false, Relaxed);
        *self.charged.lock() = thread_cpu();
        let engine = self.pool.engine.preview3();
        Turn {
            instance: self,
            _working: engine.ok().map(|engine| engine.ticker.enter()),
        }
    }

    /// The epoch moved: says whether the turn is over. The first tick may come right after it began.
    pub(super) fn turn_is_over(&self) -> bool {
        let over = self.ticked.swap(true, Relaxed);
        if over {
            self.yielded.store(true, Relaxed);
        }
        over
    }

    /// Waits until it is its turn again.
    pub(super) async fn next_turn(self: Arc<Self>) {
        self.turn.next(&self.pool.turns).await;
    }

    /// Streams, futures, tasks and sets of them that its guest may hold at the same time.
    pub(super) const fn most_waitables(&self) -> usize {
        WAITABLES + self.seats * WAITABLES_PER_SEAT
    }

    /// Charges the CPU time since somebody was last charged to `run`.
    pub(super) fn charge_to(&self, run: &Run) {
        run.meter.add_cpu(self.uncharged());
    }

    fn uncharged(&self) -> Duration {
        let now = thread_cpu();
        let before = std::mem::replace(&mut *self.charged.lock(), now);
        now.saturating_sub(before)
    }

    /// Charges CPU time to those aboard, to each an equal part: who of them it was for is not known.
    fn charge_all(&self, cpu: Duration) {
        let aboard = self.aboard.lock();
        let Ok(several) = u32::try_from(aboard.flights.len()) else {
            return;
        };
        if let Some(part) = cpu.checked_div(several) {
            for flight in &aboard.flights {
                flight.run.meter.add_cpu(part);
            }
        }
    }
}

/// A turn of a guest: while this is alive, the epoch moves.
pub(super) struct Turn<'a> {
    instance: &'a Instance,
    _working: Option<Working<'a>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let instance = self.instance;
        instance.charge_all(instance.uncharged());
        instance.turn.end();
        // One that was interrupted goes on as soon as its thread has looked around.
        let goes_on = instance.yielded.load(Relaxed);
        instance.working.store(goes_on, Relaxed);
    }
}

impl Aboard {
    fn take(&mut self, number: u32) -> Option<Flight> {
        let at = self.flights.iter().position(|f| f.number == number)?;
        Some(self.flights.swap_remove(at))
    }
}

/// The instances of a pool that may serve more requests.
#[derive(Default)]
pub(in crate::wasm) struct Shelf(Mutex<Vec<Arc<Instance>>>);

impl Shelf {
    /// A seat in an instance that has one and is not at work this very moment. The newest first, so that the others
    /// can end.
    pub(super) fn board(&self, run: &Arc<Run>) -> Option<Session> {
        let instances = self.0.lock();
        let mut waiting = instances.iter().rev();
        waiting.find_map(|instance| {
            let busy = instance.working.load(Relaxed);
            if busy { None } else { instance.seat(run) }
        })
    }

    fn forget(&self, instance: &Instance) {
        let mut instances = self.0.lock();
        let at = instances
            .iter()
            .position(|kept| std::ptr::eq(Arc::as_ptr(kept), instance));
        let gone = at.map(|at| instances.swap_remove(at));
        drop(instances);
        // Dropped without the lock: it may be the last that knows its pool.
        drop(gone);
    }
}
