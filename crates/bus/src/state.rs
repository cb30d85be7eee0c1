//! All subscriptions in memory, and which of them have something to deliver now. Pure but for the notes to the store,
//! which are queued while the state is locked so that they are written in the order in which things happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use model::{Namespace, Position, SubscriptionKey, Time};
use store::{
    Urgency,
    log::{Cursor, Log, SubscriptionId},
    shards::Shards,
};

use crate::{delivery::Abandoned, range::Range};

/// Everything that the bus knows in memory.
#[derive(Default)]
pub(crate) struct State {
    /// How far each namespace was matched.
    pub(crate) scanned: HashMap<Namespace, Position>,
    pub(crate) ranges: BTreeMap<SubscriptionId, Range>,
    pub(crate) consumers: BTreeMap<SubscriptionKey, Consumer>,
    /// Those with something to deliver now, in turns.
    queue: VecDeque<SubscriptionKey>,
    timers: BTreeSet<(Time, SubscriptionKey)>,
    /// Ranges to be read for.
    pub(crate) fills: VecDeque<SubscriptionId>,
    /// Ranges that ended and have nothing left.
    pub(crate) over: Vec<SubscriptionId>,
    /// Deliveries that were dropped without a word.
    pub(crate) abandoned: Vec<Abandoned>,
}

/// All ranges of one key: at most one that lives, and older ones that still have work.
#[derive(Default)]
pub(crate) struct Consumer {
    pub(crate) ranges: Vec<SubscriptionId>,
    pub(crate) parked: Option<Parked>,
    pub(crate) dead: u64,
    stage: Stage,
    timer: Option<Time>,
}

/// Why a consumer gets nothing for now.
pub(crate) struct Parked {
    until: Time,
    pub(crate) why: String,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Stage {
    /// Nothing to do, or waiting for a timer.
    #[default]
    Quiet,
    /// In the queue.
    Queued,
    /// Handed to a loop, which takes or parks.
    Named,
}

impl State {
    /// Adds a range.
    pub(crate) fn add(&mut self, range: Range) {
        let consumer = self.consumers.entry(range.key.clone()).or_default();
        consumer.ranges.push(range.id);
        self.ranges.insert(range.id, range);
    }

    /// Forgets a range.
    pub(crate) fn remove(&mut self, id: SubscriptionId) {
        let Some(range) = self.ranges.remove(&id) else {
            return;
        };
        if let Some(consumer) = self.consumers.get_mut(&range.key) {
            consumer.ranges.retain(|other| *other != id);
        }
    }

    /// How far a namespace was matched.
    pub(crate) fn scanned(&self, namespace: &Namespace) -> Position {
        self.scanned.get(namespace).copied().unwrap_or_default()
    }

    /// Looks at a consumer after something changed: queues it when it has work now, else sets its timer. Says whether
    /// someone who waits for work should look.
    pub(crate) fn touch(&mut self, key: &SubscriptionKey, now: Time) -> bool {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return false;
        };
        if consumer.stage != Stage::Quiet {
            return false;
        }
        consumer.parked = consumer.parked.take().filter(|parked| parked.until > now);
        let ranges = || consumer.ranges.iter().filter_map(|id| self.ranges.get(id));
        let timer = match &consumer.parked {
            Some(parked) => Some(parked.until),
            None if ranges().any(|range| range.has_work(now)) => {
                consumer.stage = Stage::Queued;
                self.queue.push_back(key.clone());
                None
            }
            None => ranges().filter_map(Range::next_due).min(),
        };
        let changed = timer != consumer.timer;
        if let Some(old) = consumer.timer.filter(|_| changed) {
            self.timers.remove(&(old, key.clone()));
        }
        consumer.timer = timer;
        if let Some(new) = timer.filter(|_| changed) {
            self.timers.insert((new, key.clone()));
        }
        changed || consumer.stage == Stage::Queued
    }

    /// Names the next consumer with work, or says when one may have some.
    pub(crate) fn name_next(&mut self, now: Time) -> Result<SubscriptionKey, Option<Time>> {
        while let Some((due, key)) = self.timers.first().cloned().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, key.clone()));
            if let Some(consumer) = self.consumers.get_mut(&key) {
                consumer.timer = None;
            }
            self.touch(&key, now);
        }
        match self.queue.pop_front() {
            Some(key) => {
                self.set_stage(&key, Stage::Named);
                Ok(key)
            }
            None => Err(self.timers.first().map(|(due, _)| *due)),
        }
    }

    /// A loop that was given this consumer took from it.
    pub(crate) fn taken_from(&mut self, key: &SubscriptionKey, now: Time) -> bool {
        self.set_stage(key, Stage::Quiet);
        self.touch(key, now)
    }

    /// A loop that was given this consumer got no permit.
    pub(crate) fn park(
        &mut self,
        key: &SubscriptionKey,
        now: Time,
        until: Time,
        why: &str,
    ) -> bool {
        if let Some(consumer) = self.consumers.get_mut(key) {
            let why = why.to_owned();
            consumer.parked = Some(Parked { until, why });
        }
        self.taken_from(key, now)
    }

    fn set_stage(&mut self, key: &SubscriptionKey, stage: Stage) {
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.stage = stage;
        }
    }

    /// After a range changed: looks whether it is over or wants to be read for; says whether its own looks are wanted.
    pub(crate) fn look_after(&mut self, id: SubscriptionId) -> bool {
        let Some(range) = self.ranges.get_mut(&id) else {
            return false;
        };
        let scanned = self.scanned.get(&range.namespace).copied();
        if range.is_over(scanned.unwrap_or_default()) {
            self.over.push(id);
            return true;
        }
        if range.wants_filling() {
            range.filling = true;
            self.fills.push_back(id);
            return true;
        }
        false
    }

    /// Where a range stands, for the store, which writes it now.
    pub(crate) fn stand(&mut self, id: SubscriptionId) -> Option<Cursor> {
        let range = self.ranges.get_mut(&id)?;
        let scanned = self.scanned.get(&range.namespace).copied();
        let cursor = range.cursor(scanned.unwrap_or_default());
        range.noted_idle = cursor.idle;
        range.noted = None;
        Some(cursor)
    }

    /// Has the store ask where a range stands, with the next commit; a node that does not own the shard any more has
    /// nothing to say.
    pub(crate) fn note(
        &mut self,
        log: &Log,
        shards: &Shards,
        id: SubscriptionId,
        urgency: Urgency,
    ) {
        let Some(range) = self.ranges.get_mut(&id) else {
            return;
        };
        if range.noted == Some(Urgency::Soon) || range.noted == Some(urgency) {
            return;
        }
        range.noted = Some(urgency);
        if let Ok(owned) = shards.owner(range.shard) {
            // Fails only when the store is closed: then the cursor stays, and work is done again.
            log.note(owned, id, urgency).ok();
        }
    }

    /// The same, when what the store knows about outstanding work is not true any more.
    pub(crate) fn note_change(&mut self, log: &Log, shards: &Shards, id: SubscriptionId) {
        let changed = |range: &Range| range.is_idle() != range.noted_idle;
        if self.ranges.get(&id).is_some_and(changed) {
            self.note(log, shards, id, Urgency::Ride);
        }
    }
}
