//! Compares what was acknowledged with what arrived.

use std::collections::{HashMap, HashSet};

use super::{
    ledger::{self, Line},
    observer::Settled,
};

/// What the clients know.
pub(super) struct Known<'k> {
    /// What was acknowledged and has to arrive.
    pub(super) acknowledged: &'k [String],
    /// What was seen to be settled, and so must not arrive again.
    pub(super) settled: &'k Settled,
    /// Whether the events of a key have to come in order.
    pub(super) ordered: bool,
}

/// The difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Acknowledged, but never taken by the sink; or said to be settled, though nothing of it ever came.
    pub(super) lost: usize,
    /// Arrived under more than one key, or shared a key with something else, or came again after its settle was acknowledged.
    pub(super) duplicates_forbidden: usize,
    /// Came before an earlier one of its key.
    pub(super) out_of_order: usize,
}

/// Compares with the text of a ledger.
pub(super) fn compare(known: &Known<'_>, arrived: &str) -> Account {
    let mut taken: HashSet<&str> = HashSet::new();
    let mut keys: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut items: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut again = 0;
    for line in ledger::lines(arrived, 0) {
        if line.taken {
            taken.insert(line.item);
        }
        keys.entry(line.item).or_default().insert(line.key);
        items.entry(line.key).or_default().insert(line.item);
        let settled_at = known.settled.get(line.key);
        again += usize::from(settled_at.is_some_and(|at| line.at >= *at));
    }
    let under_two = keys.values().filter(|keys| keys.len() > 1).count();
    let shared = items.values().filter(|items| items.len() > 1).count();
    let lost = known.acknowledged.iter();
    let lost = lost.filter(|item| !taken.contains(item.as_str())).count();
    let never = known.settled.keys();
    let never = never
        .filter(|key| !items.contains_key(key.as_str()))
        .count();
    Account {
        lost: lost + never,
        duplicates_forbidden: under_two + shared + again,
        out_of_order: if known.ordered {
            out_of_order(known.acknowledged, ledger::lines(arrived, 0))
        } else {
            0
        },
    }
}

/// How far a key is.
struct Place<'l> {
    process: &'l str,
    last: u64,
    most: u64,
}

/// How often a key's numbers jumped. A process gets them one after another, each perhaps several times; the next one may
/// begin again with what was not settled, and leaves nothing out.
fn out_of_order<'l>(acknowledged: &[String], lines: impl Iterator<Item = Line<'l>>) -> usize {
    let mut firsts: HashMap<String, u64> = HashMap::new();
    for (key, number) in acknowledged
        .iter()
        .filter_map(|item| ledger::sequence(item))
    {
        let first = firsts.entry(key).or_insert(number);
        *first = number.min(*first);
    }
    let mut places: HashMap<String, Place<'l>> = HashMap::new();
    let mut jumps = 0;
    for line in lines {
        let Some((key, number)) = line.sequence() else {
            continue;
        };
        let follows = match places.get(&key) {
            None => firsts.get(&key).is_none_or(|first| *first == number),
            Some(place) if place.process == line.process => {
                number == place.last || number == place.last + 1
            }
            Some(place) => number <= place.most + 1,
        };
        jumps += usize::from(!follows);
        let most = places
            .get(&key)
            .map_or(number, |place| place.most.max(number));
        let place = Place {
            process: line.process,
            last: number,
            most,
        };
        places.insert(key, place);
    }
    jumps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(acknowledged: &[&str], arrived: &[&str], expected: [usize; 3]) {
        check_settled(acknowledged, arrived, &[], expected);
    }

    #[track_caller]
    fn check_settled(
        acknowledged: &[&str],
        arrived: &[&str],
        settled: &[(&str, usize)],
        [lost, duplicates_forbidden, out_of_order]: [usize; 3],
    ) {
        let acknowledged: Vec<String> = acknowledged.iter().map(|id| (*id).to_owned()).collect();
        let settled = settled.iter().map(|(key, at)| ((*key).to_owned(), *at));
        let known = Known {
            acknowledged: &acknowledged,
            settled: &settled.collect(),
            ordered: true,
        };
        let arrived: String = arrived.iter().map(|line| format!("{line}\n")).collect();
        let expected = Account {
            lost,
            duplicates_forbidden,
            out_of_order,
        };
        assert_eq!(compare(&known, &arrived), expected);
    }

    #[test]
    fn repeating_is_allowed_under_the_same_key_only() {
        let first = "a-1 k1 7 taken";
        check(&["a-1", "b-1"], &[first, "b-1 k2 7 taken"], [0, 0, 0]);
        check(&["a-1"], &[first, "a-1 k1 8 taken"], [0, 0, 0]);
        check(&["a-1"], &[first, "a-1 k2 8 taken"], [0, 1, 0]);
        check(&["a-1", "b-1"], &[first, "b-1 k1 7 taken"], [0, 1, 0]);
        check(&["a-1", "a-1@4"], &[first, "a-1@4 k1:4 7 taken"], [0, 0, 0]);
    }

    #[test]
    fn what_was_not_taken_is_lost_and_what_was_not_acknowledged_may_arrive() {
        check(&["a-1", "b-1"], &["a-1 k1 7 taken"], [1, 0, 0]);
        check(&["a-1"], &["a-1 k1 7 failed"], [1, 0, 0]);
        check(&["a-1"], &["a-1 k1 7 taken", "c-1 k3 7 taken"], [0, 0, 0]);
        check(&["a-1"], &[], [1, 0, 0]);
    }

    #[test]
    fn what_was_seen_to_be_settled_does_not_come_again() {
        let twice = ["a-1 k1 7 taken", "a-1 k1 8 taken"];
        check_settled(&["a-1"], &twice, &[("k1", 15)], [0, 1, 0]);
        check_settled(&["a-1"], &twice, &[("k1", 30)], [0, 0, 0]);
    }

    #[test]
    fn what_is_said_to_be_settled_has_come() {
        let once = ["a-1 k1 7 taken"];
        check_settled(&["a-1"], &once, &[("k2", 15)], [1, 0, 0]);
    }

    #[test]
    fn numbers_of_a_key_come_one_after_another() {
        let all = ["a-1", "a-2", "a-3", "a-4"];
        let in_turn = [
            "a-1 1 7 taken",
            "a-2 2 7 failed",
            "a-2 2 7 taken",
            "a-3 3 7 taken",
        ];
        check(&all[..3], &in_turn, [0, 0, 0]);
        // The next process begins again, and leaves nothing out.
        let again = ["a-2 2 8 taken", "a-3 3 8 taken", "a-4 4 8 taken"];
        let both: Vec<&str> = in_turn.into_iter().chain(again).collect();
        check(&all, &both, [0, 0, 0]);
        check(
            &all,
            &[
                "a-2 2 7 taken",
                "a-1 1 7 taken",
                "a-3 3 7 taken",
                "a-4 4 7 taken",
            ],
            [0, 0, 3],
        );
        check(
            &all[..3],
            &["a-1 1 7 taken", "a-3 3 8 taken", "a-2 2 8 taken"],
            [0, 0, 2],
        );
        // A replay is an order of its own, and begins where it was told to.
        check(
            &["a-1", "a-1@5"],
            &["a-1 1 7 taken", "a-1@5 5 7 taken"],
            [0, 0, 0],
        );
        check(
            &["a-3@5", "a-4@5"],
            &["a-4@5 4 7 taken", "a-3@5 3 7 taken"],
            [0, 0, 2],
        );
    }
}
