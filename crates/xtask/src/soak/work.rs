//! What a kill would hit, and whether it counts: a kill of a server that has nothing to lose shows nothing.

use super::publishers::Shared;

/// What must be acknowledged between two kills.
pub(super) const WORK: usize = 100;

/// What there is since the last kill.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Acknowledged since.
    pub(super) acknowledged: usize,
    /// Begun and not over: requests without an answer, or events that are not settled.
    pub(super) in_flight: usize,
}

impl Work {
    /// Whether a kill counts: enough was acknowledged that it could lose, and it interrupts something.
    pub(super) const fn is_worth_a_kill(self) -> bool {
        self.acknowledged >= WORK && self.in_flight > 0
    }
}

/// Something is under way until this is dropped.
pub(super) struct UnderWay<'s>(&'s Shared);

impl<'s> UnderWay<'s> {
    pub(super) fn of(shared: &'s Shared) -> Self {
        shared.begun();
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(acknowledged: usize, in_flight: usize, expected: bool) {
        let work = Work {
            acknowledged,
            in_flight,
        };
        assert_eq!(work.is_worth_a_kill(), expected, "{work:?}");
    }

    #[test]
    fn a_kill_counts_when_a_hundred_were_acknowledged_and_something_is_in_flight() {
        check(100, 1, true);
        check(250, 40, true);
        check(99, 40, false);
        check(100, 0, false);
        check(0, 0, false);
    }

    #[test]
    fn in_flight_is_what_has_no_answer_yet_or_is_not_settled() {
        let shared = Shared::default();
        assert_eq!(shared.in_flight(), 0);
        let (first, second) = (UnderWay::of(&shared), UnderWay::of(&shared));
        assert_eq!(shared.in_flight(), 2);
        drop(first);
        assert_eq!(shared.in_flight(), 1);
        drop(second);
        assert_eq!(shared.in_flight(), 0);
        // Published, and not yet acknowledged by its settling.
        shared.positions().insert("a-1".to_owned(), 1);
        assert_eq!(shared.in_flight(), 1);
        shared.acknowledge();
        assert_eq!(shared.in_flight(), 0);
    }

    #[test]
    fn what_was_acknowledged_before_the_last_kill_is_no_work_for_the_next() {
        let shared = Shared::default();
        let _under_way = UnderWay::of(&shared);
        (0..WORK).for_each(|_| shared.acknowledge());
        assert!(shared.work_since(0).is_worth_a_kill());
        assert!(!shared.work_since(WORK).is_worth_a_kill());
        assert!(!shared.work_since(1).is_worth_a_kill());
    }
}
