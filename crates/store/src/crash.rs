//! Moments at which a server may be told to end without notice, so that soaks can hit what no random moment finds:
//! inside a group commit, between a commit and what follows from it, between a delivery and its settle, inside the recovery
//! after a crash.
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
    /// A delivery is taken, and its consumer was not called.
    Taken,
    /// Its consumer has answered, and nothing of that is written.
    Delivered,
    /// How a delivery ended is written and not yet committed.
    Settle,
    /// It is committed, and memory was not told.
    Settled,
    /// A chunk of a redrive or a replay is written, with how far it is, and not yet committed.
    Step,
    /// It is committed, and what it made wait is not yet known to its subscription.
    Stepped,
}

impl Moment {
    /// Each with its name.
    const ALL: [(&str, Self); 10] = [
        ("commit", Self::Commit),
        ("committed", Self::Committed),
        ("recovery", Self::Recovery),
        ("relayed", Self::Relayed),
        ("taken", Self::Taken),
        ("delivered", Self::Delivered),
        ("settle", Self::Settle),
        ("settled", Self::Settled),
        ("step", Self::Step),
        ("stepped", Self::Stepped),
    ];
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
#[error("`{0}` is no moment to end at: expected NAME:N, with N from 1, and NAME one of {names}", names = names())]
pub struct NoMoment(String);

fn names() -> String {
    let names: Vec<&str> = Moment::ALL.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

impl Crash {
    /// Whether it is told to end at all.
    pub(crate) const fn is_told(&self) -> bool {
        self.0.is_some()
    }

    /// How often its moment is still passed until it ends; 0 when it is not told to. Tests count by it.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.0.as_ref().map_or(0, |at| at.left.load(Relaxed))
    }

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
        let named = Moment::ALL.iter().find(|(name, _)| *name == moment);
        let moment = named.ok_or_else(wrong)?.1;
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
        for (name, _) in Moment::ALL {
            assert!(format!("{name}:20").parse::<Crash>().is_ok(), "{name}");
        }
        for wrong in ["", "commit", "commit:0", "commit:x", "later:1"] {
            let told = wrong.parse::<Crash>().expect_err("is none").to_string();
            assert!(told.contains("one of commit, committed"), "{told}");
        }
        // Another moment, and passes before the last: this test would not survive.
        let crash: Crash = "commit:3".parse().expect("is one");
        crash.pass(Moment::Committed);
        crash.pass(Moment::Commit);
        crash.pass(Moment::Commit);
        assert_eq!(crash.left(), 1);
        Crash::default().pass(Moment::Commit);
    }
}
