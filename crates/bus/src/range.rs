//! One subscription over one range of positions, in memory: what matched and waits, what runs, what failed and waits,
//! and the cursor that says all of it. Pure: no clock, no I/O. Whatever is not in memory is in the log after `loaded`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{Namespace, Position, SubscriptionKey, Time};
use pattern::{Input, Pattern};
use store::{
    Urgency,
    log::{Cursor, Logged, StoredSubscription, SubscriptionId, Waiting},
    shards::Shard,
};

use crate::{
    lanes::{Held, Lane, Lanes},
    plain::Plain,
    serial::Serial,
    terms::{Ordered, Terms, input_of},
    waits::Why,
};

/// Most matched events of one subscription in memory.
pub(crate) const WINDOW: usize = 2048;
/// Most bytes of matched events of one subscription in memory, unless one alone is larger.
pub(crate) const WINDOW_BYTES: u64 = 4 << 20;
/// Most deliveries of one subscription that failed and wait; beyond that no new events are taken, so that memory and
/// the table of retries stay bounded and the backlog stays where it is cheap: in the log.
pub(crate) const MAX_RETRYING: usize = 10_000;

/// One range of a subscription.
pub(crate) struct Range {
    pub(crate) id: SubscriptionId,
    pub(crate) namespace: Namespace,
    pub(crate) key: SubscriptionKey,
    pub(crate) shard: Shard,
    pub(crate) terms: Terms,
    pub(crate) order: Option<Ordered>,
    /// What is handed over instead of the event.
    pub(crate) input: Option<Arc<Input>>,
    /// `None`: its filter does not compile, and it gets nothing.
    pub(crate) pattern: Option<Arc<Pattern>>,
    /// The last position that belongs to it; `None` while it lives.
    pub(crate) end: Option<Position>,
    /// How far it was matched, when it does not follow what is new.
    pub(crate) behind: Option<Position>,
    /// Whether it is in the queue of those to be read for.
    pub(crate) filling: bool,
    /// Whether the store was last told that nothing is outstanding.
    pub(crate) noted_idle: bool,
    /// That the store will ask where it stands, and how soon.
    pub(crate) noted: Option<Urgency>,
    /// Which generation of a projection it feeds.
    pub(crate) generation: Option<u32>,
    /// Nothing at or below this is offered: it was matched in an earlier life.
    from: Position,
    work: Work,
    running: BTreeSet<Position>,
    rerunning: BTreeSet<Position>,
    batches: Batches,
}

enum Work {
    Plain(Plain),
    Ordered(Box<Lanes>),
    Serial(Serial),
}

/// What runs together.
#[derive(Default)]
struct Batches {
    last: u64,
    of: BTreeMap<Position, u64>,
    left: BTreeMap<u64, usize>,
}

/// What is taken next.
pub(crate) enum Next {
    /// An event on its first attempt.
    First(Arc<Logged>),
    /// One on its first attempt that is to be read from the log.
    Unread(Position),
    /// One that failed before.
    Again(Position),
}

impl Next {
    /// Its place in the log.
    pub(crate) fn position(&self) -> Position {
        match self {
            Self::First(logged) => logged.position,
            Self::Unread(position) | Self::Again(position) => *position,
        }
    }
}

impl Range {
    /// A range that has matched everything up to `through`.
    pub(crate) fn new(
        stored: &StoredSubscription,
        pattern: Option<Arc<Pattern>>,
        through: Position,
    ) -> Self {
        let order = Ordered::of(stored);
        let work = match order {
            Some(_) => Work::Ordered(Box::new(Lanes::new(through))),
            None if stored.spec.is_serial() => Work::Serial(Serial::default()),
            None => Work::Plain(Plain::default()),
        };
        Self {
            id: stored.id,
            namespace: stored.namespace.clone(),
            key: stored.key.clone(),
            shard: stored.shard,
            terms: Terms::of(&stored.spec),
            order,
            input: input_of(stored),
            pattern,
            end: stored.end,
            behind: None,
            filling: false,
            noted_idle: true,
            noted: None,
            generation: stored.generation,
            from: through,
            work,
            running: BTreeSet::new(),
            rerunning: BTreeSet::new(),
            batches: Batches::default(),
        }
    }

    /// An event that its cursor passed over in an earlier life.
    pub(crate) fn restore_passed(&mut self, logged: Logged) {
        self.push(Arc::new(logged));
    }

    /// How far it was matched, given how far the namespace was.
    pub(crate) fn loaded(&self, scanned: Position) -> Position {
        self.behind
            .unwrap_or_else(|| self.last(scanned))
            .max(self.from)
    }

    /// The last position to read the log for, given how far the namespace was matched. One that ended is read for to
    /// its end, wherever the namespace is.
    pub(crate) fn last(&self, scanned: Position) -> Position {
        self.end.unwrap_or(scanned)
    }

    /// A new event that matches, at the position right after what the namespace had scanned.
    pub(crate) fn offer(&mut self, logged: &Arc<Logged>) {
        if self.behind.is_some() || logged.position <= self.from {
            return;
        }
        let full = match &self.work {
            Work::Plain(plain) => plain.ready.is_full(),
            Work::Ordered(lanes) => lanes.is_full(),
            Work::Serial(serial) => serial.ready.is_full(),
        };
        if full {
            self.behind = Some(Position(logged.position.0 - 1));
            return;
        }
        self.push(Arc::clone(logged));
    }

    /// Events read from the log for one that is behind: those that match, up to `through`.
    pub(crate) fn fill(
        &mut self,
        matching: Vec<Arc<Logged>>,
        through: Position,
        scanned: Position,
    ) {
        let Some(behind) = self.behind else { return };
        for logged in matching {
            if logged.position > behind && self.end.is_none_or(|end| logged.position <= end) {
                self.push(logged);
            }
        }
        self.behind = (through < self.last(scanned)).then_some(through);
    }

    fn push(&mut self, logged: Arc<Logged>) {
        match (&mut self.work, &self.order) {
            (Work::Ordered(lanes), Some(order)) => {
                let lane = order.lane(&logged.event, logged.position);
                lanes.push(lane, logged);
            }
            (Work::Ordered(lanes), None) => {
                lanes.push(Lane::of(None, logged.position), logged);
            }
            (Work::Plain(plain), _) => plain.ready.push(logged),
            (Work::Serial(serial), _) => serial.ready.push(logged),
        }
    }

    /// Whether it is behind and has room to be read for.
    pub(crate) fn wants_filling(&self) -> bool {
        let room = match &self.work {
            Work::Plain(plain) => plain.ready.has_room(),
            Work::Ordered(lanes) => lanes.has_room(),
            Work::Serial(serial) => serial.ready.has_room(),
        };
        self.behind.is_some() && !self.filling && room
    }

    /// It ends here: what was matched beyond is not its.
    pub(crate) fn end_at(&mut self, end: Position) {
        self.end = Some(end);
        self.behind = self.behind.filter(|behind| *behind < end);
        match &mut self.work {
            Work::Plain(plain) => plain.ready.end_at(end),
            Work::Ordered(lanes) => lanes.end_at(end),
            Work::Serial(serial) => serial.ready.end_at(end),
        }
    }

    /// What to take now, if anything, and whether a dead letter holds it; it counts as running from now on. What failed
    /// and is due goes first, where no order says otherwise.
    pub(crate) fn take(&mut self, now: Time, held: &Held) -> Option<(Next, bool)> {
        let rows_only = self.holds_new_ones_back();
        let (next, behind) = match &mut self.work {
            Work::Plain(plain) => (plain.take(now, rows_only)?, false),
            Work::Ordered(lanes) => lanes.take(now, rows_only, held)?,
            Work::Serial(serial) => (serial.take(now)?, false),
        };
        let position = next.position();
        match next {
            Next::Again(_) => self.rerunning.insert(position),
            Next::First(_) | Next::Unread(_) => self.running.insert(position),
        };
        Some((next, behind))
    }

    /// Says that what was taken with these positions runs as one.
    pub(crate) fn taken_together(&mut self, positions: &[Position]) {
        let batches = &mut self.batches;
        batches.last += 1;
        batches.left.insert(batches.last, positions.len());
        for position in positions {
            batches.of.insert(*position, batches.last);
        }
    }

    /// Whether [`Range::take`] would give something.
    pub(crate) fn has_work(&self, now: Time) -> bool {
        if self.is_at_its_limit() {
            return false;
        }
        let most = self.terms.batch_size();
        let (count, since) = self.available(now, most);
        match (self.terms.batch, since) {
            (Some(batch), Some(since)) if count < most => since + batch.window <= now,
            _ => count > 0,
        }
    }

    /// When it may have work that it has not yet.
    pub(crate) fn next_due(&self, now: Time) -> Option<Time> {
        if self.is_at_its_limit() {
            return None;
        }
        let due = match &self.work {
            Work::Plain(plain) => plain.next_due(),
            Work::Ordered(lanes) => lanes.next_due(),
            Work::Serial(serial) => serial.next_due(),
        };
        let Some(batch) = self.terms.batch else {
            return due;
        };
        let (_, since) = self.available(now, self.terms.batch_size());
        let full_by = since.or(due).map(|since| since + batch.window);
        // Something that falls due meanwhile may fill the batch.
        let due = due.filter(|due| *due > now);
        full_by.into_iter().chain(due).min()
    }

    fn available(&self, now: Time, most: usize) -> (usize, Option<Time>) {
        let rows_only = self.holds_new_ones_back();
        match &self.work {
            Work::Plain(plain) => plain.available(now, most, rows_only),
            Work::Ordered(lanes) => lanes.available(now, most, rows_only),
            Work::Serial(serial) => serial.available(now, most),
        }
    }

    /// Why it has no work though it has something outstanding.
    pub(crate) fn why(&self, now: Time) -> Option<Why> {
        if let Some(limit) = self.terms.concurrency.filter(|_| self.is_at_its_limit()) {
            return Some(Why::Concurrency(limit));
        }
        let (count, _) = self.available(now, 1);
        if count > 0 {
            return Some(Why::Batch);
        }
        let queued = self.ready() > 0;
        let first_failed = self.is_serial() && self.retrying() > 0;
        match () {
            () if first_failed => Some(Why::Retries),
            () if queued && self.holds_new_ones_back() => Some(Why::TooManyRetries),
            () if queued => Some(Why::Keys),
            () if self.retrying() > 0 => Some(Why::Retries),
            () => None,
        }
    }

    fn is_at_its_limit(&self) -> bool {
        let limit = self
            .terms
            .concurrency
            .map_or(usize::MAX, |limit| limit as usize);
        let running = match self.terms.batch {
            Some(_) => self.batches.left.len(),
            None => self.in_flight(),
        };
        running >= limit
    }

    fn holds_new_ones_back(&self) -> bool {
        match &self.work {
            Work::Plain(plain) => plain.is_full_of_rows(self.rerunning.len()),
            Work::Ordered(lanes) => lanes.is_full_of_rows(),
            Work::Serial(_) => false,
        }
    }

    /// A delivery ended for good, or has a row of its own now.
    pub(crate) fn ended(&mut self, position: Position) {
        self.stopped(position);
        if let Work::Ordered(lanes) = &mut self.work {
            lanes.ended(position);
        }
    }

    fn stopped(&mut self, position: Position) {
        if !self.running.remove(&position) {
            self.rerunning.remove(&position);
        }
        let batches = &mut self.batches;
        if let Some(batch) = batches.of.remove(&position)
            && let Some(left) = batches.left.get_mut(&batch)
        {
            *left -= 1;
            if *left == 0 {
                batches.left.remove(&batch);
            }
        }
    }

    /// A delivery waits until it is due; `lane` where it was not running in one.
    pub(crate) fn waits(&mut self, waiting: Waiting, lane: Option<Lane>) {
        self.stopped(waiting.position);
        match &mut self.work {
            Work::Plain(plain) => plain.wait(waiting),
            Work::Serial(serial) => serial.wait(waiting),
            Work::Ordered(lanes) => {
                let lane = lanes.lane_of(waiting.position).or(lane);
                let alone = || Lane::of(None, waiting.position);
                lanes.wait(lane.unwrap_or_else(alone), waiting);
            }
        }
    }

    /// What was taken to be read could not be.
    pub(crate) fn untaken(&mut self, position: Position) {
        self.stopped(position);
        if let Work::Ordered(lanes) = &mut self.work {
            lanes.untaken(position);
        }
    }

    /// The lane that what runs at this position is in, where its subscription has order.
    pub(crate) fn lane_of(&self, position: Position) -> Option<Lane> {
        match &self.work {
            Work::Plain(_) | Work::Serial(_) => None,
            Work::Ordered(lanes) => lanes.lane_of(position),
        }
    }

    /// Where it stands, for the store.
    pub(crate) fn cursor(&self, scanned: Position) -> Cursor {
        let loaded = self.loaded(scanned);
        let (through, passed) = match &self.work {
            Work::Plain(plain) => (plain.ready.through().unwrap_or(loaded), Vec::new()),
            Work::Ordered(lanes) => lanes.cursor(loaded),
            Work::Serial(serial) => (serial.ready.through().unwrap_or(loaded), Vec::new()),
        };
        Cursor {
            subscription: self.id,
            through,
            running: self.running.iter().copied().collect(),
            passed,
            idle: self.is_idle(),
        }
    }

    /// The position up to which all is settled, or has a row of its own.
    pub(crate) fn settled(&self, scanned: Position) -> Position {
        let cursor = self.cursor(scanned);
        let first = [cursor.running.first(), cursor.passed.first()];
        let first = first.into_iter().flatten().min();
        first.map_or(cursor.through, |first| Position(first.0 - 1))
    }

    /// The position up to which all is done: nothing of it runs, failed or waits.
    pub(crate) fn applied(&self, scanned: Position) -> Position {
        let waiting = match &self.work {
            Work::Plain(plain) => plain.first_row(),
            Work::Ordered(lanes) => lanes.first_row(),
            Work::Serial(serial) => serial.first_row(),
        };
        let first = waiting
            .into_iter()
            .chain(self.rerunning.first().copied())
            .min();
        let settled = self.settled(scanned);
        first.map_or(settled, |first| settled.min(Position(first.0 - 1)))
    }

    /// Whether its events come strictly one after another; then what failed comes alone.
    pub(crate) const fn is_serial(&self) -> bool {
        matches!(self.work, Work::Serial(_))
    }

    /// Whether its events come in no order.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self.work, Work::Plain(_))
    }

    /// Whether nothing is outstanding that has no row of its own, so that the log's mark speaks for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.behind.is_none() && self.ready() == 0 && self.running.is_empty()
    }

    /// Whether it ended and nothing is left to do.
    pub(crate) fn is_over(&self, scanned: Position) -> bool {
        let all_seen = self.end.is_some_and(|end| self.loaded(scanned) >= end);
        let nothing = self.ready() == 0 && self.in_flight() == 0 && self.retrying() == 0;
        all_seen && nothing
    }

    /// Matched and waiting in memory.
    pub(crate) fn ready(&self) -> usize {
        match &self.work {
            Work::Plain(plain) => plain.ready.len(),
            Work::Ordered(lanes) => lanes.queued(),
            Work::Serial(serial) => serial.ready.len(),
        }
    }

    /// The oldest event that waits to be taken for the first time.
    pub(crate) fn oldest(&self) -> Option<Time> {
        match &self.work {
            Work::Plain(plain) => plain.ready.oldest(),
            Work::Ordered(lanes) => lanes.oldest(),
            Work::Serial(serial) => serial.ready.oldest(),
        }
    }

    /// Deliveries under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.running.len() + self.rerunning.len()
    }

    /// Deliveries that failed and wait.
    pub(crate) fn retrying(&self) -> usize {
        match &self.work {
            Work::Plain(plain) => plain.waiting(),
            Work::Ordered(lanes) => lanes.waiting(),
            Work::Serial(serial) => serial.waiting(),
        }
    }
}
