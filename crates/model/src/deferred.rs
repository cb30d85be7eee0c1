//! What asynchronous invocations of a workload get: how often they are tried, and who learns how they ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::subscription::RetryPolicy;

/// What a workload says of its asynchronous invocations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Attempts after the first, 0 to 2.
    pub retries: u32,
    /// The oldest one may get before it is given up.
    pub max_age: Duration,
    /// The wait before the second attempt, at most; twice that before the third.
    #[serde(default = "one_minute")]
    pub backoff: Duration,
    /// Who learns how they ended.
    #[serde(default)]
    pub destinations: Destinations,
}

/// Who learns how an asynchronous invocation ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Destinations {
    /// When it was done.
    #[serde(default)]
    pub on_success: Option<Destination>,
    /// When it was given up.
    #[serde(default)]
    pub on_failure: Option<Destination>,
}

/// Where the record of an asynchronous invocation goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// Onto the bus, as an event.
    Events,
    /// To a workload, as the payload of an asynchronous invocation: `name` in the same app, or `app/name`.
    Workload(String),
}

impl Default for Deferred {
    /// As Lambda has it: two retries, after one minute and two more, within six hours
    /// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>).
    fn default() -> Self {
        Self {
            retries: 2,
            max_age: Self::MAX_AGE,
            backoff: one_minute(),
            destinations: Destinations::default(),
        }
    }
}

impl Deferred {
    /// The longest that one may wait.
    pub const MAX_AGE: Duration = Duration::from_secs(6 * 3600);
    /// The most attempts after the first.
    pub const MAX_RETRIES: u32 = 2;

    /// Whether nothing was said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same as a policy, with the waits between attempts.
    #[must_use]
    pub fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            attempts: 1 + self.retries,
            max_age: self.max_age,
            backoff: self.backoff,
            max_backoff: self.backoff.saturating_mul(2),
        }
    }
}

const fn one_minute() -> Duration {
    Duration::from_secs(60)
}

impl Destinations {
    /// Who learns of such an end.
    #[must_use]
    pub fn of(&self, success: bool) -> Option<&Destination> {
        let destination = if success {
            &self.on_success
        } else {
            &self.on_failure
        };
        destination.as_ref()
    }
}
