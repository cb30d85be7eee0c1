//! What holds for every contract, as a function that the fuzz target calls (`cargo xtask fuzz`) and a test replays the corpus
//! with. Not for anything else: it panics when the law does not hold.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Contracts, Direction, Verdict, compare};

/// Of a JSON list, the first two items as versions of a schema and the others as data: whoever is allowed has no violation and
/// the other way round; violations point into the data; a schema stands beside itself; and no data refutes a verdict.
///
/// # Panics
/// When it does not hold.
pub fn contracts(bytes: &[u8]) {
    let Ok(Value::Array(items)) = serde_json::from_slice(bytes) else {
        return;
    };
    let [first, second, data @ ..] = items.as_slice() else {
        return;
    };
    let files = [("a.made/1.json", first), ("a.made/1.1.json", second)];
    let files: BTreeMap<_, _> = files
        .iter()
        .map(|(path, schema)| ((*path).to_owned(), schema.to_string()))
        .collect();
    let contracts = match Contracts::read(&files) {
        Ok(contracts) => contracts,
        Err(problems) => return assert!(!problems.is_empty()),
    };
    let versions: Vec<_> = contracts.versions("a.made").into_iter().flatten().collect();
    let [(_, earlier), (_, later)] = versions.as_slice() else {
        panic!("two files are two versions");
    };
    for contract in [earlier, later] {
        for value in data {
            let violations = contract.violations(value);
            assert_eq!(violations.is_empty(), contract.allows(value));
            assert!(
                violations
                    .iter()
                    .all(|violation| value.pointer(&violation.pointer).is_some())
            );
        }
        let itself = compare(contract, contract, Direction::Backward);
        assert!(
            !matches!(itself, Verdict::Incompatible { .. }),
            "{itself:?}"
        );
    }
    for direction in [Direction::Backward, Direction::Forward] {
        let (written, read) = match direction {
            Direction::Backward => (earlier, later),
            Direction::Forward => (later, earlier),
        };
        match compare(earlier, later, direction) {
            Verdict::Compatible => {
                assert!(
                    data.iter()
                        .all(|value| !written.allows(value) || read.allows(value))
                );
            }
            Verdict::Incompatible {
                witness,
                violations,
            } => {
                assert!(written.allows(&witness) && !violations.is_empty());
            }
            Verdict::Undecided { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_contracts_keeps_the_law() {
        testkit::replay("contracts", super::contracts);
    }
}
