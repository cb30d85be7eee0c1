//! Where spans and lines wait for the telemetry thread: one bounded queue per core, so that recording costs an
//! uncontended lock and a move. When a queue is full, what comes is dropped and counted: recording never waits.

use std::{
    cell::Cell,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use crate::{log::LogRecord, span::Span};

/// What waits.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) spans: Vec<Span>,
    pub(crate) logs: Vec<Arc<LogRecord>>,
    bytes: usize,
}

/// The queues of all cores.
pub(crate) struct Ring {
    shards: Box<[Shard]>,
    /// Bytes that one queue may hold.
    limit: usize,
    pub(crate) spans_lost: AtomicU64,
    pub(crate) logs_lost: AtomicU64,
}

/// Each on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Waiting>);

/// Whether the telemetry thread should look at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Low,
    /// The queue has just passed half of what it may hold.
    High,
}

impl Ring {
    /// Queues for `shards` cores that hold `bytes` together.
    pub(crate) fn new(shards: usize, bytes: usize) -> Self {
        let shards = shards.max(1);
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            limit: bytes / shards,
            spans_lost: AtomicU64::new(0),
            logs_lost: AtomicU64::new(0),
        }
    }

    pub(crate) fn span(&self, span: Span) -> Level {
        let weight = span.weight();
        self.push(weight, &self.spans_lost, |waiting| waiting.spans.push(span))
    }

    pub(crate) fn log(&self, log: Arc<LogRecord>) -> Level {
        let weight = log.weight();
        self.push(weight, &self.logs_lost, |waiting| waiting.logs.push(log))
    }

    fn push(&self, weight: usize, lost: &AtomicU64, add: impl FnOnce(&mut Waiting)) -> Level {
        let mut waiting = self.shards[own_shard() % self.shards.len()].0.lock();
        let before = waiting.bytes;
        if before + weight > self.limit {
            lost.fetch_add(1, Relaxed);
            return Level::Low;
        }
        waiting.bytes += weight;
        add(&mut waiting);
        let half = self.limit / 2;
        if before < half && before + weight >= half {
            Level::High
        } else {
            Level::Low
        }
    }

    /// Takes all that waits, queue by queue.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Waiting> {
        self.shards
            .iter()
            .map(|shard| mem::take(&mut *shard.0.lock()))
    }
}

/// The queue of this thread, given out in turn.
pub(crate) fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<Option<usize>> = const { Cell::new(None) });
    OWN.with(|own| {
        let shard = own.get().unwrap_or_else(|| NEXT.fetch_add(1, Relaxed));
        own.set(Some(shard));
        shard
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembler::tests::span;

    #[test]
    fn a_full_ring_drops_what_comes_and_counts_it() {
        let weight = span(1, 1, None).weight();
        let ring = Ring::new(1, weight * 10);
        let levels: Vec<Level> = (1..=15).map(|id| ring.span(span(1, id, None))).collect();
        assert_eq!(levels.iter().filter(|l| **l == Level::High).count(), 1);
        assert_eq!(ring.spans_lost.load(Relaxed), 5);
        let ids: Vec<u64> = ring.drain().flat_map(|w| w.spans).map(|s| s.id.0).collect();
        assert_eq!(ids, (1..=10).collect::<Vec<u64>>());
        assert_eq!(ring.span(span(1, 16, None)), Level::Low);
        assert_eq!(ring.drain().map(|w| w.spans.len()).sum::<usize>(), 1);
    }

    #[test]
    fn threads_do_not_lose_each_others_spans() {
        let ring = Ring::new(4, 1 << 20);
        std::thread::scope(|scope| {
            for trace in 1..=8 {
                let ring = &ring;
                scope.spawn(move || {
                    (1..=50).for_each(|id| {
                        ring.span(span(trace, id, None));
                    })
                });
            }
        });
        assert_eq!(ring.drain().map(|w| w.spans.len()).sum::<usize>(), 400);
    }
}
