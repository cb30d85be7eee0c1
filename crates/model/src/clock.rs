//! Time, as a handle. The system's clock is made in the binary, a virtual one in tests; every loop sleeps
//! only through it, so that a test can let six hours pass at once.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// A point in wall time: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 with microseconds, in UTC.
    #[must_use]
    pub fn rfc3339(self) -> String {
        i64::try_from(self.0)
            .ok()
            .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
            .map_or_else(
                || "9999-12-31T23:59:59.999999Z".to_owned(),
                |t| format!("{t:.6}"),
            )
    }

    /// Reads RFC 3339; nothing before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(timestamp.as_microsecond()).ok().map(Self)
    }
}

impl Time {
    /// Reads the date of an HTTP header (RFC 9110, section 5.6.7, `Sun, 06 Nov 1994 08:49:37 GMT`); nothing before 1970.
    #[must_use]
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
        u64::try_from(parsed.ok()?.as_microsecond()).ok().map(Self)
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl std::ops::Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Virtual {
    async fn comes_to(&self, until: Time) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if *self.state.lock() >= until {
                return;
            }
            moved.await;
        }
    }
}

/// Sleeps on the machine's clock, whatever the task has done so far: a deadline is not to wait for the work that it is for.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that sleeps on the machine's clock"
)]
fn sleep(span: Duration) -> impl Future<Output = ()> {
    tokio::task::coop::unconstrained(tokio::time::sleep(span))
}

/// The clock of a platform. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Virtual(Arc<Virtual>),
}

struct Virtual {
    base: Instant,
    state: Mutex<Time>,
    start: Time,
    moved: Notify,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "a virtual monotonic clock needs one real instant to count from"
    )]
    pub fn virtual_at(start: Time) -> Self {
        Self(Source::Virtual(Arc::new(Virtual {
            base: Instant::now(),
            state: Mutex::new(start),
            start,
            moved: Notify::new(),
        })))
    }

    /// Wall time.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's wall clock"
    )]
    pub fn now(&self) -> Time {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Time(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            }
            Source::Virtual(clock) => *clock.state.lock(),
        }
    }

    /// Monotonic time, for measuring and for deadlines.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's monotonic clock"
    )]
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Virtual(clock) => clock.base + clock.state.lock().since(clock.start),
        }
    }

    /// Sleeps until wall time `until`.
    pub async fn sleep_until(&self, until: Time) {
        match &self.0 {
            Source::System => sleep(until.since(self.now())).await,
            Source::Virtual(clock) => clock.comes_to(until).await,
        }
    }

    /// Sleeps for `span` of this clock.
    pub async fn sleep(&self, span: Duration) {
        match &self.0 {
            Source::System => sleep(span).await,
            // In a box: every deadline of every request is one of these.
            Source::Virtual(clock) => Box::pin(clock.comes_to(self.now() + span)).await,
        }
    }

    /// Moves a virtual clock forward and wakes who slept until then; does nothing to the system's clock.
    pub fn advance(&self, span: Duration) {
        if let Source::Virtual(clock) = &self.0 {
            let mut now = clock.state.lock();
            *now = *now + span;
            drop(now);
            clock.moved.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips() {
        let time = Time(1_790_000_000_123_456);
        assert_eq!(Time::parse_rfc3339(&time.rfc3339()), Some(time));
        assert_eq!(Time::parse_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(Time::parse_rfc3339("yesterday"), None);
    }

    #[tokio::test]
    async fn a_timer_ends_beside_work_that_never_rests() {
        let busy = std::future::poll_fn(|cx| {
            while std::pin::pin!(tokio::task::coop::consume_budget())
                .poll(cx)
                .is_ready()
            {}
            std::task::Poll::<()>::Pending
        });
        let clock = Clock::system();
        tokio::select! {
            biased;
            () = busy => {}
            () = clock.sleep(Duration::from_millis(20)) => {}
        }
    }

    #[tokio::test]
    async fn a_virtual_clock_wakes_only_when_moved_far_enough() {
        let clock = Clock::virtual_at(Time::from_millis(1_000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(3600)).await;
                clock.now()
            }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1800));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1800));
        assert_eq!(
            sleeper.await.expect("does not panic"),
            Time::from_millis(3_601_000)
        );
    }
}
