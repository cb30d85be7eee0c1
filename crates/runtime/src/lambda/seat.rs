//! Where a conversation waits for its client's next request, and from where it is taken to another thread: to that of
//! whoever waits for the answer. An answer that is read elsewhere wakes two threads, one to read it and one to use it, and
//! where little goes on a wake takes longer than all else.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id, RuntimeFlavor};

use super::{api::Conversation, conn::Conn};

/// The place of one connection's conversation; empty while a request is read and answered.
#[derive(Default)]
pub(super) struct Seat(Mutex<Option<Seated>>);

/// A conversation that waits.
struct Seated {
    conversation: Conversation,
    /// Which task waits in it.
    by: u64,
    task: Waker,
    /// Where that task runs.
    on: Id,
}

/// Waits for the client to say more; gives the conversation back then, or nothing once it was taken elsewhere. Where its runtime ends
/// before, it goes on where the instance was started.
pub(super) struct Waiting {
    conn: Arc<Conn>,
    by: u64,
}

impl Waiting {
    /// To be awaited where it is made.
    pub(super) fn new(conversation: Conversation) -> Self {
        static TASKS: AtomicU64 = AtomicU64::new(0);
        let this = Self {
            conn: Arc::clone(&conversation.conn),
            by: TASKS.fetch_add(1, Relaxed),
        };
        *this.conn.seat.0.lock() = Some(Seated {
            conversation,
            by: this.by,
            // It asks for itself first.
            task: Waker::noop().clone(),
            on: Handle::current().id(),
        });
        this
    }
}

impl Future for Waiting {
    type Output = Option<Conversation>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Conversation>> {
        let mut seat = self.conn.seat.0.lock();
        let Some(seated) = seat.as_mut().filter(|seated| seated.by == self.by) else {
            return Poll::Ready(None);
        };
        if seated.conversation.poll_said(cx).is_pending() {
            seated.task.clone_from(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(seat.take().map(|seated| seated.conversation))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut seat = self.conn.seat.0.lock();
        let seated = seat.take_if(|seated| seated.by == self.by);
        drop(seat);
        if let Some(seated) = seated {
            seated.conversation.go_home();
        }
    }
}

impl Seat {
    /// Takes the conversation to the runtime of whoever asks, if it waits, and if all of that runtime is on this one thread.
    pub(super) fn follow(&self) {
        let Ok(here) = Handle::try_current() else {
            return;
        };
        if here.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return;
        }
        let taken = self.0.lock().take_if(|seated| seated.on != here.id());
        if let Some(seated) = taken {
            // It has nothing to wait for any more.
            seated.task.wake();
            seated.conversation.go_on();
        }
    }
}
