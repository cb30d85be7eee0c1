//! Compares what was acknowledged with what arrived.

use std::collections::{HashMap, HashSet};

/// The difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Acknowledged, but never arrived.
    pub(super) lost: usize,
    /// Arrived under more than one key, or shared a key with something else.
    pub(super) duplicates_forbidden: usize,
}

/// `arrived` has a line `id key …` for each delivery. Its last line may be half: it is being written.
pub(super) fn compare(acknowledged: &[String], arrived: &str) -> Account {
    let complete = arrived.rfind('\n').map_or("", |end| &arrived[..end]);
    let mut keys: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut ids: HashMap<&str, HashSet<&str>> = HashMap::new();
    for line in complete.lines() {
        let mut words = line.split(' ');
        let (Some(id), Some(key)) = (words.next(), words.next()) else {
            continue;
        };
        keys.entry(id).or_default().insert(key);
        ids.entry(key).or_default().insert(id);
    }
    let under_two = keys.values().filter(|keys| keys.len() > 1).count();
    let shared = ids.values().filter(|ids| ids.len() > 1).count();
    Account {
        lost: acknowledged
            .iter()
            .filter(|id| !keys.contains_key(id.as_str()))
            .count(),
        duplicates_forbidden: under_two + shared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(acknowledged: &[&str], arrived: &str, lost: usize, duplicates_forbidden: usize) {
        let acknowledged: Vec<String> = acknowledged.iter().map(|id| (*id).to_owned()).collect();
        let expected = Account {
            lost,
            duplicates_forbidden,
        };
        assert_eq!(compare(&acknowledged, arrived), expected);
    }

    #[test]
    fn repeating_is_allowed_under_the_same_key_only() {
        check(&["a", "b"], "a k1 7\nb k2 7\n", 0, 0);
        check(&["a"], "a k1 7\na k1 8\n", 0, 0);
        check(&["a"], "a k1 7\na k2 8\n", 0, 1);
        check(&["a", "b"], "a k1 7\nb k1 7\n", 0, 1);
    }

    #[test]
    fn what_did_not_arrive_is_lost_and_what_was_not_acknowledged_may_arrive() {
        check(&["a", "b"], "a k1 7\n", 1, 0);
        check(&["a"], "a k1 7\nc k3 7\n", 0, 0);
        check(&["a"], "a k1", 1, 0);
        check(&["a"], "", 1, 0);
    }
}
