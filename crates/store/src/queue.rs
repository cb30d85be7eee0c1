//! The bounded queue in front of the writer thread. Intake (publishes, accepted calls) is refused at three quarters
//! of its bounds, everything else only when it is full, so that the system drains under load. Lazy commands wait for
//! company: they are written with the next commit, or after a short while.

use std::{collections::VecDeque, time::Duration};

use model::ByteSize;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{
    command::{Command, Reply},
    error::{Error, Result},
};

/// How a command enters the queue and how soon it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// New work from outside: written at once, refused first.
    Intake,
    /// The end of work, and everything of the control plane: written at once.
    Settle,
    /// Written with the next commit, or within [`LINGER`].
    Soon,
    /// Written with the next commit, whenever that is; at the latest when the store closes.
    Ride,
}

/// The longest that a command which is to be written soon waits for company.
const LINGER: Duration = Duration::from_millis(20);
/// Most commands waiting.
const MAX_ITEMS: usize = 16_384;
/// Most commands in one batch, so that no caller waits for an endless one.
const BATCH_ITEMS: usize = 2048;
/// Most bytes in one batch.
const BATCH_BYTES: usize = 8 << 20;

/// Where the answer to a command goes; lazy commands have none.
pub(crate) type Answer = Option<oneshot::Sender<Result<Reply>>>;

/// A command on its way to the writer.
pub(crate) struct Item {
    pub(crate) command: Command,
    pub(crate) urgency: Urgency,
    pub(crate) size: usize,
    pub(crate) answer: Answer,
}

impl Item {
    pub(crate) const fn is_lazy(&self) -> bool {
        matches!(self.urgency, Urgency::Soon | Urgency::Ride)
    }

    /// Whether somebody waits for the end of a delivery to be durable.
    pub(crate) fn ends_a_delivery(&self) -> bool {
        !self.is_lazy() && self.command.moves_a_delivery()
    }

    /// What is left to do, by and by, when this could not be written.
    pub(crate) fn after_failure(&self) -> Option<Self> {
        Some(Self {
            command: self.command.after_failure()?,
            urgency: Urgency::Soon,
            size: self.size,
            answer: None,
        })
    }
}

/// The queue: many senders, one writer.
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    urgent: usize,
    soon: usize,
    closed: bool,
}

impl State {
    fn count(&mut self, urgency: Urgency, change: isize) {
        let counter = match urgency {
            Urgency::Intake | Urgency::Settle => &mut self.urgent,
            Urgency::Soon => &mut self.soon,
            Urgency::Ride => return,
        };
        *counter = counter
            .checked_add_signed(change)
            .expect("an item leaves once for each time it came");
    }
}

impl Queue {
    pub(crate) fn new(max_bytes: ByteSize) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            max_bytes: max_bytes.as_usize(),
        }
    }

    /// Puts a command in.
    ///
    /// # Errors
    /// [`Error::Busy`] when the queue is too full for its urgency, [`Error::Closed`] after [`Queue::close`].
    pub(crate) fn push(&self, item: Item) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        let (items, bytes) = match item.urgency {
            Urgency::Intake => (MAX_ITEMS / 4 * 3, self.max_bytes / 4 * 3),
            Urgency::Settle => (MAX_ITEMS, self.max_bytes),
            // One per cursor at most is kept by their owners, and losing one would lose its order.
            Urgency::Soon | Urgency::Ride => (usize::MAX, usize::MAX),
        };
        if state.items.len() >= items || state.bytes.saturating_add(item.size) > bytes {
            return Err(Error::Busy);
        }
        state.bytes += item.size;
        state.count(item.urgency, 1);
        let wakes =
            item.urgency != Urgency::Ride && state.urgent + state.soon == 1 || !item.is_lazy();
        state.items.push_back(item);
        drop(state);
        if wakes {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for work and takes up to a batch of it, in order; `None` when closed and empty.
    pub(crate) fn take(&self) -> Option<Vec<Item>> {
        let mut state = self.state.lock();
        loop {
            if state.urgent > 0 || (state.closed && !state.items.is_empty()) {
                break;
            }
            if state.closed {
                return None;
            }
            if state.soon == 0 {
                self.arrived.wait(&mut state);
            } else if self.arrived.wait_for(&mut state, LINGER).timed_out() {
                break;
            }
        }
        Some(take_batch(&mut state))
    }

    /// Puts lazy commands back to where they were, after a commit failed.
    pub(crate) fn give_back(&self, items: Vec<Item>) {
        let mut state = self.state.lock();
        for item in items.into_iter().rev() {
            state.bytes += item.size;
            state.count(item.urgency, 1);
            state.items.push_front(item);
        }
    }

    /// Refuses new commands; those inside are still taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Forgets what is inside and refuses more: what a crash does.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        *state = State {
            closed: true,
            ..State::default()
        };
        drop(state);
        self.arrived.notify_all();
    }

    /// Whether nothing more comes in.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Commands and bytes waiting.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.items.len(), state.bytes)
    }
}

fn take_batch(state: &mut State) -> Vec<Item> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
        let Some(item) = state.items.pop_front() else {
            break;
        };
        bytes += item.size;
        state.count(item.urgency, -1);
        batch.push(item);
    }
    state.bytes -= bytes;
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Kernel;

    fn item(urgency: Urgency, size: usize) -> Item {
        Item {
            command: Command::Kernel(Kernel::Flush),
            urgency,
            size,
            answer: None,
        }
    }

    #[test]
    fn intake_is_refused_before_settles() {
        let queue = Queue::new(ByteSize(100));
        queue.push(item(Urgency::Intake, 70)).expect("fits");
        assert!(matches!(
            queue.push(item(Urgency::Intake, 10)),
            Err(Error::Busy)
        ));
        queue.push(item(Urgency::Settle, 30)).expect("fits still");
        assert!(matches!(
            queue.push(item(Urgency::Settle, 1)),
            Err(Error::Busy)
        ));
    }

    #[test]
    fn lazy_commands_go_with_the_next_and_in_order() {
        let queue = Queue::new(ByteSize(1000));
        queue.push(item(Urgency::Ride, 1)).expect("fits");
        queue.push(item(Urgency::Intake, 2)).expect("fits");
        queue.push(item(Urgency::Soon, 3)).expect("fits");
        let sizes = |batch: Vec<Item>| batch.iter().map(|i| i.size).collect::<Vec<_>>();
        assert_eq!(queue.take().map(sizes), Some(vec![1, 2, 3]));
        queue.push(item(Urgency::Soon, 4)).expect("fits");
        assert_eq!(queue.take().map(sizes), Some(vec![4]));
        queue.push(item(Urgency::Ride, 5)).expect("fits");
        queue.close();
        assert_eq!(queue.take().map(sizes), Some(vec![5]));
        assert!(queue.take().is_none());
    }
}
