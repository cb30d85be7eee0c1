//! Why a subscription gets nothing for now, and the clocks of that: its rate, and when a loop asks again. Pure.

use std::fmt;

use model::{Rate, Time};
use serde::Serialize;

/// Why nothing is delivered though something waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// An operator paused it.
    Paused,
    /// There is no permit: throttled, an open breaker, nobody there.
    Refused(String),
    /// It has had what its rate allows.
    Rate(Rate),
    /// So many deliveries run, and no more may.
    Concurrency(u32),
    /// What is new waits for earlier events of the same keys.
    Keys,
    /// Everything failed and waits for its next attempt.
    Retries,
    /// So many failed that nothing new is taken.
    TooManyRetries,
    /// Its batch is not full, and its window not over.
    Batch,
    /// It is pulled, and nobody came for what it has.
    Unpulled,
    /// An earlier form of the same subscription has work left, and order goes over both.
    Earlier,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("it is paused"),
            Self::Refused(why) => f.write_str(why),
            Self::Rate(rate) => write!(f, "its rate of {rate}"),
            Self::Concurrency(limit) => {
                write!(
                    f,
                    "{limit} deliveries are under way, which is its concurrency"
                )
            }
            Self::Keys => f.write_str("earlier events of the same keys"),
            Self::Retries => f.write_str("the next attempts of what failed"),
            Self::TooManyRetries => {
                f.write_str("so many deliveries failed and wait that nothing new is tried")
            }
            Self::Batch => f.write_str("more events for its batch"),
            Self::Unpulled => f.write_str("somebody to pull it"),
            Self::Earlier => f.write_str("what it had before its last deploy"),
        }
    }
}

/// That a subscription was paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// When.
    pub since: Time,
    /// By whom.
    pub by: String,
    /// What they said.
    pub reason: Option<String>,
}

/// How much of a rate was used: the time at which it would have been used at this rate (a GCRA).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent(Time);

impl Spent {
    /// Until when `rate` allows nothing more.
    pub(crate) fn wait_until(self, rate: Rate, now: Time) -> Option<Time> {
        let ahead = rate.interval() * (rate.burst() - 1);
        let earliest = self.0 - ahead;
        (earliest > now).then_some(earliest)
    }

    /// So many were taken.
    pub(crate) fn spend(&mut self, rate: Rate, now: Time, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0 = self.0.max(now) + rate.interval().saturating_mul(count);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use model::{Cause, Event, Name, Namespace, Position, Subscription, TraceContext};
    use serde_json::json;
    use store::log::{Logged, StoredSubscription, SubscriptionId, Waiting};

    use super::*;
    use crate::range::{MAX_RETRYING, Range};

    fn range() -> Range {
        let filter = model::EventFilter(json!({"type": ["t"]}));
        let stored = StoredSubscription {
            id: SubscriptionId(1),
            namespace: Namespace::default_namespace(),
            key: "shop/w/s".parse().expect("is a key"),
            shard: store::shards::Shard(0),
            spec: Subscription::new(Name::literal("s"), filter),
            begin: Position(0),
            end: None,
            generation: None,
        };
        Range::new(&stored, None, Position(0))
    }

    fn logged(position: u64) -> Arc<Logged> {
        let event = json!({"specversion": "1.0", "id": "1", "source": "/t", "type": "t"});
        let cause = Cause::first(Vec::new(), TraceContext::root(7));
        Arc::new(Logged {
            position: Position(position),
            at: Time(0),
            size: 1,
            event: Arc::new(Event::from_json(event).expect("is an event")),
            cause: Arc::new(cause),
        })
    }

    #[test]
    fn what_failed_holds_new_events_back_only_when_it_is_too_much() {
        let (mut range, due) = (range(), Time(5));
        assert_eq!(range.why(Time(1)), None, "nothing waits");
        for position in 1..=MAX_RETRYING as u64 {
            let position = Position(position);
            range.waits(Waiting { due, position }, None);
            if position.0 + 1 < MAX_RETRYING as u64 {
                continue;
            }
            assert_eq!(range.why(Time(1)), Some(Why::Retries));
            assert_eq!(range.next_due(Time(1)), Some(due));
        }
        range.offer(&logged(MAX_RETRYING as u64 + 1));
        assert!(!range.has_work(Time(1)));
        let why = range.why(Time(1)).expect("it waits");
        assert_eq!(why, Why::TooManyRetries);
        assert!(why.to_string().starts_with("so many deliveries failed"));
        assert!(range.has_work(due), "what failed is due");
        let first = range.take(due, &crate::lanes::Held::default());
        let first = first.expect("is due").0.position();
        range.ended(first);
        assert!(range.has_work(Time(1)), "there is room for what is new");
    }

    #[test]
    fn a_rate_is_kept_over_time_and_allows_a_second_at_once() {
        let rate: Rate = "10/s".parse().expect("is a rate");
        let start = Time::from_millis(1_000_000);
        let (mut spent, mut now, mut taken) = (Spent::default(), start, 0);
        while now < start + Duration::from_secs(10) {
            match spent.wait_until(rate, now) {
                Some(until) => now = until,
                None => {
                    spent.spend(rate, now, 1);
                    taken += 1;
                }
            }
        }
        assert!((100..=110).contains(&taken), "{taken}");
        spent.spend(rate, now, 30);
        let until = spent.wait_until(rate, now).expect("a batch is paid for");
        assert!(until.since(now) >= Duration::from_secs(2), "{until:?}");
    }
}
