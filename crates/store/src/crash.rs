//! Moments at which a server may be told to end without notice, so that soaks can hit what no random moment finds:
//! inside a group commit, between a commit and what follows from it, inside the recovery after a crash.
//!
//! Told by a text that [`Crash`] is read from: a server that is not told pays one look at an empty option.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A batch is written and not yet committed.
    Commit,
    /// It is committed, and nobody was answered.
    Committed,
    /// What the last server left is being put in order.
    Recovery,
    /// The events of an outbox's rows are in the log, and the rows not settled.
    Relayed,
}

/// When to end; by default never. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Crash(Option<Arc<At>>);

#[derive(Debug)]
struct At {
    moment: Moment,
    left: AtomicU32,
}

/// Not a moment.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no moment to end at: expected commit:N, committed:N, recovery:N or relayed:N, with N from 1"
)]
pub struct NoMoment(String);

impl Crash {
    /// Ends the process, as `kill -9` would, when it is told to end at this pass of `moment`.
    pub fn pass(&self, moment: Moment) {
        let Some(at) = &self.0 else {
            return;
        };
        if at.moment == moment && at.left.fetch_sub(1, Relaxed) == 1 {
            // Nothing is flushed and no destructor runs.
            std::process::abort();
        }
    }
}

impl FromStr for Crash {
    type Err = NoMoment;

    /// `MOMENT:N`: at the Nth pass.
    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let wrong = || NoMoment(text.to_owned());
        let (moment, passes) = text.split_once(':').ok_or_else(wrong)?;
        let moment = match moment {
            "commit" => Moment::Commit,
            "committed" => Moment::Committed,
            "recovery" => Moment::Recovery,
            "relayed" => Moment::Relayed,
            _ => return Err(wrong()),
        };
        let left = passes.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
        Ok(Self(Some(Arc::new(At {
            moment,
            left: AtomicU32::new(left),
        }))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_named_and_counted() {
        assert!(
            ["commit:1", "committed:20", "recovery:3", "relayed:2"]
                .iter()
                .all(|text| text.parse::<Crash>().is_ok())
        );
        for wrong in ["", "commit", "commit:0", "commit:x", "later:1"] {
            let told = wrong.parse::<Crash>().expect_err("is none").to_string();
            assert!(told.contains("expected commit:N"), "{told}");
        }
        // Another moment, and passes before the last: this test would not survive.
        let crash: Crash = "commit:3".parse().expect("is one");
        crash.pass(Moment::Committed);
        crash.pass(Moment::Commit);
        crash.pass(Moment::Commit);
        Crash::default().pass(Moment::Commit);
    }
}
