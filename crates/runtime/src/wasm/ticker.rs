//! The heartbeat of running guests: one thread that moves the epoch every millisecond, and only while guests work.
//!
//! Epochs are how a guest that never yields is made to: its code compares the epoch at loops and calls. The thread
//! parks soon after the last guest stopped, so that an idle server wakes nobody.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::Duration,
};

/// The length of a guest's turn on its thread.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Ticks without work before the thread parks: long enough that under load nobody pays for waking it.
const LINGER: u32 = 10;

pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    working: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// While this is alive, the epoch moves.
pub(super) struct Working<'a>(&'a Shared);

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handle = thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .spawn({
                let (shared, engine) = (Arc::clone(&shared), engine.clone());
                move || shared.tick(&engine)
            })?;
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// Says that a guest works until the result is dropped.
    pub(super) fn enter(&self) -> Working<'_> {
        self.shared.working.fetch_add(1, SeqCst);
        if self.shared.asleep.load(SeqCst) {
            self.thread.unpark();
        }
        Working(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn tick(&self, engine: &wasmtime::Engine) {
        let mut idle = 0;
        while !self.stop.load(SeqCst) {
            if self.working.load(SeqCst) > 0 {
                idle = 0;
            } else {
                idle += 1;
            }
            if idle > LINGER {
                self.sleep();
                idle = 0;
            }
            thread::sleep(TICK);
            engine.increment_epoch();
        }
    }

    /// Either this sees the guest that entered, or the guest sees that this sleeps and wakes it.
    fn sleep(&self) {
        self.asleep.store(true, SeqCst);
        while self.working.load(SeqCst) == 0 && !self.stop.load(SeqCst) {
            thread::park();
        }
        self.asleep.store(false, SeqCst);
    }
}
