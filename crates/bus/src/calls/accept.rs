//! Accepting: committed before it is acknowledged.

use model::Target;
use store::calls::{NewCall as Stored, Spec};

use crate::{
    Error,
    calls::{Calls, NewCall, Shared, groups::WINDOW},
};

impl Calls {
    /// Commits a call: when this returns it will be tried, even if the server dies now.
    ///
    /// # Errors
    /// Those of the store; nothing was accepted.
    pub async fn accept(&self, call: NewCall) -> Result<(), Error> {
        let target = call.target.clone();
        let stored = Stored {
            id: call.id,
            spec: Spec {
                target: call.target,
                trigger: call.trigger,
                cause: call.cause,
                retry: call.retry,
                callback: call.callback,
                destinations: call.destinations,
            },
            body: call.input.to_vec(),
        };
        if let Some(waiting) = self.0.calls.accept(stored).await? {
            let now = self.0.clock.now();
            let wake = self.0.groups.lock().accepted(&target, waiting, now);
            self.0.wake(wake);
        }
        Ok(())
    }
}

impl Shared {
    /// Reads what waits for a target.
    pub(super) async fn load(&self, target: &Target) -> Result<(), Error> {
        let wanted = self.groups.lock().wants_loading(target).unwrap_or(WINDOW);
        let limit = u32::try_from(wanted).unwrap_or(u32::MAX);
        let read = self.calls.waiting(target, limit).await?;
        let more = read.len() == wanted;
        let now = self.clock.now();
        let wake = self.groups.lock().loaded(target, read, more, now);
        self.wake(wake);
        Ok(())
    }

    pub(super) fn wake(&self, wanted: bool) {
        if wanted {
            self.work.notify_waiters();
        }
    }
}
