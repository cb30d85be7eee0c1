//! Two lists of rows by a key: what is missing on either side, and what differs. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

type Row = Map<String, Value>;

/// What differs between two rows of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What kind of difference.
    pub kind: Kind,
    /// The columns that differ, where both sides have the row.
    pub columns: Vec<String>,
    /// The row on the left.
    pub left: Option<Row>,
    /// The row on the right.
    pub right: Option<Row>,
}

/// What kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only the right side has the row.
    MissingLeft,
    /// Only the left side has it.
    MissingRight,
    /// Both have it, and say different things.
    Differs,
}

impl Difference {
    /// Of its content.
    pub(super) fn hash(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        Sha256::digest(text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Compares by `key`; only `columns`, unless there are none.
///
/// # Errors
/// Which row has no key, or shares it with another of its side.
pub(super) fn compare(
    key: &str,
    columns: &[String],
    left: Vec<Row>,
    right: Vec<Row>,
) -> Result<Vec<Difference>, String> {
    let (left, mut right) = (by_key(key, left, "left")?, by_key(key, right, "right")?);
    let mut found = Vec::new();
    for (name, ours) in left {
        let Some(theirs) = right.remove(&name) else {
            found.push(missing(name, Kind::MissingRight, Some(ours), None));
            continue;
        };
        let differing = differing(columns, &ours, &theirs);
        if !differing.is_empty() {
            found.push(Difference {
                key: name,
                kind: Kind::Differs,
                columns: differing,
                left: Some(ours),
                right: Some(theirs),
            });
        }
    }
    let rest = right.into_iter();
    found.extend(rest.map(|(name, theirs)| missing(name, Kind::MissingLeft, None, Some(theirs))));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

fn missing(key: String, kind: Kind, left: Option<Row>, right: Option<Row>) -> Difference {
    Difference {
        key,
        kind,
        columns: Vec::new(),
        left,
        right,
    }
}

fn by_key(key: &str, rows: Vec<Row>, side: &str) -> Result<BTreeMap<String, Row>, String> {
    let mut all = BTreeMap::new();
    for row in rows {
        let name = match row.get(key) {
            None | Some(Value::Null) => {
                return Err(format!("a row of the {side} side has no `{key}`"));
            }
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if let Some(other) = all.insert(name, row) {
            let twice = &other[key];
            return Err(format!("the {side} side has the key {twice} twice"));
        }
    }
    Ok(all)
}

/// The columns whose values differ: those that are asked for, else those that both rows have.
fn differing(columns: &[String], left: &Row, right: &Row) -> Vec<String> {
    let differ = |name: &String| {
        let (ours, theirs) = (left.get(name), right.get(name));
        !same(ours.unwrap_or(&Value::Null), theirs.unwrap_or(&Value::Null))
    };
    if columns.is_empty() {
        let both = left.keys().filter(|name| right.contains_key(*name));
        return both.filter(|name| differ(name)).cloned().collect();
    }
    columns
        .iter()
        .filter(|name| differ(name))
        .cloned()
        .collect()
}

/// The same value, however its number is written: two databases seldom agree on that.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64() && (left.is_f64() || right.is_f64())
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, l)| right.get(key).is_some_and(|r| same(l, r)))
        }
        (left, right) => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(value: Value) -> Vec<Row> {
        serde_json::from_value(value).expect("rows")
    }

    fn told(
        columns: &[&str],
        left: Value,
        right: Value,
    ) -> Result<Vec<(String, Kind, Vec<String>)>, String> {
        let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        let found = compare("id", &columns, rows(left), rows(right))?;
        Ok(found
            .into_iter()
            .map(|d| (d.key, d.kind, d.columns))
            .collect())
    }

    #[test]
    fn what_is_missing_or_differs_is_found_and_nothing_else() {
        let left =
            json!([{"id": 1, "n": 1, "only": 1}, {"id": 2, "n": 2.5}, {"id": "x", "n": null}]);
        let right = json!([{"id": "x", "n": null}, {"id": 1, "n": 1.0}, {"id": 3, "n": 0}]);
        let found = told(&[], left, right).expect("compares");
        let expected = [
            ("2".to_owned(), Kind::MissingRight, vec![]),
            ("3".to_owned(), Kind::MissingLeft, vec![]),
        ];
        assert_eq!(found, expected);
        let differs = told(
            &["n", "m"],
            json!([{"id": 1, "n": 1, "m": 1}]),
            json!([{"id": 1, "n": 2}]),
        );
        assert_eq!(
            differs.expect("compares"),
            [(
                "1".to_owned(),
                Kind::Differs,
                vec!["n".to_owned(), "m".to_owned()]
            )]
        );
    }

    #[test]
    fn keys_must_be_there_and_be_keys() {
        let twice = told(&[], json!([{"id": 1}, {"id": 1}]), json!([]));
        assert_eq!(twice, Err("the left side has the key 1 twice".to_owned()));
        let none = told(&[], json!([]), json!([{"n": 1}]));
        assert_eq!(none, Err("a row of the right side has no `id`".to_owned()));
    }

    #[test]
    fn large_integers_are_not_rounded_together() {
        assert!(!same(
            &json!(9_007_199_254_740_993_u64),
            &json!(9_007_199_254_740_992_u64)
        ));
        assert!(same(&json!(2), &json!(2.0)));
    }
}
