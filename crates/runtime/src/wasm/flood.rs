//! How much all guests of one workload may print together. What one invocation prints has its own bound (`output`); this
//! one holds when each of very many prints a little. What is beyond it is dropped and counted, and the log says so.

use std::time::Instant;

use model::ByteSize;
use parking_lot::Mutex;

/// Bytes that a workload may print at once, with [`PER_LINE`] for every line.
const BURST: ByteSize = ByteSize::mib(8);
/// Bytes that it may print per second beyond that.
const REFILL: ByteSize = ByteSize::mib(2);
/// What a line costs besides its bytes.
const PER_LINE: u64 = 64;

/// The bound of one workload.
pub(super) struct Flood(Mutex<Budget>);

struct Budget {
    left: u64,
    refilled: Instant,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is logged.
    Log,
    /// It is logged, after a line that says how many were not.
    LogAfter(String),
    /// It is dropped, and a line says that from here on lines are.
    Begin(String),
    /// It is dropped.
    Drop,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Budget {
            left: BURST.0,
            refilled: now,
            dropped: 0,
        }))
    }

    /// Decides about a line of so many bytes.
    pub(super) fn judge(&self, bytes: usize, now: Instant) -> Verdict {
        let mut budget = self.0.lock();
        budget.refill(now);
        let cost = bytes as u64 + PER_LINE;
        if cost > budget.left {
            budget.dropped += 1;
            return match budget.dropped {
                1 => Verdict::Begin(format!(
                    "lines are dropped from here on: a workload may print {BURST} at once and {REFILL} per second after that"
                )),
                _ => Verdict::Drop,
            };
        }
        budget.left -= cost;
        match std::mem::take(&mut budget.dropped) {
            0 => Verdict::Log,
            dropped => Verdict::LogAfter(format!("{dropped} lines were dropped")),
        }
    }
}

impl Budget {
    /// After lines were dropped nothing is taken before a second's worth is there, so that the log does not flicker.
    fn refill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.refilled).as_millis();
        let earned = u64::try_from(millis)
            .unwrap_or(u64::MAX)
            .saturating_mul(REFILL.0)
            / 1000;
        let least = if self.dropped > 0 { REFILL.0 } else { 1 };
        if earned >= least {
            self.left = self.left.saturating_add(earned).min(BURST.0);
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Clock;

    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_dropped_and_counted() {
        let now = Clock::system().monotonic();
        let flood = Flood::new(now);
        let line = 1024 - 64;
        let fits = BURST.0 / 1024;
        for _ in 0..fits {
            assert_eq!(flood.judge(line, now), Verdict::Log);
        }
        assert!(matches!(flood.judge(line, now), Verdict::Begin(_)));
        assert_eq!(flood.judge(line, now), Verdict::Drop);
        let soon = now + Duration::from_millis(900);
        assert_eq!(flood.judge(line, soon), Verdict::Drop);
        let later = now + Duration::from_secs(1);
        let said = Verdict::LogAfter("3 lines were dropped".to_owned());
        assert_eq!(flood.judge(line, later), said);
        for _ in 1..REFILL.0 / 1024 {
            assert_eq!(flood.judge(line, later), Verdict::Log);
        }
        assert!(matches!(flood.judge(line, later), Verdict::Begin(_)));
    }

    #[test]
    fn an_idle_workload_saves_no_more_than_a_burst() {
        let now = Clock::system().monotonic();
        let flood = Flood::new(now);
        let much_later = now + Duration::from_secs(3600);
        assert_eq!(flood.judge(BURST.as_usize() - 64, much_later), Verdict::Log);
        assert!(matches!(flood.judge(0, much_later), Verdict::Begin(_)));
    }
}
