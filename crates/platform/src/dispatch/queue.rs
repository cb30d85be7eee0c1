//! How much a workload may hold: what its instances serve at the same time, and a queue behind that.
//!
//! A queue is there for bursts and for starts, and both end. One that is still there when everybody in it was served
//! several times over does not absorb anything: it only makes each request wait as long as the queue is deep. So a
//! standing queue is cut short until it has been empty once; what comes beyond is refused at once, and what is admitted
//! is answered about as fast as without the load. Counted in ends of work and not in seconds: while nothing ends, as
//! during a slow start, a queue may stand for as long as it takes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Requests that may wait beyond what the instances can hold, at least.
const MIN_QUEUE: u32 = 64;

/// How often all places must have been served again, with somebody waiting all the time, until a queue is a standing
/// one. A burst that fills the queue is gone by then.
const TURNS: u32 = 4;

/// The places and the queue behind them.
pub(super) struct Queue {
    places: u32,
    depth: u32,
    /// Ends of work since somebody began to wait.
    ends: AtomicU32,
    standing: AtomicBool,
}

impl Queue {
    /// A queue behind so many places.
    pub(super) fn behind(places: u32) -> Self {
        let places = places.max(1);
        Self {
            places,
            depth: places.max(MIN_QUEUE),
            ends: AtomicU32::new(0),
            standing: AtomicBool::new(false),
        }
    }

    /// How much may be held, by one that holds `in_flight`.
    pub(super) fn capacity(&self, in_flight: u32) -> u32 {
        let depth = if in_flight > self.places && self.standing.load(Relaxed) {
            // Half of the places end while one request is served, so that who waits here waits for less than that.
            self.places.div_ceil(2)
        } else {
            self.depth
        };
        self.places.saturating_add(depth)
    }

    /// Work has ended, and `left` is still there.
    pub(super) fn one_ended(&self, left: u32) {
        if left <= self.places {
            // Read first: most work ends without a queue, and writing would take the line from all other cores.
            if self.ends.load(Relaxed) != 0 {
                self.ends.store(0, Relaxed);
                self.standing.store(false, Relaxed);
            }
            return;
        }
        let ends = self.ends.fetch_add(1, Relaxed).saturating_add(1);
        if ends >= self.patience() {
            self.standing.store(true, Relaxed);
        }
    }

    /// Ends after which a queue is a standing one: longer than the deepest one needs to drain.
    fn patience(&self) -> u32 {
        let turns = self.places.saturating_mul(TURNS);
        turns.max(self.depth.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ends` ends of work with `left` beyond them lead to.
    fn after(queue: &Queue, ends: u32, left: u32) -> u32 {
        (0..ends).for_each(|_| queue.one_ended(left));
        queue.capacity(left)
    }

    #[test]
    fn a_burst_has_the_whole_queue_and_a_standing_queue_a_short_one() {
        let queue = Queue::behind(8);
        assert_eq!(queue.capacity(0), 72);
        assert_eq!(
            queue.capacity(72),
            72,
            "nothing has ended: a start, perhaps"
        );
        for left in (0..72).rev() {
            queue.one_ended(left);
            assert_eq!(queue.capacity(left), 72, "a burst drains");
        }
        assert_eq!(after(&queue, 127, 72), 72, "it may still be a burst");
        assert_eq!(after(&queue, 1, 72), 12, "it stands");
        assert_eq!(after(&queue, 1000, 9), 12, "for as long as anybody waits");
        assert_eq!(after(&queue, 1, 8), 72, "it was empty");
        assert_eq!(after(&queue, 100, 72), 72);
    }

    #[test]
    fn every_queue_has_a_place_in_it() {
        for places in [1, 2, 100, u32::MAX] {
            let queue = Queue::behind(places);
            let standing = after(
                &queue,
                if places > 1000 { 0 } else { 1000 },
                places.saturating_add(9),
            );
            assert!(standing > places || places == u32::MAX);
            assert!(standing <= queue.capacity(0));
        }
    }
}
