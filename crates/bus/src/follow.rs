//! Following what is committed: each new event is matched once, in order, outside the lock, and handed to the ranges
//! that it goes to. Switches of subscriptions come in the same order, so that it is always known which applied.

use std::{collections::HashMap, sync::Arc};

use model::{Namespace, Position};
use store::log::{
    Logged, SubscriptionId, Switched,
    tail::{Committed, Tail},
};

use crate::{
    bus::Shared,
    matching::{self, Index},
    range::Range,
    terms::{Terms, input_of},
};

/// Events matched between two looks at the lock.
const CHUNK: usize = 256;
/// Events read at once when some were left out.
const READ: u32 = 500;

/// An event with those that it goes to.
type Matched = (Arc<Logged>, Vec<SubscriptionId>);

/// The follower: the only one that changes which subscriptions there are.
pub(crate) struct Follower {
    pub(crate) shared: Arc<Shared>,
    pub(crate) indexes: HashMap<Namespace, Index>,
}

/// Runs until the store is closed.
pub(crate) async fn run(mut follower: Follower, mut tail: Tail) {
    while let Some(committed) = tail.next().await {
        let mut events: Vec<(Namespace, Arc<Logged>)> = Vec::new();
        for one in committed {
            match one {
                Committed::Event(namespace, logged) => {
                    events.push((namespace, logged));
                    if events.len() >= CHUNK {
                        follower.events(std::mem::take(&mut events)).await;
                    }
                }
                Committed::Skipped(namespace, through) => {
                    follower.events(std::mem::take(&mut events)).await;
                    follower.catch_up(&namespace, through).await;
                }
                Committed::Switched(namespace, switched) => {
                    follower.events(std::mem::take(&mut events)).await;
                    follower.catch_up(&namespace, switched.at).await;
                    follower.switch(&namespace, &switched);
                }
            }
        }
        follower.events(events).await;
    }
}

impl Follower {
    /// New events, of any namespaces.
    async fn events(&mut self, events: Vec<(Namespace, Arc<Logged>)>) {
        let mut by_namespace: HashMap<Namespace, Vec<Arc<Logged>>> = HashMap::new();
        for (namespace, logged) in events {
            by_namespace.entry(namespace).or_default().push(logged);
        }
        for (namespace, events) in by_namespace {
            if let Some(first) = events.first() {
                self.catch_up(&namespace, Position(first.position.0 - 1))
                    .await;
            }
            self.hand_over(&namespace, events);
        }
    }

    /// Reads what was not handed out, up to `through`.
    pub(crate) async fn catch_up(&self, namespace: &Namespace, through: Position) {
        loop {
            let scanned = self.shared.state.lock().scanned(namespace);
            if scanned >= through {
                return;
            }
            let read = self
                .shared
                .log
                .range(namespace, scanned, through, READ)
                .await;
            match read {
                Ok(events) if events.is_empty() => {
                    self.scan_over(namespace, through);
                    return;
                }
                Ok(events) => {
                    self.hand_over(namespace, events.into_iter().map(Arc::new).collect());
                }
                Err(store::Error::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, %namespace, "the log cannot be read; trying again");
                    self.shared.clock.sleep(crate::fill::PAUSE).await;
                }
            }
        }
    }

    /// Positions without events: removed, or never given.
    fn scan_over(&self, namespace: &Namespace, through: Position) {
        let mut state = self.shared.state.lock();
        state.scanned.insert(namespace.clone(), through);
    }

    fn hand_over(&self, namespace: &Namespace, events: Vec<Arc<Logged>>) {
        let matched: Vec<Matched> = match self.indexes.get(namespace) {
            None => events
                .into_iter()
                .map(|event| (event, Vec::new()))
                .collect(),
            Some(index) => events
                .into_iter()
                .map(|event| {
                    let ids = index.matches(&event.event, event.position);
                    (event, ids)
                })
                .collect(),
        };
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let (mut touched, now, mut chores) = (Vec::new(), shared.clock.now(), false);
        for (event, ids) in matched {
            if event.position <= state.scanned(namespace) {
                continue;
            }
            for id in ids {
                if let Some(range) = state.ranges.get_mut(&id) {
                    range.offer(&event);
                    touched.push(id);
                }
            }
            state.scanned.insert(namespace.clone(), event.position);
        }
        touched.sort_unstable();
        touched.dedup();
        let mut wake = false;
        for id in touched {
            // Before the mark below: what is outstanding must be known when the mark passes it.
            state.note_change(&shared.log, &shared.shards, id);
            chores |= state.look_after(id);
            if let Some(key) = state.ranges.get(&id).map(|range| range.key.clone()) {
                wake |= state.touch(&key, now);
            }
        }
        let scanned = state.scanned(namespace);
        // Fails only when the store is closed.
        shared.log.mark(namespace, scanned).ok();
        drop(state);
        shared.wake(wake);
        if chores {
            shared.chores.notify_one();
        }
    }

    fn switch(&mut self, namespace: &Namespace, switched: &Switched) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        for id in &switched.ended {
            let Some(range) = state.ranges.get_mut(id) else {
                continue;
            };
            range.end_at(switched.at);
            let key = range.key.clone();
            state.look_after(*id);
            // What somebody came for is a loop's from now on.
            state.touch(&key, shared.clock.now());
        }
        for changed in &switched.changed {
            if let Some(range) = state.ranges.get_mut(&changed.id) {
                range.terms = Terms::of(&changed.spec);
                range.input = input_of(changed);
                if let (Some(order), Some(spec)) = (&mut range.order, &changed.spec.order) {
                    order.dead = spec.dead;
                }
            }
            state.touch(&changed.key, shared.clock.now());
        }
        for id in &switched.dropped {
            state.remove(*id);
        }
        // Those that follow others of their key wait for them, where order goes over both.
        for stored in &switched.began {
            let mine = shared.shards.owner(stored.shard).is_ok();
            if mine && !state.ranges.contains_key(&stored.id) {
                let mut range = Range::new(stored, matching::compile_stored(stored), stored.begin);
                let scanned = state.scanned(namespace);
                range.behind = (stored.begin < scanned).then_some(stored.begin);
                // The store has one that begins behind as outstanding, until it is told otherwise.
                range.noted_idle = range.behind.is_none();
                state.add(range);
                state.look_after(stored.id);
            }
        }
        drop(state);
        self.index(namespace, switched);
        shared.chores.notify_one();
        shared.wake(true);
        shared.switches.send_modify(|applied| *applied += 1);
        shared.projections.notify_one();
    }

    /// Only living ranges are matched with what is new.
    fn index(&mut self, namespace: &Namespace, switched: &Switched) {
        if let Some(index) = self.indexes.get_mut(namespace) {
            index.remove(&switched.ended);
            index.remove(&switched.dropped);
        }
        let index = self.indexes.entry(namespace.clone()).or_default();
        let state = self.shared.state.lock();
        for stored in &switched.began {
            let Some(range) = state.ranges.get(&stored.id) else {
                continue;
            };
            if let Some(pattern) = &range.pattern {
                index.add(stored.id, pattern, stored.begin);
            }
        }
    }
}
