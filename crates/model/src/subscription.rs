//! Subscriptions: which events go to which workload, and what happens when it fails.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    name::{AppName, Name, WorkloadName},
    projection::Projection,
};

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
    /// Events per time at most; `None`: as fast as they are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether the events of a key come one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Whether several events come at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// What the workload gets instead of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputSpec>,
    /// Whether it feeds a read model from the beginning of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Projection>,
    /// Whether somebody comes for the events, instead of their being delivered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pulled: bool,
    /// Whether nothing behind what failed goes before it, as with a projection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serial: bool,
}

impl Subscription {
    /// One that says nothing but its filter.
    #[must_use]
    pub fn new(name: Name, filter: EventFilter) -> Self {
        Self {
            name,
            filter,
            retry: RetryPolicy::default(),
            concurrency: None,
            rate: None,
            order: None,
            batch: None,
            input: None,
            projection: None,
            pulled: false,
            serial: false,
        }
    }
}

/// What a workload gets instead of the event: EventBridge's `Input`, `InputPath` or `InputTransformer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSpec {
    /// Always the same JSON.
    Constant(serde_json::Value),
    /// What a path finds in the event.
    Path(String),
    /// A text with variables.
    Template {
        /// Where the variables are in the event.
        paths: BTreeMap<String, String>,
        /// The text, with `<variable>`s.
        template: String,
    },
}

/// So many in so long: `10/s`, `600/m`, `5000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many; 1 to 1,000,000.
    pub count: u32,
    /// In how long: a second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    /// The most that a rate may count.
    pub const MAX: u32 = 1_000_000;

    /// The time between two.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.per / self.count.max(1)
    }

    /// How many may come at once after a pause: what comes in a second, at least one.
    #[must_use]
    pub fn burst(self) -> u32 {
        let seconds = u32::try_from(self.per.as_secs()).unwrap_or(u32::MAX);
        (self.count / seconds.max(1)).max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            60 => "m",
            3600 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a rate (a whole number from 1 to 1000000 per s, m or h: `10/s`)";
        let (count, unit) = text.split_once('/').ok_or(WRONG)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(WRONG),
        };
        let count = count.trim();
        let digits = count.bytes().all(|b| b.is_ascii_digit());
        let count = count
            .parse()
            .ok()
            .filter(|count| (1..=Self::MAX).contains(count));
        Ok(Self {
            count: count.filter(|_| digits).ok_or(WRONG)?,
            per: Duration::from_secs(seconds),
        })
    }
}

/// The events of a key come one after another; those of other keys do not wait for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Where the key is in the event's JSON format, as a path: `$.subject`, `$.data.order.id`.
    pub key: String,
    /// What a dead letter does to its key.
    #[serde(default)]
    pub dead: AfterDead,
}

/// What a dead letter of an ordered subscription does to the later events of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterDead {
    /// They become dead letters too, untried, until it was redriven or discarded: order is never broken.
    #[default]
    Hold,
    /// They go on without it.
    Skip,
}

/// Several events at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// At most so many; at least two.
    pub size: u32,
    /// How long the first of them waits for more, from when it was published or fell due.
    pub window: Duration,
}

/// When to try again, and when to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The oldest an event may get before it is given up.
    pub max_age: Duration,
    /// The wait after the first failure; doubled after each further one, with equal jitter: from half of it up to all.
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
    /// For what must not be left out: again and again, at least every half minute, until it is done.
    #[must_use]
    pub const fn endless() -> Self {
        Self {
            attempts: u32::MAX,
            max_age: Duration::from_secs(100 * 366 * 86_400),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
        }
    }

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
    fn waits_of_the_same_attempt_are_spread_over_its_upper_half() {
        let policy = RetryPolicy::default();
        for attempt in [1, 3, 40] {
            let most = policy.wait(attempt, u16::MAX);
            let waits = (0..=u16::MAX).step_by(4369);
            let waits: Vec<_> = waits.map(|random| policy.wait(attempt, random)).collect();
            assert_eq!((waits[0], waits[15]), (most / 2, most));
            let apart = waits.windows(2).map(|two| two[1] - two[0]);
            for apart in apart {
                assert!(apart >= most / 31 && apart <= most / 29, "{apart:?}");
            }
        }
    }

    #[test]
    fn rates_read_what_they_print() {
        for text in ["10/s", "600/m", "1000000/h"] {
            assert_eq!(
                text.parse::<Rate>().map(|r| r.to_string()).as_deref(),
                Ok(text)
            );
        }
        for bad in ["", "10", "0/s", "/s", "+1/s", "1.5/s", "10/d", "1000001/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        let slow: Rate = "30/m".parse().expect("is a rate");
        assert_eq!((slow.interval(), slow.burst()), (Duration::from_secs(2), 1));
    }

    #[test]
    fn keys_read_what_they_print() {
        let key: SubscriptionKey = "shop/confirm/order-created".parse().expect("is one");
        assert_eq!(key.to_string(), "shop/confirm/order-created");
        assert!("shop/confirm".parse::<SubscriptionKey>().is_err());
    }
}
