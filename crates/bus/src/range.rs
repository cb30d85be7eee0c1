//! One subscription over one range of positions, in memory: what matched and waits, what runs, what failed and waits,
//! and the cursor that says all of it. Pure: no clock, no I/O. Whatever is not in memory is in the log after `loaded`.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use model::{Namespace, Position, RetryPolicy, SubscriptionKey, Time};
use pattern::Pattern;
use store::{
    Urgency,
    log::{Cursor, Logged, SubscriptionId, Waiting},
    shards::Shard,
};

/// Most matched events of one subscription in memory.
pub(crate) const WINDOW: usize = 2048;
/// Most bytes of matched events of one subscription in memory, unless one alone is larger.
const WINDOW_BYTES: u64 = 4 << 20;
/// Most deliveries of one subscription that failed and wait; beyond that no new events are taken, so that memory and
/// the table of retries stay bounded and the backlog stays where it is cheap: in the log.
pub(crate) const MAX_RETRYING: usize = 10_000;

/// One range of a subscription.
pub(crate) struct Range {
    pub(crate) id: SubscriptionId,
    pub(crate) namespace: Namespace,
    pub(crate) key: SubscriptionKey,
    pub(crate) shard: Shard,
    pub(crate) retry: RetryPolicy,
    pub(crate) concurrency: Option<u32>,
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
    /// Nothing at or below this is offered: it was matched in an earlier life.
    from: Position,
    ready: VecDeque<Arc<Logged>>,
    ready_bytes: u64,
    running: BTreeSet<Position>,
    waiting: BTreeSet<Waiting>,
    rerunning: BTreeSet<Position>,
}

/// What is taken next.
pub(crate) enum Next {
    /// An event on its first attempt.
    First(Arc<Logged>),
    /// One that failed before.
    Again(Position),
}

impl Range {
    /// A range that has matched everything up to `through`.
    pub(crate) fn new(
        stored: &store::log::StoredSubscription,
        pattern: Option<Arc<Pattern>>,
        through: Position,
    ) -> Self {
        Self {
            id: stored.id,
            namespace: stored.namespace.clone(),
            key: stored.key.clone(),
            shard: stored.shard,
            retry: stored.spec.retry,
            concurrency: stored.spec.concurrency,
            pattern,
            end: stored.end,
            behind: None,
            filling: false,
            noted_idle: true,
            noted: None,
            from: through,
            ready: VecDeque::new(),
            ready_bytes: 0,
            running: BTreeSet::new(),
            waiting: BTreeSet::new(),
            rerunning: BTreeSet::new(),
        }
    }

    /// Deliveries that failed in an earlier life.
    pub(crate) fn restore_waiting(&mut self, waiting: Vec<Waiting>) {
        self.waiting.extend(waiting);
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
        if self.is_full() {
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
        self.ready_bytes += logged.size;
        self.ready.push_back(logged);
    }

    fn is_full(&self) -> bool {
        self.ready.len() >= WINDOW || self.ready_bytes >= WINDOW_BYTES
    }

    /// Whether it is behind and has room to be read for.
    pub(crate) fn wants_filling(&self) -> bool {
        self.behind.is_some()
            && !self.filling
            && self.ready.len() < WINDOW / 2
            && self.ready_bytes < WINDOW_BYTES / 2
    }

    /// It ends here: what was matched beyond is not its.
    pub(crate) fn end_at(&mut self, end: Position) {
        self.end = Some(end);
        self.behind = self.behind.filter(|behind| *behind < end);
        while self.ready.back().is_some_and(|last| last.position > end) {
            self.ready
                .pop_back()
                .inspect(|last| self.ready_bytes -= last.size);
        }
    }

    /// What to take now, if anything; it counts as running from now on. What failed and is due goes first.
    pub(crate) fn take(&mut self, now: Time) -> Option<Next> {
        if self.is_at_its_limit() {
            return None;
        }
        if let Some(waiting) = self
            .waiting
            .first()
            .copied()
            .filter(|first| first.due <= now)
        {
            self.waiting.remove(&waiting);
            self.rerunning.insert(waiting.position);
            return Some(Next::Again(waiting.position));
        }
        if self.holds_new_ones_back() {
            return None;
        }
        let logged = self.ready.pop_front()?;
        self.ready_bytes -= logged.size;
        self.running.insert(logged.position);
        Some(Next::First(logged))
    }

    /// Whether [`Range::take`] would give something.
    pub(crate) fn has_work(&self, now: Time) -> bool {
        let due = self.waiting.first().is_some_and(|first| first.due <= now);
        let new = !self.ready.is_empty() && !self.holds_new_ones_back();
        !self.is_at_its_limit() && (due || new)
    }

    /// When something will be due that is not yet.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let first = self.waiting.first()?;
        (!self.is_at_its_limit()).then_some(first.due)
    }

    fn is_at_its_limit(&self) -> bool {
        let limit = self.concurrency.map_or(usize::MAX, |limit| limit as usize);
        self.in_flight() >= limit
    }

    fn holds_new_ones_back(&self) -> bool {
        self.waiting.len() + self.rerunning.len() >= MAX_RETRYING
    }

    /// A delivery ended for good, or has a row of its own now.
    pub(crate) fn ended(&mut self, position: Position) {
        if !self.running.remove(&position) {
            self.rerunning.remove(&position);
        }
    }

    /// A delivery waits until it is due.
    pub(crate) fn waits(&mut self, waiting: Waiting) {
        self.ended(waiting.position);
        self.waiting.insert(waiting);
    }

    /// Where it stands, for the store.
    pub(crate) fn cursor(&self, scanned: Position) -> Cursor {
        let through = match self.ready.front() {
            Some(first) => Position(first.position.0 - 1),
            None => self.loaded(scanned),
        };
        Cursor {
            subscription: self.id,
            through,
            running: self.running.iter().copied().collect(),
            idle: self.is_idle(),
        }
    }

    /// Whether nothing is outstanding that has no row of its own, so that the log's mark speaks for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.behind.is_none() && self.ready.is_empty() && self.running.is_empty()
    }

    /// Whether it ended and nothing is left to do.
    pub(crate) fn is_over(&self, scanned: Position) -> bool {
        let all_seen = self.end.is_some_and(|end| self.loaded(scanned) >= end);
        let nothing = self.ready.is_empty() && self.in_flight() == 0 && self.waiting.is_empty();
        all_seen && nothing
    }

    /// Matched and waiting in memory.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The oldest event that waits to be taken for the first time.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.ready.front().map(|logged| logged.at)
    }

    /// Deliveries under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.running.len() + self.rerunning.len()
    }

    /// Deliveries that failed and wait.
    pub(crate) fn retrying(&self) -> usize {
        self.waiting.len()
    }
}
