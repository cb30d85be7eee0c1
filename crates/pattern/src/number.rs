//! Numbers compared as numbers: `200`, `200.0` and `2e2` are one value, and integers beyond 2^53 stay apart.

use std::cmp::Ordering;

use serde_json::Number;

/// How `left` relates to `right`; `None` never happens for JSON numbers, which are finite.
pub(crate) fn compare(left: &Number, right: &Number) -> Option<Ordering> {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Whether both are the same value.
pub(crate) fn same(left: &Number, right: &Number) -> bool {
    compare(left, right) == Some(Ordering::Equal)
}

fn integer(number: &Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}
