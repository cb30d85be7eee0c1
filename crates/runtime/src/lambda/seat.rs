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
    /// Until it is first asked.
    conversation: Option<Conversation>,
}

impl Waiting {
    pub(super) fn new(conversation: Conversation) -> Self {
        static TASKS: AtomicU64 = AtomicU64::new(0);
        Self {
            conn: Arc::clone(&conversation.conn),
            by: TASKS.fetch_add(1, Relaxed),
            conversation: Some(conversation),
        }
    }
}

impl Future for Waiting {
    type Output = Option<Conversation>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Conversation>> {
        let this = self.get_mut();
        let mut seat = this.conn.seat.0.lock();
        if let Some(mut conversation) = this.conversation.take() {
            if conversation.poll_said(cx).is_ready() {
                return Poll::Ready(Some(conversation));
            }
            *seat = Some(Seated {
                conversation,
                by: this.by,
                task: cx.waker().clone(),
                on: Handle::current().id(),
            });
            return Poll::Pending;
        }
        match &mut *seat {
            Some(seated) if seated.by == this.by => {
                if seated.conversation.poll_said(cx).is_pending() {
                    seated.task.clone_from(cx.waker());
                    return Poll::Pending;
                }
            }
            _ => return Poll::Ready(None),
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
