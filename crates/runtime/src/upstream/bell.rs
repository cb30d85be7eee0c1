//! Who is woken when a connection can go on: whoever uses it now, and only while they wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;

/// What a connection is polled with instead of its user's own waker. A request that is handed to it, or a piece of a body
/// that is taken from it, wakes whoever polled the connection last: the user itself, which is about to poll it anyway, or
/// the user before. Without this, each exchange polled some task for nothing.
#[derive(Default)]
pub(super) struct Bell {
    /// Whether the user waits.
    rings: AtomicBool,
    user: Mutex<Option<Waker>>,
}

impl Bell {
    /// From now on `user` is woken.
    pub(super) fn ring_for(&self, user: &Waker) {
        let mut place = self.user.lock();
        if !place.as_ref().is_some_and(|waker| waker.will_wake(user)) {
            *place = Some(user.clone());
        }
        self.rings.store(true, SeqCst);
    }

    /// From now on nobody is woken: the user polls the connection before it waits again.
    pub(super) fn mute(&self) {
        self.rings.store(false, SeqCst);
    }

    /// Nobody uses the connection any more.
    pub(super) fn leave(&self) {
        self.mute();
        self.user.lock().take();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rings.load(SeqCst)
            && let Some(user) = &*self.user.lock()
        {
            user.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn only_the_last_user_hears_it_and_only_while_it_waits() {
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let users = counts.clone().map(Waker::from);
        let heard = || counts.clone().map(|count| count.0.load(SeqCst));
        let bell = Arc::new(Bell::default());
        let wake = Waker::from(Arc::clone(&bell));
        wake.wake_by_ref();
        bell.ring_for(&users[0]);
        wake.wake_by_ref();
        assert_eq!(heard(), [1, 0]);
        bell.ring_for(&users[1]);
        wake.wake_by_ref();
        bell.mute();
        wake.wake_by_ref();
        assert_eq!(heard(), [1, 1]);
        bell.ring_for(&users[1]);
        bell.leave();
        wake.wake();
        assert_eq!(heard(), [1, 1]);
        assert!(bell.user.lock().is_none(), "its task may end");
    }
}
