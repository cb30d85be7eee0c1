//! Values of Postgres as JSON, by the numbers of its types (`pg_type.dat`). What JSON has no form for stays a text as Postgres prints it.

use serde_json::{Number, Value as Json};

use super::pgoutput::Value;

const BOOL: u32 = 16;
const INTEGERS: [u32; 4] = [20, 21, 23, 26];
const FLOATS: [u32; 2] = [700, 701];
const NUMERIC: u32 = 1700;
const JSONS: [u32; 2] = [114, 3802];
/// Decimal digits that a double has for sure.
const DIGITS: usize = 15;

/// A value as JSON; `None`: it is not in the message.
pub(super) fn json(value: &Value, kind: u32) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Unchanged => return None,
        Value::Binary(bytes) => {
            use std::fmt::Write;
            let mut hex = String::from("\\x");
            for byte in bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            Json::String(hex)
        }
        Value::Text(text) => typed(text, kind).unwrap_or_else(|| Json::String(text.clone())),
    })
}

fn typed(text: &str, kind: u32) -> Option<Json> {
    match kind {
        BOOL => Some(Json::Bool(text == "t")),
        _ if INTEGERS.contains(&kind) => text.parse::<i64>().ok().map(Json::from),
        _ if FLOATS.contains(&kind) => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map(Json::Number)
        }
        // More digits than a double has would be other digits.
        NUMERIC if text.bytes().filter(u8::is_ascii_digit).count() <= DIGITS => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map(Json::Number)
        }
        _ if JSONS.contains(&kind) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_what_their_types_say() {
        for (kind, text, expected) in [
            (16, "t", json!(true)),
            (20, "9223372036854775807", json!(i64::MAX)),
            (701, "1.5", json!(1.5)),
            (701, "NaN", json!("NaN")),
            (1700, "12.50", json!(12.5)),
            (1700, "12345678901234567.89", json!("12345678901234567.89")),
            (3802, r#"{"a": [1]}"#, json!({"a": [1]})),
            (25, "12", json!("12")),
            (
                1184,
                "2026-01-02 03:04:05+00",
                json!("2026-01-02 03:04:05+00"),
            ),
        ] {
            assert_eq!(
                json(&Value::Text(text.into()), kind),
                Some(expected),
                "{kind} {text}"
            );
        }
        assert_eq!(json(&Value::Unchanged, 25), None);
        assert_eq!(json(&Value::Null, 25), Some(Json::Null));
        assert_eq!(
            json(&Value::Binary(vec![1, 255]), 17),
            Some(json!("\\x01ff"))
        );
    }
}
