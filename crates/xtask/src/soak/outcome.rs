//! What came of a soak: what is printed, and when it is a failure.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use super::{Name, work::WORK};

/// What came of it; with `--json` its fields are the keys of the line, and what they say is in `docs/ARCHITECTURE.md`.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(super) soak: Name,
    pub(super) kills: u32,
    pub(super) acknowledged: usize,
    pub(super) lost: usize,
    /// Deliveries of one thing under different idempotency keys, of two things under one, or after the delivery was seen
    /// to be settled, or its invocation to be done.
    pub(super) duplicates_forbidden: usize,
    /// Deliveries that the sink got before an earlier one of their key, where order by key is asked for.
    pub(super) out_of_order: usize,
    /// Workload processes that outlived their server.
    pub(super) orphans: usize,
    /// Milliseconds from the start after a kill to the ready line: usually, and at worst.
    pub(super) ready_ms: Spread,
    /// And to the first answer of the workload.
    pub(super) answers_ms: Spread,
    /// What the moments of the kills followed from.
    pub(super) seed: u64,
}

/// Median and largest of several.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Spread {
    median: u128,
    most: u128,
}

impl Spread {
    pub(super) fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let millis = |at: usize| all.get(at).map_or(0, Duration::as_millis);
        Self {
            median: millis(all.len() / 2),
            most: millis(all.len().saturating_sub(1)),
        }
    }
}

/// An error unless everything is accounted for.
pub(crate) fn judge(outcome: &Outcome) -> anyhow::Result<()> {
    let Outcome {
        lost,
        duplicates_forbidden,
        out_of_order,
        orphans,
        acknowledged,
        kills,
        ..
    } = outcome;
    ensure!(
        *acknowledged >= WORK * (*kills as usize + 1),
        "only {acknowledged} were acknowledged over {kills} kills: the soak shows nothing"
    );
    ensure!(*lost == 0, "{lost} acknowledged were lost");
    ensure!(
        *duplicates_forbidden == 0,
        "{duplicates_forbidden} were repeated in a forbidden way"
    );
    ensure!(
        *out_of_order == 0,
        "{out_of_order} came before an earlier one of their key"
    );
    ensure!(
        *orphans == 0,
        "{orphans} workload processes outlived their server"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What was promised of the line.
    const PROMISED: [&str; 6] = [
        "soak",
        "kills",
        "acknowledged",
        "lost",
        "duplicates_forbidden",
        "out_of_order",
    ];
    const BOOK: &str = include_str!("../../../../docs/ARCHITECTURE.md");

    /// Of so many kills with just enough work, and nothing wrong.
    fn sound(kills: u32) -> Outcome {
        Outcome {
            soak: Name::OutboxSqlite,
            kills,
            acknowledged: WORK * (kills as usize + 1),
            lost: 0,
            duplicates_forbidden: 0,
            out_of_order: 0,
            orphans: 0,
            ready_ms: Spread::default(),
            answers_ms: Spread::default(),
            seed: 1,
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Outcome), told: &str) {
        let mut outcome = sound(6);
        change(&mut outcome);
        let error = judge(&outcome).expect_err("it is a failure").to_string();
        assert!(error.contains(told), "{error}");
    }

    #[test]
    fn the_line_has_the_promised_keys_and_the_book_names_all_others() {
        let line = serde_json::to_value(sound(6)).expect("is data");
        assert_eq!(
            (&line["soak"], &line["kills"]),
            (&"outbox-sqlite".into(), &6.into())
        );
        let keys = line.as_object().expect("an object").keys();
        let keys: BTreeSet<&str> = keys.map(String::as_str).collect();
        let promised = BTreeSet::from(PROMISED);
        assert!(keys.is_superset(&promised), "{keys:?}");
        for other in &keys - &promised {
            assert!(
                BOOK.contains(&format!("`{other}`")),
                "the book does not name `{other}`"
            );
        }
        assert_eq!(
            serde_json::to_string(&sound(6))
                .expect("is data")
                .lines()
                .count(),
            1
        );
    }

    #[test]
    fn what_is_accounted_for_is_sound() {
        judge(&sound(6)).expect("is sound");
        judge(&sound(0)).expect("is sound");
    }

    #[test]
    fn too_little_work_shows_nothing() {
        check(|outcome| outcome.acknowledged -= 1, "shows nothing");
        check(|outcome| outcome.acknowledged = 0, "shows nothing");
        check(|outcome| outcome.kills += 1, "shows nothing");
    }

    #[test]
    fn one_of_anything_that_must_not_be_is_a_failure() {
        check(|outcome| outcome.lost = 1, "1 acknowledged were lost");
        check(
            |outcome| outcome.duplicates_forbidden = 1,
            "1 were repeated",
        );
        check(|outcome| outcome.out_of_order = 1, "1 came before");
        check(|outcome| outcome.orphans = 1, "1 workload processes");
    }
}
