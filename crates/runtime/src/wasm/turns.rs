//! Whose turn it is on a thread. Of those guests of a workload that work for longer than a turn, one at a time is in the
//! thread's queue, and the others wait for it here, first come, first served.
//!
//! So workloads take turns, not guests: however many places a workload fills, whoever else is on the thread waits for one
//! turn of it, not for one of each of its guests. The first turn of a guest is not waited for: what is done within it never
//! comes here, and a workload whose guests all begin at once has that many first turns.
//!
//! Invariant: a guest that nobody polls, since nobody reads its answer, keeps no turn. So a task of its own stands in line
//! for each that waits, and a turn that is not taken passes.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::{self, ThreadId},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::yield_now,
    time::timeout,
};

/// For how long a guest's turn waits for it, its work included.
const PASSES: Duration = Duration::from_millis(10);

/// The turns of one workload, by thread.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<ThreadId, Arc<Semaphore>>>);

/// What one guest has of them. Dropped, it is over.
#[derive(Default)]
pub(super) struct Turn(Mutex<Option<oneshot::Sender<()>>>);

impl Turns {
    fn here(&self) -> Arc<Semaphore> {
        let here = thread::current().id();
        let mut threads = self.0.lock();
        if let Some(turns) = threads.get(&here) {
            return Arc::clone(turns);
        }
        // A turn that is taken or waited for is known outside, so that only threads where nobody is are forgotten.
        threads.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(
            threads
                .entry(here)
                .or_insert_with(|| Arc::new(Semaphore::new(1))),
        )
    }
}

impl Turn {
    /// Ends it and waits for the next one, at least until the thread has looked at its sockets.
    pub(super) async fn next(&self, turns: &Turns) {
        self.end();
        let turns = turns.here();
        let (come, mine) = oneshot::channel();
        Handle::current().spawn(async move {
            let _one_at_a_time = turns.acquire().await;
            let (turn, over) = oneshot::channel();
            if come.send(turn).is_ok() {
                // Over, or not taken: the next one comes.
                let _ = timeout(PASSES, over).await;
            }
        });
        // Without an answer the runtime ends, and so does this guest.
        let turn = mine.await.ok();
        yield_now().await;
        *self.0.lock() = turn;
    }

    /// It is over, or its guest waits for something else: the next in line is woken.
    pub(super) fn end(&self) {
        self.0.lock().take();
    }
}
