//! Starts that fail: how long to pause before the next, and when to stop keeping requests waiting for it. Pure.

use std::time::{Duration, Instant};

use model::{Error, code};

/// Starts that may fail in a row before requests are refused instead of kept waiting.
const PATIENCE: u32 = 5;

/// The first pause after a failed start, doubled for each further one.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An instance that was ready for this long has not failed to start, whatever ends it.
pub(super) const PROVEN: Duration = Duration::from_secs(10);

/// What failed of late.
#[derive(Default)]
pub(super) struct Trouble {
    in_a_row: u32,
    not_before: Option<Instant>,
    error: Option<Error>,
}

impl Trouble {
    /// An instance failed; `ready` is when it had become ready, if it had.
    pub(super) fn failed(&mut self, ready: Option<Instant>, error: Error, now: Instant) {
        if ready.is_some_and(|ready| now.saturating_duration_since(ready) >= PROVEN) {
            self.in_a_row = 0;
        }
        let pause = PAUSE * 2_u32.saturating_pow(self.in_a_row.min(16));
        self.in_a_row += 1;
        self.not_before = Some(now + pause.min(LONGEST_PAUSE));
        self.error = Some(error);
    }

    /// An instance became ready. Until it is proven, the next pause stays as long as it would have been.
    pub(super) fn succeeded(&mut self) {
        self.error = None;
    }

    /// The last failure, when no start succeeded since.
    pub(super) const fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Until when nothing is started.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|not_before| *not_before > now)
    }

    /// Why there is no use in waiting for the next start, and when that is.
    pub(super) fn hopeless(&self, now: Instant) -> Option<Error> {
        let error = self.error.as_ref()?;
        let left = self.pause(now)?.saturating_duration_since(now);
        if error.code == code::RUNTIME_MISSING {
            return Some(error.clone().retry_after(left));
        }
        // Nobody saw the request: it is not the error of an instance that did.
        let message = format!(
            "no instance is up, and the next is started in {:.1} s: {}",
            left.as_secs_f32(),
            error.message
        );
        let refused = Error::new(code::START_FAILED, message).retry_after(left);
        (self.in_a_row >= PATIENCE).then_some(refused)
    }
}
