//! Ordinary traces of busy routes: dropped where their root ends, before any span of them is made.
//!
//! The sampler decides about every trace that it is given. Where it would certainly drop one (more come than are all kept,
//! the route has had its share of this second, nothing failed, it was not slow), making its spans and carrying them to
//! another thread would cost more than the rest of a request: so a route's [`Gate`] knows what the sampler knows of it, and
//! only counts. A trace of which something was recorded already, a call through the mesh or a span of the workload's own,
//! is given to the sampler, whole. So are those that a client began itself and may ask for later, as far as that goes: where
//! a proxy in front begins all of them, they are ordinary.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use model::{Clock, Time, TraceId};
use parking_lot::Mutex;

use crate::{histogram::Histogram, ring::own_shard, usage::micros};

/// Slots that traces share, by their ids. What is in one is of the last trace that came to it.
const SLOTS: usize = 1 << 16;

/// Traces of a route that clients began themselves which go to the sampler in each second.
const BEGUN_BY_CLIENTS: u64 = 20;

/// What the routes' gates have in common.
pub(crate) struct Early {
    /// The last second, of those that the clock counts, in which more traces come than are all kept.
    busy_until: AtomicU64,
    /// Ordinary traces of a route that go to the sampler in each second.
    per_route: u64,
    shards: usize,
    gates: Mutex<HashMap<Arc<str>, Arc<Gate>>>,
    /// There from the first busy second on.
    traces: OnceLock<Traces>,
}

/// What is known of single traces.
struct Traces {
    /// Since when; nothing is known of what began earlier.
    since: Time,
    /// When something was last recorded, in microseconds.
    recorded: Box<[AtomicU64]>,
    /// Which trace was last dropped here.
    dropped: Box<[AtomicU64]>,
}

/// Whether the ordinary traces of a route are given to the sampler.
pub struct Gate {
    /// What takes so many microseconds is slow.
    slow: AtomicU64,
    given: Allowance,
    given_of_clients: Allowance,
    /// How long those took that were dropped, by core, since that was last asked.
    dropped: Box<[Mutex<Option<Histogram>>]>,
    /// Whether there are any.
    any: AtomicBool,
}

/// The local root of a trace, which has ended: what decides about it.
#[derive(Debug, Clone, Copy)]
pub struct Root {
    /// Its trace.
    pub trace: TraceId,
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// Whether it failed.
    pub failed: bool,
    /// Whether the client began it, and samples it.
    pub of_client: bool,
}

/// How much of something there was in a second: the second, times 2^16, and how many in it.
#[derive(Default)]
struct Allowance(AtomicU64);

impl Early {
    /// Gates that let `per_route` traces of a route through in each second, for so many cores.
    pub(crate) fn new(per_route: u32, shards: usize) -> Self {
        Self {
            busy_until: AtomicU64::new(0),
            per_route: u64::from(per_route).min(GIVEN),
            shards: shards.max(1),
            gates: Mutex::default(),
            traces: OnceLock::new(),
        }
    }

    /// The gate of the route of this name.
    pub(crate) fn gate(&self, route: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock();
        if let Some(gate) = gates.get(route) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate {
            slow: AtomicU64::new(u64::MAX),
            given: Allowance::default(),
            given_of_clients: Allowance::default(),
            dropped: (0..self.shards).map(|_| Mutex::default()).collect(),
            any: AtomicBool::new(false),
        });
        gates.insert(Arc::from(route), Arc::clone(&gate));
        gate
    }

    /// More traces come than are all kept, up to the end of `second`.
    pub(crate) fn busy_until(&self, second: u64, now: Time) {
        self.traces.get_or_init(|| Traces {
            since: now,
            recorded: slots(),
            dropped: slots(),
        });
        self.busy_until.store(second, Relaxed);
    }

    /// Something of `trace` is recorded, whatever becomes of its root.
    pub(crate) fn record(&self, trace: TraceId, clock: &Clock) {
        if let Some(traces) = self.traces.get() {
            traces.recorded[slot(trace)].store(clock.now().as_micros(), Relaxed);
        }
    }

    /// Whether `trace` was dropped, as far as it is remembered.
    pub(crate) fn has_dropped(&self, trace: TraceId) -> bool {
        let dropped = |traces: &Traces| traces.dropped[slot(trace)].load(Relaxed);
        self.traces
            .get()
            .is_some_and(|traces| dropped(traces) == fingerprint(trace))
    }

    /// Hands over what was dropped, by route; `note` says from how long on a trace of it is slow. Gates that no route
    /// has any more are forgotten.
    pub(crate) fn settle(&self, mut note: impl FnMut(&str, &Histogram) -> Option<Duration>) {
        self.gates.lock().retain(|route, gate| {
            if gate.any.swap(false, Relaxed) {
                let mut all = Histogram::default();
                let shards = gate.dropped.iter().filter_map(|shard| shard.lock().take());
                shards.for_each(|some| all.add(&some));
                let slow = note(route, &all).map_or(u64::MAX, micros);
                gate.slow.store(slow, Relaxed);
            }
            Arc::strong_count(gate) > 1
        });
    }
}

impl Gate {
    /// Whether a trace without any fault is dropped; then it is counted.
    pub(crate) fn drops(&self, early: &Early, root: Root) -> bool {
        let second = root.end.as_millis() / 1000;
        if early.busy_until.load(Relaxed) < second {
            return false;
        }
        let took = root.end.since(root.start);
        let Some(traces) = early.traces.get().filter(|t| root.start >= t.since) else {
            return false;
        };
        let slot = slot(root.trace);
        if micros(took) >= self.slow.load(Relaxed)
            || traces.recorded[slot].load(Relaxed) >= root.start.as_micros()
            || self.given.take(second, early.per_route)
            || (root.of_client && self.given_of_clients.take(second, BEGUN_BY_CLIENTS))
        {
            return false;
        }
        traces.dropped[slot].store(fingerprint(root.trace), Relaxed);
        let mut dropped = self.dropped[own_shard() % self.dropped.len()].lock();
        dropped.get_or_insert_default().record(took);
        if !self.any.load(Relaxed) {
            self.any.store(true, Relaxed);
        }
        true
    }
}

impl Allowance {
    /// Whether this is one of the first `share` of this second.
    fn take(&self, second: u64, share: u64) -> bool {
        let given = self.0.fetch_update(Relaxed, Relaxed, |given| {
            let (last, count) = (given >> GIVEN_BITS, given & GIVEN);
            match count {
                _ if last != second => Some((second << GIVEN_BITS) | 1),
                count if count < share => Some(given + 1),
                _ => None,
            }
        });
        given.is_ok()
    }
}

const GIVEN_BITS: u32 = 16;
const GIVEN: u64 = (1 << GIVEN_BITS) - 1;

fn slots() -> Box<[AtomicU64]> {
    (0..SLOTS).map(|_| AtomicU64::new(0)).collect()
}

/// Both halves, because what comes from elsewhere may be random in one of them only (X-Ray's begin with the time).
fn fingerprint(trace: TraceId) -> u64 {
    let halves = (trace.0 >> 64) as u64 ^ (trace.0 as u64).rotate_left(32);
    halves.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn slot(trace: TraceId) -> usize {
    (fingerprint(trace) >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn root(trace: u128, start: u64, took: u64) -> Root {
        Root {
            trace: TraceId(trace),
            start: Time(start),
            end: Time(start + took),
            failed: false,
            of_client: false,
        }
    }

    fn busy() -> (Early, Arc<Gate>) {
        let early = Early::new(2, 2);
        early.busy_until(1000, Time(SECOND));
        let gate = early.gate("/a");
        (early, gate)
    }

    fn counted(early: &Early) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        early.settle(|route, some| {
            all.push((route.to_owned(), some.count()));
            Some(Duration::from_millis(50))
        });
        all
    }

    #[test]
    fn all_are_given_as_long_as_all_are_kept() {
        let early = Early::new(2, 2);
        let gate = early.gate("/a");
        assert!((1..9).all(|n| !gate.drops(&early, root(n, 5 * SECOND, 9))));
        early.busy_until(6, Time(5 * SECOND + 1));
        assert!(
            !gate.drops(&early, root(9, 5 * SECOND, 9)),
            "it began before anything was known"
        );
        assert!(
            !gate.drops(&early, root(9, 7 * SECOND, 9)),
            "busy no longer"
        );
        assert_eq!(counted(&early), []);
    }

    #[test]
    fn a_busy_route_gives_its_share_of_each_second_and_counts_the_rest() {
        let (early, gate) = busy();
        for second in [5, 6] {
            let dropped = (0..10).filter(|n| {
                let n = second * 100 + n;
                gate.drops(&early, root(u128::from(n), second * SECOND + n, 9))
            });
            assert_eq!(dropped.count(), 8);
        }
        assert_eq!(counted(&early), [("/a".to_owned(), 16)]);
        assert_eq!(counted(&early), [], "once");
        assert!(early.has_dropped(TraceId(509)) && !early.has_dropped(TraceId(500)));
    }

    #[test]
    fn what_clients_began_is_given_beside_the_share_and_within_bounds() {
        let (early, gate) = busy();
        let at = 5 * SECOND;
        assert_eq!(
            (1..9)
                .filter(|n| gate.drops(&early, root(*n, at, 9)))
                .count(),
            6
        );
        let of_client = |trace| Root {
            of_client: true,
            ..root(trace, at, 9)
        };
        assert_eq!(
            (100..150)
                .filter(|n| gate.drops(&early, of_client(*n)))
                .count(),
            30
        );
    }

    #[test]
    fn what_is_slow_or_has_more_spans_is_given() {
        let (early, gate) = busy();
        let at = 5 * SECOND;
        assert_eq!(
            (0..5)
                .filter(|n| gate.drops(&early, root(1 + n, at, 9)))
                .count(),
            3
        );
        counted(&early);
        assert!(!gate.drops(&early, root(10, at, 50_000)), "slow as of now");
        early.record(TraceId(11), &Clock::virtual_at(Time(at + 5)));
        assert!(!gate.drops(&early, root(11, at, 9)));
        assert!(gate.drops(&early, root(12, at, 49_999)));
    }

    #[test]
    fn gates_without_a_route_are_forgotten() {
        let (early, gate) = busy();
        assert!(Arc::ptr_eq(&gate, &early.gate("/a")));
        drop(gate);
        counted(&early);
        assert!(early.gates.lock().is_empty());
    }
}
