//! All subscriptions in memory, and which of them have something to deliver now. Pure but for the notes to the store,
//! which are queued while the state is locked so that they are written in the order in which things happened.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use model::{Namespace, Position, SubscriptionKey, Time};
use pattern::Pattern;
use store::{
    Urgency,
    log::{Cursor, Log, SubscriptionId, Waiting},
    shards::Shards,
};

use crate::{
    delivery::Abandoned,
    lanes::{Held, Lane},
    range::Range,
    waits::{Paused, Spent, Why},
};

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
    /// How often it changed what dead letters hold.
    pub(crate) holds_changed: u64,
}

/// All ranges of one key: at most one that lives, and older ones that still have work.
#[derive(Default)]
pub(crate) struct Consumer {
    pub(crate) ranges: Vec<SubscriptionId>,
    pub(crate) paused: Option<Paused>,
    /// Keys whose dead letters hold what comes after them.
    pub(crate) held: Held,
    pub(crate) dead: u64,
    /// Why it has nothing to do though something waits, and since when.
    pub(crate) waits: Option<(Why, Time)>,
    /// The same of before it was named, until something is taken: what is refused again waits since it was refused first.
    waited: Option<(Why, Time)>,
    parked: Option<Parked>,
    spent: Spent,
    stage: Stage,
    timer: Option<Time>,
}

/// A consumer got no permit.
struct Parked {
    until: Time,
    why: String,
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
        let mut next = look(consumer, &self.ranges, now);
        let pulled = next.work && is_pulled(consumer, &self.ranges);
        if pulled {
            next.why = Some(Why::Unpulled);
        }
        consumer.waiting_for(next.why, next.work, now);
        let timer = next.at;
        if next.work && !pulled {
            consumer.stage = Stage::Queued;
            self.queue.push_back(key.clone());
        }
        let changed = timer != consumer.timer;
        if let Some(old) = consumer.timer.filter(|_| changed) {
            self.timers.remove(&(old, key.clone()));
        }
        consumer.timer = timer;
        if let Some(new) = timer.filter(|_| changed) {
            self.timers.insert((new, key.clone()));
        }
        changed || pulled || consumer.stage == Stage::Queued
    }

    /// Whether there is something to pull now; `None`: it is not pulled.
    pub(crate) fn offers(&mut self, key: &SubscriptionKey, now: Time) -> Option<bool> {
        let consumer = self.consumers.get_mut(key)?;
        if !is_pulled(consumer, &self.ranges) {
            return None;
        }
        let work = look(consumer, &self.ranges, now).work;
        self.touch(key, now);
        Some(work)
    }

    /// When a consumer is looked at next, if nothing happens before.
    pub(crate) fn timer_of(&self, key: &SubscriptionKey) -> Option<Time> {
        self.consumers.get(key)?.timer
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

    /// A loop that was given this consumer took so many events from it.
    pub(crate) fn taken_from(&mut self, key: &SubscriptionKey, now: Time, count: usize) -> bool {
        if let Some(consumer) = self.consumers.get_mut(key) {
            if count > 0 {
                consumer.waited = None;
            }
            let newest = consumer.ranges.last().and_then(|id| self.ranges.get(id));
            if let Some(rate) = newest.and_then(|range| range.terms.rate) {
                consumer.spent.spend(rate, now, count);
            }
        }
        self.set_stage(key, Stage::Quiet);
        self.touch(key, now)
    }

    /// An operator pauses a consumer, or lets it go on.
    pub(crate) fn set_paused(
        &mut self,
        key: &SubscriptionKey,
        paused: Option<Paused>,
        now: Time,
    ) -> bool {
        self.consumers.entry(key.clone()).or_default().paused = paused;
        self.touch(key, now)
    }

    /// A delivery waits. Whether there is an earlier time to wake up at.
    pub(crate) fn put_back(
        &mut self,
        id: SubscriptionId,
        waiting: Waiting,
        lane: Option<Lane>,
        now: Time,
    ) -> bool {
        let Some(range) = self.ranges.get_mut(&id) else {
            return false;
        };
        range.waits(waiting, lane);
        let key = range.key.clone();
        self.touch(&key, now)
    }

    /// A dead letter is none any more.
    pub(crate) fn no_longer_dead(&mut self, key: &SubscriptionKey) {
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.dead = consumer.dead.saturating_sub(1);
        }
    }

    /// `first` is what holds a key of order now; nothing where there is none.
    pub(crate) fn holds(&mut self, key: &SubscriptionKey, lane: Lane, first: Option<Position>) {
        self.holds_changed += 1;
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        match first {
            Some(first) => consumer.held.insert(lane, first),
            None => consumer.held.remove(&lane),
        };
    }

    /// The ranges of a consumer that may be taken from: order goes over all ranges of a key.
    pub(crate) fn takeable(&self, key: &SubscriptionKey) -> Vec<SubscriptionId> {
        let consumer = self.consumers.get(key);
        let ranges = consumer.map_or(&[][..], |consumer| &consumer.ranges);
        takeable(ranges, &self.ranges)
            .map(|range| range.id)
            .collect()
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
        self.set_stage(key, Stage::Quiet);
        self.touch(key, now)
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

    /// Takes out of the queue whoever has read up to somewhere in `within`, and what it looks for.
    pub(crate) fn fills_of(
        &mut self,
        namespace: &Namespace,
        within: std::ops::Range<Position>,
    ) -> Vec<(SubscriptionId, Option<Arc<Pattern>>)> {
        let (ranges, mut these) = (&self.ranges, Vec::new());
        self.fills.retain(|id| {
            let range = ranges.get(id).filter(|range| {
                range.namespace == *namespace && range.behind.is_some_and(|at| within.contains(&at))
            });
            these.extend(range.map(|range| (*id, range.pattern.clone())));
            range.is_none()
        });
        these
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

/// What a look at a consumer found.
struct Look {
    work: bool,
    /// When there may be work, if there is none now.
    at: Option<Time>,
    why: Option<Why>,
}

fn look(consumer: &mut Consumer, ranges: &BTreeMap<SubscriptionId, Range>, now: Time) -> Look {
    let waits = |at, why| Look {
        work: false,
        at,
        why: Some(why),
    };
    if consumer.paused.is_some() {
        return waits(None, Why::Paused);
    }
    consumer.parked = consumer.parked.take().filter(|parked| parked.until > now);
    if let Some(parked) = &consumer.parked {
        return waits(Some(parked.until), Why::Refused(parked.why.clone()));
    }
    let takeable = || takeable(&consumer.ranges, ranges);
    if !takeable().any(|range| range.has_work(now)) {
        let earlier = takeable().count() < consumer.ranges.len();
        let why = takeable().find_map(|range| range.why(now));
        return Look {
            work: false,
            at: takeable().filter_map(|range| range.next_due(now)).min(),
            why: why.or_else(|| earlier.then_some(Why::Earlier)),
        };
    }
    let newest = consumer.ranges.last().and_then(|id| ranges.get(id));
    let rate = newest.and_then(|range| range.terms.rate);
    if let Some(rate) = rate
        && let Some(until) = consumer.spent.wait_until(rate, now)
    {
        return waits(Some(until), Why::Rate(rate));
    }
    Look {
        work: true,
        at: None,
        why: None,
    }
}

/// Whether somebody comes for what it has. What ended is nobody's to come for: it goes to a loop, which gives it up.
fn is_pulled(consumer: &Consumer, ranges: &BTreeMap<SubscriptionId, Range>) -> bool {
    let newest = consumer.ranges.last().and_then(|id| ranges.get(id));
    newest.is_some_and(|range| range.terms.pulled && range.end.is_none())
}

fn takeable<'s>(
    ids: &'s [SubscriptionId],
    ranges: &'s BTreeMap<SubscriptionId, Range>,
) -> impl Iterator<Item = &'s Range> {
    let ranges = ids.iter().filter_map(|id| ranges.get(id)).enumerate();
    ranges
        .filter(|(nth, range)| *nth == 0 || range.order.is_none())
        .map(|(_, range)| range)
}

impl Consumer {
    /// Keeps since when the reason is the same; `work`: it has none, and something is to be tried now.
    fn waiting_for(&mut self, why: Option<Why>, work: bool, now: Time) {
        let waited = self.waited.take();
        let before = self.waits.take().or(waited);
        match why {
            Some(why) => {
                let since = before.filter(|(same, _)| *same == why);
                self.waits = Some((why, since.map_or(now, |(_, since)| since)));
            }
            None if work => self.waited = before,
            None => {}
        }
    }
}
