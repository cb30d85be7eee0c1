//! The events of an ordered subscription, by key: one lane for each key that has something. Pure: no clock, no I/O.
//!
//! Invariants: at most one event of a lane is out at a time, and it is the lane's first: nothing of it with a lower
//! position is queued or has a row. A lane that waits (for a retry, for its turn) keeps no other from being taken. Lanes
//! take turns, so that a key with much cannot starve one with little.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use model::{Position, Time};
use sha2::{Digest, Sha256};
use store::log::{Logged, Waiting};

use crate::range::{MAX_RETRYING, Next, WINDOW, WINDOW_BYTES};

/// Most events of one lane in memory; of what comes after only the position is kept.
const LANE_WINDOW: usize = 64;
/// Most positions queued: those of lanes that wait are passed over by the cursor, which lists them.
const MAX_QUEUED: usize = 10_000;

/// What a key is known by: events of two keys that share one by chance come one after another, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane(pub(crate) i64);

/// For each lane with dead letters that hold what comes after them: the first of them.
pub(crate) type Held = HashMap<Lane, Position>;

impl Lane {
    /// The lane of an event at `position` with this key; one without a key has a lane of its own.
    pub(crate) fn of(key: Option<&str>, position: Position) -> Self {
        let hash = match key {
            Some(key) => Sha256::new_with_prefix([1]).chain_update(key).finalize(),
            None => Sha256::new_with_prefix([0])
                .chain_update(position.0.to_be_bytes())
                .finalize(),
        };
        let first = hash.first_chunk().expect("a hash has 32 bytes");
        Self(i64::from_be_bytes(*first))
    }
}

/// All lanes that have something.
#[derive(Default)]
pub(crate) struct Lanes {
    lanes: HashMap<Lane, State>,
    /// Lanes whose first may go now, in turns. One that went elsewhere meanwhile is passed over.
    turns: VecDeque<Lane>,
    /// Lanes whose first is due later.
    timers: BTreeSet<(Time, Lane)>,
    /// To which lane what is out belongs.
    out: HashMap<Position, Lane>,
    queued: BTreeSet<Position>,
    cached: usize,
    cached_bytes: u64,
    rows: usize,
    /// The highest position that was taken, or passed over in an earlier life.
    through: Position,
}

#[derive(Default)]
struct State {
    /// What failed, or was redriven.
    rows: BTreeMap<Position, Time>,
    queue: VecDeque<Queued>,
    place: Place,
}

/// An event that was not tried yet.
struct Queued {
    position: Position,
    logged: Option<Arc<Logged>>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    Turns,
    Timer(Time),
    Out,
}

/// What is first in a lane.
enum First {
    Row(Position, Time),
    Queued,
}

impl State {
    fn first(&self) -> Option<First> {
        let row = self.rows.first_key_value();
        match (row, self.queue.front()) {
            (Some((position, _)), Some(queued)) if queued.position < *position => {
                Some(First::Queued)
            }
            (Some((position, due)), _) => Some(First::Row(*position, *due)),
            (None, Some(_)) => Some(First::Queued),
            (None, None) => None,
        }
    }
}

impl Lanes {
    /// Lanes of a subscription whose cursor was at `through`.
    pub(crate) fn new(through: Position) -> Self {
        Self {
            through,
            ..Self::default()
        }
    }

    /// An event to be tried, behind all others of its lane.
    pub(crate) fn push(&mut self, lane: Lane, logged: Arc<Logged>) {
        let state = self.lanes.entry(lane).or_default();
        let position = logged.position;
        let keep = state.queue.len() < LANE_WINDOW && self.cached < WINDOW * 2;
        if keep {
            self.cached += 1;
            self.cached_bytes += logged.size;
        }
        self.queued.insert(position);
        state.queue.push_back(Queued {
            position,
            logged: keep.then_some(logged),
        });
        self.place(lane);
    }

    /// A delivery with a row waits until it is due.
    pub(crate) fn wait(&mut self, lane: Lane, waiting: Waiting) {
        let was_out = self.out.remove(&waiting.position).is_some();
        let state = self.lanes.entry(lane).or_default();
        if was_out {
            state.place = Place::Nowhere;
        }
        if state.rows.insert(waiting.position, waiting.due).is_none() {
            self.rows += 1;
        }
        self.place(lane);
    }

    /// What is out with this position is not any more: its lane goes on.
    pub(crate) fn ended(&mut self, position: Position) {
        if let Some(lane) = self.out.remove(&position) {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.place = Place::Nowhere;
            }
            self.place(lane);
        }
    }

    /// What was taken without its event, and could not be read now, is first in its lane again.
    pub(crate) fn untaken(&mut self, position: Position) {
        if let Some(lane) = self.out.get(&position).copied() {
            let state = self.lanes.entry(lane).or_default();
            let logged = None;
            state.queue.push_front(Queued { position, logged });
            self.queued.insert(position);
            self.ended(position);
        }
    }

    /// The first that failed and waits.
    pub(crate) fn first_row(&self) -> Option<Position> {
        let firsts = self
            .lanes
            .values()
            .filter_map(|state| state.rows.first_key_value());
        firsts.map(|(position, _)| *position).min()
    }

    /// Which lane what is out with this position belongs to.
    pub(crate) fn lane_of(&self, position: Position) -> Option<Lane> {
        self.out.get(&position).copied()
    }

    /// Puts a lane where it belongs after something of it changed; one that has nothing is forgotten.
    fn place(&mut self, lane: Lane) {
        let Some(state) = self.lanes.get_mut(&lane) else {
            return;
        };
        let place = match (state.place, state.first()) {
            (Place::Out, _) => Place::Out,
            (_, Some(First::Row(_, due))) => Place::Timer(due),
            (_, Some(First::Queued)) => Place::Turns,
            (_, None) => Place::Nowhere,
        };
        if place == state.place && place != Place::Nowhere {
            return;
        }
        if let Place::Timer(due) = state.place {
            self.timers.remove(&(due, lane));
        }
        match place {
            Place::Turns => self.turns.push_back(lane),
            Place::Timer(due) => {
                self.timers.insert((due, lane));
            }
            Place::Out => {}
            Place::Nowhere => {
                self.lanes.remove(&lane);
                return;
            }
        }
        state.place = place;
    }

    /// Rows that fell due get their turn.
    fn wake(&mut self, now: Time) {
        while let Some((due, lane)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, lane));
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.place = Place::Turns;
                self.turns.push_back(lane);
            }
        }
    }

    /// The first of the next lane, if there is one, and whether a dead letter holds it. With `rows_only`, what was never
    /// tried stays.
    pub(crate) fn take(&mut self, now: Time, rows_only: bool, held: &Held) -> Option<(Next, bool)> {
        self.wake(now);
        for _ in 0..self.turns.len() {
            let lane = self.turns.pop_front()?;
            let state = self.lanes.get_mut(&lane);
            let Some(state) = state.filter(|state| state.place == Place::Turns) else {
                continue;
            };
            state.place = Place::Nowhere;
            let next = match state.first() {
                Some(First::Row(position, due)) if due <= now => {
                    state.rows.remove(&position);
                    self.rows -= 1;
                    Next::Again(position)
                }
                Some(First::Queued) if !rows_only => {
                    let queued = state.queue.pop_front().expect("it is the first");
                    self.queued.remove(&queued.position);
                    self.through = self.through.max(queued.position);
                    match queued.logged {
                        Some(logged) => {
                            self.cached -= 1;
                            self.cached_bytes -= logged.size;
                            Next::First(logged)
                        }
                        None => Next::Unread(queued.position),
                    }
                }
                _ => {
                    self.place(lane);
                    continue;
                }
            };
            state.place = Place::Out;
            let position = next.position();
            self.out.insert(position, lane);
            let behind = held.get(&lane).is_some_and(|dead| *dead < position);
            return Some((next, behind));
        }
        None
    }

    /// How many lanes could go at `now`, at most `most`, and since when the first of them waits.
    pub(crate) fn available(
        &self,
        now: Time,
        most: usize,
        rows_only: bool,
    ) -> (usize, Option<Time>) {
        let due = self.timers.iter().map(|(due, _)| *due);
        let due = due.take_while(|due| *due <= now);
        let turns = self.turns.iter().filter_map(|lane| {
            let state = self.lanes.get(lane);
            let state = state.filter(|state| state.place == Place::Turns)?;
            match state.first()? {
                First::Row(_, due) => Some(due).filter(|due| *due <= now),
                First::Queued if rows_only => None,
                First::Queued => {
                    let logged = state.queue.front().and_then(|first| first.logged.as_ref());
                    Some(logged.map_or(Time(0), |logged| logged.at))
                }
            }
        });
        let mut since: Option<Time> = None;
        let mut count = 0;
        for at in due.chain(turns).take(most) {
            count += 1;
            since = Some(since.map_or(at, |since| since.min(at)));
        }
        (count, since)
    }

    /// When something falls due that is not yet.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// It ends here: what was matched beyond is not its.
    pub(crate) fn end_at(&mut self, end: Position) {
        let beyond = self.queued.split_off(&Position(end.0 + 1));
        if beyond.is_empty() {
            return;
        }
        let lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        for lane in lanes {
            let state = self.lanes.get_mut(&lane).expect("it was listed");
            while state.queue.back().is_some_and(|last| last.position > end) {
                let last = state.queue.pop_back().expect("there is a last");
                if let Some(logged) = last.logged {
                    self.cached -= 1;
                    self.cached_bytes -= logged.size;
                }
            }
            self.place(lane);
        }
    }

    /// Where the cursor stands, given how far everything was loaded: up to where all was taken or is in the list.
    pub(crate) fn cursor(&self, loaded: Position) -> (Position, Vec<Position>) {
        let Some(first) = self.queued.first() else {
            return (loaded, Vec::new());
        };
        let through = self.through.max(Position(first.0 - 1));
        let passed = self.queued.range(..=through).copied().collect();
        (through, passed)
    }

    /// Whether no more events should be read or offered.
    pub(crate) fn is_full(&self) -> bool {
        self.cached >= WINDOW
            || self.cached_bytes >= WINDOW_BYTES
            || self.queued.len() >= MAX_QUEUED
    }

    /// Whether there is room to read a chunk.
    pub(crate) fn has_room(&self) -> bool {
        self.cached < WINDOW / 2
            && self.cached_bytes < WINDOW_BYTES / 2
            && self.queued.len() < MAX_QUEUED / 2
    }

    /// Whether deliveries that failed fill all that there is for them.
    pub(crate) fn is_full_of_rows(&self) -> bool {
        self.rows >= MAX_RETRYING
    }

    /// Events that wait to be tried for the first time.
    pub(crate) fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Deliveries that failed and wait.
    pub(crate) fn waiting(&self) -> usize {
        self.rows
    }

    /// When the oldest event that waits for its first attempt was published, as far as it is in memory.
    pub(crate) fn oldest(&self) -> Option<Time> {
        let first = |state: &State| state.queue.front()?.logged.as_ref().map(|logged| logged.at);
        self.lanes.values().filter_map(first).min()
    }
}
