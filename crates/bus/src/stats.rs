//! How far behind each subscription is, and what it waits for.

use model::{AppName, SubscriptionKey, Time, WorkloadName};
use serde::Serialize;

use crate::{Bus, Paused, range::Range, state::State};

/// One subscription, as an operator wants to see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriptionStats {
    /// Which: `app/workload/name`.
    #[serde(serialize_with = "crate::dead_letters::as_text")]
    pub subscription: SubscriptionKey,
    /// Events that wait for their first attempt. For one that is behind, what the log holds beyond its window is
    /// counted whether it matches or not.
    pub backlog: u64,
    /// Deliveries under way.
    pub in_flight: u64,
    /// Deliveries that failed and wait.
    pub retrying: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest event of the backlog was published, as far as it is in memory.
    pub oldest: Option<Time>,
    /// Why nothing is delivered for now.
    pub waiting_on: Option<String>,
    /// Since when that is the reason.
    pub waiting_since: Option<Time>,
    /// That it is paused, by whom, and what they said.
    pub paused: Option<Paused>,
    /// Keys of an ordered subscription that a dead letter holds.
    pub held_keys: u64,
}

impl Bus {
    /// Every subscription that lives or has work left, by key.
    #[must_use]
    pub fn stats(&self) -> Vec<SubscriptionStats> {
        let state = self.0.shared.state.lock();
        let consumers = state.consumers.iter();
        let shown =
            consumers.filter(|(_, consumer)| !consumer.ranges.is_empty() || consumer.dead > 0);
        shown.map(|(key, _)| stats(&state, key)).collect()
    }

    /// Deliveries of all subscriptions of a workload that wait for their first attempt or are under way. Those that
    /// failed and wait for their time are not among them: more instances would not make them come sooner.
    #[must_use]
    pub fn backlog(&self, app: &AppName, workload: &WorkloadName) -> u64 {
        let state = self.0.shared.state.lock();
        let keys = state.consumers.keys();
        let own = keys.filter(|key| key.app == *app && key.workload == *workload);
        own.map(|key| stats(&state, key))
            .map(|stats| stats.backlog + stats.in_flight)
            .sum()
    }
}

pub(crate) fn stats(state: &State, key: &SubscriptionKey) -> SubscriptionStats {
    let consumer = &state.consumers[key];
    let ranges: Vec<&Range> = consumer
        .ranges
        .iter()
        .filter_map(|id| state.ranges.get(id))
        .collect();
    let sum = |count: fn(&Range) -> usize| ranges.iter().map(|range| count(range) as u64).sum();
    let unread = |range: &&Range| {
        let scanned = state.scanned(&range.namespace);
        let last = range.last(scanned);
        range
            .behind
            .map_or(0, |behind| last.0.saturating_sub(behind.0))
    };
    let unread: u64 = ranges.iter().map(unread).sum();
    let ready: u64 = sum(Range::ready);
    SubscriptionStats {
        subscription: key.clone(),
        backlog: ready + unread,
        in_flight: sum(Range::in_flight),
        retrying: sum(Range::retrying),
        dead: consumer.dead,
        oldest: ranges.iter().filter_map(|range| range.oldest()).min(),
        waiting_on: consumer.waits.as_ref().map(|(why, _)| why.to_string()),
        waiting_since: consumer.waits.as_ref().map(|(_, since)| *since),
        paused: consumer.paused.clone(),
        held_keys: consumer.held.len() as u64,
    }
}
