//! Subscriptions: which events go to which workload, and what happens when it fails.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::name::{AppName, Name, WorkloadName};

/// What a subscription is known by: stable over revisions, so that its cursor survives a deploy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionKey {
    /// The app.
    pub app: AppName,
    /// The workload that gets the events.
    pub workload: WorkloadName,
    /// Its name among the workload's subscriptions: given, or made from its filter.
    pub name: Name,
}

impl fmt::Display for SubscriptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.app, self.workload, self.name)
    }
}

impl FromStr for SubscriptionKey {
    type Err = String;

    /// Reads `app/workload/name`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/').map(Name::new);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(app)), Some(Ok(workload)), Some(Ok(name)), None) => Ok(Self {
                app,
                workload,
                name,
            }),
            _ => Err(format!(
                "`{text}` is not a subscription: expected app/workload/name"
            )),
        }
    }
}

/// An event pattern as JSON: what `pattern` compiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventFilter(pub serde_json::Value);

/// One entry of a workload's `on:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Unique among the workload's subscriptions.
    pub name: Name,
    /// Which events.
    pub filter: EventFilter,
    /// What to do when a delivery fails.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Deliveries at the same time at most; `None`: what the workload's permits allow.
    #[serde(default)]
    pub concurrency: Option<u32>,
}

/// When to try again, and when to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The oldest an event may get before it is given up.
    pub max_age: Duration,
    /// The wait after the first failure; doubled after each further one, with full jitter.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    /// 8 attempts within a day, from one second up to five minutes.
    fn default() -> Self {
        Self {
            attempts: 8,
            max_age: Duration::from_secs(86_400),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The wait after attempt number `attempt` (from 1) failed; `random` in 0..=65535 picks from the upper half
    /// of the exponential step, so that waits spread and still grow.
    #[must_use]
    pub fn wait(&self, attempt: u32, random: u16) -> Duration {
        let doubled = 1u32
            .checked_shl(attempt.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let step = self.backoff.saturating_mul(doubled).min(self.max_backoff);
        step / 2 + (step / 2).mul_f64(f64::from(random) / 65_535.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait(1, u16::MAX), Duration::from_secs(1));
        assert_eq!(policy.wait(1, 0), Duration::from_millis(500));
        assert_eq!(policy.wait(40, u16::MAX), Duration::from_secs(300));
        assert!(policy.wait(3, 0) >= policy.wait(2, u16::MAX));
    }

    #[test]
    fn keys_read_what_they_print() {
        let key: SubscriptionKey = "shop/confirm/order-created".parse().expect("is one");
        assert_eq!(key.to_string(), "shop/confirm/order-created");
        assert!("shop/confirm".parse::<SubscriptionKey>().is_err());
    }
}
