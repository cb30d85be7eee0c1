//! The breaker of an endpoint, shared by all subscriptions that post to it. Pure: it is told the time.
//!
//! Closed, it counts failures one after another. Open, it lets nothing through until its time; then one probe at a time,
//! whose end closes it or opens it for twice as long. Beside that, an endpoint may ask to be left alone for a while.

use std::time::Duration;

use model::{BreakerTerms, Time};
use parking_lot::Mutex;

/// One endpoint, as its answers made it.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// Failures since the last answer that was none.
    failures: u32,
    /// How often it opened since then.
    opened: u32,
    /// It is open until then, and half-open from then on.
    until: Option<Time>,
    /// The endpoint asked for nothing before.
    not_before: Option<Time>,
    admitted: u32,
    /// How it failed last.
    last: String,
}

/// Why nothing goes through now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// It is open, after so many failures of which this was the last; ask again after that.
    Open(u32, String, Duration),
    /// The endpoint asked to wait.
    Asked(Duration),
}

/// What an exchange said of its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It is there.
    Well,
    /// It is not, or not well.
    Ill(String),
    /// It asks to be left alone for so long.
    Wait(Duration),
}

/// How soon to ask again while a probe is under way.
const PROBING: Duration = Duration::from_millis(200);

impl Breaker {
    /// Lets one exchange through; it is to be given back by [`Breaker::leave`].
    pub(super) fn enter(&self, now: Time) -> Result<(), Shut> {
        let mut state = self.0.lock();
        if let Some(until) = state.not_before.filter(|until| *until > now) {
            return Err(Shut::Asked(until.since(now)));
        }
        if let Some(until) = state.until {
            let left = match until.since(now) {
                Duration::ZERO if state.admitted == 0 => None,
                Duration::ZERO => Some(PROBING),
                left => Some(left),
            };
            if let Some(left) = left {
                return Err(Shut::Open(state.failures, state.last.clone(), left));
            }
        }
        state.admitted += 1;
        Ok(())
    }

    /// An exchange that was let through is over, or never was.
    pub(super) fn leave(&self) {
        let mut state = self.0.lock();
        state.admitted = state.admitted.saturating_sub(1);
    }

    /// What an exchange said.
    pub(super) fn hear(&self, said: Said, terms: BreakerTerms, now: Time) {
        let mut state = self.0.lock();
        match said {
            Said::Well => state.recover(),
            Said::Wait(wait) => {
                state.recover();
                state.not_before = Some(now + wait);
            }
            Said::Ill(how) => {
                state.failures = state.failures.saturating_add(1);
                state.last = how;
                let probed = state.until.is_some_and(|until| until <= now);
                let full = state.until.is_none() && state.failures >= terms.failures;
                if probed || full {
                    let doubled = 1u32.checked_shl(state.opened).unwrap_or(u32::MAX);
                    let wait = terms.wait.saturating_mul(doubled).min(terms.max_wait);
                    state.opened = state.opened.saturating_add(1);
                    state.until = Some(now + wait);
                }
            }
        }
    }
}

impl State {
    fn recover(&mut self) {
        self.failures = 0;
        self.opened = 0;
        self.until = None;
        self.last = String::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: BreakerTerms = BreakerTerms {
        failures: 2,
        wait: Duration::from_secs(10),
        max_wait: Duration::from_secs(30),
    };

    fn at(seconds: u64) -> Time {
        Time::from_millis(1_000_000 + seconds * 1000)
    }

    fn ill(breaker: &Breaker, now: Time) {
        breaker.hear(Said::Ill("answered 500".to_owned()), TERMS, now);
    }

    fn left(breaker: &Breaker, now: Time) -> Option<u64> {
        match breaker.enter(now) {
            Ok(()) => {
                breaker.leave();
                None
            }
            Err(Shut::Open(_, _, left) | Shut::Asked(left)) => Some(left.as_secs()),
        }
    }

    #[test]
    fn it_opens_after_failures_one_after_another_and_for_longer_each_time() {
        let breaker = Breaker::default();
        ill(&breaker, at(0));
        breaker.hear(Said::Well, TERMS, at(0));
        ill(&breaker, at(0));
        assert_eq!(left(&breaker, at(0)), None, "a good answer starts anew");
        ill(&breaker, at(0));
        assert_eq!(left(&breaker, at(0)), Some(10));
        ill(&breaker, at(1));
        assert_eq!(left(&breaker, at(1)), Some(9), "what was under way");
        for (failed, open) in [(10, 20), (30, 30), (60, 30)] {
            ill(&breaker, at(failed));
            assert_eq!(left(&breaker, at(failed)), Some(open));
        }
        breaker.hear(Said::Well, TERMS, at(90));
        ill(&breaker, at(90));
        ill(&breaker, at(90));
        assert_eq!(left(&breaker, at(90)), Some(10), "as at first");
    }

    #[test]
    fn one_probe_goes_through_at_a_time() {
        let breaker = Breaker::default();
        ill(&breaker, at(0));
        ill(&breaker, at(0));
        assert_eq!(breaker.enter(at(10)), Ok(()));
        let shut = breaker.enter(at(10));
        let probing = Shut::Open(2, "answered 500".to_owned(), PROBING);
        assert_eq!(shut, Err(probing));
        breaker.leave();
        assert_eq!(left(&breaker, at(10)), None, "it never was");
        breaker.hear(Said::Well, TERMS, at(11));
        assert_eq!(breaker.enter(at(11)), Ok(()));
        assert_eq!(breaker.enter(at(11)), Ok(()));
    }

    #[test]
    fn an_endpoint_that_asks_to_wait_is_left_alone() {
        let breaker = Breaker::default();
        breaker.hear(Said::Wait(Duration::from_secs(7)), TERMS, at(0));
        assert_eq!(
            breaker.enter(at(2)),
            Err(Shut::Asked(Duration::from_secs(5)))
        );
        assert_eq!(left(&breaker, at(7)), None);
    }
}
