//! Naming and taking what is due.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use model::{Error as Fault, InvocationId, Target, code, units::display_duration};
use store::calls::Waiting;

use crate::{
    attempts::Made,
    calls::{CallAttempt, CallSettled, Calls, Shared},
};

/// How long a call waits that could not be read, or whose attempt was dropped.
const PAUSE: Duration = Duration::from_secs(1);

/// A call that is being tried; dropped without being settled, it waits again.
pub(super) struct InFlight {
    pub(super) id: InvocationId,
    pub(super) target: Target,
    pub(super) shared: Weak<Shared>,
    pub(super) settled: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade().filter(|_| !self.settled) {
            shared.put_back(&self.target, self.id);
        }
    }
}

impl Calls {
    /// Waits until some call is due and gives its target; not given again until it was taken from or parked.
    pub async fn ready(&self) -> Target {
        let shared = &self.0;
        loop {
            let work = shared.work.notified();
            tokio::pin!(work);
            work.as_mut().enable();
            let next = {
                let now = shared.clock.now();
                shared.groups.lock().name_next(now)
            };
            match next {
                Ok(target) => return target,
                Err(None) => work.await,
                Err(Some(due)) => tokio::select! {
                    () = work => {}
                    () = shared.clock.sleep_until(due) => {}
                },
            }
        }
    }

    /// The next call of `target`, under way from now on. Called only with a permit in hand; `None`: there is nothing
    /// after all.
    pub async fn take(&self, target: &Target) -> Option<CallAttempt> {
        let shared = &self.0;
        let mut parked = None;
        let wants_loading = shared.groups.lock().wants_loading(target).is_some();
        if wants_loading && let Err(error) = shared.load(target).await {
            tracing::error!(%error, %target, "waiting calls cannot be read");
            parked = Some(shared.clock.now() + PAUSE);
        }
        let attempt = shared.take(target).await;
        let now = shared.clock.now();
        let wake = shared.groups.lock().taken_from(target, now, parked);
        shared.wake(wake);
        if attempt.is_some() && now < shared.careful_until {
            // As with deliveries: noted durably first, in case the attempt kills the server.
            shared.store.flush().await.ok();
        }
        attempt
    }

    /// No permit now: the target is given again after `wait`. Costs no attempt.
    pub fn park(&self, target: &Target, wait: Duration) {
        let now = self.0.clock.now();
        let wake = self
            .0
            .groups
            .lock()
            .taken_from(target, now, Some(now + wait));
        self.0.wake(wake);
    }
}

impl Shared {
    async fn take(self: &Arc<Self>, target: &Target) -> Option<CallAttempt> {
        loop {
            let now = self.clock.now();
            let id = self.groups.lock().take(target, now)?;
            if let Some(attempt) = self.read(target, id).await {
                return Some(attempt);
            }
        }
    }

    /// `None`: it ended already, was given up now, or could not be read and waits.
    async fn read(self: &Arc<Self>, target: &Target, id: InvocationId) -> Option<CallAttempt> {
        let mut in_flight = InFlight {
            id,
            target: target.clone(),
            shared: Arc::downgrade(self),
            settled: false,
        };
        let call = match self.calls.get(id).await {
            Ok(Some(call)) if !call.state.is_end() => call,
            Ok(_) => {
                in_flight.settled = true;
                self.groups.lock().ended(target, id);
                return None;
            }
            Err(error) => {
                tracing::error!(%error, %id, "a call cannot be read; it waits");
                return None;
            }
        };
        let input = match self.calls.body(call.body).await {
            Ok(input) => input,
            Err(error) => {
                tracing::error!(%error, %id, "the input of a call cannot be read; it waits");
                return None;
            }
        };
        let attempt = CallAttempt {
            id,
            target: call.spec.target,
            trigger: call.spec.trigger,
            cause: call.spec.cause,
            input,
            callback: call.spec.callback,
            attempt: call.attempts + 1,
            accepted_at: call.accepted_at,
            retry: call.spec.retry,
            destinations: call.spec.destinations,
            history: call.history,
            in_flight,
        };
        self.unless_used_up(attempt).await
    }

    /// The attempt that the server did not survive may have been the last, and what waits too long is given up.
    async fn unless_used_up(self: &Arc<Self>, mut attempt: CallAttempt) -> Option<CallAttempt> {
        let made = Made {
            attempts: attempt.attempt - 1,
            history: &attempt.history,
            born: attempt.accepted_at,
        };
        let age = self.clock.now().since(attempt.accepted_at);
        let over = if made.used_up(attempt.retry) {
            let reason = "the server stopped during the last attempt";
            Some(Fault::new(code::SHUTTING_DOWN, reason))
        } else if age > attempt.retry.max_age {
            Some(too_old(&attempt, age))
        } else {
            None
        };
        if let Some(error) = over {
            attempt.attempt -= 1;
            let failed = CallSettled::Failed(error);
            let calls = Calls(Arc::clone(self));
            calls.settle(attempt, failed).await.ok();
            return None;
        }
        if let Ok(owned) = self.calls.owner(attempt.id) {
            // Fails only when the store is closed.
            self.calls
                .note_running(owned, attempt.id, attempt.attempt)
                .ok();
        }
        Some(attempt)
    }

    fn put_back(&self, target: &Target, id: InvocationId) {
        let now = self.clock.now();
        let due = now + PAUSE;
        let wake = self.groups.lock().waits(target, Waiting { due, id }, now);
        self.wake(wake);
    }
}

/// What is said of a call that waited too long: why its last attempt failed, if it had any.
fn too_old(attempt: &CallAttempt, age: Duration) -> Fault {
    let last = attempt.history.last().map(|last| last.error.clone());
    last.unwrap_or_else(|| {
        let age = display_duration(age);
        let message = format!("it had waited {age} before anybody had time for it");
        Fault::new(code::DEADLINE_PASSED, message)
    })
}
