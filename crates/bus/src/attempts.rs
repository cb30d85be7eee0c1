//! How many attempts there are, and when the next one is. Pure.
//!
//! An attempt that the server did not survive is counted, since it may be what killed the server; but the first few such
//! attempts take none away from what the policy allows, so that servers that are killed for other reasons cost no work.

use std::time::Duration;

use model::{Error as Fault, RetryPolicy, Time, code};
use store::log::{Attempt, HISTORY};

/// How many attempts that the server did not survive are forgiven: what kills a server kills it this often on top of
/// its policy's attempts, and what is cut off by somebody else's kills is tried on.
pub const FORGIVEN: u32 = 8;
/// The longest wait between two attempts, whatever a policy says: times must stay within what the store holds.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(366 * 86_400);

/// The longest wait of what was cut off by the end of the server.
const AFTER_A_CUT: Duration = Duration::from_secs(1);

/// What was tried so far.
pub(crate) struct Made<'a> {
    /// How often, the last one included.
    pub(crate) attempts: u32,
    /// How the attempts ended, the last one included.
    pub(crate) history: &'a [Attempt],
    /// From when age counts.
    pub(crate) born: Time,
}

impl Made<'_> {
    /// When the attempt that failed now with `error` is followed by another: after the policy's wait, or what the error
    /// asks for if that is longer; never after the policy's attempts or age. `None`: no more.
    pub(crate) fn next_due(
        &self,
        policy: RetryPolicy,
        now: Time,
        random: u16,
        error: &Fault,
    ) -> Option<Time> {
        let asked = error
            .retry_after
            .unwrap_or_default()
            .min(policy.max_backoff);
        let counted = self.counted();
        let mut wait = policy.wait(counted, random).max(asked).min(LONGEST_WAIT);
        if error.code == code::SHUTTING_DOWN {
            // The work did not fail, and what cut it off is over.
            wait = wait.min(AFTER_A_CUT);
        }
        let due = now + wait;
        (counted < policy.attempts && due.since(self.born) <= policy.max_age).then_some(due)
    }

    /// Whether another attempt would be one too many.
    pub(crate) fn used_up(&self, policy: RetryPolicy) -> bool {
        self.counted() >= policy.attempts
    }

    /// The attempts that count against the policy.
    fn counted(&self) -> u32 {
        let cut_off = |attempt: &&Attempt| attempt.error.code == code::SHUTTING_DOWN;
        let cut_off = self.history.iter().filter(cut_off).count();
        let forgiven = u32::try_from(cut_off).unwrap_or(u32::MAX).min(FORGIVEN);
        self.attempts.saturating_sub(forgiven)
    }
}

/// A history with one more attempt, cut to its limit.
pub(crate) fn longer(history: &[Attempt], at: Time, error: &Fault) -> Vec<Attempt> {
    let mut history = history.to_vec();
    let mut error = error.clone();
    truncate(&mut error.message);
    error.context.as_mut().map(truncate);
    history.push(Attempt { at, error });
    if history.len() > HISTORY {
        history.remove(0);
    }
    history
}

/// Long messages would make every row of a history long.
fn truncate(text: &mut String) {
    const LONGEST: usize = 1024;
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 3,
        max_age: Duration::from_secs(100),
        backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(60),
    };

    fn history(of: &[model::Code]) -> Vec<Attempt> {
        let attempt = |code: &model::Code| Attempt {
            at: Time(0),
            error: Fault::new(*code, "no"),
        };
        of.iter().map(attempt).collect()
    }

    #[test]
    fn attempts_and_age_end_retries_and_errors_may_ask_for_longer_waits() {
        let plain = Fault::new(code::FUNCTION_ERROR, "no");
        let at = Time::from_millis(10_000);
        let due = |attempts, now, error: &Fault| {
            let made = Made {
                attempts,
                history: &[],
                born: Time(0),
            };
            made.next_due(POLICY, now, u16::MAX, error)
        };
        assert_eq!(due(1, at, &plain), Some(Time::from_millis(11_000)));
        assert_eq!(due(2, at, &plain), Some(Time::from_millis(12_000)));
        assert_eq!(due(3, at, &plain), None, "that was the last");
        assert_eq!(due(1, Time::from_millis(99_500), &plain), None, "too old");
        let cut = Fault::new(code::SHUTTING_DOWN, "no");
        assert_eq!(due(2, at, &cut), Some(Time::from_millis(11_000)));
        let asks = plain.retry_after(Duration::from_secs(30));
        assert_eq!(due(1, at, &asks), Some(Time::from_millis(40_000)));
    }

    #[test]
    fn a_few_attempts_that_the_server_did_not_survive_are_forgiven() {
        let (killed, failed) = (code::SHUTTING_DOWN, code::FUNCTION_ERROR);
        let used_up = |history: &[Attempt]| {
            let attempts = u32::try_from(history.len()).expect("is small");
            let made = Made {
                attempts,
                history,
                born: Time(0),
            };
            made.used_up(POLICY)
        };
        assert!(!used_up(&history(&[killed; 3])));
        assert!(!used_up(&history(&[failed, killed, killed, failed])));
        assert!(used_up(&history(&[failed, killed, failed, killed, failed])));
        assert!(!used_up(&history(&[killed; 10])));
        assert!(used_up(&history(&[killed; 11])), "it may be the killer");
    }

    #[test]
    fn histories_stay_short() {
        let fault = Fault::new(code::FUNCTION_ERROR, "é".repeat(5000));
        let mut history = Vec::new();
        for at in 0..50 {
            history = longer(&history, Time(at), &fault);
        }
        assert_eq!((history.len(), history[0].at), (HISTORY, Time(30)));
        assert!(history[0].error.message.len() < 1100);
    }
}
