//! Pins: which version of its contract an event was checked by, as the event itself says it, and what a filter asks of that.
//!
//! A publisher spells `dataschema` as it likes (`/contracts/order.created/1`, `https://x.example/order.created/v1.2.json`). The extension
//! `contractversion` is the platform's own, and always `MAJOR.MINOR.PATCH`: `{prefix: "1."}` is a major version and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::version::Version;

/// The extension that says which version an event was checked by.
pub const ATTRIBUTE: &str = "contractversion";

/// The tests on [`ATTRIBUTE`] that let events of these major versions through.
#[must_use]
pub fn tests(majors: &BTreeSet<u32>) -> Value {
    let test = |major: &u32| json!({"prefix": format!("{major}.")});
    majors.iter().map(test).collect()
}

/// The major versions that a filter asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// By what the platform says of an event: no event without a contract passes.
    pub pinned: BTreeSet<u32>,
    /// By what publishers write into `dataschema`, given whole or as a beginning such as `/contracts/order.created/2.`.
    pub written: BTreeSet<u32>,
}

impl Asked {
    /// What an event pattern asks for; nothing: it lets every version through, or says so in a way that names none.
    #[must_use]
    pub fn of(filter: &Value) -> Self {
        let texts = |name: &str| {
            let tests = filter.get(name).and_then(Value::as_array);
            let text = |test: &Value| {
                let prefix = test.get("prefix").and_then(Value::as_str);
                test.as_str().or(prefix).map(str::to_owned)
            };
            let texts = tests.into_iter().flatten().filter_map(text);
            texts.collect::<Vec<_>>()
        };
        let pinned = |text: &String| text.split_once('.')?.0.parse().ok();
        let written = |text: &String| {
            let (version, _) = Version::of_dataschema(text.trim_end_matches('.'))?;
            Some(version.major)
        };
        Self {
            pinned: texts(ATTRIBUTE).iter().filter_map(pinned).collect(),
            written: texts("dataschema").iter().filter_map(written).collect(),
        }
    }

    /// All of them; none: every version.
    #[must_use]
    pub fn majors(&self) -> BTreeSet<u32> {
        self.pinned.union(&self.written).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pin_tests_is_what_it_asks_for() {
        let majors = BTreeSet::from([1, 12]);
        let filter = json!({"type": ["order.created"], ATTRIBUTE: tests(&majors)});
        let asked = Asked::of(&filter);
        assert_eq!((&asked.pinned, asked.majors()), (&majors, majors.clone()));
    }

    #[test]
    fn versions_are_asked_for_in_several_ways() {
        let check = |filter: Value, pinned: &[u32], written: &[u32]| {
            let asked = Asked::of(&filter);
            let expected = Asked {
                pinned: pinned.iter().copied().collect(),
                written: written.iter().copied().collect(),
            };
            assert_eq!(asked, expected, "{filter}");
        };
        check(json!({"type": ["a.made"]}), &[], &[]);
        check(
            json!({ATTRIBUTE: ["1.2.0", {"prefix": "3.1."}]}),
            &[1, 3],
            &[],
        );
        // `2`, `20` and `21` begin so: that names no version.
        check(json!({ATTRIBUTE: [{"prefix": "2"}]}), &[], &[]);
        check(
            json!({"dataschema": ["/c/a.made/1", {"prefix": "/c/a.made/2."}]}),
            &[],
            &[1, 2],
        );
        check(json!({"dataschema": [{"exists": true}]}), &[], &[]);
    }
}
