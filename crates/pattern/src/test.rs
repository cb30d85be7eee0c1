//! One test of one scalar: what stands in the list of a pattern's field.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::number;

/// A test that a scalar of the event passes or fails. `{"exists": false}` is not here: it is about a place, not a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// The same text, number, boolean or null.
    Exact(Value),
    /// A text that begins so.
    Prefix(String),
    /// A text that ends so.
    Suffix(String),
    /// A text that begins so, whatever its case; holds the lower-case form.
    PrefixIgnoreCase(String),
    /// A text that ends so, whatever its case; holds the lower-case form.
    SuffixIgnoreCase(String),
    /// The same text, whatever its case; holds the lower-case form.
    EqualsIgnoreCase(String),
    /// A number within bounds.
    Numeric(Bounds),
    /// Any scalar.
    Exists,
    /// A scalar that passes none of these.
    AnythingBut(Vec<Test>),
}

/// Limits of a number, each with whether it is itself inside.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Bounds {
    pub(crate) low: Option<(Number, bool)>,
    pub(crate) high: Option<(Number, bool)>,
}

impl Test {
    /// Whether `value`, which is no object and no array, passes.
    pub(crate) fn passes(&self, value: &Value) -> bool {
        match self {
            Self::Exists => true,
            Self::AnythingBut(tests) => !tests.iter().any(|test| test.passes(value)),
            Self::Exact(expected) => same(expected, value),
            Self::Numeric(bounds) => matches!(value, Value::Number(n) if bounds.hold(n)),
            _ => value.as_str().is_some_and(|text| self.passes_text(text)),
        }
    }

    fn passes_text(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::PrefixIgnoreCase(prefix) => text.to_lowercase().starts_with(prefix.as_str()),
            Self::SuffixIgnoreCase(suffix) => text.to_lowercase().ends_with(suffix.as_str()),
            Self::EqualsIgnoreCase(expected) => text.to_lowercase() == *expected,
            _ => false,
        }
    }
}

impl Bounds {
    fn hold(&self, number: &Number) -> bool {
        let inside = |limit: &Option<(Number, bool)>, wanted: Ordering| {
            limit
                .as_ref()
                .is_none_or(|(limit, inclusive)| match number::compare(number, limit) {
                    Some(Ordering::Equal) => *inclusive,
                    Some(order) => order == wanted,
                    None => false,
                })
        };
        inside(&self.low, Ordering::Greater) && inside(&self.high, Ordering::Less)
    }
}

fn same(expected: &Value, value: &Value) -> bool {
    match (expected, value) {
        (Value::Number(expected), Value::Number(number)) => number::same(expected, number),
        _ => expected == value,
    }
}
