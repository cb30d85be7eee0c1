//! What was just committed, in the order of commits, for the one who matches it. Bounded: when that one is slow, events
//! are left out and only how far they go is said; they are in the log. A switch of subscriptions is never left out.

use std::{collections::VecDeque, sync::Arc};

use model::{Namespace, Position};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::log::{Logged, Switched};

/// Most events waiting here.
const MAX_EVENTS: usize = 8192;
/// Most bytes of events waiting here.
const MAX_BYTES: u64 = 32 << 20;

/// One thing that was committed.
#[derive(Debug, Clone)]
pub enum Committed {
    /// An event.
    Event(Namespace, Arc<Logged>),
    /// Events up to this position: read them from the log.
    Skipped(Namespace, Position),
    /// The subscriptions of an app changed.
    Switched(Namespace, Arc<Switched>),
}

/// What the writer and the receiver share.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    attached: bool,
    closed: bool,
    queue: VecDeque<Committed>,
    events: usize,
    bytes: u64,
}

/// The receiver: at most one per store.
pub struct Tail {
    shared: Arc<Shared>,
}

impl Shared {
    pub(crate) fn extend(&self, committed: Vec<Committed>) {
        if committed.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if !state.attached {
            return;
        }
        committed.into_iter().for_each(|one| state.push(one));
        drop(state);
        self.arrived.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Begins to collect.
    pub(crate) fn attach(self: &Arc<Self>) -> Tail {
        self.state.lock().attached = true;
        Tail {
            shared: Arc::clone(self),
        }
    }
}

impl State {
    fn push(&mut self, committed: Committed) {
        let Committed::Event(namespace, logged) = committed else {
            self.queue.push_back(committed);
            return;
        };
        if self.events < MAX_EVENTS && self.bytes < MAX_BYTES {
            self.events += 1;
            self.bytes += logged.size;
            self.queue.push_back(Committed::Event(namespace, logged));
            return;
        }
        match self.queue.back_mut() {
            Some(Committed::Skipped(last, through)) if *last == namespace => {
                *through = logged.position;
            }
            _ => self
                .queue
                .push_back(Committed::Skipped(namespace, logged.position)),
        }
    }
}

impl Tail {
    /// All that was committed since the last call, at least one; `None` when the store is closed.
    pub async fn next(&mut self) -> Option<VecDeque<Committed>> {
        loop {
            {
                let mut state = self.shared.state.lock();
                if !state.queue.is_empty() {
                    (state.events, state.bytes) = (0, 0);
                    return Some(std::mem::take(&mut state.queue));
                }
                if state.closed {
                    return None;
                }
            }
            self.shared.arrived.notified().await;
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        *state = State {
            closed: state.closed,
            ..State::default()
        };
    }
}
